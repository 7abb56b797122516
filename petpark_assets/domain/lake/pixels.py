"""Pixels of photos, kept once whatever the number of versions: append-only tables, and local copies to train from.

One table a resolution (`96px.lance`, photo_tables.py), so a resolution is dropped by deleting it. Rows are keyed by
sha256; two writers at once may append the same photo: the rows are equal, and the second goes when one of them ends. In
memory are a batch and 68 bytes for each photo stored. Not here: decoding (images.py), which photos a version has
(catalogue.py).
"""

import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.lake.photo_tables import Fragment, PhotoTable, delete_old_versions, list_tables
from petpark_assets.domain.resizing import Pixels

Places = npt.NDArray[np.int64]

BATCH_BYTES = 32 * 2**20
"""Read or copied at a time: 1,200 photos at 96 px."""

_TABLE = re.compile(r"(\d+)px(?:\.lance)?")


class PixelStore:
    """uint8 RGB squares by sha256 and resolution, in a folder or below `s3://bucket/prefix`.

    Nothing is made before something is stored. Workers elsewhere get a pickled copy, keys of S3 included.
    """

    def __init__(
        self,
        root: str | Path,
        storage_options: Mapping[str, str] | None = None,
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """At this place.

        Args:
            root: The folder of the tables, or their address.
            storage_options: Lance's, for S3 (s3.access.storage_options).
            alone: Keeps others from tidying or deleting meanwhile, on whatever machine they are.
        """
        is_remote = isinstance(root, str) and root.startswith("s3://")
        self.root = str(root).rstrip("/") if is_remote else str(Path(root).absolute())
        self._options = dict(storage_options or {})
        self._alone = alone

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers only read and write, so they need no lock."""
        return PixelStore, (self.root, self._options)

    def append(self, sha256s: Sequence[str], pixels: Pixels, resolution_px: int) -> None:
        """Add photos, pixels uint8 [N, R, R, 3] in the order of `sha256s`: all of them or, on any failure, none.

        They are on the disk when this returns. Raises TransientError on a full disk.
        """
        self.commit(self.write(sha256s, pixels, resolution_px), resolution_px)

    def write(self, sha256s: Sequence[str], pixels: Pixels, resolution_px: int) -> list[Fragment]:
        """The first half of `append`, which a worker does: what it returns goes to `commit`, anywhere."""
        expected = (len(sha256s), resolution_px, resolution_px, 3)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise AssertionError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 {expected}")
        flat = pa.array(np.ascontiguousarray(pixels).reshape(-1))
        squares = pa.FixedSizeListArray.from_arrays(flat, resolution_px**2 * 3)
        return self._table(resolution_px).write(sha256s, squares)

    def commit(self, fragments: Sequence[Fragment], resolution_px: int) -> None:
        """The second half of `append`, for many workers at once; without it, what they wrote was never there."""
        self._table(resolution_px).commit(fragments)

    def tidy(self, resolution_px: int, num_expected: int = 0) -> None:
        """Drop what was stored twice, and join what many small appends have left; PhotoTable.tidy."""
        with self._alone():  # else two might each drop the row that the other keeps
            self._table(resolution_px).tidy(num_expected)

    def resolutions(self) -> list[int]:
        """The resolutions at which anything is stored, in px, rising."""
        found = (_TABLE.fullmatch(name) for name in self._table_names())
        return sorted(int(name[1]) for name in found if name)

    def file_names(self, resolution_px: int) -> list[str]:
        """The files, below the store, whose copies are the table of a resolution as it is now (photo_tables.py)."""
        return [f"{resolution_px}px.lance/{name}" for name in self._table(resolution_px).file_names()]

    def stored(self, resolution_px: int) -> pa.Array:
        """The sha256s of all photos at a resolution, strings, some perhaps twice."""
        table = self._table(resolution_px)
        return table.sha256s(table.open()).drop_null()

    def missing(self, sha256s: Sequence[str], resolution_px: int) -> list[str]:
        """Those that are not stored at this resolution, in their order, each once."""
        wanted = pa.array(dict.fromkeys(sha256s), pa.string())
        absent: list[str] = wanted.filter(pc.invert(pc.is_in(wanted, self.stored(resolution_px)))).to_pylist()
        return absent

    def read(self, sha256s: Sequence[str], resolution_px: int) -> Pixels:
        """Pixels uint8 [N, R, R, 3] in the order given, in memory.

        Raises NotFound when some are missing, CorruptData when a file of the table is damaged.
        """
        pixels = np.empty((len(sha256s), resolution_px, resolution_px, 3), np.uint8)
        for places, batch in self._batches(sha256s, resolution_px):
            pixels[places] = batch
        return pixels

    def copy_to_npy(self, sha256s: Sequence[str], resolution_px: int, folder: Path) -> Path:
        """A local npy file of uint8 [N, R, R, 3] in the order given, to be memory-mapped by every trial of a node.

        Made once: the name is the digest of what it holds, and it appears whole or not at all. Memory stays at a
        batch. Raises NotFound when some are missing, TransientError on a full disk.
        """
        content = files.digest({"sha256s": list(sha256s), "resolution_px": resolution_px})
        path = folder.absolute() / f"{resolution_px}px-{content[:16]}.npy"
        shape = (len(sha256s), resolution_px, resolution_px, 3)
        if path.exists() and _is_whole(path, shape):
            return path
        with files.named_disk_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            _write_npy(path, shape, self._batches(sha256s, resolution_px))
        return path

    def forget(self, sha256s: Sequence[str]) -> None:
        """Delete photos at every resolution so that no byte of their rows is left, in past versions of tables either.

        An ingestion that is at work meanwhile may fail, and is to be run again; so is this, on TransientError.
        """
        with self._alone():
            for resolution_px in self.resolutions():
                self._table(resolution_px).forget(sha256s)
        self.delete_old_versions()

    def delete_old_versions(self) -> None:
        """The last step of `forget`, of tables that were dropped as well: what a bucket keeps of deleted files goes."""
        if self.root.startswith("s3://"):
            delete_old_versions(self.root, self._options)

    def mending(self, resolution_px: int) -> str:
        """What a person does when pixels of a resolution are damaged."""
        return (
            f"delete {self._location(resolution_px)} and every home's cache/, and materialize raw_images of each "
            "version again, which draws them from originals"
        )

    def _batches(self, sha256s: Sequence[str], resolution_px: int) -> Iterator[tuple[Places, Pixels]]:
        """Pixels with their places among `sha256s`, in the table's own order: 10 times faster than in another."""
        table = self._table(resolution_px)
        dataset = table.open()
        positions = pc.index_in(pa.array(sha256s, pa.string()), table.sha256s(dataset))
        if positions.null_count:
            first = sha256s[pc.index(positions.is_null(), value=True).as_py()]
            raise NotFound(
                f"{positions.null_count} of {len(sha256s)} photos have no pixels of {resolution_px} px in {self.root}, "
                f"the first is {first}: materialize raw_images of this version again, it draws them from originals"
            )
        order = np.argsort(positions.to_numpy(), kind="stable").astype(np.int64)
        rows = max(1, BATCH_BYTES // (resolution_px**2 * 3))
        for places in (order[start : start + rows] for start in range(0, len(order), rows)):
            flat = table.take(dataset, positions.to_numpy()[places].tolist()).flatten().to_numpy()
            yield places, flat.reshape(-1, resolution_px, resolution_px, 3)

    def _table(self, resolution_px: int) -> PhotoTable:
        squares = pa.list_(pa.uint8(), resolution_px**2 * 3)  # of one size: read without copying
        return PhotoTable(
            location=self._location(resolution_px),
            column=pa.field("pixels", squares),
            mending=self.mending(resolution_px),
            options=self._options,
        )

    def _location(self, resolution_px: int) -> str:
        return f"{self.root}/{resolution_px}px.lance"

    def _table_names(self) -> list[str]:
        if not self.root.startswith("s3://"):
            return [path.name for path in Path(self.root).iterdir()] if Path(self.root).is_dir() else []
        return list_tables(self.root, self._options)


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a copy has the shape it must have; it appeared whole, so this guards against foreign files."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (ValueError, EOFError):
        return False


def _write_npy(path: Path, shape: tuple[int, ...], batches: Iterator[tuple[Places, Pixels]]) -> None:
    """Write beside the place, sync, then rename. Not by a writable memory map: on a full disk that is a SIGBUS."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            start, row_bytes = file.tell(), math.prod(shape[1:])
            for places, pixels in batches:
                for place, row in zip(places.tolist(), pixels, strict=True):
                    _write_at(file, start + place * row_bytes, row)
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _write_at(file: BinaryIO, position: int, row: Pixels) -> None:
    """All of a row, however little the system takes at a time."""
    left = row.data.cast("B")
    file.seek(position)
    while left:
        left = left[file.write(left) :]
