"""Photos' own bytes, kept once by sha256, whatever the number of versions: old versions are built again from them.

One append-only table (photo_tables.py) in the store. Not a file a photo: opening a new file took a third of an
ingestion's time, and on S3 it was half of the requests. Homes of before have files (`key_of_before`): these are read,
and go when a photo is forgotten; none is written any more. Two writers at once may store the same photo: the rows are
equal, and the second goes when one of them ends.
In memory are a batch and 68 bytes for each photo stored. Not here: pixels (pixels.py).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, NotFound
from petpark_assets.domain.lake.photo_tables import Fragment, PhotoTable, delete_old_versions

TABLE = "originals.lance"
"""In the store."""
_AS_THEY_ARE = {"lance-encoding:compression": "none"}
"""Photos are compressed already, and a search for a forgotten one's bytes must be able to see them."""
_MENDING = (
    "put it back from a backup, or delete it and every home's cache/, and ingest the lake again, if that still has its "
    "photos"
)
BATCH_BYTES = 32 * 2**20
"""Read at a time, about; a photo at least."""
FOLDER_OF_BEFORE = "originals"
"""In the store, where it had a file for each photo."""
_NUM_READERS = 16
"""Such files, asked for at a time."""
_FEW = 100
"""Asked for one by one; for more the folder is listed."""


class OriginalStore:
    """Bytes by sha256. Nothing is made before something is stored. Workers elsewhere get a pickled copy, with keys."""

    def __init__(
        self,
        store: files.Store,
        storage_options: Mapping[str, str] | None = None,
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """In this store.

        Args:
            store: Where the table is.
            storage_options: Lance's, where that is on S3 (s3.access.storage_options).
            alone: Keeps others from committing or deleting meanwhile, on whatever machine they are.
        """
        self._store = store
        self._options = dict(storage_options or {})
        self._alone = alone

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers only read and write, so they need no lock."""
        return OriginalStore, (self._store, self._options)

    @property
    def _table(self) -> PhotoTable:
        column = pa.field("photo", pa.large_binary(), metadata=_AS_THEY_ARE)
        location = f"{self._store.uri}/{TABLE}"
        return PhotoTable(location=location, column=column, mending=_MENDING, options=self._options)

    def append(self, photos: Mapping[str, bytes]) -> None:
        """Keep photos by sha256: all of them or, on any failure, none. They are on the disk when this returns."""
        self.commit(self.write(photos))

    def write(self, photos: Mapping[str, bytes]) -> list[Fragment]:
        """The first half of `append`, which a worker does: what it returns goes to `commit`, anywhere."""
        return self._table.write(list(photos), pa.array(photos.values(), pa.large_binary()))

    def commit(self, fragments: Sequence[Fragment]) -> None:
        """The second half of `append`, for many workers at once; without it, what they wrote was never there.

        Raises TransientError when a photo was forgotten since, and files that nobody had committed were deleted.
        """
        if fragments:
            with self._alone():  # else they might be deleted when they have just become a part of the table
                self._table.commit(fragments)

    def tidy(self, num_expected: int = 0) -> None:
        """Drop what was stored twice, and join what many small appends have left; PhotoTable.tidy."""
        with self._alone():  # else a forgetting might delete what is joined, before it is a part of the table
            self._table.tidy(num_expected)

    def file_names(self) -> list[str]:
        """The files, below the store, whose copies are the table as it is now (photo_tables.py)."""
        return [f"{TABLE}/{name}" for name in self._table.file_names()]

    def stored(self) -> pa.Array:
        """The sha256s of all photos in the table, strings, some perhaps twice."""
        return self._table.sha256s(self._table.open()).drop_null()

    def missing(self, sha256s: Sequence[str] | pa.ChunkedArray, stored: pa.Array | None = None) -> list[str]:
        """Those that are not kept, in their order, each once; `stored` is what a look at the table has just found."""
        wanted = pc.unique(sha256s if isinstance(sha256s, pa.ChunkedArray) else pa.array(sha256s, pa.string()))
        stored = self.stored() if stored is None else stored
        absent: list[str] = wanted.filter(pc.invert(pc.is_in(wanted, stored))).to_pylist()
        if len(absent) <= _FEW:
            return [sha256 for sha256 in absent if not self._store.exists(key_of_before(sha256))]
        before = set(self._store.list_keys(FOLDER_OF_BEFORE))
        return [sha256 for sha256 in absent if key_of_before(sha256) not in before]

    def find(self, sha256s: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Photos as they are stored, each once, in whatever order is fastest; None for one that is not kept."""
        wanted, table = pa.array(dict.fromkeys(sha256s), pa.string()), self._table
        dataset = table.open()
        positions = pc.index_in(wanted, table.sha256s(dataset))
        rows = pa.table({"sha256": wanted, "position": positions}).sort_by("position")
        kept = rows.slice(0, len(rows) - positions.null_count)
        sizes = table.row_bytes(dataset)[kept["position"].to_numpy()]
        numbers = (np.cumsum(sizes) // BATCH_BYTES).astype(np.int64)
        starts = [*np.unique(numbers, return_index=True)[1].tolist(), len(kept)]
        for start, end in itertools.pairwise(starts):
            batch = kept.slice(start, end - start)
            photos = table.take(dataset, batch["position"].to_pylist())
            yield from zip(batch["sha256"].to_pylist(), (photo.as_py() for photo in photos), strict=True)
        yield from self._find_files(rows.slice(len(kept))["sha256"].to_pylist())

    def read_all(self, sha256s: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """`find`, verified. Raises NotFound, CorruptData naming the first photo that is gone, or was changed."""
        for sha256, photo in self.find(sha256s):
            yield sha256, self.verified(sha256, photo)

    def verified(self, sha256: str, photo: bytes | None) -> bytes:
        """What was found of a photo. Raises NotFound, CorruptData where it is not what was kept."""
        if photo is None:
            raise NotFound(
                f"the original {sha256} is not in the store {self._store.uri}: put it back from a backup, or delete "
                "the home's cache/ and ingest the lake again, if that still has it"
            )
        if (found := files.sha256(photo)) != sha256:
            raise CorruptData(
                f"the original {sha256} in {self._store.uri} was changed after it was stored: its sha256 is "
                f"{found[:12]}…"
            )
        return photo

    def forget(self, sha256s: Sequence[str]) -> None:
        """Delete photos so that no byte of them is left, in past versions of the table either.

        An ingestion that is at work meanwhile may fail, and is to be run again; so is this, on TransientError.
        """
        for sha256 in sha256s:
            self._store.delete(key_of_before(sha256))
        with self._alone():
            self._table.forget(sha256s)
        self.delete_old_versions()

    def delete_old_versions(self) -> None:
        """The last step of `forget`: what a bucket keeps of deleted files goes."""
        if self._store.uri.startswith("s3://"):
            delete_old_versions(f"{self._store.uri}/{TABLE}", self._options)

    def _find_files(self, sha256s: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="originals") as pool:
            for start in range(0, len(sha256s), _NUM_READERS):
                batch = sha256s[start : start + _NUM_READERS]
                yield from zip(batch, pool.map(self._read_file, batch), strict=True)

    def _read_file(self, sha256: str) -> bytes | None:
        try:
            return self._store.read(key_of_before(sha256))
        except NotFound:
            return None


def key_of_before(sha256: str) -> str:
    """Where a photo's own bytes are in stores that had a file for each."""
    return f"{FOLDER_OF_BEFORE}/{sha256[:2]}/{sha256}"
