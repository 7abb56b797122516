"""Which hyperparameters: trials of the recipe's defaults and of others from its space, run by Ray Tune.

Each trial trains the network of train.py on the train side, on a shorter schedule that anneals to zero as the final
one does, and is judged on the validation part. The first trial is always the recipe's defaults, so that a search says
what it gained, also when nothing; they are kept unless another trial is better.

Killed at any moment, the same call goes on: what a trial came to is in the search's folder (journal.py), a running one
resumes at its checkpoint, and what is tried next follows from these alone (proposals.py). Ray Tune's own notes of an
experiment are not used for that: they are up to ten seconds old, and hold the searcher and its callbacks pickled.

Ray must have been started (resources/ray_cluster.py); a search by no algorithm neither imports nor needs it.

Not here: how Ray Tune runs the trials (search_tune.py), which points a space has (space.py), what one trial does
(trial.py), the training loop (train.py).
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.errors import ProcessLost, TooLittleMemory, TransientError
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import journal, search_tune, space
from petpark_assets.domain.model.journal import Journal
from petpark_assets.domain.model.proposals import propose
from petpark_assets.domain.model.search_schedulers import METRIC
from petpark_assets.domain.model.trial import Curve, Photos, save
from petpark_assets.domain.recipes import Hyperparameters, Recipe

if TYPE_CHECKING:  # torch comes with it: seconds that the trials' processes spend, not this one
    from petpark_assets.domain.model.train import TrainingData

OnTrial = Callable[[dict[str, Any]], None]
OnEpoch = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was tried and what won; free of clocks, so that the same search is the same result."""

    trials: tuple[dict[str, Any], ...]
    """In the order of their start, each with: number (from 1), is_default (the first), hyperparameters (as trained
    with, so with the trial's epochs), validation_accuracy (0 to 1, after its last epoch; None: it failed before its
    first), schedule_share (0 to 1; below 1: it was stopped early, or failed), curve (trial.Curve) and, if it failed,
    error (one line)."""
    best_hyperparameters: Hyperparameters
    """Of the best trial that finished its schedule, with the recipe's own epochs (unless epochs were looked for)."""
    default_validation_accuracy: float | None
    """Of the first trial; None without a search."""
    best_validation_accuracy: float | None


def search(
    data: "TrainingData",
    preprocessing: Preprocessing,
    recipe: Recipe,
    *,
    folder: Path,
    read_photos: Callable[[], Photos] | None = None,
    on_trial: OnTrial = lambda _trial: None,
    on_epoch: OnEpoch = lambda _number, _point: None,
) -> SearchResult:
    """Look for better hyperparameters than the recipe's, as its `search` says; Ray must have been started.

    With one trial at a time, the same data, recipe and number of threads give the same trials and the same result,
    also when it was killed in between; grid and random search give it with any number of trials at a time, as long as
    none is stopped early.

    Args:
        data: the train side. Photos that are a memory map of a .npy file are read from it by each trial; others are
            saved first.
        preprocessing: as for the final training.
        recipe: its search, hyperparameters and seed.
        folder: this search's, to be named by all that its trials follow from: the trials that are found there are
            taken for its own, and gone on with. On a cluster whose nodes do not all see it, a trial whose node is lost
            begins anew.
        read_photos: how a node that does not see the file of the photos reads them, in the same order, from the store.
        on_trial: called with each trial, as in SearchResult.trials, when it has ended; first with those that ended
            before this process began.
        on_epoch: called with a trial's number and each new point of its curve.

    Raises InvalidInput for a space that cannot be searched, or a population on nodes that do not all see the folder,
    TransientError when another process is at it or Ray is gone or a trial met what may pass (a full disk, an S3 that is
    away, a GPU that fails), TooLittleMemory where a GPU has not enough for a trial beside those that share it (of one
    alone it is noted like any other failure), and whatever the defaults' trial failed with: without it there is nothing
    to compare with. Any other trial that fails is noted and passed over.
    """
    if recipe.search.algorithm == "none":
        return SearchResult(
            trials=(),
            best_hyperparameters=recipe.hyperparameters,
            default_validation_accuracy=None,
            best_validation_accuracy=None,
        )
    space.check_space(recipe)
    with journal.alone(folder.absolute()) as notes:
        for number in sorted(notes.ended):
            on_trial(notes.ended[number])
        run = _Run(recipe, notes, on_trial)
        task = search_tune.affordable_task(notes.folder, save(data, notes.folder, read_photos), preprocessing, recipe)
        search_tune.check_population(task)
        ended = list(notes.ended.values())
        search_tune.run_trials(task, next_trial=run.next_trial, end=run.end, on_epoch=on_epoch, ended=ended)
        if run.failure is not None:
            raise run.failure
        if notes.unfinished:  # what is compared and reported would silently be of fewer
            raise TransientError(f"Ray Tune lost trial {notes.unfinished[0]}: run the same again, it goes on")
        notes.drop_states()
    trials = [notes.ended[number] for number in sorted(notes.ended)]
    best = max((trial for trial in trials if _is_finished(trial)), key=_merit)
    values = {name: best["hyperparameters"][name] for name in recipe.search.space}
    return SearchResult(
        trials=tuple(trials),
        best_hyperparameters=space.final_hyperparameters(recipe, values),
        default_validation_accuracy=next(trial[METRIC] for trial in trials if trial["is_default"]),
        best_validation_accuracy=best[METRIC],
    )


def _is_no_answer(error: Exception, *, shares_gpu: bool) -> bool:
    """Whether it says nothing of the trial's point: noted as its end, it would stay in the record for ever.

    A point that has not enough memory is one where others had some of it, but not with a GPU of its own.
    """
    if isinstance(error, TooLittleMemory):
        return shares_gpu
    return isinstance(error, TransientError) and not isinstance(error, ProcessLost)


def _is_finished(trial: Mapping[str, Any]) -> bool:
    return "error" not in trial and trial["schedule_share"] == 1


def _merit(trial: Mapping[str, Any]) -> tuple[float, int]:
    """The higher, the better; of equal ones the first, and so the defaults."""
    return trial[METRIC], -trial["number"]


class _Run:
    """One process's part of a search: it is over when the journal has every trial's end."""

    def __init__(self, recipe: Recipe, notes: Journal, on_trial: OnTrial) -> None:
        self.recipe, self.notes, self.on_trial = recipe, notes, on_trial
        self.waiting = notes.unfinished
        self.failure: Exception | None = None
        """Of the defaults' trial, or one that says nothing of its point: nothing more is tried."""
        self.started = time.monotonic() - notes.seconds
        """When one process would have begun that had worked as long as all before this one."""

    def next_trial(self) -> tuple[int, space.Values] | None:
        """Number and point of the trial to start: first what had been started before; None when nothing is left."""
        if self.failure is not None or (not self.waiting and not self._propose_next()):
            return None
        number = self.waiting.pop(0)
        return number, self._standing_values(number)

    def end(self, number: int, values: space.Values, curve: Curve, error: Exception | None) -> None:
        """A trial has ended: by itself, since it was stopped, or by an error."""
        hyperparameters = space.trial_hyperparameters(self.recipe, values)
        trial = {
            "number": number,
            "is_default": number == 1,
            "hyperparameters": dataclasses.asdict(hyperparameters),
            METRIC: curve[-1][METRIC] if curve else None,
            "schedule_share": curve[-1]["epoch"] / hyperparameters.epochs if curve else 0.0,
            "curve": curve,
        }
        if error is not None:
            trial["error"] = " ".join(str(error).split())
        if error is not None and (
            number == 1 or _is_no_answer(error, shares_gpu=self.recipe.search.gpus_per_trial < 1)
        ):
            self.failure = error  # and not noted: the same call tries this trial again
        else:
            self.notes.end(trial)
        self._seconds()
        self.on_trial(trial)

    def _propose_next(self) -> bool:
        """Whether there is another point, within the time that the search has; the defaults always have it."""
        # The lowest that is missing: a person may have deleted a damaged trial in the middle.
        number = next(number for number in itertools.count(1) if number not in self.notes.proposed)
        budget_s = self.recipe.search.time_budget_s
        if number > 1 and budget_s is not None and self._seconds() >= budget_s:
            return False
        values = propose(self.recipe, number, self.notes.tried(before=number))
        if values is None:
            return False
        self.notes.propose(number, values)
        self.waiting.append(number)
        return True

    def _seconds(self) -> float:
        """How long the search has worked, noted for whoever goes on with it."""
        self.notes.note_seconds(time.monotonic() - self.started)
        return self.notes.seconds

    def _standing_values(self, number: int) -> space.Values:
        """What a trial trains with now: population-based training changes that on the way."""
        values = self.notes.proposed[number]
        path = journal.checkpoint_path(self.notes.folder, number)
        if self.recipe.search.scheduler != "pbt" or not path.exists():
            return values
        from petpark_assets.domain.model import checkpoints

        standing = checkpoints.load(path).task["hyperparameters"]
        return {name: standing[name] for name in values}
