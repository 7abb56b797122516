"""What a home of the production profile holds, and why runs failed, as JSON: `python -m ... RUN_ID ...`.

A process of its own, with the profile's variables. It fails where it sees something half-made.
"""

import json
import sys

import dagster as dg

from petpark_assets.resources.environments import PROJECT_FOLDER, open_here, read_environment
from petpark_assets.resources.runs import OUR_ERRORS, _causes, find_failure
from petpark_assets_tests.benchmarks.crash_reader import assert_nothing_half_made, contents

RETRIED = dg.DagsterEventType.STEP_UP_FOR_RETRY


def lines_about(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Why tries of a run's steps failed, and the run itself, in the words that people are told."""
    run, entries = instance.get_run_by_id(run_id), instance.all_logs(run_id)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    tries = [_line(event.step_retry_data.error) for event in events if event.event_type == RETRIED]
    return [*tries, *([find_failure(events).reason] if run.status == dg.DagsterRunStatus.FAILURE else [])]


def _line(error: object) -> str:
    messages = [cause.message.strip() for cause in _causes(error)]
    ours = [message.partition(": ")[2] for message in messages if message.startswith(OUR_ERRORS)]
    return (ours or messages)[-1]


def main() -> None:
    """Look once."""
    home = open_here(read_environment())
    assert_nothing_half_made(home)
    with dg.DagsterInstance.from_config(str(PROJECT_FOLDER / "infra")) as instance:
        lines = [line for run_id in sys.argv[1:] for line in lines_about(instance, run_id)]
    print(json.dumps({"contents": contents(home), "lines": lines}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
