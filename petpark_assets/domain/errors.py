"""What can go wrong, and whether trying again may help. Every error a person sees is one of these.

    PetparkError
    ├── PermanentError          the same call will fail again: something must be mended first
    │   ├── InvalidInput        what a person gave (a path, a field, a version) cannot be used
    │   ├── NotFound            what was named does not exist; the message lists what does
    │   ├── Conflict            it exists already, with other content; nothing was overwritten
    │   ├── CorruptData         stored bytes no longer have the digest they were stored under
    │   ├── ModelRejected       the evaluation report's verdict is no: nothing goes on
    │   ├── NotAllowed          whoever asks may not do it; the message says who may
    │   └── TooLittleMemory     a GPU has too little memory for what it was told to do
    └── TransientError          again may help: a full disk, a server that went away
        └── ProcessLost         a process that worked for us was killed: perhaps by what it was given to do

Messages are one line: what was received, and how to mend it. Bugs of our own stay AssertionError.
What a disk refused SQLite, deep within Dagster or MLflow, is told as if the system had said it (`refused_by_disk`).
"""

import errno
import os
import shutil
from pathlib import Path

NO_ROOM_BYTES = 16 * 1024**2
"""Free on a disk that is full to SQLite: it gives back what it could not finish before one can look."""


class PetparkError(Exception):
    """Any failure with a named reason; the command line prints its message and exits with 1."""


class PermanentError(PetparkError):
    """Trying again never helps."""


class InvalidInput(PermanentError, ValueError):
    """What a person gave cannot be used."""


class NotFound(PermanentError, LookupError):
    """What was named does not exist."""


class Conflict(PermanentError):
    """It exists already with other content; nothing was overwritten."""


class CorruptData(PermanentError):
    """Stored bytes no longer have the digest they were stored under."""


class ModelRejected(PermanentError):
    """The evaluation report's verdict is no: the model is neither packaged nor registered."""


class NotAllowed(PermanentError):
    """Whoever asks may not do it."""


class TooLittleMemory(PermanentError):
    """A GPU has too little memory for what it was told to do, beside others that use it."""


class TransientError(PetparkError):
    """Trying again may help: nothing half-written was left behind."""


class ProcessLost(TransientError):
    """A process that worked for us ended without a word; too little memory for its work, perhaps."""


def refused_by_disk(error: BaseException | None, folder: Path) -> OSError | None:
    """What the disk of a folder refused SQLite, whoever wrapped its error, for `named_disk_errors`; None for others.

    A full disk has three names there: only one says so, and the others are believed where there is no room.
    """
    import sqlite3

    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.__cause__ or error.__context__
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # of a kind of trouble; above it which one
    is_unsure = code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
    if code == sqlite3.SQLITE_FULL or (is_unsure and _has_no_room(folder)):
        number = errno.ENOSPC
    elif code == sqlite3.SQLITE_IOERR:
        number = errno.EIO
    else:
        return None
    return OSError(number, os.strerror(number), str(folder))


def _has_no_room(folder: Path) -> bool:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(place).free < NO_ROOM_BYTES
