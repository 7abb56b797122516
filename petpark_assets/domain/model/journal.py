"""What a search has come to, in its folder: so that it goes on where it was, whatever was killed.

    trials/0003/proposed.json   the point, before the trial starts
    trials/0003/checkpoint      where its training stands after each epoch (checkpoints.py)
    trials/0003/ended.json      what it came to: it is never run again
    seconds.json                how long the search has worked so far, whoever did

Each file appears whole or not at all. One process at a time works in the folder: whoever is killed lets go of its lock.
Not here: what is proposed (proposals.py), or who trains (trial.py).
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.files import canonical_json, replace
from petpark_assets.domain.model import space
from petpark_assets.domain.model.proposals import Tried

ACCURACY = "validation_accuracy"


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial of the search in `folder` keeps its files."""
    return folder / "trials" / f"{number:04d}"


def checkpoint_path(folder: Path, number: int) -> Path:
    """Where a trial's training keeps its state."""
    return trial_folder(folder, number) / "checkpoint"


class Journal:
    """The trials of one search, by number."""

    def __init__(self, folder: Path) -> None:
        """Read what is there. Raises CorruptData naming a file that is no JSON."""
        self.folder = folder
        self.proposed: dict[int, space.Values] = {}
        self.ended: dict[int, dict[str, Any]] = {}
        for path in sorted((folder / "trials").glob("*/proposed.json")):
            number = int(path.parent.name)
            self.proposed[number] = _read(path)
            if (path.parent / "ended.json").exists():
                self.ended[number] = _read(path.parent / "ended.json")
        self.seconds: float = _read(self._clock)["seconds"] if self._clock.exists() else 0.0

    @property
    def _clock(self) -> Path:
        return self.folder / "seconds.json"

    def note_seconds(self, seconds: float) -> None:
        """Note how long all processes together have worked, so that the next one knows what is left of a budget."""
        replace(self._clock, canonical_json({"seconds": seconds}))
        self.seconds = seconds

    @property
    def unfinished(self) -> list[int]:
        """Trials that were started and have not ended."""
        return sorted(self.proposed.keys() - self.ended.keys())

    def propose(self, number: int, values: space.Values) -> None:
        """Note a point before its trial starts."""
        replace(trial_folder(self.folder, number) / "proposed.json", canonical_json(values))
        self.proposed[number] = values

    def end(self, trial: Mapping[str, Any]) -> None:
        """Note what a trial came to, one of SearchResult.trials."""
        number = trial["number"]
        replace(trial_folder(self.folder, number) / "ended.json", canonical_json(trial))
        self.ended[number] = dict(trial)

    def tried(self, before: int) -> list[Tried]:
        """The trials of smaller numbers, in their order."""
        return [
            Tried(
                values=values,
                is_running=number not in self.ended,
                accuracy=None if "error" in (ended := self.ended.get(number, {})) else ended.get(ACCURACY),
            )
            for number, values in sorted(self.proposed.items())
            if number < before
        ]

    def drop_states(self) -> None:
        """Remove what only an unfinished search needs: gigabytes, where what the trials came to takes kilobytes."""
        for number in self.ended:
            for path in trial_folder(self.folder, number).glob("checkpoint*"):  # each worker of a trial has one
                path.unlink()
        shutil.rmtree(self.folder / "tune", ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[Journal]:
    """The journal of the search in a folder, for one process at a time. Raises TransientError when it is in use."""
    with files.alone(folder / "lock", f"another process runs the search in {folder}: wait for its end"):
        shutil.rmtree(folder / "tune", ignore_errors=True)
        yield Journal(folder)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except ValueError as error:
        raise CorruptData(
            f"{path} is damaged: delete the folder {path.parent}, its trials are then run again"
        ) from error
