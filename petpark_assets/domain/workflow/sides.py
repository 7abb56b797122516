"""The photos of one side of a version as arrays, for the steps that train and examine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import splits
from petpark_assets.domain.files import digest, read_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue, tombstones
from petpark_assets.domain.records import LABELS, RawImages, TestSplit
from petpark_assets.domain.workflow import copies


@dataclass(frozen=True)
class Side:
    """The photos of one side, in the order of their sha256."""

    sha256s: tuple[str, ...]
    labels: np.ndarray
    """uint8 [N], indices into records.LABELS."""
    images: np.ndarray
    """uint8 [N, R, R, 3], memory-mapped."""
    groups: tuple[str, ...]
    """The name of each photo's group of near-duplicates."""
    forgotten: Mapping[str, str]
    """Labels by sha256 of the members that are left out, since they were forgotten; sorted. Who opens a side notes
    them in its record: the side's own record, which is older, still counts them."""


def read_manifest(home: Home, dataset_version: str) -> pa.Table:
    """The version's manifest, checked against its record's digest."""
    record = read_record(home.store, RawImages, dataset_version)
    return catalogue.read_manifest(home.store, dataset_version, record.manifest)


def open_side(home: Home, dataset_version: str, side: splits.Side, resolution_px: int) -> Side:
    """One side (`train` or `test`) at a resolution, from this machine's npy copy; made if it is not there."""
    copies.follow(home)
    members = splits.members(read_manifest(home, dataset_version), side)
    is_forgotten = pc.is_in(members["sha256"], pa.array(sorted(tombstones.forgotten(home.store)), pa.string()))
    present, absent = members.filter(pc.invert(is_forgotten)), members.filter(is_forgotten)
    sha256s = present["sha256"].to_pylist()
    copy = home.pixels.copy_to_npy(sha256s, resolution_px, home.cache / "pixels")
    if _is_any_forgotten(home, sha256s, copy):
        return open_side(home, dataset_version, side, resolution_px)
    return Side(
        sha256s=tuple(sha256s),
        labels=np.array([LABELS.index(label) for label in present["label"].to_pylist()], dtype=np.uint8),
        images=np.load(copy, mmap_mode="r"),
        groups=tuple(present["group"].to_pylist()),
        forgotten=dict(zip(absent["sha256"].to_pylist(), absent["label"].to_pylist(), strict=True)),
    )


def note_opening(home: Home, dataset_version: str, model: Mapping[str, str], *, purpose: str) -> None:
    """Note in the ledger that a model is asked about a test side: which (`attempt`, `trained_cnn`), and for what.

    A replay that came to other weights than the model's names these too: `replayed_weights`, a sha256.
    """
    test_split = digest(read_record(home.store, TestSplit, dataset_version))
    subject = {"dataset_version": dataset_version, **model, "test_split": test_split, "purpose": purpose}
    home.ledger.append("test_side_opened", subject)


def count_models_evaluated(home: Home) -> int:
    """How many models have been evaluated on test photos of this home so far, by the ledger; one counts once.

    Of all versions: photos never change sides, so a version's test side is mostly that of the versions before. Other
    weights that a replay came to are another model. A champion in a comparison, and what is packaged, were counted at
    their evaluation.
    """
    openings = (event.subject for event in home.ledger.events() if event.event == "test_side_opened")
    asked = (opening for opening in openings if opening["purpose"] in ("evaluation", "replay"))
    # Replays were noted without their weights once: those of one model are one other then.
    return len({(opening["purpose"], opening.get("replayed_weights", opening["trained_cnn"])) for opening in asked})


def _is_any_forgotten(home: Home, sha256s: list[str], copy: Path) -> bool:
    """Whether a photo was forgotten while it was being copied: then the copy goes too, or the photo would live on."""
    if tombstones.forgotten(home.store).isdisjoint(sha256s):
        return False
    copy.unlink(missing_ok=True)
    return True


def count_by_label(home: Home, dataset_version: str, sha256s: Sequence[str]) -> dict[str, int]:
    """How many of some photos of a version are of each class."""
    if not sha256s:
        return dict.fromkeys(LABELS, 0)
    manifest = read_manifest(home, dataset_version)
    accepted = manifest.filter(pc.is_valid(manifest["split"]))
    labels = accepted.filter(pc.is_in(accepted["sha256"], pa.array(list(sha256s))))["label"].to_pylist()
    return {label: labels.count(label) for label in LABELS}
