"""What a tick on an unchanged lake costs beside the bare listing, up to a million objects.

    python -m petpark_assets_tests.benchmarks.arrivals [FOLDER] [ROUNDS]

The lake is hard links to one file of 1 KB in folders of 10,000; FOLDER (by default a temporary one) holds it. A tick
reads no photo, so the version is made as an ingestion would leave it, without decoding: a manifest with a row for each
object, and the fingerprints of all. Bare is a scandir of everything with the status of each file, which any comparison
needs. Each is timed in a process of its own, with warm caches of the file system; memory is that process's peak.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from petpark_assets_tests.benchmarks.laptop import describe_run

RESULT = Path(__file__).parent / "results" / "arrivals.json"
SIZES = (10_000, 100_000, 1_000_000)
A_FOLDER = 10_000
MAX_LINKS = 60_000
"""ext4 allows 65,000 names of one file."""


def main() -> None:
    """Measure every size and write the result."""
    base = sys.argv[1] if len(sys.argv) > 1 else None
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    result = {**describe_run("python -m petpark_assets_tests.benchmarks.arrivals"), "n": rounds, "limit_s": 60}
    result["objects"] = {}
    for size in SIZES:
        folder = Path(tempfile.mkdtemp(prefix="arrivals-", dir=base))
        try:
            _in_process("prepare", folder, str(size))
            result["objects"][str(size)] = _measure(folder, rounds)
        finally:
            shutil.rmtree(folder)
        print(size, json.dumps(result["objects"][str(size)]))  # noqa: T201 - its answer
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def _measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds and MB of each way, and the tick's times the bare listing's, a pair at a time."""
    first = _in_process("tick", folder)  # works out what is known, once a version
    pairs = [(_in_process("bare", folder), _in_process("tick", folder)) for _ in range(rounds)]
    return {
        "bare_s": _spread([bare["seconds"] for bare, _ in pairs]),
        "tick_s": _spread([tick["seconds"] for _, tick in pairs]),
        "ratio_to_bare": _spread([tick["seconds"] / bare["seconds"] for bare, tick in pairs]),
        "first_tick_of_a_version_s": round(first["seconds"], 2),
        "peak_mb": {"bare": pairs[0][0]["peak_mb"], "tick": pairs[0][1]["peak_mb"], "first_tick": first["peak_mb"]},
    }


def _spread(values: list[float]) -> dict[str, Any]:
    rounded = [round(value, 3) for value in values]
    deviation = round(statistics.stdev(values), 3) if len(values) > 1 else None
    return {"mean": round(statistics.fmean(values), 3), "deviation": deviation, "values": rounded}


def _in_process(what: str, *arguments: Any, module: str = "petpark_assets_tests.benchmarks.arrivals") -> dict[str, Any]:
    command = [sys.executable, "-m", module, f"--{what}", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _timed(what: str, arguments: list[str]) -> None:
    """One part, in this process: its seconds and this process's peak of memory."""
    folder = Path(arguments[0])
    if what == "prepare":
        _draw(folder / "lake", int(arguments[1]))
        _ingest_without_reading(folder)
    tick = _ready_to_look(folder) if what == "tick" else None
    started = time.perf_counter()
    if what == "bare":
        _list(str(folder / "lake"))
    elif tick is not None:
        assert tick().num_photos == 0
    seconds = time.perf_counter() - started
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))  # noqa: T201 - what the parent reads


def _list(folder: str) -> int:
    """The least that a comparison needs: every name, with its size and times."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                total += _list(entry.path)
            else:
                total += entry.stat().st_mtime_ns > 0
    return total


def _draw(lake: Path, size: int) -> None:
    seed = lake
    for number in range(size):
        folder = lake / ("cat" if number % 2 else "dog") / f"{number // A_FOLDER:03d}"
        if number % A_FOLDER < 2:
            folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"photo_{number:07d}.jpg"
        if number % MAX_LINKS == 0:
            path.write_bytes(bytes(1024))
            seed = path
        else:
            os.link(seed, path)


def _ingest_without_reading(folder: Path) -> None:
    """The files that an ingestion leaves: manifest, record, fingerprints."""
    from petpark_assets.domain import files
    from petpark_assets.domain.home import open_home
    from petpark_assets.domain.lake import catalogue, fingerprints, sources

    home, lake = open_home(folder / "home", actor="bench"), sources.open_lake(str(folder / "lake"))
    time.sleep(sources.SETTLED_AFTER_S + 0.5)
    objects = lake.list_objects()
    sha256 = files.sha256(bytes(1024))
    nothing = fingerprints.SCHEMA.empty_table()
    fingerprints.remember(home.cache, lake, nothing, [(item, sha256) for item in objects])
    table = catalogue.build_table(list(_rows(objects, sha256)), num_ignored=0, previous_manifest=None)
    manifest = catalogue.write_manifest(home.store, "v0001", table)
    assert manifest is not None
    record = catalogue.raw_images(table, "v0001", manifest)
    files.write_record(home.store, record, {"lake": lake.uri, "labels": ["names"]})


def _rows(objects: list[Any], sha256: str) -> Iterator[dict[str, Any]]:
    for item in objects:
        label = item.key.partition("/")[0]
        yield {
            "key": item.key, "size_bytes": item.size_bytes, "sha256": sha256, "label": label, "claims": [],
            "first_version": "v0001", "state": "duplicate",
        }  # fmt: skip


def _ready_to_look(folder: Path) -> Any:
    from petpark_assets.domain.home import open_home
    from petpark_assets.domain.workflow import arrivals

    home = open_home(folder / "home", actor="bench")
    return lambda: arrivals.look(home, str(folder / "lake"))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("--"):
        _timed(sys.argv[1].removeprefix("--"), sys.argv[2:])
    else:
        main()
