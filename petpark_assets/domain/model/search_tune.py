"""How Ray Tune runs the trials of a search: what a trial may use, its process, and what comes back of it.

Trials are handed paths: photos never travel through Ray. A trial whose process dies, or raises TransientError, is
started again in another process, and goes on from its checkpoint: the first may hold a GPU that answers no more. What
else a trial raises is its answer, and comes back with its last report.

Ray is imported inside the functions that use it. Not here: what is tried, and what is kept of it (search.py).
"""

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from petpark_assets.domain.attempts import starting_weights
from petpark_assets.domain.errors import InvalidInput, ProcessLost, TransientError
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model import search_schedulers, space
from petpark_assets.domain.model.journal import checkpoint_path
from petpark_assets.domain.model.search_schedulers import METRIC, generation_epochs
from petpark_assets.domain.model.trial import Curve, SavedData, Task, train
from petpark_assets.domain.recipes import Recipe

NextTrial = Callable[[], tuple[int, space.Values] | None]
End = Callable[[int, space.Values, Curve, Exception | None], None]

NUM_RESTARTS = 3
"""A trial whose process died is run again from its checkpoint so often; then it has failed."""

PROBE_PATIENCE_S = 60
"""A node's first process imports this platform's code."""

_PASSING = f"{TransientError.__module__}.{TransientError.__name__}: "


def affordable_task(folder: Path, data: SavedData, preprocessing: Preprocessing, recipe: Recipe) -> Task:
    """What trials have in common: of processors and GPUs no more than one node has, or they would wait for ever."""
    node, num_workers = _best_node(recipe), recipe.search.workers_per_trial
    most_cpus, most_gpus = (node.get(kind, 0) / num_workers for kind in ("CPU", "GPU"))
    if most_cpus < 1:
        raise InvalidInput(f"search.workers_per_trial is {num_workers}: no node has as many cores; set it lower")
    cpus = int(min(recipe.search.cpus_per_trial, most_cpus))
    gpus = min(recipe.search.gpus_per_trial, most_gpus)
    start = starting_weights(recipe)
    return Task(folder=folder, data=data, preprocessing=preprocessing, recipe=recipe, cpus=cpus, gpus=gpus, start=start)


def _best_node(recipe: Recipe) -> dict[str, float]:
    """What the node has that suits a trial best: a core for each worker, then the GPUs it asks for, then more cores."""
    import ray

    def suits(node: dict[str, float]) -> tuple[bool, float, float]:
        wanted = recipe.search.workers_per_trial * recipe.search.gpus_per_trial
        cpus = node.get("CPU", 0)
        return cpus >= recipe.search.workers_per_trial, min(node.get("GPU", 0), wanted), cpus

    return max((node["Resources"] for node in ray.nodes() if node["Alive"]), key=suits)  # type: ignore[no-untyped-call]


def check_population(task: Task) -> None:
    """Raises InvalidInput where trials of a population could not take over each other's checkpoints.

    They pass them on in the search's folder, which every node that may run one must see. A node that joins later is not
    asked. Whoever is on the driver's own node sees it.
    """
    if task.recipe.search.scheduler != "pbt":
        return
    import ray

    own = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    others = [node for node in nodes if node["Alive"] and node["NodeID"] != own and _can_run(task, node["Resources"])]
    with tempfile.NamedTemporaryFile(dir=task.folder, prefix="seen-by-all-") as marker:
        for node in others:
            if not _sees(node["NodeID"], Path(marker.name)):
                raise InvalidInput(
                    f"search.scheduler is pbt, whose trials pass on checkpoints in {task.folder}, which the Ray "
                    f"node {node['NodeManagerHostname']} does not see: set it to asha, or search on one node"
                )


def _can_run(task: Task, node: Mapping[str, float]) -> bool:
    asked = _resources(task)
    return all(node.get(kind.upper(), 0) >= amount for kind, amount in asked.items())


def _sees(node_id: str, path: Path) -> bool:
    """Whether a process on another node finds a file. It asks for no core, so that it waits for no trial."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: Any = NodeAffinitySchedulingStrategy(node_id, soft=False)
    asked: Any = ray.remote(num_cpus=0, scheduling_strategy=there)(Path.exists).remote(path)
    try:
        return bool(ray.get(asked, timeout=PROBE_PATIENCE_S))
    except RayError as error:
        raise TransientError(
            f"a node of the Ray cluster does not answer ({type(error).__name__}): try again"
        ) from error


def run_trials(
    task: Task,
    *,
    next_trial: NextTrial,
    end: End,
    on_epoch: Callable[[int, dict[str, Any]], None],
    ended: Sequence[Mapping[str, Any]],
) -> None:
    """Run trials until there is no next one; Ray must have been started.

    Args:
        task: what they have in common.
        next_trial: number and point of the trial to start; None when there is none any more.
        end: called with each trial that ended: number, values, curve, and what it failed with.
        on_epoch: called with a trial's number and each new point of its curve.
        ended: the trials that ended before this process began.

    Raises TransientError when Ray is gone.
    """
    from ray import tune

    first = next_trial()
    if first is None:
        return
    recipe, watcher = task.recipe, _watcher(end, on_epoch)
    is_population = recipe.search.scheduler == "pbt"
    proposing: Any = _population(first, next_trial) if is_population else _searcher(first, next_trial, recipe)
    config = tune.TuneConfig(
        metric=METRIC,
        mode="max",
        scheduler=search_schedulers.scheduler(recipe, ended),
        reuse_actors=True,  # importing torch costs seconds, a trial of `demo` less
        trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04d}",
        search_alg=None if is_population else proposing,
        num_samples=1 if is_population else -1,  # until the proposals end
    )
    trainable = tune.with_resources(tune.with_parameters(_train, task=task), _resources(task))
    _keep_keys_here()
    tune.Tuner(
        trainable,
        param_space=proposing if is_population else None,
        tune_config=config,
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(task.folder),
            callbacks=[watcher],
            failure_config=tune.FailureConfig(max_failures=NUM_RESTARTS),
            verbose=0,
        ),
    ).fit()


def _keep_keys_here() -> None:
    """Ray Tune would send the driver's keys of AWS with each trial, and Ray logs and shows what is sent so.

    A trial reads photos with its own node's keys, or its role's.
    """
    from ray.tune.execution import class_cache

    told = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in told if not name.startswith("AWS_")}


def _resources(task: Task) -> dict[str, float]:
    """A population's members are all under way and take turns: cores, not a limit of trials, say how many run."""
    num_workers = task.recipe.search.workers_per_trial
    own = {"cpu": num_workers * task.cpus, "gpu": num_workers * task.gpus}  # on one node, all or none
    if task.recipe.search.scheduler != "pbt":
        return own
    cores = _best_node(task.recipe).get("CPU", 0)
    return own | {"cpu": max(own["cpu"], cores // task.recipe.search.max_concurrent_trials)}


def _searcher(first: tuple[int, space.Values], next_trial: NextTrial, recipe: Recipe) -> Any:
    """Ray Tune's searcher: trials as they come, so many at a time."""
    from ray.tune.search import ConcurrencyLimiter, Searcher

    class Proposals(Searcher):
        def __init__(self) -> None:
            super().__init__(metric=METRIC, mode="max")
            self.waiting = [first]

        def __reduce__(self) -> Any:
            """Ray Tune notes its searcher on disk, too; it is never read again."""
            return Searcher, ()

        def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
            found = self.waiting.pop() if self.waiting else next_trial()
            return Searcher.FINISHED if found is None else {"number": found[0], "values": found[1]}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            """The journal knows."""

        def save(self, checkpoint_path: str) -> None:
            Path(checkpoint_path).write_text("the journal is what is gone on from")  # Ray Tune wants some file

    return ConcurrencyLimiter(Proposals(), recipe.search.max_concurrent_trials)


def _population(first: tuple[int, space.Values], next_trial: NextTrial) -> dict[str, Any]:
    """All members at once, which is how Ray Tune's population-based training wants them."""
    from ray import tune

    members = dict([first, *iter(next_trial, None)])
    return {
        "number": tune.grid_search(sorted(members)),
        "values": tune.sample_from(lambda config: members[config["number"]]),
    }


def _train(config: Mapping[str, Any], task: Task) -> None:
    """One trial, in a process of Ray's: reports after each epoch, and may be stopped there."""
    number = config["number"]
    curve: Curve = []

    def report(so_far: Curve) -> None:
        curve[:] = so_far
        _report(task, config, so_far)

    try:
        with _taken_over(number) as checkpoint:
            whole = train(task, number, config["values"], report, taken_over=checkpoint)
        if whole != curve:  # it had ended before it could say so
            report(whole)
    except TransientError:
        raise  # Ray Tune ends this process, and starts the trial again in another
    except Exception as error:  # noqa: BLE001 - it is the trial's answer, and raised where it matters
        error.add_note(traceback.format_exc())
        _report(task, config, curve, failure=error)


def _report(task: Task, config: Mapping[str, Any], curve: Curve, **more: Any) -> None:
    """Tell the driver; with a checkpoint for others to take over where a population looks at itself."""
    from ray import tune

    last: dict[str, Any] = curve[-1] if curve else {"epoch": 0, METRIC: 0.0}
    num_epochs = space.trial_hyperparameters(task.recipe, config["values"]).epochs
    metrics = {METRIC: last[METRIC], "epoch": last["epoch"], "num_epochs": num_epochs, "curve": curve, **more}
    is_generation = task.recipe.search.scheduler == "pbt" and last["epoch"] % generation_epochs(task.recipe) == 0
    if "failure" in more or not is_generation or not curve:  # nobody takes over from a failure
        tune.report(metrics)
        return
    path = checkpoint_path(task.folder, config["number"])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        os.link(path, Path(folder) / str(config["number"]))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


@contextlib.contextmanager
def _taken_over(number: int) -> Any:
    """Another trial's checkpoint, where population-based training gave this trial its weights; else None."""
    from ray import tune

    given = tune.get_checkpoint()
    if given is None:
        yield None
        return
    with given.as_directory() as folder:
        source = next(Path(folder).glob("[0-9]*"))
        yield None if int(source.name) == number else source  # its own is in its place, or a later one


def _watcher(end: End, on_epoch: Callable[[int, dict[str, Any]], None]) -> Any:
    """Ray Tune's callback that passes on what trials report and come to."""
    from ray import tune

    class Watcher(tune.Callback):
        def __init__(self) -> None:
            self.num_seen: dict[int, int] = {}

        def __reduce__(self) -> Any:
            """Ray Tune notes its callbacks on disk; what they talk to, a log or a terminal, stays here."""
            return tune.Callback, ()

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:  # noqa: ARG002
            number, curve = trial.config["number"], result["curve"]
            if curve and curve[-1]["epoch"] != self.num_seen.get(number, 0):
                self.num_seen[number] = curve[-1]["epoch"]
                on_epoch(number, curve[-1])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
            last = trial.last_result
            end(trial.config["number"], trial.config["values"], last.get("curve", []), last.get("failure"))

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
            curve = trial.last_result.get("curve", [])
            end(trial.config["number"], trial.config["values"], curve, _process_failure(trial))

    return Watcher()


def _process_failure(trial: Any) -> TransientError:
    """What a trial raised that may pass (a full disk, a GPU that fails), or why its process died, as Ray knows it."""
    # Its text: the error itself is there only as a pickle, and those are never loaded.
    reasons = Path(trial.error_file).read_text().rpartition("Failure # ")[2].splitlines()[1:]
    for line in reasons:
        if line.startswith(_PASSING):
            return TransientError(line.removeprefix(_PASSING))
    return ProcessLost(
        f"the trial's process ended {NUM_RESTARTS + 1} times ({reasons[0] if reasons else 'nothing is known'}): "
        "it may have run out of memory"
    )
