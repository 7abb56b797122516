"""A home: the folder that holds everything of one lake, and the engines a step works with.

    store/         records, manifests, originals,    ledger.jsonl   what happened
                   pixels, weights, packages         mlflow/        the model registry
                                                     cache/         copies: all of it can be deleted
    reports/       pages to look at, with photos     dagster/       runs and events

The store, pixels included, may be in a bucket of S3 instead, the registry in MLflow's server, and the ledger with the
locks of what is shared in PostgreSQL: then homes on several machines are of one platform. Pages and caches stay in the
folder.
Not here: what the steps do (workflow/), or which home a process uses (resources/environments.py).
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from petpark_assets.domain import files
from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import LocalStore, Store
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.ledger import FileLedger, Ledger
from petpark_assets.domain.postgres import server
from petpark_assets.domain.postgres.ledger import PostgresLedger
from petpark_assets.domain.registry.versions import Registry
from petpark_assets.domain.s3.access import SCHEME, S3Access, storage_options
from petpark_assets.domain.s3.store import S3Store

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "numpy", "pyarrow", "pillow", "onnx", "onnxruntime", "dagster")
"""On whose versions a model may depend."""

MODEL_NAME = "pet-classifier"
"""The registered model: one name, many versions."""


class Alone(Protocol):
    """Lets one process at a time do something, of all that share what it changes."""

    def __call__(self, lock: str, busy: str | None = None) -> AbstractContextManager[datetime | None]:
        """Hold a lock by its name, one of server.LOCKS; while another has it wait, or raise TransientError with `busy`.

        It is free again when its process is killed. Gives the moment before which another may have got it and lost it
        while it works on, since a server that starts has forgotten its locks; None where that cannot be.
        """


@dataclass(frozen=True, kw_only=True)
class Home:
    """What every step is given."""

    root: Path
    store: Store
    originals: OriginalStore
    pixels: PixelStore
    ledger: Ledger
    registry: Registry
    alone: Alone = field(repr=False)
    """Keeps other processes out, and those of other machines where the ledger is shared with them."""
    actor: str
    run_id: str | None
    """The Dagster run that works here, noted in circumstances."""
    s3: Callable[[], S3Access] = field(repr=False)
    """Looks the keys for S3 up: called when a lake, a table or the store is there, never before."""
    variables: Mapping[str, str] = field(repr=False)
    """Those of the environment by which a source of labels may name its database."""

    @property
    def cache(self) -> Path:
        """Copies of what is stored elsewhere: all of it can be deleted."""
        return self.root / "cache"

    @property
    def reports(self) -> Path:
        """Pages with photos in them, for people."""
        return self.root / "reports"

    @contextmanager
    def noting(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """Time a step; the function it gives returns the circumstances to write beside its record."""
        started, clock = datetime.now(UTC), time.perf_counter()

        def circumstances() -> dict[str, Any]:
            return {
                "when": started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - clock, 3),
                "who": self.actor,
                "host": platform.node(),
                "processors": os.cpu_count(),
                "python": platform.python_version(),
                "run_id": self.run_id,
                "ledger_head": self.ledger.head(),
            }

        yield circumstances


def library_versions() -> dict[str, str]:
    """The versions of LIBRARIES that are installed here, by name; nothing is imported."""
    found = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):  # a GPU machine has only some
            found[name] = metadata.version(name)
    return found


def page_path(home: Home, attempt: Attempt) -> Path:
    """Where the report of an attempt is drawn for people; it is there once the exam is over."""
    return home.reports / attempt.dataset_version / attempt.id / "report.html"


def open_home(
    root: Path,
    *,
    actor: str,
    run_id: str | None = None,
    store_uri: str | None = None,
    registry_uri: str | None = None,
    ledger_url: str | None = None,
    s3: Callable[[], S3Access] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Home:
    """The home in a folder, which need not exist yet; nothing is made before something is stored.

    Args:
        root: The folder.
        actor: Who is noted in records and in the ledger.
        run_id: The Dagster run that works here.
        store_uri: The store, if it is not the folder's `store`: another folder, or `s3://bucket/prefix`.
        registry_uri: MLflow's server, if the registry is not SQLite in the folder's `mlflow`.
        ledger_url: PostgreSQL, with a password, if the ledger is not a file of the folder.
        s3: Looks the keys for S3 up.
        variables: Those of the environment that label queries may name.
    """
    root, s3 = root.absolute(), s3 or _no_keys
    ledger, alone = open_ledger(root, actor, ledger_url)
    store, originals, pixels = _open_store(root, store_uri, s3, alone if ledger_url else None)
    registry = Registry(
        root / "mlflow",
        MODEL_NAME,
        record_event=ledger.append,
        tracking_uri=registry_uri,
        writing=partial(alone, "registry"),
    )
    return Home(
        root=root,
        store=store,
        originals=originals,
        pixels=pixels,
        ledger=ledger,
        registry=registry,
        alone=alone,
        actor=actor,
        run_id=run_id,
        s3=s3,
        variables=variables or {},
    )


def _open_store(
    root: Path, uri: str | None, s3: Callable[[], S3Access], alone: Alone | None
) -> tuple[Store, OriginalStore, PixelStore]:
    """The store and, below the same address, its photos: their own bytes, and their pixels.

    `alone` are the locks that whoever shares the store shares too. Without, a folder has one for all homes that use it,
    and a bucket none but this home's: what another home's forgetting takes away there, an ingestion finds missing.
    """
    if uri is not None and uri.startswith(SCHEME):
        access = s3()
        remote = S3Store(uri, access, root / "cache" / "store")
        options = storage_options(access)
        lock = partial(alone, "originals") if alone else partial(files.alone, root / "originals.lock")
        return remote, OriginalStore(remote, options, lock), PixelStore(f"{remote.uri}/pixels.lance", options, lock)
    local = LocalStore(Path(uri) if uri else root / "store")
    lock = partial(alone, "originals") if alone else partial(files.alone, local.root / ".originals.lock")
    return local, OriginalStore(local, None, lock), PixelStore(local.root / "pixels.lance", None, lock)


def open_ledger(root: Path, actor: str, url: str | None) -> tuple[Ledger, Alone]:
    """The ledger of the home in a folder, or at its URL, and the locks of those who share it."""
    file = FileLedger(root / "ledger.jsonl", actor)
    if url is None:
        return file, lambda lock, busy=None: files.alone(root / f"{lock}.lock", busy)
    database = server.parse(url)
    return PostgresLedger(database, file), database.alone


def _no_keys() -> S3Access:
    raise InvalidInput("S3 is asked for, but this home was opened without keys: open it by environments.open_here")
