"""What a reader of a home may see at any moment, and what must be the same after any history.

    python -m petpark_assets_tests.benchmarks.crash_reader HOME

looks until its standard input is closed, then prints how often it did; it ends, and says why, on the first half-made
thing that it sees.
"""

import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from petpark_assets.domain import files
from petpark_assets.domain.attempts import find_attempt
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake import catalogue, ingest
from petpark_assets.domain.lake.originals import TABLE
from petpark_assets.domain.records import AttemptRecord, EvaluationReport, OnnxPackage, RawImages, Record, TrainedCnn
from petpark_assets.domain.workflow import packaging, summary, testing, training

PAUSE_S = 0.5
STARTS = {"lake_read", "test_side_opened", "retraining_started", "model_downloaded", "ledger_repaired"}
"""Events of the ledger that tell of a beginning, a reading or a repair: a build that was killed may have more."""
OF_ONE_RUN = {"run_id", "ledger_event"}
"""Tags of a registered version that say which run registered it, and where in the ledger."""


def assert_nothing_half_made(home: Home) -> None:
    """Whatever can be seen is whole: versions, records with parents and files, pages, registered models, the ledger."""
    for version in catalogue.list_versions(home.store):
        _assert_photos(home, version)
    for record in records(home):
        _assert_parents(home, record)
        _assert_files(home, record)
    for page in home.reports.rglob("*.html"):
        assert page.name.startswith(".") or page.read_text().rstrip().endswith("</html>"), f"{page} is cut"
    for _ in home.ledger.events():
        pass  # each is checked against the chain
    known = home.registry.list_versions()
    for model in known:
        with tempfile.TemporaryDirectory() as scratch:
            home.registry.fetch(model.version, Path(scratch))
    assert {alias for model in known for alias in model.aliases} <= {"candidate", "champion"}


def records(home: Home) -> Iterator[Record]:
    """Every record there is, in the order of the flow; each is checked against its own digest."""
    for version in catalogue.list_versions(home.store):
        for kind in summary.FLOW:
            if issubclass(kind, AttemptRecord):
                for attempt in files.list_attempts(home.store, kind, version):
                    yield files.read_record(home.store, kind, version, attempt)
            elif files.has_record(home.store, kind, version):
                yield files.read_record(home.store, kind, version)


def contents(home: Home) -> dict[str, Any]:
    """What a home holds, as far as it must be the same after any history; plain JSON, by content digests."""
    events = Counter(
        f"{event.event} {files.digest(event.subject)[:16]}"
        for event in home.ledger.events()
        if event.event not in STARTS
    )
    return {
        "manifests": {
            version: catalogue.manifest_sha256(home.store, version) for version in catalogue.list_versions(home.store)
        },
        "records": {
            files.record_key(type(record), record.dataset_version, getattr(record, "attempt", None)): files.digest(
                record
            )
            for record in records(home)
        },
        "verdicts": [record.verdict for record in records(home) if isinstance(record, EvaluationReport)],
        "registry": [
            {
                "version": known.version,
                "aliases": sorted(known.aliases),
                "package": known.package,
                "tags": {name: value for name, value in sorted(known.tags.items()) if name not in OF_ONE_RUN},
            }
            for known in home.registry.list_versions()
        ],
        "outcomes": dict(sorted(events.items())),
        "stored": [key for key in home.store.list_keys("") if not key.startswith(("pixels.lance/", f"{TABLE}/"))],
        "originals": sorted(home.originals.stored().unique().to_pylist()),
    }


def _assert_photos(home: Home, version: str) -> None:
    """A version can be seen, so its photos are there."""
    ingest.verify(home.store, version)
    rows = catalogue.read_manifest(home.store, version).to_pylist()
    accepted = {row["sha256"] for row in rows if row["state"] == catalogue.ACCEPTED}
    assert len(list(home.originals.read_all(sorted(accepted)))) == len(accepted)


def _assert_parents(home: Home, record: Record) -> None:
    """A field that is named like an asset holds the digest of that record, which is there."""
    for kind in summary.FLOW:
        if hasattr(record, kind.asset):
            attempt = getattr(record, "attempt", None) if issubclass(kind, AttemptRecord) else None
            parent = files.read_record(home.store, kind, record.dataset_version, attempt)
            assert files.digest(parent) == getattr(record, kind.asset), f"{record.asset} has another {kind.asset}"


def _assert_files(home: Home, record: Record) -> None:
    if isinstance(record, RawImages):
        assert catalogue.manifest_sha256(home.store, record.dataset_version) == record.manifest
    if isinstance(record, TrainedCnn):
        training.read_weights(home, record)
    if isinstance(record, EvaluationReport):
        for name in record.files:
            testing.read_report_file(home, record, name)
    if isinstance(record, OnnxPackage):
        attempt = find_attempt(home.store, record.dataset_version, record.attempt)
        assert (damage := packaging.find_damage(home, attempt)) is None, damage


def main() -> None:
    """Look until standard input is closed."""
    is_over, num_looks = threading.Event(), 0
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    while not is_over.wait(PAUSE_S):
        assert_nothing_half_made(open_home(Path(sys.argv[1]), actor="reader"))
        num_looks += 1
    print(json.dumps({"num_looks": num_looks}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
