"""What was so at a moment, and what is known of a dataset version: from the ledger and the records.

Not here: one model (models.py), one photo (photos.py).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from petpark_assets.domain.audit.models import list_models, told
from petpark_assets.domain.audit.trail import OF_VERSION, aliases, read_document
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import folder_key
from petpark_assets.domain.home import Home
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.registry import decisions


def parse_time(text: str) -> datetime:
    """A moment: ISO 8601 (`2027-03-03 10:00`, `2027-03-03T10:00+01:00`), UTC where no offset is said.

    Raises InvalidInput showing how to write it.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no moment: write it like 2027-03-03T10:00, or with +01:00 behind") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def at(home: Home, text: str) -> dict[str, Any]:
    """What was champion at a moment, and why. By the clock of the machine that keeps the ledger.

    Returns:
        time: the moment, in UTC; last_event: the number of the last event before it, 0 before the first.
        champion, candidate: model_version, dataset_version, attempt, package, since, by, because, actor, event (its
            number), and who had let it through the gate; None where the alias named nothing yet.
        newest_dataset_version; registered_versions: the numbers known then; rejected: verdicts of no until then.
    """
    moment = parse_time(text)
    events = [event for event in home.ledger.events() if datetime.fromisoformat(event.time) <= moment]
    made = [event.subject["dataset_version"] for event in events if event.event == "dataset_version_made"]
    verdicts = [told(event) for event in events if event.event == "verdict"]
    overrides = decisions.overrides(events)
    kept = ("time", "dataset_version", "attempt", "verdict")
    return {
        "time": moment.astimezone(UTC).isoformat(),
        "last_event": events[-1].number if events else 0,
        **{alias: _named(events, alias) for alias in ("champion", "candidate")},
        "newest_dataset_version": max(made, key=lambda name: int(name[1:])) if made else None,
        "registered_versions": sorted({e.subject["version"] for e in events if e.event == "model_registered"}),
        "rejected": [
            {**{name: row[name] for name in kept}, **decisions.told(overrides.get(row["attempt"]))}
            for row in verdicts
            if not row["is_accepted"]
        ],
    }


def _named(events: Sequence[Event], alias: str) -> dict[str, Any] | None:
    move = aliases(events).get(alias)
    if move is None:
        return None
    plain = {name: move.subject[name] for name in ("dataset_version", "attempt", "package", "by", "because")}
    return {
        "model_version": move.subject["version"], **plain,
        **decisions.told(decisions.overrides(events).get(move.subject["attempt"])),
        "since": move.time, "actor": move.actor, "event": move.number,
    }  # fmt: skip


def describe_dataset(home: Home, version: str) -> dict[str, Any]:
    """A dataset version (`v0001`, which must exist): its records, the models made of it, its events."""
    documents = [
        read_document(home.store, asset, version)
        for asset in OF_VERSION
        if home.store.exists(f"{folder_key(asset, version)}.json")
    ]
    content = {found.asset: found.content for found in documents}
    photos = content.get("raw_images", {})
    noted = next((found.circumstances for found in documents if found.asset == "raw_images"), {})
    fields = ("manifest", "previous_manifest", "images", "accepted_by_label", "quarantined_by_reason")
    return {
        "dataset_version": version,
        **{name: photos.get(name) for name in fields},
        **{name: noted.get(name) for name in ("lake", "labels", "when", "who")},
        "train_images": content.get("train_split", {}).get("images_by_label"),
        "test_images": content.get("test_split", {}).get("images_by_label"),
        "records": [
            {"asset": found.asset, "digest": found.digest, "is_whole": found.is_whole, "parents": found.parents}
            for found in documents
        ],
        "models": [row for row in list_models(home) if row["dataset_version"] == version],
        "events": [
            told(event)
            for event in home.ledger.events()
            if event.subject.get("dataset_version") == version and "attempt" not in event.subject
        ],
    }
