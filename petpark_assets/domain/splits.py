"""Which side of the exam a photo is on: train (80 %) or test (20 %), within each class, for ever.

The unit is the group of near-duplicates. Not here: which photos are a group (lake/groups.py), the validation part of
the train side (model/validation.py), or where sides are kept (lake/catalogue.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.records import LABELS, RawImages, TestSplit, TrainSplit

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")

TEST_SHARE = 0.2
BALANCE_TOLERANCE = 0.005


def assign(photos: pa.Table, history: pa.Table) -> pa.ChunkedArray:
    """The side of each photo: what history says, or, for new groups, what brings their classes to 80/20.

    `photos`: sha256, label and group, a row each, in any order. `history`: sha256 and split of all that ever had a
    side. The unit is the group of near-duplicates, which has one side in all versions: that of any photo of it in
    history, one that is gone from the lake too, since a group is named after its first photo. New groups are taken by
    the sha256 of their name, which nobody chooses and no listing changes, those of both classes first; a group goes to
    the test side while each of its classes has room there, and to the train side otherwise. After many removals a class
    may stay off 80/20 until photos arrive.
    """
    sides = _known_sides(photos, history)
    room = _room_on_test_side(photos["label"], sides)
    given: dict[str, Side] = {}
    for group, labels in _new_groups(photos.filter(pc.is_null(sides))):
        needed = {label: labels.count(label) for label in {*labels}}
        given[group] = "test" if all(room[label] >= number for label, number in needed.items()) else "train"
        if given[group] == "test":
            room.subtract(needed)
    names, new = pa.array(given.keys(), pa.string()), pa.array(given.values(), pa.string())
    return pc.coalesce(sides, new.take(pc.index_in(photos["group"], names)))


def _known_sides(photos: pa.Table, history: pa.Table) -> pa.ChunkedArray:
    """Of each photo the side that history has for it or for another photo of its group; null where it has none.

    Only new photos are asked about by their group: to look all up took 90 ms more for 100,000.
    """
    own = _looked_up(photos["sha256"], history["sha256"], history["split"])
    is_known = pc.is_valid(own)
    new, known = photos["group"].filter(pc.invert(is_known)), photos["group"].filter(is_known)
    first, is_joined = history.filter(pc.is_in(history["sha256"], new)), pc.is_in(known, new)
    named = _looked_up(photos["group"], first["sha256"], first["split"])
    others = _looked_up(photos["group"], known.filter(is_joined), own.filter(is_known).filter(is_joined))
    sides = pc.coalesce(own, named, others)
    if odd := {*pc.unique(sides).to_pylist()} - {*SIDES, None}:
        raise AssertionError(f"{odd} are no sides")
    return sides


def _looked_up(names: pa.ChunkedArray, known: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.take(pc.index_in(names, known))


def _room_on_test_side(labels: pa.ChunkedArray, sides: pa.ChunkedArray) -> Counter[str]:
    """How many photos of each class the test side still takes."""
    room = Counter({label: round(TEST_SHARE * number) for label, number in _counts(labels).items()})
    room.subtract(_counts(labels.filter(pc.equal(sides, "test"))))
    return room


def _counts(labels: pa.ChunkedArray) -> dict[str, int]:
    return {one["values"]: one["counts"] for one in pc.value_counts(labels).to_pylist()}


def _new_groups(photos: pa.Table) -> list[tuple[str, list[str]]]:
    """Groups with the labels of their photos, by the sha256 of their name; those of both classes first.

    Later, when one class has no more room, all of them would stay out, and the other class short of photos.
    """
    groups: dict[str, list[str]] = {}
    for group, label in zip(photos["group"].to_pylist(), photos["label"].to_pylist(), strict=True):
        groups.setdefault(group, []).append(label)
    return sorted(groups.items(), key=lambda item: (len({*item[1]}) == 1, files.sha256(item[0].encode())))


def members(manifest: pa.Table, side: Side) -> pa.Table:
    """The photos of one side of a version: columns sha256, label and group, one row each, sorted by sha256."""
    return manifest.filter(pc.equal(manifest["split"], side)).select(["sha256", "label", "group"]).sort_by("sha256")


def train_split_record(raw_images: RawImages, manifest: pa.Table) -> TrainSplit:
    """The record of the side that is learned from."""
    photos = members(manifest, "train")
    return TrainSplit(
        dataset_version=raw_images.dataset_version,
        raw_images=files.digest(raw_images),
        members=members_digest(photos),
        images_by_label=_count_by_label(photos),
    )


def test_split_record(raw_images: RawImages, manifest: pa.Table) -> TestSplit:
    """The record of the side that no training sees."""
    photos = members(manifest, "test")
    return TestSplit(
        dataset_version=raw_images.dataset_version,
        raw_images=files.digest(raw_images),
        members=members_digest(photos),
        images_by_label=_count_by_label(photos),
    )


def members_digest(photos: pa.Table) -> str:
    """sha256 of the lines `sha256 label` of a side's members, each with its end, in their order: that of `members`."""
    ended = pc.binary_join_element_wise(photos["label"], "", "\n")
    return files.sha256("".join(pc.binary_join_element_wise(photos["sha256"], ended, " ").to_pylist()).encode())


def _count_by_label(photos: pa.Table) -> dict[str, int]:
    counts = _counts(photos["label"])
    return {label: counts.get(label, 0) for label in LABELS}


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How one class of a version is divided."""

    test_share: float
    """Of its photos on the test side, 0 to 1."""
    is_balanced: bool
    """Within half a percentage point of 20 %, or its largest group, whichever is more."""


def balance(manifest: pa.Table) -> dict[str, Balance]:
    """The division of each class that has photos."""
    found: dict[str, Balance] = {}
    for label in LABELS:
        is_of_class = pc.and_(pc.equal(manifest["label"], label), pc.is_valid(manifest["split"]))
        photos = manifest.filter(pc.fill_null(is_of_class, fill_value=False))
        if photos.num_rows:
            num_test = photos["split"].to_pylist().count("test")
            largest_group = max(Counter(photos["group"].to_pylist()).values())
            tolerance = max(BALANCE_TOLERANCE * photos.num_rows, largest_group)
            is_balanced = abs(num_test - TEST_SHARE * photos.num_rows) <= tolerance
            found[label] = Balance(test_share=num_test / photos.num_rows, is_balanced=is_balanced)
    return found


def leaks(manifest: pa.Table, history: Mapping[str, str]) -> list[str]:
    """sha256s on the wrong side, sorted: in a group that is on both sides, or on another side than in any version."""
    accepted = manifest.filter(pc.is_valid(manifest["split"])).select(["sha256", "group", "split"]).to_pylist()
    sides_of_group: dict[str, set[str]] = {}
    for photo in accepted:
        sides_of_group.setdefault(photo["group"], set()).add(photo["split"])
    return sorted(
        photo["sha256"]
        for photo in accepted
        if len(sides_of_group[photo["group"]]) > 1 or history.get(photo["sha256"], photo["split"]) != photo["split"]
    )
