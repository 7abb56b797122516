"""Pixels of photos, kept once whatever the number of versions: append-only Lance tables, and copies to train from.

One table a resolution (`96px.lance`): rows are then of one fixed size, which Lance reads without copying, and a
resolution is dropped by deleting its folder. Rows are keyed by sha256. Two writers may append the same photo; the rows
are equal, so readers take either. No tags: one would keep forgotten photos alive.
Not here: decoding (images.py), or which photos belong to a version (catalogue.py).
"""

import contextlib
import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, NotFound
from petpark_assets.domain.images import Pixels

Places = npt.NDArray[np.int64]

BATCH_ROWS = 1024
"""Photos read or copied at a time: 28 MB at 96 px."""


class PixelStore:
    """uint8 RGB squares by sha256 and resolution, in a folder that is made when something is stored."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def append(self, sha256s: Sequence[str], pixels: Pixels, resolution_px: int) -> None:
        """Add photos, pixels uint8 [N, R, R, 3] in the order of `sha256s`: all of them or, on any failure, none.

        Raises TransientError on a full disk.
        """
        expected = (len(sha256s), resolution_px, resolution_px, 3)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise AssertionError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 {expected}")
        if not sha256s:
            return
        flat = pa.array(np.ascontiguousarray(pixels).reshape(-1))
        rows = pa.FixedSizeListArray.from_arrays(flat, resolution_px**2 * 3)
        table = pa.table({"sha256": pa.array(sha256s, pa.string()), "pixels": rows})
        with _named_lance_errors(self._path(resolution_px)):
            _append(table, self._path(resolution_px))

    def sync(self, resolution_px: int) -> None:
        """Bring what was appended to the disk: Lance leaves that to the system, and a manifest must not outlive pixels.

        Once after many appends; files that are there already cost some microseconds each.
        """
        with files.named_disk_errors(self._path(resolution_px)):
            for path in (item for item in self._path(resolution_px).rglob("*") if item.is_file()):
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def missing(self, sha256s: Sequence[str], resolution_px: int) -> list[str]:
        """Those that are not stored at this resolution, in their order, each once."""
        stored = _positions(self._open(resolution_px))
        return [sha256 for sha256 in dict.fromkeys(sha256s) if sha256 not in stored]

    def read(self, sha256s: Sequence[str], resolution_px: int) -> Pixels:
        """Pixels uint8 [N, R, R, 3] in the order given, in memory. Raises NotFound when some are missing."""
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

    def _batches(self, sha256s: Sequence[str], resolution_px: int) -> Iterator[tuple[Places, Pixels]]:
        """Pixels with their places among `sha256s`, in the table's own order: 10 times faster than in another."""
        dataset = self._open(resolution_px)
        stored = _positions(dataset)
        absent = [sha256 for sha256 in sha256s if sha256 not in stored]
        if absent:
            raise NotFound(
                f"{len(absent)} of {len(sha256s)} photos have no pixels of {resolution_px} px in {self.root}, "
                f"the first is {absent[0]}: materialize raw_images of this version again, it draws them from originals"
            )
        positions = np.array([stored[sha256] for sha256 in sha256s], np.int64)
        order = np.argsort(positions, kind="stable")
        for start in range(0, len(order), BATCH_ROWS):
            places = order[start : start + BATCH_ROWS]
            rows = dataset.take(positions[places].tolist(), columns=["pixels"])
            flat = rows.column("pixels").combine_chunks().flatten().to_numpy()
            yield places, flat.reshape(-1, resolution_px, resolution_px, 3)

    def _open(self, resolution_px: int) -> Any:
        path = self._path(resolution_px)
        if not path.exists():
            return None
        import lance  # 4 s and 140 MB that only those who touch pixels pay

        try:
            return lance.dataset(str(path))
        except (OSError, ValueError) as error:
            raise CorruptData(f"the pixel table {path} cannot be opened: {_one_line(error)}") from error

    def _path(self, resolution_px: int) -> Path:
        return self.root / f"{resolution_px}px.lance"


def _positions(dataset: Any) -> dict[str, int]:
    """Where each stored photo is in its table."""
    sha256s = dataset.to_table(columns=["sha256"]).column("sha256").to_pylist() if dataset is not None else []
    return {sha256: position for position, sha256 in enumerate(sha256s)}


def _append(table: pa.Table, path: Path) -> None:
    import lance

    if not path.exists():
        _create(table.schema, path)
    lance.write_dataset(table, str(path), mode="append")


def _create(schema: pa.Schema, path: Path) -> None:
    """An empty table that appears by a rename; of two writers one wins.

    Lance's own creation is not safe in a folder: of three writers that created one table at once, in 9 of 25 rounds
    two were told it worked and one's rows were gone (lance 14.0.2). Its appends are.
    """
    import lance

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        lance.write_dataset(schema.empty_table(), str(beside / path.name), mode="create")
        with contextlib.suppress(FileExistsError):
            _rename_folder(beside / path.name, path)
    finally:
        shutil.rmtree(beside)


def _rename_folder(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # Linux's word for a folder that exists
            raise FileExistsError(str(path)) from error
        raise


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


@contextlib.contextmanager
def _named_lance_errors(path: Path) -> Iterator[None]:
    """Lance reports the system's errors as text of its own: give a full disk its number back."""
    with files.named_disk_errors(path):
        try:
            yield
        except (OSError, RuntimeError) as error:
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                if f"os error {number})" in str(error):
                    raise OSError(number, os.strerror(number)) from error
            raise


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
