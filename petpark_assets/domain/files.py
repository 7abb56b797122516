"""Bytes on disk: canonical JSON, digests, files that appear whole or not at all, the store, and records in it.

Not here: what the bytes mean (records.py), or tables and pixels (lake/).
"""

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, TransientError
from petpark_assets.domain.records import AttemptRecord, Record

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R", bound=Record)


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, UTF-8, shortest floats, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    ).encode()


def _plain(value: Any) -> Any:
    """What json cannot spell by itself: dataclasses and read-only mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if _is_said(value, field)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON")


def arrow_reader(data: bytes) -> "pa.BufferReader":
    """Bytes as a file for Arrow, in memory of Arrow's own.

    Arrow's threads let go of what they read from when they like. Python's bytes they then give back to Python, and a
    process that is ending meanwhile is aborted (pyarrow 25: 18 of 300 processes that read a Parquet file last).
    """
    import pyarrow as pa

    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return pa.BufferReader(buffer)


def real_address(uri: str) -> str:
    """The one spelling of a folder, whatever links or .. lead to it, or of a bucket's prefix."""
    return uri.rstrip("/") if "://" in uri else os.path.realpath(uri)


def sha256(data: bytes) -> str:
    """Lower-case hexadecimal sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON: the digest, and Dagster's data version, of a record."""
    return sha256(canonical_json(value))


def _is_said(value: Any, field: "dataclasses.Field[Any]") -> bool:
    """Whether a field is part of the content: one of LATER is not where it has its default, as in records of before."""
    makes = field.default_factory
    default = field.default if makes is dataclasses.MISSING else makes()
    return not (field.metadata.get("is_later") and getattr(value, field.name) == default)


@contextlib.contextmanager
def named_disk_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear line that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise TransientError(
                f"no space left on the disk while writing {target}; nothing half-written remains: "
                "free some space and run the same command again"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise InvalidInput(
                f"not allowed to write {target}: give write permission or choose another home"
            ) from error
        raise


@contextlib.contextmanager
def alone(lock: Path, busy: str | None = None, *, is_passing: bool = False) -> Iterator[None]:
    """Hold a lock file, which the system lets go of when its process is killed; its folder is made.

    While another process holds it raises TransientError saying `busy`, or waits where there is nothing to say. One that
    is passing is gone afterwards, for folders that are not ours; it needs a `busy`.
    """
    with named_disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise TransientError(busy) from error
        if not is_passing:
            yield
            return
        if not _is_at(lock, file):  # who had it removed it just now, and others may have one of that name already
            raise TransientError(busy)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_new(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Make a file that appears whole or not at all, and only if there is none of that name; nobody else reads 0o600.

    Written beside its place, synced, then linked: a reader never sees a part, and of two writers one wins. What killed
    writers of this name left beside it goes then, or a package would have a file too many.
    Returns False when the name was taken (whatever it holds).
    """
    with named_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, mode) as (temporary, file):
            file.write(data)
        try:
            os.link(temporary, path)
            is_new = True
        except (FileExistsError, FileNotFoundError):  # another won, and may have swept ours away
            if not path.exists():
                raise
            is_new = False
        finally:
            temporary.unlink(missing_ok=True)
        _remove_pieces(path)
        return is_new


def _remove_pieces(path: Path) -> None:
    """Remove what was begun beside a file, by whomever."""
    for piece in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        piece.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Make or replace a file that appears whole or not at all; for what is not a record (an index, a page)."""
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """`replace` with what is written in the `with`, for what need not be in memory at once."""
    path = _replaceable(path)
    with named_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, 0o644) as (temporary, file):
            yield file
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _replaceable(path: Path) -> Path:
    """The file that a path leads to, which need not be there. Raises InvalidInput for anything else: it would be lost.

    A link stays a link, as with any program that writes to it.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InvalidInput(f"{path} is a folder: name a file")
    if target.exists() and not target.is_file():
        raise InvalidInput(f"{path} is a device or a pipe, which a file would replace: name a file")
    return target


def write_many(items: Mapping[str, bytes]) -> None:
    """Make files that appear whole or not at all, or replace them; they are on the disk after the next `sync_disk`.

    By path. For many small files whose names are digests of what they hold, so that replacing one changes nothing but
    damage, and so that whoever finds one damaged by a power cut writes it again. One sync of the file system does for
    thousands of them: of 512 files of 8 KB it took 9 ms beside 77 of writing; syncing each file took 300 in all.
    """
    token = secrets.token_hex(4)
    for path, data in items.items():
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{token}.part"
        with named_disk_errors(Path(path)):
            try:
                _write_unsynced(temporary, data)
                os.replace(temporary, path)  # noqa: PTH105  here, as above, a Path would cost as much as the call
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise


def _write_unsynced(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        handle = os.open(path, flags, 0o644)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
    finally:
        os.close(handle)


def sync_disk(folder: Path) -> None:
    """Bring all that was written to a folder's file system to its disk, by whomever."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # it is Linux's
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(handle)


def walk(folder: Path, *, is_left_out: Callable[[Path], bool]) -> Iterator[Path]:
    """Every file below a folder, but for what is below folders that are left out; links to folders are not followed.

    One that vanishes meanwhile has none, as those that are made under a hidden name and then renamed do; Path.rglob
    ends with an error there. One that may not be listed raises OSError: what it holds would be missing in silence.
    """
    for found, folders, names in os.walk(folder, onerror=_raise_unless_gone):
        folders[:] = [name for name in folders if not is_left_out(Path(found, name))]
        yield from (path for name in names if (path := Path(found, name)).is_file())


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is nobody's: what is being written, until it is whole, or the file system's own."""
    return path.name.startswith(".") or path.name == "lost+found"


@contextlib.contextmanager
def _beside(path: Path, mode: int) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden file beside a path, for what is written in the `with`; then on the disk, or gone after an error."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield temporary, file
            file.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Store(Protocol):
    """Where everything that must last is kept, by key (`a/b/c.json`): a folder here, a bucket elsewhere."""

    @property
    def uri(self) -> str:
        """Where it is, for messages and metadata; never a secret."""

    def read(self, key: str) -> bytes:
        """The bytes under a key. Raises NotFound."""

    def write_new(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that is not taken; False when it is."""

    def write_many(self, items: Mapping[str, bytes]) -> None:
        """Store bytes under keys that are their digests: nothing is asked, what is there is replaced by the same.

        Each appears whole or not at all, and all are there to last after `sync`.
        """

    def sync(self) -> None:
        """Make what `write_many` stored, from this machine, outlast a power cut; the other methods see to it alone."""

    def exists(self, key: str) -> bool:
        """Whether a key is taken."""

    def list_keys(self, prefix: str) -> list[str]:
        """All keys that start with `prefix/`, sorted."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The bytes of each key that starts with `prefix/`, by one listing."""

    def local_path(self, key: str) -> Path:
        """A path on this machine with these bytes, for libraries that want one. Raises NotFound."""

    def delete(self, key: str) -> None:
        """Remove bytes for good; a key that is not there is fine. Only forgetting deletes."""


class LocalStore:
    """The store as a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self.root)

    def read(self, key: str) -> bytes:
        """See Store."""
        return self.local_path(key).read_bytes()

    def write_new(self, key: str, data: bytes) -> bool:
        """See Store."""
        return write_new(self._path(key), data)

    def write_many(self, items: Mapping[str, bytes]) -> None:
        """See Store."""
        self._check(*items)
        write_many({f"{self.root}/{key}": data for key, data in items.items()})

    def sync(self) -> None:
        """See Store."""
        with named_disk_errors(self.root):
            if self.root.exists():
                sync_disk(self.root)

    def exists(self, key: str) -> bool:
        """See Store."""
        return self._path(key).is_file()

    def list_keys(self, prefix: str) -> list[str]:
        """See Store."""
        paths = walk(self._path(prefix), is_left_out=is_hidden)
        return sorted(path.relative_to(self.root).as_posix() for path in paths if not is_hidden(path))

    def sizes(self, prefix: str) -> dict[str, int]:
        """See Store."""
        found = {}
        for key in self.list_keys(prefix):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                found[key] = (self.root / key).stat().st_size
        return found

    def local_path(self, key: str) -> Path:
        """See Store."""
        path = self._path(key)
        if not path.is_file():
            raise NotFound(f"{key} is not in the store {self.uri}")
        return path

    def delete(self, key: str) -> None:
        """See Store; what a killed writer left of it beside its place goes too."""
        path = self._path(key)
        with named_disk_errors(path):
            path.unlink(missing_ok=True)
            _remove_pieces(path)

    def _path(self, key: str) -> Path:
        self._check(key)
        return self.root / key

    def _check(self, *keys: str) -> None:
        for key in keys:
            if key.startswith("/") or "\0" in key or ".." in key.split("/"):
                raise InvalidInput(f"{key!r} is not a key of the store: it would leave {self.uri}")


def put(store: Store, key: str, data: bytes) -> str:
    """Store bytes once and return their sha256; the same bytes again are fine. Raises Conflict on others."""
    if not store.write_new(key, data) and sha256(store.read(key)) != sha256(data):
        raise Conflict(
            f"{key} is in the store {store.uri} with other content ({sha256(store.read(key))[:12]}, "
            f"now {sha256(data)[:12]}); what is stored never changes: make a new version or use another home"
        )
    return sha256(data)


def get_verified(store: Store, key: str, expected_sha256: str) -> bytes:
    """Read bytes and check their digest. Raises CorruptData naming the key, NotFound."""
    data = store.read(key)
    if sha256(data) != expected_sha256:
        raise CorruptData(
            f"{key} in {store.uri} was changed after it was stored: its sha256 is {sha256(data)[:12]}…, "
            f"recorded was {expected_sha256[:12]}…"
        )
    return data


def folder_key(asset: str, dataset_version: str, attempt: str | None = None) -> str:
    """The folder of an asset's own files: `trained_cnn/v0001/<attempt>`."""
    return "/".join(part for part in (asset, dataset_version, attempt) if part)


def write_record(store: Store, record: Record, circumstances: Mapping[str, Any]) -> str:
    """Store a record under its asset, version and attempt; returns its digest.

    The same content again is fine (the first circumstances stay). Raises Conflict when other content is there.
    """
    key = record_key(type(record), record.dataset_version, getattr(record, "attempt", None))
    document = {
        "asset": record.asset, "digest": digest(record), "content": record, "circumstances": circumstances,
    }  # fmt: skip
    if not store.write_new(key, canonical_json(document)):
        recorded = json.loads(store.read(key))["digest"]
        if recorded != digest(record):
            raise Conflict(
                f"{key} is recorded with digest {recorded[:12]}…, this run would record {digest(record)[:12]}…; "
                "records never change: use a new dataset version or another home"
            )
    return digest(record)


def read_record(store: Store, kind: type[R], dataset_version: str, attempt: str | None = None) -> R:
    """Read a record and check it against its own digest. Raises NotFound, CorruptData."""
    key = record_key(kind, dataset_version, attempt)
    try:
        document = json.loads(store.read(key))
        is_intact = digest(document["content"]) == document["digest"]
    except (ValueError, KeyError, TypeError):  # not even a document of ours
        is_intact = False
    if not is_intact:
        raise CorruptData(f"{key} in {store.uri} was changed after it was recorded")
    return kind(**{name: _frozen(value) for name, value in document["content"].items()})


def read_circumstances(
    store: Store, kind: type[Record], dataset_version: str, attempt: str | None = None
) -> dict[str, Any]:
    """What was noted beside a record: when, who, host, run id, seconds."""
    document = json.loads(store.read(record_key(kind, dataset_version, attempt)))
    return dict(document["circumstances"])


def has_record(store: Store, kind: type[Record], dataset_version: str, attempt: str | None = None) -> bool:
    """Whether the record has been written."""
    return store.exists(record_key(kind, dataset_version, attempt))


def list_attempts(store: Store, kind: type[AttemptRecord], dataset_version: str) -> list[str]:
    """The attempts of a version that have this record, sorted."""
    prefix = f"{kind.asset}/{dataset_version}"
    names = (key.removeprefix(f"{prefix}/") for key in store.list_keys(prefix))
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and "/" not in name]


def record_key(kind: type[Record], dataset_version: str, attempt: str | None) -> str:
    """Where a record is stored: `trained_cnn/v0001/<attempt>.json`."""
    if issubclass(kind, AttemptRecord) != (attempt is not None):
        raise AssertionError(f"{kind.__name__} and attempt {attempt!r} do not go together")
    return folder_key(kind.asset, dataset_version, attempt) + ".json"


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
