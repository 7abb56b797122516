"""Which hyperparameters: trials of the recipe's defaults and of others from its space, run by Ray Tune.

Each trial trains the network of train.py on the train side, on a shorter schedule that anneals to zero as the final
one does, and is judged on the validation part. The first trial is always the recipe's defaults, so that a search says
what it gained, also when nothing; they are kept unless another trial is better.

Ray is imported inside the functions that use it, and must have been started (resources/ray_cluster.py); a search by
no algorithm neither imports nor needs it. Trials are handed paths: photos never travel through Ray.

Not here: which points a space has (space.py), what one trial does (trial.py), the training loop (train.py).
"""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import space
from petpark_assets.domain.model.trial import Task, save, train
from petpark_assets.domain.recipes import Choices, Hyperparameters, Range, Recipe

if TYPE_CHECKING:  # torch comes with it: seconds that the trials' processes spend, not this one
    from petpark_assets.domain.model.train import Epoch, TrainingData

METRIC = "validation_accuracy"

GRACE_PERCENT = 33
"""No trial is stopped before a third of its schedule; the second and last look is at two thirds."""

REDUCTION_FACTOR = 2
"""At each look, ASHA stops a trial below the median of those that were there before it.

A larger factor saves more, but high learning rates look worse early and win late.
"""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was tried and what won; free of clocks, so that the same search is the same result."""

    trials: tuple[dict[str, Any], ...]
    """In the order of their start, each with: number (from 1), is_default (the first), hyperparameters (as trained
    with, so with the trial's epochs), validation_accuracy (0 to 1, after its last epoch; None: it failed before its
    first), schedule_share (0 to 1; below 1: it was stopped early, or failed), and, if it failed, error (one line)."""
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
    on_trial: Callable[[dict[str, Any]], None] = lambda _: None,
) -> SearchResult:
    """Look for better hyperparameters than the recipe's, as its `search` says; Ray must have been started.

    With one trial at a time, the same data, recipe and number of threads give the same trials and the same result.

    Args:
        data: the train side. Photos that are a memory map of a .npy file are read from it by each trial; others are
            saved first.
        preprocessing: as for the final training.
        recipe: its search, hyperparameters and seed.
        folder: for what trials need and Ray Tune notes; on a cluster, one that all its nodes see. `trials` in it is
            emptied first.
        on_trial: called with each trial, as in SearchResult.trials, when it has ended.

    Raises InvalidInput for a space that cannot be searched, and whatever the defaults' trial failed with: without it
    there is nothing to compare with. Any other trial that fails is noted and passed over.
    """
    if recipe.search.algorithm == "none":
        return SearchResult(
            trials=(),
            best_hyperparameters=recipe.hyperparameters,
            default_validation_accuracy=None,
            best_validation_accuracy=None,
        )
    space.check_space(recipe)
    trials = _run_trials(data, preprocessing, recipe, folder.absolute(), on_trial)
    best = max((trial for trial in trials if _is_finished(trial)), key=_merit)
    values = {name: best["hyperparameters"][name] for name in recipe.search.space}
    return SearchResult(
        trials=tuple(trials),
        best_hyperparameters=space.final_hyperparameters(recipe, values),
        default_validation_accuracy=trials[0][METRIC],
        best_validation_accuracy=best[METRIC],
    )


def _is_finished(trial: Mapping[str, Any]) -> bool:
    return "error" not in trial and trial["schedule_share"] == 1


def _merit(trial: Mapping[str, Any]) -> tuple[float, int]:
    """The higher, the better; of equal ones the first, and so the defaults."""
    return trial[METRIC], -trial["number"]


def _run_trials(
    data: "TrainingData",
    preprocessing: Preprocessing,
    recipe: Recipe,
    folder: Path,
    on_trial: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """All trials that were started, by number; the first finished its schedule."""
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter

    task = Task(data=save(data, folder), preprocessing=preprocessing, recipe=recipe, **_affordable(recipe))
    trainable = tune.with_parameters(_train, task=task)
    watcher = _watcher(recipe, on_trial)
    proposals = _proposals(recipe, is_hopeless=lambda: watcher.failure is not None)
    shutil.rmtree(folder / "trials", ignore_errors=True)
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": task.cpus, "gpu": task.gpus}),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=-1,  # until the proposals end
            search_alg=ConcurrencyLimiter(proposals, recipe.search.max_concurrent_trials),
            scheduler=_scheduler(recipe),
            reuse_actors=True,  # importing torch costs seconds, a trial of `demo` less
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04d}",
        ),
        run_config=tune.RunConfig(name="trials", storage_path=str(folder), callbacks=[watcher], verbose=0),
    ).fit()
    if watcher.failure is not None:
        raise watcher.failure
    return [watcher.ended[number] for number in sorted(watcher.ended)]


def _train(config: Mapping[str, Any], task: Task) -> None:
    """One trial, in a process of Ray's: reports after each epoch, and may be stopped there."""
    from ray import tune

    def report(epoch: "Epoch") -> None:
        percent = int(100 * epoch.schedule_share)
        accuracy = epoch.validation_accuracy
        tune.report({METRIC: accuracy, "schedule_share": epoch.schedule_share, "schedule_percent": percent})

    train(task, config["values"], report)


def _affordable(recipe: Recipe) -> dict[str, Any]:
    """What a trial may use of a node's processors and GPUs: no more than there is, or it would wait for ever."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = min(recipe.search.cpus_per_trial, max(node.get("CPU", 0) for node in nodes))
    gpus = min(recipe.search.gpus_per_trial, max(node.get("GPU", 0) for node in nodes))
    return {"cpus": int(cpus), "gpus": gpus}


def _proposals(recipe: Recipe, is_hopeless: Callable[[], bool]) -> Any:
    """Ray Tune's searcher: the defaults, then what the algorithm proposes; no more when time is up or they failed."""
    from ray.tune.search import Searcher

    budget_s = recipe.search.time_budget_s
    deadline = math.inf if budget_s is None else time.monotonic() + budget_s

    class Proposals(Searcher):
        def __init__(self) -> None:
            super().__init__(metric=METRIC, mode="max")
            self.source = _Tpe(recipe) if recipe.search.algorithm == "tpe" else _Listed(recipe)
            self.num_proposed = 0

        def suggest(self, trial_id: str) -> Any:
            is_over = self.num_proposed > 0 and (time.monotonic() >= deadline or is_hopeless())
            values = None if is_over else self.source.propose(trial_id)
            if values is None:
                return Searcher.FINISHED
            self.num_proposed += 1
            return {"number": self.num_proposed, "values": values}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            self.source.learn(trial_id, None if error or result is None else result[METRIC])

        def save(self, checkpoint_path: str) -> None:
            Path(checkpoint_path).write_text(str(self.num_proposed))  # Ray Tune wants a note of how far it came

    return Proposals()


class _Listed:
    """Points known beforehand: a grid, or random draws."""

    def __init__(self, recipe: Recipe) -> None:
        points = {"grid": space.grid_points, "random": space.random_points}[recipe.search.algorithm]
        self._points = iter(points(recipe))

    def propose(self, _trial_id: str) -> space.Values | None:
        return next(self._points, None)

    def learn(self, trial_id: str, accuracy: float | None) -> None:
        """Nothing to learn: the points are what they are."""


class _Tpe:
    """Optuna's tree-structured Parzen estimator, which draws where earlier trials were good."""

    def __init__(self, recipe: Recipe) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._recipe = recipe
        self._proposed: dict[str, space.Values] = {}
        num_random = max(2, recipe.search.num_trials // 3)  # Optuna's own 10 would leave a short search random
        self._optuna = OptunaSearch(
            {name: _distribution(domain, recipe, name) for name, domain in recipe.search.space.items()},
            metric=METRIC,
            mode="max",
            sampler=optuna.samplers.TPESampler(seed=recipe.seed, n_startup_trials=num_random),
        )

    def propose(self, trial_id: str) -> space.Values | None:
        if len(self._proposed) == self._recipe.search.num_trials:
            return None
        is_first = not self._proposed
        values = space.default_values(self._recipe) if is_first else dict(self._optuna.suggest(trial_id) or {})
        self._proposed[trial_id] = values
        return values

    def learn(self, trial_id: str, accuracy: float | None) -> None:
        is_first = trial_id == next(iter(self._proposed))
        if not is_first:
            result = None if accuracy is None else {METRIC: accuracy}
            self._optuna.on_trial_complete(trial_id, result, error=accuracy is None)
        elif accuracy is not None and space.is_inside(self._recipe, self._proposed[trial_id]):
            self._optuna.add_evaluated_point(self._proposed[trial_id], accuracy)


def _distribution(domain: Choices | Range, recipe: Recipe, name: str) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.values)
    if isinstance(getattr(recipe.hyperparameters, name), int):
        return IntDistribution(round(domain.low), round(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _scheduler(recipe: Recipe) -> Any:
    """What stops trials: ASHA by the share of each trial's own schedule, but never the defaults; or nothing."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

    class Asha(ASHAScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(tune_controller, trial, result)
            return TrialScheduler.CONTINUE if trial.config["number"] == 1 else decision

    if not recipe.search.stops_early:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return Asha(time_attr="schedule_percent", max_t=100, grace_period=GRACE_PERCENT, reduction_factor=REDUCTION_FACTOR)


def _watcher(recipe: Recipe, on_trial: Callable[[dict[str, Any]], None]) -> Any:
    """Ray Tune's callback that keeps each trial when it has ended."""
    from ray import tune

    class Watcher(tune.Callback):
        def __init__(self) -> None:
            self.ended: dict[int, dict[str, Any]] = {}
            self.failure: Exception | None = None

        def __reduce__(self) -> Any:
            """Ray Tune notes its callbacks on disk; what `on_trial` talks to, a log or a terminal, stays here."""
            return tune.Callback, ()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
            self._end(_describe(recipe, trial))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
            failure = _failure(trial)
            if trial.config["number"] == 1:
                self.failure = failure
            self._end({**_describe(recipe, trial), "error": " ".join(str(failure).split())})

        def _end(self, trial: dict[str, Any]) -> None:
            self.ended[trial["number"]] = trial
            on_trial(trial)

    return Watcher()


def _describe(recipe: Recipe, trial: Any) -> dict[str, Any]:
    """A trial of Ray Tune's as one of SearchResult's."""
    number, values = trial.config["number"], trial.config["values"]
    return {
        "number": number,
        "is_default": number == 1,
        "hyperparameters": dataclasses.asdict(space.trial_hyperparameters(recipe, values)),
        METRIC: trial.last_result.get(METRIC),
        "schedule_share": trial.last_result.get("schedule_share", 0.0),
    }


def _failure(trial: Any) -> Exception:
    """What a trial failed with, as it was raised there; TransientError when its process died."""
    from ray import cloudpickle
    from ray.exceptions import RayTaskError

    error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())  # trial.get_pickled_error() lags behind
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return error.cause
    return TransientError(f"the trial's process ended ({str(error).splitlines()[0]}): it may have run out of memory")
