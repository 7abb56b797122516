"""A home: the folder that holds everything of one lake, and the engines a step works with.

    home.json      the identity of its lake          ledger.jsonl   what happened
    store/         records, manifests, originals,    mlflow/        the model registry
                   pixels, weights, packages         cache/         copies: all of it can be deleted
    reports/       pages to look at, with photos     dagster/       runs and events

Not here: what the steps do (workflow/), or which home a process uses (resources/environments.py).
"""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.files import LocalStore, Store
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.ledger import Ledger
from petpark_assets.domain.registry.versions import Registry

MODEL_NAME = "pet-classifier"
"""The registered model: one name, many versions."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """What every step is given."""

    root: Path
    store: Store
    pixels: PixelStore
    ledger: Ledger
    registry: Registry
    actor: str
    run_id: str | None
    """The Dagster run that works here, noted in circumstances."""

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


def page_path(home: Home, attempt: Attempt) -> Path:
    """Where the report of an attempt is drawn for people; it is there once the exam is over."""
    return home.reports / attempt.dataset_version / attempt.id / "report.html"


def open_home(root: Path, *, actor: str, run_id: str | None = None) -> Home:
    """The home in a folder, which need not exist yet; nothing is made before something is stored."""
    root = root.absolute()
    store = LocalStore(root / "store")
    ledger = Ledger(root / "ledger.jsonl", actor)
    return Home(
        root=root,
        store=store,
        pixels=PixelStore(store.root / "pixels.lance"),
        ledger=ledger,
        registry=Registry(root / "mlflow", MODEL_NAME, record_event=ledger.append),
        actor=actor,
        run_id=run_id,
    )
