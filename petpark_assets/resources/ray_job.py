"""What runs on a Ray cluster as a job: `python -m petpark_assets.resources.ray_job search|train ...`.

The work is the domain's, in the home and with the keys that the node's own environment names. What happens is told on
standard output, one line of JSON behind MARK each; the Dagster step at the other end (ray_jobs.py) reads it there. The
ledger is that step's: events are told, never written here, where nobody would look for them.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from petpark_assets.domain.attempts import Attempt, find_attempt, new_attempt, recipe_from_configuration
from petpark_assets.domain.errors import Conflict, PetparkError
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.home import Home
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.workflow import training
from petpark_assets.resources.environments import enter_job, open_here
from petpark_assets.resources.ray_cluster import started

MARK = "petpark: "
"""Begins the lines that are meant for the step; the others are whatever libraries print."""

NEW_EVENT, TRIAL, TRIAL_EPOCH, EPOCH, FAILED = "event", "trial", "trial_epoch", "epoch", "failed"
"""Kinds of such lines: each is `[kind, content]`."""


class ToldLedger:
    """The ledger of the step that waits for this job: written by telling, read as far as this node can."""

    def __init__(self, home: Home, head: str) -> None:
        self._ledger = home.ledger
        self._head = head

    def append(self, event: str, subject: Mapping[str, Any]) -> str:
        """Tell it; the step writes it. Returns the head that is known here."""
        tell(NEW_EVENT, {"event": event, "subject": subject})
        return self._head

    def head(self) -> str:
        """The step's, when it submitted this."""
        return self._head

    def events(self) -> Iterator[Event]:
        """See Ledger."""
        return self._ledger.events()

    def verify(self) -> None:
        """See Ledger."""
        self._ledger.verify()

    def held(self) -> AbstractContextManager[tuple[bytes, list[Event]]]:
        """See Ledger."""
        return self._ledger.held()

    def is_begun(self) -> bool:
        """See Ledger."""
        return self._ledger.is_begun()

    def take_in(self) -> int:
        """That is not a job's work."""
        return 0


def tell(kind: str, content: Any) -> None:
    """One line for the step, at once."""
    print(f"{MARK}{canonical_json([kind, content]).decode()}", flush=True)  # noqa: T201 - how a job speaks


def main(arguments: list[str] | None = None) -> int:
    """Do the work; 0, or 1 with the reason told. It is what was submitted, so a bug's traceback goes to the log."""
    told = _parser().parse_args(arguments)
    try:
        environment = enter_job(told.home)
        opened = replace(open_here(environment), run_id=told.run_id)
        home = replace(opened, ledger=ToldLedger(opened, told.ledger_head))
        WORK[told.step](home, told, environment.ray_address)
    except PetparkError as error:
        tell(FAILED, {"error": type(error).__name__, "message": str(error)})
        return 1
    except Exception as error:  # noqa: BLE001 - told to the step, which fails with it
        traceback.print_exc()
        tell(FAILED, {"error": type(error).__name__, "message": str(error)})
        return 1
    return 0


def _search(home: Home, told: argparse.Namespace, ray_address: str | None) -> None:
    training.hyperparameter_search(
        home,
        _begun(told),
        running_ray=partial(started, ray_address),
        on_trial=partial(tell, TRIAL),
        on_epoch=lambda number, point: tell(TRIAL_EPOCH, [number, point]),
    )


def _train(home: Home, told: argparse.Namespace, _ray_address: str | None) -> None:
    attempt = find_attempt(home.store, told.dataset_version, told.attempt)
    training.trained_cnn(home, attempt, on_epoch=lambda epoch: tell(EPOCH, asdict(epoch)))


WORK = {"search": _search, "train": _train}


def _begun(told: argparse.Namespace) -> Attempt:
    """The attempt that the step begins. Raises Conflict when the code of this node would begin another."""
    attempt = new_attempt(told.dataset_version, recipe_from_configuration(json.loads(told.configuration)))
    if attempt.id != told.attempt:
        raise Conflict(
            f"the step begins attempt {told.attempt} of {told.dataset_version}, the code on this node of the Ray "
            f"cluster {attempt.id}: install the same version of the platform on both, with the same files of weights"
        )
    return attempt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="One step of the workflow as a Ray job.")
    parser.add_argument("step", choices=sorted(WORK))
    parser.add_argument("--dataset-version", required=True)
    parser.add_argument("--attempt", required=True)
    parser.add_argument("--configuration", help="the attempt's recipe as JSON, of a search")
    parser.add_argument("--home", type=Path, required=True, help="where this node names none by PETPARK_HOME")
    parser.add_argument("--ledger-head", required=True)
    parser.add_argument("--run-id")
    return parser


if __name__ == "__main__":
    sys.exit(main())
