"""What of a home is backed up, in an order in which it fits together though a build goes on meanwhile.

First what only tells of the rest: Dagster's databases (in production one of PostgreSQL). Then, at one moment, the
ledger, the registry and the list of records: nobody appends to the ledger meanwhile, so that no record knows an event
that the copy lacks, and records that its events announce are waited for. Then the files behind the records, and those
of registered versions, which were there before them and never change; what steps printed; then photos.
What a build adds between these is left out, or nothing refers to it.

Left out: caches and pages, which are made again; the lake, also one in the home; locks; private keys, which are a
person's to keep. The store, and what servers keep in folders, has its own part, wherever in the home it lies.
Not here: where the copies go (places.py, making.py).
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from petpark_assets.domain import files
from petpark_assets.domain.audit.proof import NAMED_BY_EVENTS
from petpark_assets.domain.audit.trail import FLOW
from petpark_assets.domain.backup import databases
from petpark_assets.domain.files import LocalStore, Store, folder_key
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import originals, ownership
from petpark_assets.domain.ledger import START, Event
from petpark_assets.domain.records import RawImages
from petpark_assets.domain.workflow import copies

NOT_KEPT = frozenset({"cache", "reports", "lake", "store", copies.NOTE_NAME})
"""In a home, by their usual names: the store has its own part here, since it may be in a bucket; the note is about
copies, of which a restored home has none."""

ARTIFACTS, LOGS = "artifacts/", "logs/"
"""In a backup: below these are the files of MLflow's server, and what steps printed, where they are not in the home."""

_PARTIAL = ".partial"
"""What a step has printed so far; under the name without this it is written once, at its end."""
_LARGE = (".onnx", ".safetensors")
_REGISTRY = "mlflow/mlflow.db"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_NUM_TRIES, _PAUSE_S = 20, 0.25
"""A step appends its event some milliseconds before its record; one that was killed between the two never writes it."""


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What of the home's state other servers keep; by default all of it is in the home and its store."""

    postgresql: Mapping[str, str] = field(default_factory=dict, repr=False)
    """URLs with passwords, of the databases of `dagster` and of `mlflow`, of either, or of none."""
    artifacts: Store | None = None
    """Where MLflow's server keeps the files of registered versions."""
    logs: Store | None = None
    """Where Dagster's processes keep what steps print."""

    @property
    def places(self) -> dict[str, Store]:
        """Those of the two that there are, by the folder of a backup that has their files."""
        return {name: store for name, store in ((ARTIFACTS, self.artifacts), (LOGS, self.logs)) if store is not None}

    def within(self, store: Store) -> tuple[str, ...]:
        """Prefixes of keys of the home's store below which lies one of these, and nothing of the store."""
        around = f"{store.uri.rstrip('/')}/"
        return tuple(
            f"{place.uri.removeprefix(around)}/" for place in self.places.values() if place.uri.startswith(around)
        )


NONE_ELSE = Engines()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to be copied."""

    path: str
    """In the backup."""
    read: Callable[[], bytes]
    """Raises NotFound or FileNotFoundError when it is gone by now."""
    is_fixed: bool = False
    """Whether nothing else is ever stored under this path."""
    is_small: bool = False
    """Whether many may be in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What must fit together exactly."""

    ledger: bytes
    events: Sequence[Event]
    registry: tuple[Source, ...]
    """Already read."""
    keys: frozenset[str]
    """In the store, of all assets that have records."""

    @property
    def ledger_head(self) -> str:
        """Digest of the last event."""
        return self.events[-1].digest if self.events else START

    def sources(self) -> list[Source]:
        """The ledger and the registry's database."""
        ledger = [Source(path="ledger.jsonl", read=lambda: self.ledger)] if self.ledger else []
        return [*ledger, *self.registry]


def history(home: Home, engines: Engines) -> list[Source]:
    """Dagster's runs and events, read before all else: they may tell less than the records, never more."""
    if "dagster" in engines.postgresql:
        return [_dumped("dagster", engines)]
    return list(_folder_sources(home, home.root / "dagster", engines))


def take(home: Home, engines: Engines) -> Moment:
    """Ledger, registry and records of one moment. Raises CorruptData, TransientError."""
    for _ in range(_NUM_TRIES):
        moment = _take(home, engines)
        if _announced(moment.events) <= moment.keys:
            break
        time.sleep(_PAUSE_S)
    return moment


def _take(home: Home, engines: Engines) -> Moment:
    with home.ledger.held() as (ledger, events):
        # Children before their parents: what is written while these are listed then lacks none of its own.
        keys = frozenset(key for asset in reversed(FLOW) for key in home.store.list_keys(asset))
        return Moment(ledger=ledger, events=events, registry=_registry(home, engines), keys=_recorded(events, keys))


def kept(home: Home, moment: Moment, engines: Engines) -> Iterator[Source]:
    """Everything else but Dagster's databases and pixels."""
    elsewhere = ("pixels.lance/", f"{originals.TABLE}/", *engines.within(home.store))
    for key in home.store.list_keys(""):
        if not key.startswith(elsewhere) and (key in moment.keys or key.split("/")[0] not in FLOW):
            yield _stored(home, key, is_fixed=key != ownership.KEY)
    for folder, place in engines.places.items():
        for key in place.list_keys(""):
            is_fixed = folder == LOGS and not key.endswith(_PARTIAL)
            is_small = not key.endswith(_LARGE)
            yield Source(path=folder + key, read=partial(place.read, key), is_fixed=is_fixed, is_small=is_small)
    for path in _entries(home.root):
        if path.name not in {*NOT_KEPT, "dagster", "ledger.jsonl"}:
            yield from _folder_sources(home, path, engines)


def photos(home: Home) -> Iterator[Source]:
    """The tables of photos and of their pixels, each as of now."""
    of_pixels = (home.pixels.file_names(resolution_px) for resolution_px in home.pixels.resolutions())
    names = (f"pixels.lance/{name}" for name in chain.from_iterable(of_pixels))
    for name in chain(home.originals.file_names(), names):
        yield _stored(home, name, is_fixed="/_versions/" not in name)


def private_keys(home: Home, engines: Engines = NONE_ELSE) -> list[str]:
    """Files of the home that are not kept, since whoever reads a backup could sign with them."""
    folders = (folder for folder in _entries(home.root) if folder.name not in NOT_KEPT)
    paths = (path for folder in folders for path in _files(folder, _kept_apart(home, engines)))
    return [path.relative_to(home.root).as_posix() for path in paths if _is_private(path)]


def _kept_apart(home: Home, engines: Engines) -> frozenset[Path]:
    """Folders that are copied by themselves, or not at all: within the home they would be copied twice."""
    stores = [home.store, *engines.places.values()]
    folders = [store.root for store in stores if isinstance(store, LocalStore)]
    lake = urlsplit(ownership.owner(home.store) or "")
    if lake.scheme == "file":
        folders.append(Path(unquote(lake.path)))
    return frozenset(folder.resolve() for folder in folders)


def _announced(events: Sequence[Event]) -> set[str]:
    """The records that events say were made."""
    return {
        _record_key(NAMED_BY_EVENTS[event.event][0], event.subject["dataset_version"], event.subject.get("attempt"))
        for event in events
        if event.event in NAMED_BY_EVENTS
    }


def _recorded(events: Sequence[Event], keys: frozenset[str]) -> frozenset[str]:
    """Without the files of versions after the last that a record or an event names: those are being made.

    One before it belongs to what the later one was made from, though whoever made it was killed before its record.
    """
    announced, asset = _announced(events) | keys, RawImages.asset
    version_of = {key: key.split("/")[1].removesuffix(".json") for key in keys if key.startswith(f"{asset}/")}
    made = [version for version in version_of.values() if _record_key(asset, version) in announced]
    last = max(made, key=_in_order, default="")
    being_made = {key for key, version in version_of.items() if _in_order(version) > _in_order(last)}
    return keys - being_made


def _in_order(version: str) -> tuple[int, str]:
    """v10000 comes after v9999."""
    return len(version), version


def _record_key(asset: str, version: str, attempt: str | None = None) -> str:
    return f"{folder_key(asset, version, attempt)}.json"


def _registry(home: Home, engines: Engines) -> tuple[Source, ...]:
    if "mlflow" in engines.postgresql:
        found = _dumped("mlflow", engines)
    elif (home.root / _REGISTRY).exists():
        found = Source(path=_REGISTRY, read=partial(databases.copy_sqlite, home.root / _REGISTRY))
    else:
        return ()
    data = found.read()
    return (Source(path=found.path, read=lambda: data),)


def _dumped(name: str, engines: Engines) -> Source:
    return Source(path=f"postgresql/{name}.dump", read=partial(databases.dump_postgresql, engines.postgresql[name]))


def _stored(home: Home, key: str, *, is_fixed: bool) -> Source:
    is_small = key.startswith("originals/") or key.endswith(".json")
    return Source(path=f"store/{key}", read=partial(home.store.read, key), is_fixed=is_fixed, is_small=is_small)


def _folder_sources(home: Home, folder: Path, engines: Engines) -> Iterator[Source]:
    for path in _files(folder, _kept_apart(home, engines)):
        name = path.relative_to(home.root).as_posix()
        if name == _REGISTRY or _is_private(path):
            continue
        yield Source(path=name, read=partial(databases.read_file, path))


def _files(folder: Path, apart: Collection[Path]) -> Iterator[Path]:
    """A file, or all in a folder, but those that belong to a moment: unfinished ones, locks, SQLite's own."""
    for path in _all_files(folder, lambda found: found.resolve() in apart):
        if not (path.name.startswith(".") or path.suffix == ".lock" or databases.is_companion(path)):
            yield path


def _all_files(folder: Path, is_left_out: Callable[[Path], bool]) -> list[Path]:
    if folder.is_file():
        return [folder]
    return [] if is_left_out(folder) else sorted(files.walk(folder, is_left_out=is_left_out))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_private(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _PRIVATE_KEY in file.read(200)
    except FileNotFoundError:  # deleted since it was listed, as those who read it will find
        return False
