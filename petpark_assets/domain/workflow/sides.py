"""The photos of one side of a version as arrays, for the steps that train and examine."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from petpark_assets.domain import splits
from petpark_assets.domain.files import read_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.records import LABELS, RawImages


@dataclass(frozen=True)
class Side:
    """The photos of one side, in the order of their sha256."""

    sha256s: tuple[str, ...]
    labels: np.ndarray
    """uint8 [N], indices into records.LABELS."""
    images: np.ndarray
    """uint8 [N, R, R, 3], memory-mapped."""


def read_manifest(home: Home, dataset_version: str) -> pa.Table:
    """The version's manifest, checked against its record's digest."""
    record = read_record(home.store, RawImages, dataset_version)
    return catalogue.read_manifest(home.store, dataset_version, record.manifest)


def open_side(home: Home, dataset_version: str, side: splits.Side, resolution_px: int) -> Side:
    """One side (`train` or `test`) at a resolution, from this machine's npy copy; made if it is not there."""
    members = splits.members(read_manifest(home, dataset_version), side)
    sha256s = members["sha256"].to_pylist()
    copy = home.pixels.copy_to_npy(sha256s, resolution_px, home.cache / "pixels")
    return Side(
        sha256s=tuple(sha256s),
        labels=np.array([LABELS.index(label) for label in members["label"].to_pylist()], dtype=np.uint8),
        images=np.load(copy, mmap_mode="r"),
    )
