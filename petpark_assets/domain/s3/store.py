"""The store in a bucket (files.Store): what must last, by key, on any server of S3.

Not here: the pixels, which Lance keeps below the same address by itself (lake/pixels.py).
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput, NotFound
from petpark_assets.domain.s3.access import S3Access, odd_key, parse_place
from petpark_assets.domain.s3.bucket import Bucket

NUM_WRITERS = 16
"""Requests at a time of `write_many`: each waits some milliseconds for the server."""


class S3Store:
    """The store below a prefix of a bucket. Workers elsewhere get a pickled copy, keys included."""

    def __init__(self, uri: str, access: S3Access, cache: Path) -> None:
        self.bucket = Bucket(place=parse_place(uri, "store"), access=access)
        self.cache = cache.absolute()

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return self.bucket.place.uri

    def read(self, key: str) -> bytes:
        """See Store."""
        return self.bucket.read(self._checked(key))

    def write_new(self, key: str, data: bytes) -> bool:
        """See Store."""
        return self.bucket.create(self._checked(key), data)

    def write_many(self, items: Mapping[str, bytes]) -> None:
        """See Store."""
        with ThreadPoolExecutor(NUM_WRITERS, thread_name_prefix="put") as pool:
            list(pool.map(self.write_new, items.keys(), items.values()))

    def sync(self) -> None:
        """See Store: a server has stored what it has acknowledged."""

    def exists(self, key: str) -> bool:
        """See Store."""
        return self.bucket.describe(self._checked(key)) is not None

    def delete(self, key: str) -> None:
        """See Store: old versions too, and this machine's copy."""
        self.bucket.delete(self._checked(key))
        with files.named_disk_errors(self.cache / key):
            (self.cache / key).unlink(missing_ok=True)

    def list_keys(self, prefix: str) -> list[str]:
        """See Store."""
        return sorted(item.key for item in self.bucket.list_objects(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """See Store."""
        return {item.key: item.size_bytes for item in self.bucket.list_objects(prefix)}

    def local_path(self, key: str) -> Path:
        """See Store: a copy in the cache, checked on every call against the digest noted at its writing.

        Raises NotFound, CorruptData.
        """
        path, found = self.cache / key, self.bucket.describe(self._checked(key))
        if found is None:
            raise NotFound(f"{key} is not in the store {self.uri}")
        if not path.is_file() or files.sha256_file(path) != found.sha256:
            data = self.read(key)
            if found.sha256 not in {None, files.sha256(data)}:
                raise CorruptData(
                    f"{key} in {self.uri} was changed after it was stored: its sha256 is {files.sha256(data)[:12]}…, "
                    f"noted was {str(found.sha256)[:12]}…"
                )
            files.replace(path, data)
        return path

    def _checked(self, key: str) -> str:
        if odd := odd_key(key):
            raise InvalidInput(f"{key!r} is not a key of the store {self.uri}: {odd}")
        return key
