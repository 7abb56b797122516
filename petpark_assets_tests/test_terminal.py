"""Claims about the live bar: it follows what steps tell of themselves, and a pipe sees nothing of it."""

import io

import pytest
from rich.console import Console

from petpark_assets import terminal
from petpark_assets.assets.progress import LOGGER, SearchProgress
from petpark_assets.domain.recipes import RECIPES


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_follows_a_search_and_only_where_somebody_looks(monkeypatch, is_terminal):
    """Half an hour without a sign is taken for a hang; control characters in a log file are noise."""
    seen = io.StringIO()
    monkeypatch.setattr(terminal, "terminal", Console(file=seen, force_terminal=is_terminal, width=120))
    search = SearchProgress(RECIPES["demo"])

    with terminal.showing_progress():
        search.epoch(1, {"epoch": 2, "validation_accuracy": 0.75})
        for number in range(1, 4):
            search.ended({"number": number, "validation_accuracy": None if number == 3 else 0.8125})

    shown = seen.getvalue()
    assert ("trial 3 of 4, best 0.8125" in shown, "search" in shown) == (is_terminal, is_terminal)
    assert not [handler for handler in LOGGER.handlers if isinstance(handler, terminal._Bars)]
