"""A recipe's photos on disk, as after ingestion: decoded once, squeezed to squares, divided into both sides.

    train.npy, test.npy                  uint8 [N, R, R, 3]
    train-labels.npy, test-labels.npy    uint8 [N]
    train-groups.npy, test-groups.npy    the name of each photo's group of near-duplicates

Photos are named or foldered by their label, and divided 80/20 by the sha256 of their pixels, each by itself: no
near-duplicates are looked for, which a build does. A build's own sides and groups are those of its manifest
(`petpark lake export V --to FILE.parquet`), whose keys are then the photos' paths; to read it takes pyarrow.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from petpark_assets.domain.files import sha256, sha256_file
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.train import TrainingData
from petpark_assets.domain.model.validation import carve_validation
from petpark_assets.domain.recipes import Recipe
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.resizing import resize

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Photo:
    """One that was decoded, and where it belongs."""

    name: str
    """A sha256: of the file as the manifest has it, else of the pixels. Photos lie in its order."""
    pixels: np.ndarray
    label: int
    group: str
    is_test: bool


@dataclass(frozen=True)
class Sides:
    """The folder that `decode` made."""

    folder: Path

    def open(self, *, is_test: bool) -> tuple[np.ndarray, np.ndarray]:
        """Photos uint8 [N, R, R, 3], memory-mapped, and labels uint8 [N] of one side."""
        name = "test" if is_test else "train"
        return np.load(self.folder / f"{name}.npy", mmap_mode="r"), np.load(self.folder / f"{name}-labels.npy")

    def training_data(self, recipe: Recipe) -> TrainingData:
        """The train side, with the validation part that a build would carve."""
        images, labels = self.open(is_test=False)
        groups = np.load(self.folder / "train-groups.npy").tolist()
        validation = carve_validation(groups, labels, recipe.validation_share)
        return TrainingData(images=images, labels=labels, validation=validation)

    def preprocessing(self, recipe: Recipe) -> Preprocessing:
        """Channel statistics of the train side, from every 8th photo."""
        images, _ = self.open(is_test=False)
        levels = images[::8].reshape(-1, 3) / 255
        means, deviations = levels.mean(axis=0).tolist(), levels.std(axis=0).tolist()
        return Preprocessing(
            resolution_px=recipe.resolution_px, channel_means=tuple(means), channel_deviations=tuple(deviations)
        )

    def describe(self) -> dict[str, Any]:
        """How many photos, in how many groups, and what tells others from them."""
        return {name: self._describe(name) for name in ("train", "test")}

    def _describe(self, name: str) -> dict[str, Any]:
        groups = np.load(self.folder / f"{name}-groups.npy")
        return {
            "photos": len(groups),
            "groups": len(np.unique(groups)),
            "sha256": sha256_file(self.folder / f"{name}.npy"),
        }


def decode(photos: Path, folder: Path, side_px: int, manifest: Path | None = None) -> Path:
    """Squeeze a folder's photos to squares and divide them, by a build's manifest or by themselves."""
    found = _by_themselves(photos, side_px) if manifest is None else _as_built(photos, side_px, manifest)
    folder.mkdir(parents=True, exist_ok=True)
    for name, is_test in (("train", False), ("test", True)):
        side = sorted((photo for photo in found if photo.is_test == is_test), key=lambda photo: photo.name)
        np.save(folder / f"{name}.npy", np.stack([photo.pixels for photo in side]))
        np.save(folder / f"{name}-labels.npy", np.array([photo.label for photo in side], dtype=np.uint8))
        np.save(folder / f"{name}-groups.npy", np.array([photo.group for photo in side]))
    return folder


def _by_themselves(photos: Path, side_px: int) -> list[Photo]:
    """Every photo is a group; what cannot be read, and copies of the same pixels, are passed over and counted."""
    paths = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES and _label(path) is not None)
    labelled = zip(_all_pixels(paths, side_px), map(_label, paths), strict=True)
    known = {sha256(pixels.tobytes()): (pixels, label) for pixels, label in labelled if pixels is not None}
    say(f"{len(paths)} photos, of which {len(paths) - len(known)} cannot be read or are copies")
    found = []
    for label in range(len(LABELS)):
        ranked = sorted(name for name in known if known[name][1] == label)
        num_test = round(TEST_SHARE * len(ranked))
        found += [Photo(name, known[name][0], label, name, rank < num_test) for rank, name in enumerate(ranked)]
    return found


def _as_built(photos: Path, side_px: int, manifest: Path) -> list[Photo]:
    """The photos that the build accepted, where it put them. Exits where one is missing: the sides would be others."""
    import pyarrow.parquet as pq

    rows = pq.read_table(manifest, columns=["key", "sha256", "label", "group", "split"]).to_pylist()
    accepted = [row for row in rows if row["split"] is not None]
    found = _all_pixels([photos / row["key"] for row in accepted], side_px)
    missing = [row["key"] for row, pixels in zip(accepted, found, strict=True) if pixels is None]
    if missing:
        sys.exit(f"{len(missing)} photos of {manifest} cannot be read in {photos}, the first is {missing[0]}")
    return [
        Photo(row["sha256"], pixels, LABELS.index(row["label"]), row["group"], row["split"] == "test")
        for row, pixels in zip(accepted, found, strict=True)
        if pixels is not None
    ]


def _label(path: Path) -> int | None:
    """By folder or by file name: `cat/1.jpg`, `cat.1.jpg`."""
    words = {path.parent.name.lower(), path.name.lower().split(".")[0]}
    found = [number for number, label in enumerate(LABELS) if label in words]
    return found[0] if len(found) == 1 else None


def _all_pixels(paths: Sequence[Path], side_px: int) -> list[np.ndarray | None]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda path: _pixels(path, side_px), paths))


def _pixels(path: Path, side_px: int) -> np.ndarray | None:
    """Squeezed as a build does; decoded by Pillow alone, which a bare machine has."""
    try:
        with Image.open(path) as image:
            return resize(np.asarray(image.convert("RGB")), side_px)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
