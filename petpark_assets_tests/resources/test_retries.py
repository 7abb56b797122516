"""What passes by itself is waited for, what does not is told at once."""

import dagster as dg
import pytest
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import OperationalError

from petpark_assets.definitions import build_defs
from petpark_assets.domain.errors import InvalidInput, ModelRejected, TransientError
from petpark_assets.resources import retries
from petpark_assets.resources.environments import Environment
from petpark_assets.resources.runs import DATABASE_LOST, IN_PROCESS, find_failure

AWAY = "the store s3://store cannot be reached: run the same command again"
DECISIONS = {"promote_version", "let_model_through"}
"""A person waits for the answer, and repeats it."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0, 0))


def run(errors: list[Exception], tags: dict[str, str] | None = None) -> tuple[dg.ExecuteInProcessResult, int]:
    """A step that meets these errors, one a try; how often it was tried."""
    num_tries = 0

    @dg.op
    @retries.tried_again
    def step(_context: dg.OpExecutionContext) -> None:
        nonlocal num_tries
        num_tries += 1
        if errors:
            raise errors.pop(0)

    @dg.job
    def work() -> None:
        step()

    return work.execute_in_process(raise_on_error=False, tags=tags), num_tries


@pytest.mark.parametrize(
    "error", [TransientError(AWAY), DagsterPostgresException("too many retries"), OperationalError("", {}, Exception())]
)
def test_an_outage_is_outlived(error: Exception):
    """The servers come back in a minute, and nobody needs to be called for it."""
    result, num_tries = run([error])
    assert result.success
    assert num_tries == 2


def test_what_stays_away_fails_with_its_own_line():
    """Dagster says "Exceeded max_retries" then; a person must read what was not reachable."""
    result, num_tries = run([TransientError(AWAY)] * 9)
    assert not result.success
    assert num_tries == 3
    assert find_failure(result.all_events).reason == AWAY


@pytest.mark.parametrize(
    "error", [ModelRejected("accuracy 0.5 is below 0.9"), InvalidInput("no lake"), KeyError("bug")]
)
def test_what_never_helps_is_not_tried_again(error: Exception):
    """A rejected model must not be trained again by a retry."""
    result, num_tries = run([error])
    assert not result.success
    assert num_tries == 1


def test_a_person_at_a_terminal_reads_the_line_at_once():
    """Minutes of silence over a full disk would be worse than an error."""
    result, num_tries = run([TransientError(AWAY)], tags=IN_PROCESS)
    assert num_tries == 1
    assert find_failure(result.all_events).reason == AWAY


def test_every_step_that_works_is_tried_again(tmp_path):
    """One that was forgotten would let a build fail in any outage that meets it."""
    house = build_defs(Environment(name="ci", home=tmp_path, actor="tester", photos=None, ray_address=None))
    steps = [*house.resolve_job_def("build").nodes, *house.resolve_job_def("reconcile_lake").nodes]
    steps += [node for job in house.jobs for node in getattr(job, "nodes", [])]
    forgotten = {
        node.definition.name for node in steps if not hasattr(node.definition.compute_fn.decorated_fn, "__wrapped__")
    }
    assert len(steps) > 15
    assert forgotten == DECISIONS


def test_a_run_that_lost_its_database_says_so():
    """Its own process ends, outside of any step; Dagster's words for it name neither PostgreSQL nor what to do."""
    error = dg._utils.error.SerializableErrorInfo("dagster_postgres.utils.DagsterPostgresException: too many\n", [], "")
    data = dg._core.events.JobFailureData(error)
    event = dg.DagsterEvent("PIPELINE_FAILURE", "build", event_specific_data=data, message="Execution failed.")
    assert find_failure([event]).reason == DATABASE_LOST
