"""What changed from one dataset version to another: a row for each change, by class, from the two manifests alone.

A photo is its bytes. So a file that was moved is `renamed`, neither added nor removed; a moved file whose folder says
another class is `renamed` and `relabelled`, two rows; a key with other bytes is `rewritten` (a broken file that was
mended comes back by that), unless its old bytes are still in the lake under another key.
Whole columns at a time: 100,000 rows take well under a second.
Not here: reading a manifest (catalogue.py), or what a version may contain (judgement.py).
"""

import collections
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.catalogue import ACCEPTED, DUPLICATE, QUARANTINED

Places = npt.NDArray[np.int64]

CHANGES: Mapping[str, str] = MappingProxyType({
    "added": "bytes that the older version does not have, or not as often",
    "removed": "bytes that the newer version does not have, or not as often",
    "renamed": "the same bytes under another key",
    "rewritten": "other bytes under the same key",
    "relabelled": "the sources say another class",
    "quarantined": "set aside, and was not before",
    "restored": "set aside before, and is not any more",
    "other_reason": "set aside as before, for another reason",
    "became_duplicate": "accepted before; now the same bytes are accepted under another key",
    "became_accepted": "a duplicate before, accepted now",
    "changed_sides": "on another side of the split: this must never happen",
})  # fmt: skip
"""Every kind of change, and its meaning. A photo may have several; added and removed stand alone."""

_COMPARED = ("key", "sha256", "label", "state", "reason", "split")
_COUNTED = ["change", "class", "images"]
_NO_CLASS = "without a class"


def diff(store: files.Store, before: str, after: str) -> dict[str, Any]:
    """Compare two versions of a store, in any order of time, as a JSON document.

    Returns:
        before, after: the versions' names; manifest_before, manifest_after: their digests.
        num_before, num_after: objects seen; num_unchanged: those of which nothing in CHANGES can be said.
        One field for each of CHANGES: how many.
        by_class: a row for each change and class that has any, with the number of images.
        changes: a row for each change, with the photo's class, and of each of key, sha256, label, state, reason and
            split the value before and after (`key_before`, `key_after`, ...; null where there is none).

    Raises:
        NotFound, CorruptData: there is no such version, or its manifest was damaged.
    """
    old, new = (catalogue.read_manifest(store, version, columns=list(_COMPARED)) for version in (before, after))
    changes, num_unchanged = compare(old, new)
    by_class = changes.group_by(["change", "class"]).aggregate([([], "count_all")]).rename_columns(_COUNTED)
    counts = collections.Counter(changes["change"].to_pylist())
    return {
        "before": before,
        "after": after,
        "manifest_before": catalogue.manifest_sha256(store, before),
        "manifest_after": catalogue.manifest_sha256(store, after),
        "num_before": old.num_rows,
        "num_after": new.num_rows,
        "num_unchanged": num_unchanged,
        **{change: counts[change] for change in CHANGES},
        "by_class": by_class.sort_by([("change", "ascending"), ("class", "ascending")]).to_pylist(),
        "changes": changes.to_pylist(),
    }


def compare(old: pa.Table, new: pa.Table) -> tuple[pa.Table, int]:
    """The changes between two manifests whose rows are sorted by key, and the number of rows without one.

    Columns: change (one of CHANGES), class (`cat`, `cat to dog`, `without a class`), and those of _COMPARED twice, with
    _before and with _after, null where there is none. Sorted by change and key.
    """
    places = _pair(old, new)
    pairs = _beside(old, new, *places)
    masks = _masks(pairs)
    is_changed = np.logical_or.reduce([_to_numpy(mask) for mask in masks.values()])
    removed = np.setdiff1d(np.arange(old.num_rows), places[0])
    added = np.setdiff1d(np.arange(new.num_rows), places[1])
    parts = [_named(name, pairs.filter(mask)) for name, mask in masks.items()]
    parts += [
        _named("removed", _beside(old, new, removed, None)),
        _named("added", _beside(old, new, None, added)),
    ]
    changes = pa.concat_tables(parts)
    order = pc.sort_indices(
        changes.append_column("key", pc.coalesce(changes["key_after"], changes["key_before"])),
        sort_keys=[("change", "ascending"), ("key", "ascending")],
    )
    return changes.take(order), int((~is_changed).sum())


def _pair(old: pa.Table, new: pa.Table) -> tuple[Places, Places]:
    """Rows that are the same photo, by key and bytes, then by bytes, then by key: places in the one and the other."""
    old_keys, new_keys = _numbers(old["key"], new["key"])
    old_bytes, new_bytes = _numbers(old["sha256"], new["sha256"])
    is_free = np.ones(old.num_rows, dtype=bool), np.ones(new.num_rows, dtype=bool)
    found = []
    for old_names, new_names in (
        _both(old_keys, old_bytes, new_keys, new_bytes),
        (old_bytes, new_bytes),
        (old_keys, new_keys),
    ):
        pairs = _match(old_names, new_names, *is_free)
        found.append(pairs)
        for free, places in zip(is_free, pairs, strict=True):
            free[places] = False
    return np.concatenate([pairs[0] for pairs in found]), np.concatenate([pairs[1] for pairs in found])


def _numbers(old: pa.ChunkedArray, new: pa.ChunkedArray) -> tuple[Places, Places]:
    """Equal values get equal numbers; null, which is the name of nothing, gets -1."""
    encoded = pa.chunked_array([*old.chunks, *new.chunks], old.type).combine_chunks().dictionary_encode().indices
    numbers = pc.fill_null(encoded, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers[: len(old)], numbers[len(old) :]


def _both(old_keys: Places, old_bytes: Places, new_keys: Places, new_bytes: Places) -> tuple[Places, Places]:
    """One number for key and bytes together; here no bytes equal no bytes."""
    num_bytes = max(old_bytes.max(initial=0), new_bytes.max(initial=0)) + 2
    return old_keys * num_bytes + old_bytes + 1, new_keys * num_bytes + new_bytes + 1


def _match(old: Places, new: Places, is_old_free: npt.NDArray[np.bool_], is_new_free: npt.NDArray[np.bool_]) -> Any:
    """Free rows with the same number, the first with the first, the second with the second."""
    old_places, new_places = np.flatnonzero(is_old_free & (old >= 0)), np.flatnonzero(is_new_free & (new >= 0))
    num_rows = max(len(old), len(new), 1)
    old_names, new_names = (
        names[places] * num_rows + _ranks(names[places]) for names, places in ((old, old_places), (new, new_places))
    )
    _, in_old, in_new = np.intersect1d(old_names, new_names, assume_unique=True, return_indices=True)
    return old_places[in_old], new_places[in_new]


def _ranks(names: Places) -> Places:
    """Of each value how many equal ones stand before it."""
    order = np.argsort(names, kind="stable")
    in_order = names[order]
    is_first = np.r_[True, in_order[1:] != in_order[:-1]][: len(names)]
    starts = np.maximum.accumulate(np.where(is_first, np.arange(len(names)), 0))
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(names)) - starts
    return ranks


def _beside(old: pa.Table, new: pa.Table, old_places: Places | None, new_places: Places | None) -> pa.Table:
    """Rows of both side by side, with nulls for the side that has none."""
    columns: dict[str, Any] = {}
    for table, places, when in ((old, old_places, "before"), (new, new_places, "after")):
        num_rows = max(len(side) for side in (old_places, new_places) if side is not None)
        for name in _COMPARED:
            taken = pa.nulls(num_rows, table.schema.field(name).type) if places is None else table[name].take(places)
            columns[f"{name}_{when}"] = taken
    return pa.table(columns)


def _masks(pairs: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Which pairs have which change."""

    def differs(name: str) -> pa.ChunkedArray:
        before, after = pairs[f"{name}_before"], pairs[f"{name}_after"]
        is_one_null = pc.xor(pc.is_null(before), pc.is_null(after))
        return pc.fill_null(pc.if_else(is_one_null, is_one_null, pc.not_equal(before, after)), fill_value=False)

    def went(before: str, after: str) -> pa.ChunkedArray:
        return pc.and_(pc.equal(pairs["state_before"], before), pc.equal(pairs["state_after"], after))

    is_set_aside = {when: pc.equal(pairs[f"state_{when}"], QUARANTINED) for when in ("before", "after")}
    has_both_sides = pc.and_(pc.is_valid(pairs["split_before"]), pc.is_valid(pairs["split_after"]))
    has_same_bytes = pc.invert(differs("sha256"))
    return {
        "renamed": differs("key"),
        "rewritten": differs("sha256"),
        "relabelled": differs("label"),
        "quarantined": pc.and_(is_set_aside["after"], pc.invert(is_set_aside["before"])),
        "restored": pc.and_(is_set_aside["before"], pc.invert(is_set_aside["after"])),
        "other_reason": pc.and_(went(QUARANTINED, QUARANTINED), differs("reason")),
        "became_duplicate": went(ACCEPTED, DUPLICATE),
        "became_accepted": went(DUPLICATE, ACCEPTED),
        "changed_sides": pc.and_(pc.and_(has_both_sides, has_same_bytes), differs("split")),
    }


def _named(change: str, rows: pa.Table) -> pa.Table:
    """Rows with the name of their change and their class in front."""
    before, after = (pc.fill_null(rows[f"label_{when}"], _NO_CLASS) for when in ("before", "after"))
    if change in ("added", "removed"):
        names = after if change == "added" else before
    else:
        both = pc.binary_join_element_wise(before, after, " to ")
        names = pc.if_else(pc.equal(before, after), after, both)
    return rows.add_column(0, "class", names).add_column(0, "change", pa.array([change] * rows.num_rows, pa.string()))


def _to_numpy(mask: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = mask.to_numpy()
    return flags
