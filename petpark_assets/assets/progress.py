"""How far a long step is, for whoever shows it live: records of one logger, which a terminal listens to (terminal.py).

Nobody listens in a run from the UI, and then nothing happens. Not here: the lines that a run's log keeps.
"""

import logging
from collections.abc import Mapping
from typing import Any

from petpark_assets.domain.model import space
from petpark_assets.domain.recipes import Recipe

LOGGER = logging.getLogger("petpark.progress")
LOGGER.propagate = False
LOGGER.setLevel(logging.INFO)


def tell(step: str, *, done: float, total: float, words: str) -> None:
    """How much of a step is done, in any unit, and what is going on, in a few words."""
    LOGGER.info(step, extra={"done": done, "total": total, "words": words})


class SearchProgress:
    """Of a search: its trials, each counted by the share of its epochs."""

    def __init__(self, recipe: Recipe) -> None:
        self._num_epochs = recipe.search.trial_epochs
        self._total = space.num_trials(recipe)
        self._shares: dict[int, float] = {}
        self._best = 0.0

    def epoch(self, number: int, point: Mapping[str, Any]) -> None:
        """A trial has trained another epoch."""
        self._tell(number, point["epoch"] / self._num_epochs, point["validation_accuracy"])

    def ended(self, trial: Mapping[str, Any]) -> None:
        """A trial has ended."""
        self._tell(trial["number"], 1.0, trial["validation_accuracy"] or 0.0)

    def _tell(self, number: int, share: float, accuracy: float) -> None:
        self._shares[number] = min(1.0, share)
        self._best = max(self._best, accuracy)
        words = f"trial {number} of {self._total}, best {self._best:.4f}"
        tell("search", done=sum(self._shares.values()), total=self._total, words=words)
