"""Forgetting a photo: its bytes and its pixels go from everywhere, for ever; what was known of it stays explained.

First the tombstone, so that nothing lets the photo in again; then every copy: the stored original, its pixels at every
resolution, this machine's caches, the pages that may show it; then the ledger's event; then the pages are drawn again
without it. Killed anywhere and run again, it ends the same. Other homes of the store follow when they next open photos
(copies.py).
Manifests stay as they are, or no version could be verified: they keep the photo's key, its sha256 and what was measured
of it, among that a signature of some hundred bytes, which knows copies, and from which a blurred shadow of the picture
can be drawn. Models that learned from it stay too: they are listed.
In a bucket that keeps old versions, those go too.
Not covered: the lake, which is not ours (`still_in_lake` names what a person must delete there); copies that a person
made of pages or of the home; replicas of a bucket; a training that runs meanwhile, which holds its memory-mapped copy
until it ends.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain.attempts import find_attempt
from petpark_assets.domain.errors import InvalidInput, PermanentError
from petpark_assets.domain.files import Store, has_record, list_attempts, read_record, real_address
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue, contact_sheets, history, tombstones
from petpark_assets.domain.lake.tombstones import Tombstone
from petpark_assets.domain.records import EvaluationReport, RegisteredModel, TrainedCnn
from petpark_assets.domain.s3.store import S3Store
from petpark_assets.domain.workflow import copies
from petpark_assets.domain.workflow.lookup import find_photo, find_rows


def forget(home: Home, photo: str, reason: str) -> dict[str, Any]:
    """Forget a photo, named by its key in any version, its sha256, or the first digits of that (8 or more).

    Returns:
        sha256, keys, reason, who, when: of the tombstone; is_new: False when it stood already.
        still_in_lake: keys of the newest version under which a person must delete it.
        dataset_versions: each that saw it, with key, label, state and split.
        models: each that learned from it or was examined on it, with its side.
        near_duplicates: photos of its group in any version, and others that are like it, also ones that were set aside;
            they were not forgotten.
        pages_not_drawn: versions whose pages could not be drawn again without it, and why.
        backups: places whose backups hold it until `petpark backup` to each is run again, which removes it there.

    Raises:
        InvalidInput: without a reason, the name fits several photos, or the store's bucket lets nothing be deleted.
        NotFound: no version has seen it.
        TransientError: something could not be deleted; run it again.
    """
    if not reason.strip():
        raise InvalidInput("forgetting a photo needs a reason: --reason TEXT")
    _check_deletable(home.store)
    sha256 = find_photo(home.store, home.originals, photo)
    seen = find_rows(home.store, lambda table: pc.equal(table["sha256"], sha256))
    is_new = tombstones.write(home.store, _tombstone(home, sha256, seen, " ".join(reason.split())))
    tombstone = tombstones.read(home.store, sha256)
    home.originals.forget([sha256])
    home.pixels.forget([sha256])
    copies.delete(home, sha256)
    note(home, tombstone)
    failures = _draw_pages(home, seen)
    return {
        **vars(tombstone),
        "is_new": is_new,
        "still_in_lake": _keys_in_newest(home.store, seen),
        "dataset_versions": seen.drop_columns(["sha256", "group"]).to_pylist(),
        "models": _models(home, seen, sha256),
        "near_duplicates": _near_duplicates(home, seen, sha256),
        "pages_not_drawn": failures,
        "backups": _backups_with(home, sha256),
    }


def _check_deletable(store: Store) -> None:
    """Before the tombstone: nobody must read that a photo is forgotten while a bucket keeps it."""
    if isinstance(store, S3Store):
        store.bucket.check_deletable()


def _tombstone(home: Home, sha256: str, seen: pa.Table, reason: str) -> Tombstone:
    return Tombstone(
        sha256=sha256,
        keys=tuple(sorted(set(seen["key"].to_pylist()))),
        dataset_versions=tuple(dict.fromkeys(seen["dataset_version"].to_pylist())),
        reason=reason,
        who=home.actor,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def note(home: Home, tombstone: Tombstone) -> None:
    """One event in the ledger, however often this was run."""
    for event in home.ledger.events():
        if event.event == "photo_forgotten" and event.subject["sha256"] == tombstone.sha256:
            return
    home.ledger.append("photo_forgotten", vars(tombstone))


def _backups_with(home: Home, sha256: str) -> list[str]:
    """Places whose last backup, as far as this home knows, was made before a photo was forgotten."""
    last: dict[str, int] = {}
    forgotten = 0
    for event in home.ledger.events():
        if event.event in {"backup_made", "home_restored"}:
            last[real_address(event.subject["place"])] = event.subject["num_events"]  # as typed, in events of before
        elif event.event == "photo_forgotten" and event.subject["sha256"] == sha256:
            forgotten = event.number
    return sorted(place for place, num_events in last.items() if num_events < forgotten)


def _draw_pages(home: Home, seen: pa.Table) -> list[str]:
    """Draw the deleted pages again; returns the versions of which one could not be, and why."""
    failures = []
    for version in dict.fromkeys(seen["dataset_version"].to_pylist()):
        is_on_sheet = version in copies.quarantined(seen)["dataset_version"].to_pylist()
        try:
            draw_reports(home, version)
            if is_on_sheet:
                contact_sheets.write_page(home.store, home.originals, home.reports, version)
        except PermanentError as error:  # the photo is gone; a damaged report must not hide that
            failures.append(f"{version}: {error}")
    return failures


def draw_reports(home: Home, version: str) -> None:
    """Draw the page of each of a version's exams again."""
    for attempt in list_attempts(home.store, EvaluationReport, version):
        from petpark_assets.domain.workflow.testing import draw_page

        draw_page(home, find_attempt(home.store, version, attempt))


def _keys_in_newest(store: Store, seen: pa.Table) -> list[str]:
    newest = pa.array(catalogue.list_versions(store)[-1:], pa.string())
    return sorted(seen.filter(pc.is_in(seen["dataset_version"], newest))["key"].to_pylist())


def _models(home: Home, seen: pa.Table, sha256: str) -> list[dict[str, Any]]:
    """Every model that learned from the photo or was examined on it, by the records of what each left out."""
    return [
        {
            "dataset_version": row["dataset_version"],
            "attempt": attempt,
            "side": row["split"],
            "model_version": _model_version(home, row["dataset_version"], attempt),
        }
        for row in seen.filter(pc.is_valid(seen["split"])).to_pylist()
        for attempt, forgotten in _left_out(home, row["split"], row["dataset_version"])
        if sha256 not in forgotten
    ]


def _left_out(home: Home, side: str, version: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The attempts that used one side of a version, with the photos that each had to do without."""
    kind: type[TrainedCnn | EvaluationReport] = TrainedCnn if side == "train" else EvaluationReport
    for attempt in list_attempts(home.store, kind, version):
        yield attempt, read_record(home.store, kind, version, attempt).forgotten


def _model_version(home: Home, version: str, attempt: str) -> int | None:
    if not has_record(home.store, RegisteredModel, version, attempt):
        return None
    return read_record(home.store, RegisteredModel, version, attempt).model_version


def _near_duplicates(home: Home, seen: pa.Table, sha256: str) -> list[dict[str, Any]]:
    """Others of its group, and copies in none, a row each: the newest key and label, the first and the last version.

    What is quarantined is in no group: a bridge, or a copy that nobody labelled.
    """
    groups = pa.array(sorted(set(seen["group"].drop_null().to_pylist())), pa.string())
    alike = pa.array(history.copies_of(history.read_history(home.store, home.cache), sha256), pa.string())
    rows = find_rows(
        home.store,
        lambda table: pc.and_(
            pc.or_(pc.is_in(table["group"], groups), pc.is_in(table["sha256"], alike)),
            pc.not_equal(table["sha256"], sha256),
        ),
    )
    photos: dict[str, dict[str, Any]] = {}
    for row in rows.to_pylist():
        photo = photos.setdefault(row["sha256"], {"sha256": row["sha256"], "first_version": row["dataset_version"]})
        photo |= {"last_version": row["dataset_version"], "key": row["key"], "label": row["label"]}
    return [photos[name] for name in sorted(photos)]
