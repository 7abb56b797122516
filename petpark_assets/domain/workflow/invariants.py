"""What must be true of manifests, within a version and over versions: tables in, findings out; nothing else is read.

Not here: the manifests' digests, stored bytes, pixels and likenesses (verification.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import splits
from petpark_assets.domain.images import QUARANTINE_REASONS
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.catalogue import ACCEPTED, QUARANTINED, STATES
from petpark_assets.domain.records import LABELS

SIDES = ("train", "test")

MEMBER = pa.schema([
    *(catalogue.SCHEMA.field(name) for name in ("sha256", "key", "label", "group", "split")),
    pa.field("dataset_version", pa.string()),
])  # fmt: skip
"""A photo on a side, with the first version that had it there."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as claimed; `claim` is one of verification.CLAIMS."""

    claim: str
    detail: str
    dataset_version: str | None = None
    sha256: str | None = None
    key: str | None = None
    other_sha256: str | None = None
    other_key: str | None = None


def pair(claim: str, train: pa.Table, test: pa.Table, places: Sequence[int], words: str) -> Finding:
    """A finding about a train photo and a test photo, by their places in two tables of MEMBER."""
    (first,), (second,) = (rows.slice(place, 1).to_pylist() for rows, place in zip((train, test), places, strict=True))
    versions = (first["dataset_version"], second["dataset_version"])
    return Finding(
        claim=claim, dataset_version=max(versions, key=lambda name: int(name[1:])),
        sha256=second["sha256"], key=second["key"], other_sha256=first["sha256"], other_key=first["key"],
        detail=f"{words}: on the test side since {versions[1]}, on the train side since {versions[0]}",
    )  # fmt: skip


def fold(members: pa.Table, version: str, manifest: pa.Table) -> pa.Table:
    """Members (MEMBER) of the versions before, and those that one more version adds."""
    accepted = manifest.filter(pc.is_valid(manifest["split"])).select(MEMBER.names[:-1])
    new = accepted.filter(pc.invert(pc.is_in(_on_side(accepted), _on_side(members).combine_chunks())))
    versions = pa.array([version] * new.num_rows, pa.string())
    new = new.append_column(MEMBER.field("dataset_version"), versions).cast(MEMBER)
    return pa.concat_tables([members, new]).combine_chunks()


def within(version: str, manifest: pa.Table) -> Iterator[Finding]:
    """What one version says of itself: every row in one state, and every group on one side."""
    for detail, is_wrong in _row_rules(manifest).items():
        for row in manifest.filter(is_wrong).select(["key", "sha256"]).to_pylist():
            yield Finding(claim="every_photo_is_counted_once", dataset_version=version, detail=detail, **row)
    accepted = manifest.filter(pc.is_valid(manifest["split"]))
    sides = accepted.group_by("group").aggregate([("split", "count_distinct"), ("sha256", "min"), ("key", "min")])
    for row in sides.filter(pc.greater(sides["split_count_distinct"], 1)).to_pylist():
        yield Finding(
            claim="groups_stay_together", dataset_version=version, sha256=row["sha256_min"], key=row["key_min"],
            detail=f"the group {row['group']} is on both sides",
        )  # fmt: skip


def against_earlier(members: pa.Table, version: str, manifest: pa.Table) -> Iterator[Finding]:
    """What one version says otherwise than the versions before: a photo, or a group, on another side."""
    accepted = manifest.filter(pc.is_valid(manifest["split"])).select(MEMBER.names[:-1])
    for name, claim in (("sha256", "photos_keep_their_side"), ("group", "groups_stay_together")):
        places = pc.index_in(accepted[name], members[name].combine_chunks())
        before = members.take(places.combine_chunks())
        has_moved = pc.fill_null(pc.not_equal(accepted["split"], before["split"]), fill_value=False)
        pairs = zip(accepted.filter(has_moved).to_pylist(), before.filter(has_moved).to_pylist(), strict=True)
        for now, then in pairs:
            yield Finding(
                claim=claim, dataset_version=version, sha256=now["sha256"], key=now["key"],
                other_sha256=then["sha256"], other_key=then["key"],
                detail=f"on the {now['split']} side, {then['dataset_version']} had it on the {then['split']} side",
            )  # fmt: skip


def assigned_otherwise(members: pa.Table, version: str, manifest: pa.Table) -> Iterator[Finding]:
    """Photos on another side than the rule gives them, worked out again from this version and all before it."""
    accepted = manifest.filter(pc.is_valid(manifest["split"]))
    sides = splits.assign(accepted.select(["sha256", "label", "group"]), members.select(["sha256", "split"]))
    is_other = pc.not_equal(accepted["split"], sides)
    found = accepted.filter(is_other).append_column("ruled", sides.filter(is_other))
    for row in found.select(["sha256", "key", "split", "ruled"]).to_pylist():
        yield Finding(
            claim="sides_are_as_ruled", dataset_version=version, sha256=row["sha256"], key=row["key"],
            detail=f"on the {row['split']} side, the rule gives it the {row['ruled']} side",
        )  # fmt: skip


def unbalanced(members: pa.Table, version: str, manifest: pa.Table) -> Iterator[dict[str, Any]]:
    """The classes that are off 80/20, with `is_reachable`: whether the groups that were new could have mended it."""
    for label, found in splits.balance(manifest).items():
        if not found.is_balanced:
            is_of_class = pc.and_(pc.is_valid(manifest["split"]), pc.equal(manifest["label"], label))
            photos = manifest.filter(pc.fill_null(is_of_class, fill_value=False))
            yield {
                "dataset_version": version,
                "label": label,
                "test_share": found.test_share,
                "is_reachable": _is_reachable(members, photos),
            }


def _is_reachable(members: pa.Table, photos: pa.Table) -> bool:
    """Whether some division of the photos of new groups brings a class to 80/20; all others are where they were."""
    is_settled = pc.or_(
        pc.is_in(photos["sha256"], members["sha256"].combine_chunks()),
        pc.is_in(photos["group"], members["group"].combine_chunks()),
    )
    settled = photos.filter(is_settled)
    least = pc.sum(pc.equal(settled["split"], "test")).as_py() or 0
    most = least + photos.num_rows - settled.num_rows
    target, tolerance = splits.TEST_SHARE * photos.num_rows, splits.BALANCE_TOLERANCE * photos.num_rows
    return bool(least <= target + tolerance and most >= target - tolerance)


def _row_rules(manifest: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Rows against a rule, by what is wrong with them."""
    is_accepted = pc.equal(manifest["state"], ACCEPTED)
    is_quarantined = pc.equal(manifest["state"], QUARANTINED)
    has_all = pc.and_(_is_one_of(manifest["label"], LABELS), pc.is_valid(manifest["group"]))
    has_all = pc.and_(has_all, pc.and_(_is_one_of(manifest["split"], SIDES), pc.is_valid(manifest["sha256"])))
    return {
        "its state is none that there is": pc.invert(_is_one_of(manifest["state"], STATES)),
        "accepted without a class, bytes, group or side": pc.and_(is_accepted, pc.invert(has_all)),
        "on a side without being accepted": pc.and_(pc.is_valid(manifest["split"]), pc.invert(is_accepted)),
        "quarantined without a reason that there is": pc.and_(
            is_quarantined, pc.invert(_is_one_of(manifest["reason"], tuple(QUARANTINE_REASONS)))
        ),
        "has a reason without being quarantined": pc.and_(
            pc.is_valid(manifest["reason"]), pc.invert(is_quarantined)
        ),
        "its key is there twice": _is_repeated(manifest["key"], pc.is_valid(manifest["key"])),
        "its bytes are accepted twice": _is_repeated(manifest["sha256"], is_accepted),
    }  # fmt: skip


def _is_one_of(column: pa.ChunkedArray, values: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.is_in(column, pa.array(values, column.type))


def _is_repeated(column: pa.ChunkedArray, is_counted: pa.ChunkedArray) -> pa.ChunkedArray:
    """Counted rows whose value another counted row has too."""
    counted = pc.value_counts(column.filter(is_counted)).flatten()
    values = counted[0].filter(pc.greater(counted[1], 1))
    return pc.and_(is_counted, pc.is_in(column, values))


def _on_side(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["sha256"], table["split"], ":")
