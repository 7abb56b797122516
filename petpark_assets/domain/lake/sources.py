"""Where photos come from: opening a lake, listing its objects, reading one.

A lake is a folder or a part of an S3 bucket, and only ever read. Hidden files and folders (a leading dot) are never
listed. Not here: whether an object is an image, or what becomes of it (images.py, ingest.py); how S3 is spoken (s3/).
"""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from petpark_assets.domain.errors import InvalidInput, NotFound, TransientError
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.s3.access import S3Access, odd_key, parse_place
from petpark_assets.domain.s3.bucket import Bucket, UnreadableObject
from petpark_assets.domain.s3.listing import Listed

SETTLED_AFTER_S = 2.0
"""A file changed later than this before the listing may change again within one tick of the file system's clock
(FAT's is 2 s) and keep its fingerprint; git calls such entries racy."""

_BLOCK_BYTES = 2**20

_PART_OF_A_SECOND = re.compile(r"\.\d+Z$")

_NO_TEXT = "its name, or that of a folder on the way, is not UTF-8: rename it"

_OF_THE_FILE = {errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.EISDIR}
"""Refusals that are about one file; others (too many open files, a mount that went away) are about all of them."""


class LakeObject(NamedTuple):
    """One object of a lake, as its listing shows it; 100,000 of them are made in half of a dataclass's time."""

    key: str
    """Path below the lake's folder, with `/`, whatever the platform."""
    size_bytes: int
    fingerprint: str
    """Changes when the content is written again: size and times of a file; ETag, size and time of an object."""
    etag: str | None = None
    """What the server calls the content, on S3."""
    is_settled: bool = True
    """False when the object changed so recently that an equal fingerprint proves nothing."""
    problem: str | None = None
    """Why it cannot be read at all, known from the listing alone: a broken link, a pipe, a name that is not text."""


class Lake(Protocol):
    """A place with photos. Workers elsewhere get a pickled copy."""

    @property
    def uri(self) -> str:
        """Where it is, for messages and metadata; never a secret."""

    @property
    def identity(self) -> str:
        """The same for every spelling of the same place: what a home belongs to."""

    def list_objects(self) -> list[LakeObject]:
        """All objects, sorted by key. Raises InvalidInput where a part of the lake cannot be listed."""

    def iter_objects(self) -> Iterator[LakeObject]:
        """The same in any order, in constant memory. It may raise at its end: what came before says nothing then."""

    def read(self, key: str, num_bytes: int | None = None) -> bytes:
        """An object's bytes, or the first of them. Raises UnreadablePhoto (`unreadable`), TransientError if gone."""


def open_lake(uri: str, access: Callable[[], S3Access] | None = None) -> Lake:
    """A lake by its address: a folder, the same as `file://`, or `s3://bucket/prefix`, which is not asked anything yet.

    `access` is called for a lake on S3 only. Raises InvalidInput for what cannot be a lake.
    """
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme == "s3":
        place = parse_place(uri, "lake")
        if access is None:
            raise InvalidInput(f"the lake {uri} cannot be opened: no keys for S3 were handed in")
        return S3Lake(Bucket(place=place, access=access()))
    if scheme == "file":
        return FolderLake(_checked_folder(uri, Path(unquote(urlsplit(uri).path))))
    if scheme:
        raise InvalidInput(
            f"the lake's address starts with {scheme}://, which is not supported: give a folder, or s3://bucket/prefix"
        )
    return FolderLake(_checked_folder(uri, Path(uri).expanduser()))


def _checked_folder(uri: str, folder: Path) -> Path:
    if not uri.strip():
        raise InvalidInput("the lake's address is empty: give a folder with photos")
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError as error:
        raise InvalidInput(f"the lake {uri} does not exist: give a folder with photos") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the lake {uri} cannot be opened: {_reason(error)}") from error
    if not is_folder:
        raise InvalidInput(f"the lake {uri} is not a folder: give the folder that holds the photos")
    return folder.absolute()


@dataclass(frozen=True)
class FolderLake:
    """A lake that is a folder of this machine; links to files and folders are followed."""

    folder: Path

    @property
    def uri(self) -> str:
        """The folder's absolute path."""
        return str(self.folder)

    @property
    def identity(self) -> str:
        """The folder's own address, whatever links led to it."""
        return self.folder.resolve().as_uri()

    def list_objects(self) -> list[LakeObject]:
        """All files, sorted by key. Raises InvalidInput naming a folder that cannot be listed."""
        objects = sorted(self.iter_objects(), key=lambda item: item.key)
        nameless = {item.key for item in objects if item.problem == _NO_TEXT}
        twice = nameless and nameless & {item.key for item in objects if item.problem != _NO_TEXT}
        if twice:
            raise InvalidInput(
                f"two files of the lake {self.uri} are both {min(twice)}, since the name of one is not UTF-8: rename it"
            )
        return objects

    def iter_objects(self) -> Iterator[LakeObject]:
        """See Lake; of each folder on the way two handles are open."""
        return self._walk(self.folder, "", (), time.time(), is_text=True)

    def read(self, key: str, num_bytes: int | None = None) -> bytes:
        """A file's bytes, or the first of them. Raises UnreadablePhoto (`unreadable`), TransientError if gone."""
        try:
            return _read_file(f"{self.folder}/{key}", num_bytes)
        except FileNotFoundError as error:
            raise TransientError(
                f"{key} was taken out of the lake {self.uri} while it was being read: run the same command again"
            ) from error
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise TransientError(
                    f"{key} of the lake {self.uri} could not be read ({_reason(error)}): run the same command again"
                ) from error
            raise UnreadablePhoto("unreadable", f"the file cannot be read: {_reason(error)}") from error

    def _walk(
        self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...], now: float, *, is_text: bool
    ) -> Iterator[LakeObject]:
        """Everything below a folder; `above` are the folders on the way, so that a link back to one ends there.

        `is_text` says whether their names below the lake are UTF-8: keys of others lead nowhere.
        """
        identity = self._identify(folder)
        if identity in above:
            return
        for entry in self._entries(folder):
            name = entry.name
            if name.startswith("."):
                continue
            is_named = is_text and (name.isascii() or _as_text(name) == name)
            key = prefix + (name if is_named else _as_text(name))
            status = self._status(folder, entry)
            if status is not None and stat.S_ISDIR(status.st_mode):
                yield from self._walk(folder / name, f"{key}/", (*above, identity), now, is_text=is_named)
            else:
                yield _object(key, status, now, is_named)

    def _identify(self, folder: Path) -> tuple[int, int]:
        """A folder's device and number."""
        try:
            status = folder.stat()
        except OSError as error:
            raise self._unlistable(folder, error) from error
        return status.st_dev, status.st_ino

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """A folder's entries; raises where a part of them cannot be listed, which would look like removals.

        By the folder's handle, so that no file's status is asked for by its whole path: 0.33 s for 100,000, not 0.42.
        """
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(handle) as entries:
                    yield from entries
            finally:
                os.close(handle)
        except OSError as error:
            raise self._unlistable(folder, error) from error

    def _status(self, folder: Path, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Of what an entry leads to; None for a link that leads nowhere."""
        try:
            return entry.stat()
        except PermissionError as error:
            raise self._unlistable(folder, error) from error
        except OSError as error:
            if entry.is_symlink() and Path(entry.name).suffix:
                return None
            if entry.is_symlink():  # named like a folder: thousands of photos may be behind it
                raise self._unlistable(folder / entry.name, error) from error
            raise TransientError(
                f"{_as_text(f'{folder}/{entry.name}')} was taken out of the lake {self.uri} while it was being listed: "
                "run the same command again"
            ) from error

    def _unlistable(self, folder: Path, error: OSError) -> InvalidInput:
        return InvalidInput(
            f"the folder {_as_text(str(folder))} of the lake {self.uri} cannot be listed ({_reason(error)}): give read "
            "permission, or move it out of the lake; nothing was ingested, since its photos would look removed"
        )


@dataclass(frozen=True)
class S3Lake:
    """A lake that is a bucket, or the part of one below a prefix."""

    bucket: Bucket

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return self.bucket.place.uri

    @property
    def identity(self) -> str:
        """The address in its one spelling; the server may move."""
        return self.bucket.place.uri

    def list_objects(self) -> list[LakeObject]:
        """All objects below the prefix, sorted by key. Raises InvalidInput, TransientError by the server's answer."""
        return sorted(self.iter_objects(), key=lambda item: item.key)

    def iter_objects(self) -> Iterator[LakeObject]:
        """See Lake; a page of 1,000 at a time."""
        return self.list_after("")

    def list_after(self, key: str) -> Iterator[LakeObject]:
        """The same, by key, of those after a key."""
        return (_s3_object(item) for item in self.bucket.list_objects(after=key) if not _is_passed_over(item))

    def find(self, key: str, remembered: str | None = None) -> LakeObject | None:
        """One object as its listing would show it; None when there is none, also in a bucket that is not there.

        `remembered` is a fingerprint that a listing gave: some servers list parts of a second and tell one object's
        time without, so the same to the second counts as the same; whoever writes other content changes the ETag.
        """
        item = None if odd_key(key) else self.bucket.find(key)
        if item is None or _is_passed_over(item):
            return None
        found = _s3_object(item)
        is_same = remembered is not None and _to_the_second(remembered) == _to_the_second(found.fingerprint)
        return found._replace(fingerprint=remembered) if remembered is not None and is_same else found

    def read(self, key: str, num_bytes: int | None = None) -> bytes:
        """See Lake. Trouble that all objects may have (keys, network) is raised as such, and is never a photo's."""
        if problem := odd_key(key):
            raise UnreadablePhoto("unreadable", problem)
        try:
            return self.bucket.read(key, num_bytes)
        except NotFound as error:
            raise TransientError(
                f"{key} was taken out of the lake {self.uri} while it was being read: run the same command again"
            ) from error
        except UnreadableObject as error:
            raise UnreadablePhoto("unreadable", str(error)) from error


def _s3_object(item: Listed) -> LakeObject:
    """Always settled: S3 lists what was last written, and whoever writes other content gives it another ETag.

    Where ETags are no digests (a multipart upload, some encryption) they are drawn anew by every writing.
    """
    return LakeObject(
        key=item.key,
        size_bytes=item.size_bytes,
        etag=item.etag,
        fingerprint=f"{item.etag}-{item.size_bytes}-{item.last_modified}",
        problem=odd_key(item.key),
    )


def _to_the_second(fingerprint: str) -> str:
    return _PART_OF_A_SECOND.sub("Z", fingerprint)


def _is_passed_over(item: Listed) -> bool:
    """Whether a key is hidden, or stands for a folder, as some tools make them: no bytes, and a slash at its end."""
    key = item.key
    if not item.size_bytes and (not key or key.endswith("/")):
        return True
    is_suspect = key.startswith(".") or "/." in key
    return is_suspect and any(part.startswith(".") and part not in {".", ".."} for part in key.split("/"))


def _read_file(path: str, num_bytes: int | None) -> bytes:
    """A file's bytes, by four calls of the system.

    Python's own `open` and `read` make seven, and another thread may take the interpreter at each of them.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if num_bytes is not None:
            return os.read(handle, num_bytes)
        size_bytes = os.fstat(handle).st_size
        data = os.read(handle, size_bytes + 1)
        if len(data) == size_bytes:  # no byte more, though one was asked for: that is the end
            return data
        return b"".join([data, *iter(lambda: os.read(handle, _BLOCK_BYTES), b"")])
    finally:
        os.close(handle)


def _object(key: str, status: os.stat_result | None, now: float, is_named: bool) -> LakeObject:
    if status is None:
        return LakeObject(key=key, size_bytes=0, fingerprint="", problem="it is a link that leads nowhere")
    written, entered = status.st_mtime, status.st_ctime
    # A camera with a wrong clock dates files into the future; when they were put here tells enough of those.
    changed = entered if written > now else max(written, entered)
    return LakeObject(  # by place: names would cost a tenth of the listing
        key,
        status.st_size,
        # The times of content and of the file's entry: a copy that keeps the first (cp -p, rsync) changes the second.
        f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}",
        None,
        changed < now - SETTLED_AFTER_S,
        _problem(status, is_named),
    )


def _as_text(name: str) -> str:
    """A name; bytes of it that are no text are shown behind a sign that hardly a good name has: `\ufffdff.jpg`."""
    return "".join(f"\ufffd{ord(sign) - 0xDC00:02x}" if "\udc80" <= sign <= "\udcff" else sign for sign in name)


def _problem(status: os.stat_result, is_named: bool) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"  # opening a pipe would wait for ever
    return None if is_named else _NO_TEXT


def _reason(error: Exception) -> str:
    """The system's words without its number and path."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
