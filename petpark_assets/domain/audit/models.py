"""What stands behind a model: data, code, parameters and people; and which models were rejected.

Not here: pages (pages.py), what changed between two models (changes.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from petpark_assets.domain.audit.trail import (
    Trail,
    aliases,
    aliases_of,
    find_model,
    list_attempts,
    read_document,
    registered,
)
from petpark_assets.domain.home import Home
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.registry import decisions
from petpark_assets.domain.registry.versions import THE_RULE

_CIRCUMSTANCES = ("when", "who", "host", "run_id", "seconds")


def describe_model(home: Home, name: str) -> dict[str, Any]:
    """Everything behind one model, as a JSON document. Raises NotFound, InvalidInput.

    Returns:
        model_version, aliases (of now), package: null and empty where it is not registered.
        dataset_version, attempt, recipe, seed, code_version, device, libraries, trained_by, trained_at.
        is_accepted, verdict, accuracy, approved_by: the rule, or the person who promoted it last, with the reason.
        overridden_by, overridden_because, overridden_at: who let it through the gate; None each where nobody did.
        data, parameters, metrics: of its records; records: a row each, with its digest and its parents' digests.
        events: the rows of the ledger about it and its dataset version, oldest first.
    """
    return describe(find_model(home, name), list(home.ledger.events()))


def describe(trail: Trail, events: Sequence[Event]) -> dict[str, Any]:
    """`describe_model` of records that were found, with the ledger's events."""
    own = [told(event) for event in events if is_about(event, trail)]
    training, report = trail.content("trained_cnn"), trail.content("evaluation_report")
    search = trail.content("hyperparameter_search")
    noted = trail.documents["trained_cnn"].circumstances if training else {}
    trained: dict[str, Any] = next((row for row in reversed(own) if row["event"] == "model_trained"), {})
    return {
        "model_version": trail.model_version,
        "aliases": aliases_of(events, trail.model_version) if trail.model_version else [],
        "package": trail.package,
        "dataset_version": trail.dataset_version,
        "attempt": trail.attempt,
        **{key: search.get(key) for key in ("recipe", "seed", "code_version")},
        "device": training.get("device"),
        "libraries": trained.get("libraries"),
        "trained_by": noted.get("who"),
        "trained_at": noted.get("when"),
        "is_accepted": report.get("is_accepted"),
        "verdict": report.get("verdict"),
        "accuracy": report.get("metrics", {}).get("accuracy"),
        **decisions.told(decisions.overrides(events).get(trail.attempt)),
        "approved_by": _approval(own),
        "data": _data(trail),
        "parameters": training.get("hyperparameters") or search.get("best_hyperparameters"),
        "targets": report.get("targets"),
        "metrics": report.get("metrics"),
        "records": [_record(trail, asset) for asset in trail.documents],
        "events": own,
    }


def told(event: Event) -> dict[str, Any]:
    """An event of the ledger as a row: number, time, actor, event, digest, and its subject's fields."""
    row = {"number": event.number, "time": event.time, "actor": event.actor, "event": event.event}
    return {**event.subject, **row, "digest": event.digest}


def is_about(event: Event, trail: Trail) -> bool:
    """Whether an event is about a model, or about its dataset version and no other model."""
    if "attempt" in event.subject:
        return bool(event.subject["attempt"] == trail.attempt)
    return bool(event.subject.get("dataset_version") == trail.dataset_version)


def rejected(home: Home) -> dict[str, Any]:
    """Who approved, and what had been rejected: two lists of rows.

    Returns:
        rejected: each model whose verdict is no: dataset_version, attempt, verdict, accuracy, when, who,
            evaluation_report; and who let it through (decisions.told); oldest version first.
        approved: each alias that a person moved, or a rule: model_version, alias, by, because, when, actor; and who
            had let that model through.
    """
    events, rows = list(home.ledger.events()), []
    overrides = decisions.overrides(events)
    for version, attempt in list_attempts(home.store, "evaluation_report"):
        report = read_document(home.store, "evaluation_report", version, attempt)
        if not report.content["is_accepted"]:
            rows.append({
                "dataset_version": version,
                "attempt": attempt,
                "accuracy": report.content["metrics"].get("accuracy"),
                "verdict": report.content["verdict"],
                **decisions.told(overrides.get(attempt)),
                "when": report.circumstances.get("when"),
                "who": report.circumstances.get("who"),
                "evaluation_report": report.digest,
            })  # fmt: skip
    moves = [told(event) for event in events if _is_move(event)]
    approved = [{**_move(row), **decisions.told(overrides.get(row["attempt"]))} for row in moves]
    return {"rejected": rows, "approved": approved}


def list_models(home: Home) -> list[dict[str, Any]]:
    """Every model that was examined, a row each: oldest dataset version first."""
    events, rows = list(home.ledger.events()), []
    numbers = {subject["attempt"]: number for number, subject in registered(events).items()}
    named = {alias: move.subject["version"] for alias, move in aliases(events).items()}
    overrides = decisions.overrides(events)
    for version, attempt in list_attempts(home.store, "evaluation_report"):
        report, number = read_document(home.store, "evaluation_report", version, attempt), numbers.get(attempt)
        rows.append({
            "model_version": number,
            "aliases": sorted(alias for alias, known in named.items() if known == number),
            "dataset_version": version,
            "attempt": attempt,
            "is_accepted": report.content["is_accepted"],
            "verdict": report.content["verdict"],
            **decisions.told(overrides.get(attempt)),
            "accuracy": report.content["metrics"].get("accuracy"),
            "when": report.circumstances.get("when"),
            "who": report.circumstances.get("who"),
        })  # fmt: skip
    return rows


def _is_move(event: Event) -> bool:
    return event.event == "alias_moved" and event.subject["alias"] == "champion"


def _move(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: row.get(name) for name in ("alias", "previous_version", "by", "because", "actor")}
    return {"model_version": row["version"], **plain, "is_a_persons": row["by"] != THE_RULE, "when": row["time"]}


def _approval(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    moves = [row for row in rows if row["event"] == "alias_moved" and row["alias"] == "champion"]
    return _move(moves[-1]) if moves else None


def _data(trail: Trail) -> dict[str, Any]:
    photos = trail.content("raw_images")
    noted = trail.documents["raw_images"].circumstances if photos else {}
    sides = {name: trail.content(name) for name in ("train_split", "test_split")}
    forgotten = {name: len(trail.content(name).get("forgotten", ())) for name in ("trained_cnn", "evaluation_report")}
    return {
        "lake": noted.get("lake"),
        "labels": noted.get("labels"),
        "manifest": photos.get("manifest"),
        "images": photos.get("images"),
        "train_images": sides["train_split"].get("images_by_label"),
        "test_images": sides["test_split"].get("images_by_label"),
        "train_members": sides["train_split"].get("members"),
        "test_members": sides["test_split"].get("members"),
        "num_forgotten_before_training": forgotten["trained_cnn"],
        "num_forgotten_before_exam": forgotten["evaluation_report"],
    }


def _record(trail: Trail, asset: str) -> dict[str, Any]:
    found = trail.documents[asset]
    noted = {name: found.circumstances.get(name) for name in _CIRCUMSTANCES}
    return {"asset": asset, "digest": found.digest, "is_whole": found.is_whole, **noted, "parents": found.parents}
