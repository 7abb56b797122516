"""Run the jobs in this process, in the Dagster instance of the home: what `petpark build` and `demo` do.

The runs are the same as those from the UI and are seen there. Not here: what a person types and reads (cli.py).
"""

import contextlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

import dagster as dg
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.checks.report import model_satisfies
from petpark_assets.definitions import build_defs
from petpark_assets.domain.attempts import Attempt, new_attempt
from petpark_assets.domain.errors import PermanentError, PetparkError, refused_by_disk
from petpark_assets.domain.files import alone, has_record, named_disk_errors
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake.labels import settled
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets.domain.recipes import find_recipe
from petpark_assets.domain.records import EvaluationReport, RegisteredModel
from petpark_assets.domain.workflow import summary
from petpark_assets.resources.environments import PRODUCTION, Environment, open_here
from petpark_assets.resources.runs import HOST_TAG, IN_PROCESS, find_failure, lost_process, this_machine

Show = Callable[[str], None]

MOST_RUNS = 100
"""The newest of a version that are looked through for an attempt's; one more of an older one does no harm."""
CLOCKS_DIFFER_BY = timedelta(minutes=2)
"""At most: those of the machines, and of PostgreSQL's."""
NOT_LOGGED = "Exception while writing logger call to event log"
"""What Dagster prints of an event that it cannot write; then it raises the same error."""


def build_lake(
    environment: Environment, lake_uri: str, recipe_name: str, *, labels: Sequence[str] | None = None, show: Show
) -> dict[str, Any]:
    """Build the newest version of a lake with a recipe, as far as it is not built; the summary of what came of it.

    `show` is given a line for each thing worth telling. Raises PetparkError when a step failed; a rejected model is
    no failure: the summary says so.
    """
    recipe = find_recipe(recipe_name)
    version, is_new = ingest_lake(environment, lake_uri, recipe_name, labels=labels, show=show)
    attempt = new_attempt(version, recipe)
    home = open_here(environment)
    if summary.is_finished(home, attempt) and _is_shown(home, attempt):
        show(f"{version} with recipe {recipe_name} is finished already (attempt {attempt.id})")
    else:
        _build_version(environment, attempt, show=show)
    return summary.summarize(home, lake_uri, attempt, is_new=is_new)


def ingest_lake(
    environment: Environment, lake_uri: str, recipe_name: str, *, labels: Sequence[str] | None = None, show: Show
) -> tuple[str, bool]:
    """Make the next version if the lake changed; the newest version, and whether it is new."""
    find_recipe(recipe_name)
    lake = open_lake(lake_uri, open_here(environment).s3)  # before a run keeps them: a secret in either is refused
    told = {"lake": lake_uri, **({"labels": settled(labels, lake)} if labels else {})}
    config = {"ops": {"look_at_the_lake": {"config": told}}}
    result = _run_job(environment, "new_dataset_version", recipe_name, show=show, run_config=config)
    version, is_new = result.output_for_node("look_at_the_lake")
    return str(version), bool(is_new)


def ingest_only(
    environment: Environment, lake_uri: str, recipe_name: str, *, labels: Sequence[str] | None = None, show: Show
) -> dict[str, Any]:
    """Make the next version if the lake changed, and nothing more; the summary of the newest version."""
    version, is_new = ingest_lake(environment, lake_uri, recipe_name, labels=labels, show=show)
    home = open_here(environment)
    return summary.summarize(home, lake_uri, new_attempt(version, find_recipe(recipe_name)), is_new=is_new)


def _build_version(environment: Environment, attempt: Attempt, *, show: Show) -> None:
    show(f"building {attempt.dataset_version} with recipe {attempt.recipe.name} (attempt {attempt.id})")
    result = _run_job(
        environment,
        "build",
        attempt.recipe.name,
        show=show,
        partition_key=attempt.dataset_version,
        tags={ATTEMPT_TAG: attempt.id},
        must_succeed=False,
    )
    if not result.success and not _is_rejection(result):
        raise _failure(result)


def _is_shown(home: Home, attempt: Attempt) -> bool:
    """Whether Dagster has seen the last step of a finished attempt end: a kill may come between its record and that."""
    is_registered = has_record(home.store, RegisteredModel, attempt.dataset_version, attempt.id)
    last = dg.AssetKey((RegisteredModel if is_registered else EvaluationReport).asset)
    wanted = dg.AssetRecordsFilter(asset_key=last, asset_partitions=[attempt.dataset_version])
    with _clear_disk_errors(home.root):
        seen = dg.DagsterInstance.get().fetch_materializations(wanted, limit=MOST_RUNS).records
    found = (each.asset_materialization for each in seen)
    return any(each.metadata["attempt"].value == attempt.id for each in found if each and "attempt" in each.metadata)


def _is_rejection(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a run failed by the gate's verdict alone: whatever else stopped it is told."""
    failed = [event.step_key for event in result.filter_events(lambda event: event.is_step_failure)]
    (check,) = model_satisfies.check_keys
    verdicts = [each for each in result.get_asset_check_evaluations() if each.asset_check_key == check]
    return failed == [model_satisfies.node_def.name] and any(not each.passed for each in verdicts)


def _run_job(
    environment: Environment,
    name: str,
    recipe_name: str,
    *,
    show: Show,
    run_config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    must_succeed: bool = True,
    **execution: Any,
) -> dg.ExecuteInProcessResult:
    definitions = build_defs(environment, loggers={"terminal": _shown_by(show)})
    config = {"resources": {"recipe": {"config": {"recipe": recipe_name}}}, "loggers": {"terminal": {}}}
    with _clear_disk_errors(environment.home), _alone(environment) as instance:
        result = definitions.resolve_job_def(name).execute_in_process(
            instance=instance,
            run_config={**(run_config or {}), **config},
            tags={**(tags or {}), **IN_PROCESS, HOST_TAG: this_machine()},
            raise_on_error=False,
            **execution,
        )
    if must_succeed and not result.success:
        raise _failure(result)
    return result


def make_databases(environment: Environment) -> None:
    """Make Dagster's where there are none and they are files: beside their place, then renamed.

    One that a full disk or a kill left without some of its tables Dagster fills up as it would an old one: indexes are
    missing for good, and a later upgrade would move data that is not there. Raises TransientError on a full disk.
    """
    folder = environment.home / "dagster"
    if environment.name == PRODUCTION or folder.exists():
        return
    begun = folder.with_name(f".{folder.name}.part")
    with _clear_disk_errors(environment.home), alone(environment.home / "cache" / "dagster.lock"):
        shutil.rmtree(begun, ignore_errors=True)
        try:
            DagsterSqliteStorage.from_local(str(begun)).dispose()
            if not folder.exists():  # another may have made it while we waited
                begun.rename(folder)
        finally:
            shutil.rmtree(begun, ignore_errors=True)


@contextmanager
def _clear_disk_errors(home: Path) -> Iterator[None]:
    """What the disk with Dagster's databases refuses, in one line."""
    folder = home / "dagster"
    with contextlib.redirect_stderr(cast("IO[str]", _SayingOnce(sys.stderr))):
        try:
            yield
        except Exception as error:
            refusal = refused_by_disk(error, folder)
            if refusal is None:  # what refused may be anything else
                raise
            with named_disk_errors(folder):
                raise refusal from error


class _SayingOnce:
    """A stream without what Dagster prints of errors that it raises too, some lines and a whole query each."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """See IO."""
        return len(text) if text.startswith(NOT_LOGGED) else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _alone(environment: Environment) -> Iterator[dg.DagsterInstance]:
    """The home's Dagster instance, for one such process at a time, on one machine or on several that share a ledger.

    A run whose process was killed stays started and keeps its place in the training pool: nothing watches over a run
    in the process of a terminal. Whoever holds the lock knows that such runs are dead, and ends them first.
    A database forgets its locks when it is started again, while their holders work on: of the runs that began before,
    only those are ended whose process is seen to be gone; those of other machines by their sensor (stuck_runs.py).
    """
    busy = f"another petpark builds in the home {environment.home}: wait for its end"
    with open_here(environment).alone("launch", busy) as locks_since:
        make_databases(environment)
        instance = dg.DagsterInstance.get()
        for run in instance.get_runs(dg.RunsFilter(tags=IN_PROCESS, statuses=[dg.DagsterRunStatus.STARTED])):
            if _is_lost(instance, run, locks_since):
                instance.report_run_failed(run, "the process that ran it is gone")
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        yield instance


def _is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun, locks_since: datetime | None) -> bool:
    """Whether a run is dead, now that we have the lock which it had: it may have lost it before `locks_since`."""
    if locks_since is None:
        return True
    record = instance.get_run_record_by_id(run.run_id)
    if record is not None and (record.start_time or 0) > (locks_since + CLOCKS_DIFFER_BY).timestamp():
        return True
    if run.tags.get(HOST_TAG) != this_machine():
        return False
    return lost_process(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)) is not None


def _failure(result: dg.ExecuteInProcessResult) -> PetparkError:
    """The first failed step as one line: our own error's message, or the name and message of whatever else it was.

    Raises KeyboardInterrupt where a person stopped the run: Dagster turns Ctrl-C into a failed step.
    """
    failure = find_failure(result.filter_events(lambda _event: True))
    if failure.is_interrupted:
        raise KeyboardInterrupt
    if not failure.steps:
        return PermanentError(f"run {result.run_id} failed before its first step: look at it with petpark dev")
    return PermanentError(failure.reason if failure.is_ours else f"{failure.steps[0]} failed: {failure.reason}")


def _shown_by(show: Show) -> dg.LoggerDefinition:
    """A Dagster logger that passes on what steps say themselves, and not what Dagster says of them."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meta = getattr(record, "dagster_meta", {})
            if record.levelno <= logging.INFO and meta.get("dagster_event") is None:
                show(str(meta.get("orig_message", record.getMessage())))

    def terminal(_context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("petpark", level=logging.INFO)  # noqa: LOG001 - its own, not shared by name
        logger.addHandler(Handler())
        return logger

    return dg.LoggerDefinition(terminal, description="The terminal.")
