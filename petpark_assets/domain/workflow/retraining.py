"""What follows a rejected model: a request to train again with a wider search, a few times, and not at once.

A request is filed with the verdict that caused it, once for a rejected attempt. Whether one is carried out now is
decided from the records and the ledger alone: only of the newest version, while it has no accepted model, at most
BUDGET times a version, and COOL_DOWN apart. So a lake that cannot be learned costs a known number of trainings, and
then asks a person.
Not here: the run that carries it out (sensors/rejected_models.py).
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from petpark_assets.domain.attempts import Attempt, recipe_from_configuration
from petpark_assets.domain.files import (
    Store,
    digest,
    has_record,
    list_attempts,
    read_circumstances,
    read_record,
    write_record,
)
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake.catalogue import list_versions
from petpark_assets.domain.recipes import Choices, Range, Recipe
from petpark_assets.domain.records import AttemptRecord, EvaluationReport, GateOverride

BUDGET = 2
"""Retrainings of one dataset version: the second has four times the trials of what a person asked for."""
COOL_DOWN = timedelta(hours=24)
"""Between two retrainings of a version: a person who reads the alert comes first."""
WIDENING = 2
"""How many times as many trials, and how far a range is moved on either side."""


@dataclass(frozen=True, kw_only=True)
class RetrainRequest(AttemptRecord):
    """That a rejected attempt be made again otherwise."""

    asset: ClassVar[str] = "retrain_requests"
    evaluation_report: str
    """Digest of the rejection."""
    cause: str
    """Its verdict."""
    configuration: Mapping[str, Any]
    """The recipe to train with: the rejected one with a wider search."""


@dataclass(frozen=True, kw_only=True)
class Filed:
    """A request with what is beside it."""

    request: RetrainRequest
    when: str
    """ISO 8601, UTC."""

    @property
    def digest(self) -> str:
        """Of the request: the run key of its run."""
        return digest(self.request)


def file_request(home: Home, attempt: Attempt) -> str:
    """Ask for another training if this attempt was rejected; what was done, or why nothing was, in one line."""
    version = attempt.dataset_version
    report = read_record(home.store, EvaluationReport, version, attempt.id)
    if report.is_accepted:
        return "none: the model was accepted"
    if not has_record(home.store, RetrainRequest, version, attempt.id):
        if not is_owed(home, attempt):
            return f"none: {version} has its {BUDGET} requests already; change the recipe or the lake"
        with home.noting() as circumstances:
            request = _request(attempt, report)
            told = {"attempt": attempt.id, "cause": request.cause, "retrain_request": digest(request)}
            # The event first: a crash between the two leaves it twice, never missing.
            home.ledger.append("retrain_requested", {"dataset_version": version, **told})
            write_record(home.store, request, circumstances())
    search = read_record(home.store, RetrainRequest, version, attempt.id).configuration["search"]
    return f"asked for, with {search['num_trials']} trials over {', '.join(sorted(search['space']))}"


def is_owed(home: Home, attempt: Attempt) -> bool:
    """Whether file_request would file one for this rejected attempt: none is, and its version's budget has room."""
    filed = list_attempts(home.store, RetrainRequest, attempt.dataset_version)
    return attempt.id not in filed and len(filed) < BUDGET


def _request(attempt: Attempt, report: EvaluationReport) -> RetrainRequest:
    return RetrainRequest(
        dataset_version=attempt.dataset_version,
        attempt=attempt.id,
        evaluation_report=digest(report),
        cause=report.verdict,
        configuration=asdict(widened(attempt.recipe)),
    )


def widened(recipe: Recipe) -> Recipe:
    """The recipe with a wider search: more trials, wider logarithmic ranges, and weight decay among what is looked for.

    What was a fixed value or a grid becomes a search by TPE, which spends more trials where they pay; by random where
    the scheduler goes on from there by itself.
    """
    search, values = recipe.search, recipe.hyperparameters
    space = {name: _widened(dimension) for name, dimension in search.space.items()}
    for name in ("learning_rate", "weight_decay"):
        value = getattr(values, name)
        if name not in space and value > 0:
            space[name] = Range(low=value / WIDENING, high=value * WIDENING, log=True)
    wider = dataclasses.replace(
        search,
        algorithm="random" if search.algorithm == "random" or search.scheduler == "pbt" else "tpe",
        num_trials=search.num_trials * WIDENING,
        time_budget_s=None if search.time_budget_s is None else search.time_budget_s * WIDENING,
        space=space,
    )
    return dataclasses.replace(recipe, search=wider)


def _widened(dimension: Choices | Range) -> Choices | Range:
    if isinstance(dimension, Range) and dimension.log:
        return Range(low=dimension.low / WIDENING, high=dimension.high * WIDENING, log=True)
    return dimension


def requested_recipe(request: RetrainRequest) -> Recipe:
    """What the request says to train with."""
    return recipe_from_configuration(request.configuration)


def next_request(
    version: str, filed: Sequence[Filed], starts: Mapping[str, datetime], *, has_accepted: bool, now: datetime
) -> tuple[Filed | None, str]:
    """The request to carry out now, or None; and why, in one line.

    Args:
        version: the newest dataset version.
        filed: its requests.
        starts: when requests of it were begun, by digest.
        has_accepted: whether one of its attempts was accepted, by the gate or by a person.
        now: with a time zone.
    """
    waiting = sorted((one for one in filed if one.digest not in starts), key=lambda one: (one.when, one.digest))
    if not waiting:
        return None, f"no request of {version} waits"
    if has_accepted:
        return None, f"{version} has an accepted model by now"
    if len(starts) >= BUDGET:
        return (
            None,
            f"{version} was trained again {len(starts)} times, as often as it may: change the recipe or the lake",
        )
    ready_at = max(starts.values(), default=now) + (COOL_DOWN if starts else timedelta())
    if now < ready_at:
        return None, f"{version} is trained again from {ready_at:%Y-%m-%d %H:%M} UTC on, if no person comes first"
    return waiting[0], f"{version} is trained again: {waiting[0].request.cause}"


def decide(home: Home, now: datetime | None = None) -> tuple[Filed | None, str]:
    """The request of the newest version to carry out now, or None; and why, in one line."""
    versions = list_versions(home.store)
    if not versions:
        return None, "there is no version yet"
    version = versions[-1]
    filed = read_requests(home.store, version)
    starts = read_starts(home, {one.digest for one in filed})
    has_accepted = bool(filed) and any(
        read_record(home.store, EvaluationReport, version, attempt).is_accepted
        or has_record(home.store, GateOverride, version, attempt)
        for attempt in list_attempts(home.store, EvaluationReport, version)
    )
    return next_request(version, filed, starts, has_accepted=has_accepted, now=now or datetime.now(UTC))


def read_requests(store: Store, dataset_version: str) -> list[Filed]:
    """The requests of a version."""
    return [
        Filed(
            request=read_record(store, RetrainRequest, dataset_version, attempt),
            when=read_circumstances(store, RetrainRequest, dataset_version, attempt)["when"],
        )
        for attempt in list_attempts(store, RetrainRequest, dataset_version)
    ]


def read_starts(home: Home, digests: Collection[str]) -> dict[str, datetime]:
    """When each of some requests was begun first, by the ledger."""
    starts: dict[str, datetime] = {}
    for event in home.ledger.events() if digests else ():
        if event.event == "retraining_started" and event.subject["retrain_request"] in digests:
            starts.setdefault(event.subject["retrain_request"], datetime.fromisoformat(event.time))
    return starts


def note_start(home: Home, filed: Filed, attempt: Attempt) -> None:
    """Say in the ledger that a request is carried out, before it is: it counts even if its run never comes."""
    told = {"dataset_version": attempt.dataset_version, "attempt": attempt.id, "retrain_request": filed.digest}
    home.ledger.append("retraining_started", told)
