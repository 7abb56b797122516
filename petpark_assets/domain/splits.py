"""Which side of the exam a photo is on: train (80 %) or test (20 %), within each class, for ever.

Not here: the validation part of the train side (model/train.py), or where sides are kept (lake/catalogue.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.lake.catalogue import Photo
from petpark_assets.domain.records import LABELS, RawImages, TestSplit, TrainSplit

Side = Literal["train", "test"]

TEST_SHARE = 0.2
BALANCE_TOLERANCE = 0.005


def assign(photos: Sequence[Photo], history: Mapping[str, str]) -> dict[str, Side]:
    """The side of each photo by sha256: what history says, or, for new photos, what brings its class to 80/20.

    New photos are taken by rank of their content's hash, which nobody chooses and no listing changes; those with the
    lowest go to the test side until it has its share of the photos present. Nobody ever changes sides, so after many
    removals a class may stay off 80/20 until photos arrive. Photos of one group go to the same side.
    """
    sides: dict[str, Side] = {}
    for label in sorted({photo.label for photo in photos}):
        sides |= _assign_class([photo for photo in photos if photo.label == label], history)
    return sides


def _assign_class(photos: Sequence[Photo], history: Mapping[str, str]) -> dict[str, Side]:
    sides: dict[str, Side] = {photo.sha256: _side(history[photo.sha256]) for photo in photos if photo.sha256 in history}
    group_sides = {photo.group: sides[photo.sha256] for photo in _by_hash(photos) if photo.sha256 in sides}
    num_test = sum(side == "test" for side in sides.values())
    quota = round(TEST_SHARE * len(photos))
    new_groups: dict[str, list[str]] = {}
    for photo in _by_hash(photos):
        if photo.sha256 not in sides:
            new_groups.setdefault(photo.group, []).append(photo.sha256)
    for group, members in new_groups.items():
        side = group_sides.get(group) or ("test" if num_test + len(members) <= quota else "train")
        sides |= dict.fromkeys(members, side)
        num_test += len(members) if side == "test" else 0
    return sides


def _by_hash(photos: Sequence[Photo]) -> list[Photo]:
    return sorted(photos, key=lambda photo: photo.sha256)


def _side(value: str) -> Side:
    if value not in ("train", "test"):
        raise AssertionError(f"{value!r} is no side")
    return "train" if value == "train" else "test"


def members(manifest: pa.Table, side: Side) -> pa.Table:
    """The photos of one side of a version: columns sha256 and label, one row each, sorted by sha256."""
    return manifest.filter(pc.equal(manifest["split"], side)).select(["sha256", "label"]).sort_by("sha256")


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
    """sha256 of the lines `sha256 label` of a side's members, sorted, each with its end."""
    pairs = zip(photos["sha256"].to_pylist(), photos["label"].to_pylist(), strict=True)
    return files.sha256("".join(f"{sha256} {label}\n" for sha256, label in sorted(pairs)).encode())


def _count_by_label(photos: pa.Table) -> dict[str, int]:
    labels = photos["label"].to_pylist()
    return {label: labels.count(label) for label in LABELS}


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How one class of a version is divided."""

    test_share: float
    """Of its photos on the test side, 0 to 1."""
    is_balanced: bool
    """Within half a percentage point of 20 %, or one photo."""


def balance(manifest: pa.Table) -> dict[str, Balance]:
    """The division of each class that has photos."""
    sides = {side: _count_by_label(members(manifest, side)) for side in ("train", "test")}
    found: dict[str, Balance] = {}
    for label in LABELS:
        num_test, total = sides["test"][label], sides["test"][label] + sides["train"][label]
        if total:
            is_balanced = abs(num_test - TEST_SHARE * total) <= max(BALANCE_TOLERANCE * total, 1)
            found[label] = Balance(test_share=num_test / total, is_balanced=is_balanced)
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
