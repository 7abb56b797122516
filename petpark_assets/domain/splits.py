"""Which side of the exam a photo is on: train (80 %) or test (20 %), within each class, for ever.

The unit is the group of near-duplicates. Not here: which photos are a group (lake/groups.py), the validation part of
the train side (model/validation.py), or where sides are kept (lake/catalogue.py).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.lake.catalogue import Photo
from petpark_assets.domain.records import LABELS, RawImages, TestSplit, TrainSplit

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")

TEST_SHARE = 0.2
BALANCE_TOLERANCE = 0.005


def assign(photos: Sequence[Photo], history: Mapping[str, str]) -> dict[str, Side]:
    """The side of each photo by sha256: what history says, or, for new groups, what brings their classes to 80/20.

    The unit is the group of near-duplicates, which has one side in all versions: that of any photo of it in history,
    one that is gone from the lake too, since a group is named after its first photo. New groups are taken by the sha256
    of their name, which nobody chooses and no listing changes; a group goes to the test side while each of its classes
    has room there, and to the train side otherwise. After many removals a class may stay off 80/20 until photos arrive.
    """
    sides = _known_sides(photos, history)
    room = _room_on_test_side(photos, sides)
    for members in _new_groups(photos, sides):
        needed = Counter(photo.label for photo in members)
        side: Side = "test" if all(room[label] >= number for label, number in needed.items()) else "train"
        sides |= {photo.sha256: side for photo in members}
        if side == "test":
            room.subtract(needed)
    return sides


def _known_sides(photos: Sequence[Photo], history: Mapping[str, str]) -> dict[str, Side]:
    """By sha256, of the photos that history, or another photo of their group, has put on a side."""
    of_group = {group: history[sha256] for sha256, _, group in photos if sha256 in history}
    found = {sha256: history.get(sha256) or history.get(group) or of_group.get(group) for sha256, _, group in photos}
    if odd := {*found.values()} - {*SIDES, None}:
        raise AssertionError(f"{odd} are no sides")
    return {sha256: cast("Side", side) for sha256, side in found.items() if side is not None}


def _room_on_test_side(photos: Sequence[Photo], sides: Mapping[str, Side]) -> Counter[str]:
    """How many photos of each class the test side still takes."""
    room = Counter({label: round(TEST_SHARE * n) for label, n in Counter(photo.label for photo in photos).items()})
    room.subtract(photo.label for photo in photos if sides.get(photo.sha256) == "test")
    return room


def _new_groups(photos: Sequence[Photo], sides: Mapping[str, Side]) -> list[list[Photo]]:
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        if photo.sha256 not in sides:
            groups.setdefault(photo.group, []).append(photo)
    return [groups[name] for name in sorted(groups, key=lambda name: files.sha256(name.encode()))]


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
    labels = photos["label"].to_pylist()
    return {label: labels.count(label) for label in LABELS}


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
