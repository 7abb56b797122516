"""Claims about what a terminal shows: a live bar where somebody looks, answers, and never a traceback."""

import io
import json
from pathlib import Path

import pytest
import typer
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


@pytest.mark.parametrize("as_json", [True, False])
def test_a_bug_in_an_answer_is_one_line_too(tmp_path: Path, capfd: pytest.CaptureFixture[str], as_json: bool):
    """The work is done by then; a traceback would hide that, and a program would find half a document."""
    unspeakable = {1: 1, (2,): 2} if as_json else {}
    with pytest.raises(typer.Exit), terminal.answering(as_json=as_json, errors_folder=tmp_path) as answer:
        answer(unspeakable, min)
    told = capfd.readouterr()
    assert told.err.startswith("petpark: a bug of ours: ")
    assert "Traceback" not in told.err
    assert "Traceback" in (tmp_path / "errors.log").read_text()
    assert (json.loads(told.out).keys() == {"error"}) if as_json else (told.out == "")
