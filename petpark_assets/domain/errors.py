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
"""


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
