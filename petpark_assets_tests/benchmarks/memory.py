"""By how much the daemon, the UI and the code server grow between tick 200 and tick 2,000 of a sensor.

    python -m petpark_assets_tests.benchmarks.memory [TICKS]

Twenty copies of `lake_arrivals` watch a lake that does not change, whose version is built, and so make these ticks in
ten minutes (100 rounds of the daemon, 5 s each); before each sample the UI is asked what an open browser asks it. By
Linux's /proc/PID/smaps_rollup: resident memory, of which files and libraries are part, and the anonymous part alone,
which is what a leak would be in. A figure is the median of the samples within 50 ticks of its tick.

What the code server goes on growing by, some KB a tick, is not the tick's: Dagster opens its instance anew for each
tick of a sensor with resources, and on SQLite that asks Alembic (1.20, util/pyfiles.py) twice for a folder, which it
notes each time to be closed at the process's exit. The tick on an instance that stays open is measured too, in this
process.
"""

import gc
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import dagster as dg

from petpark_assets.domain import files
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.lake.sources import SETTLED_AFTER_S
from petpark_assets.domain.records import RegisteredModel
from petpark_assets.domain.workflow import ingestion
from petpark_assets.resources.lake_watch import LakeWatch
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.memory_house import NAME, NUM_COPIES
from petpark_assets_tests.benchmarks.services import Services

RESULT = Path(__file__).parent / "results" / "memory.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.memory"
NUM_PHOTOS = 500
FIRST_TICK, LAST_TICK, SPAN = 200, 2000, 100
NUM_OWN_TICKS = 1000
ALLOWED_SHARE = 0.05
PAUSE_S = 2.5
STUCK_S = 300
KINDS = {"Rss": "resident_mb", "Anonymous": "anonymous_mb"}
OPEN_PAGES = (
    "{ assetNodes { assetKey { path } groupName assetMaterializations(limit: 1) { timestamp runId } } }",
    "{ runsOrError(limit: 25) { ... on Runs { results { runId status jobName tags { key value } } } } }",
    """{ sensorsOrError(
            repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "petpark_assets"}
        ) { ... on Sensors { results { name sensorState { ticks(limit: 5) { timestamp status skipReason } } } } } }""",
    "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy lastHeartbeatTime } } } }",
)
"""What the pages of assets, runs, automation and deployment ask for."""


def measure(folder: Path, *, last_tick: int) -> dict[str, Any]:
    """Sample the three until this tick; the figures of each at FIRST_TICK and at the last, and the growth."""
    services = Services(
        folder / "home", module="petpark_assets_tests.benchmarks.memory_house", with_ui=True,
        variables={"PETPARK_LAKE": str(folder / "lake")},
    )  # fmt: skip
    _make_built_version(folder / "home", folder / "lake")
    samples: list[tuple[int, dict[str, dict[str, float]]]] = []
    with services.started():
        tick, moved_at = 0, time.monotonic()
        while tick < last_tick:
            time.sleep(PAUSE_S)
            before, tick = tick, services.log("daemon").count(f"Checking for new runs for sensor: {NAME}_")
            moved_at = time.monotonic() if tick > before else moved_at
            assert time.monotonic() - moved_at < STUCK_S, services.tail()
            if tick:
                _look_at_the_ui(services.ui)
            samples.append((tick, {name: _memory(process.pid) for name, process in services.running.items()}))
        _assert_ticks_did_their_work(services.log("daemon"))
    return {name: _growth(samples, name, last_tick) for name in services.running}


def own_growth_kb(folder: Path) -> float:
    """By how much this process grows with each tick alone, after 200 to warm up: KB of anonymous memory."""
    arrivals = importlib.import_module("petpark_assets.sensors.lake_arrivals")
    _make_built_version(folder / "home", folder / "lake")
    watch = LakeWatch(lake=str(folder / "lake"))

    def anonymous_mb(num_ticks: int) -> float:
        for _ in range(num_ticks):
            arrivals.tick(instance, open_home(folder / "home", actor="bench"), watch, "", time.time())
        gc.collect()
        return _memory(os.getpid())["anonymous_mb"]

    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        before_mb = anonymous_mb(FIRST_TICK)
        return round((anonymous_mb(NUM_OWN_TICKS) - before_mb) * 1024 / NUM_OWN_TICKS, 2)


def _make_built_version(root: Path, lake: Path) -> None:
    """A version as the lake is, and the record that a build of it ends with: a tick compares, and asks for nothing."""
    draw_lake(lake, num_images=NUM_PHOTOS)
    time.sleep(SETTLED_AFTER_S + 1)  # what is younger when it is ingested is read again by each tick
    home = open_home(root, actor="bench")
    version = ingestion.new_dataset_version(home, str(lake), 32).dataset_version
    record = RegisteredModel(
        dataset_version=version, attempt="0" * 16, onnx_package="", evaluation_report="", model_name="", model_version=1
    )
    files.write_record(home.store, record, {})


def _look_at_the_ui(url: str) -> None:
    for query in OPEN_PAGES:
        asked = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{url}/graphql", asked, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answered = json.load(answer)
            assert "errors" not in answered, answered["errors"]


def _memory(pid: int) -> dict[str, float]:
    """MB by smaps_rollup."""
    lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return {said: kilobytes[name] / 1024 for name, said in KINDS.items()}


def _assert_ticks_did_their_work(log: str) -> None:
    """They compared the lake, and none failed."""
    said = "skipped: the lake has the photos of v0001"
    num_ticks = log.count(f"Checking for new runs for sensor: {NAME}_")
    assert log.count(said) >= num_ticks - NUM_COPIES, log[-3000:]


def _growth(samples: list[tuple[int, dict[str, dict[str, float]]]], name: str, last_tick: int) -> dict[str, Any]:
    """Memory at both ticks, and the share that it grew by between them; the resident memory on the way."""

    def at(tick: int, kind: str) -> float:
        near = [taken[name][kind] for number, taken in samples if abs(number - tick) <= SPAN / 2]
        return round(statistics.median(near), 1)

    def grown(kind: str) -> dict[str, float]:
        first_mb, last_mb = at(FIRST_TICK, kind), at(last_tick, kind)
        return {str(FIRST_TICK): first_mb, str(last_tick): last_mb, "growth_share": round(last_mb / first_mb - 1, 4)}

    ticks = range(SPAN, last_tick + 1, 2 * SPAN)
    return {kind: grown(kind) for kind in KINDS.values()} | {
        "resident_mb_by_tick": {str(tick): at(tick, "resident_mb") for tick in ticks}
    }


def main() -> None:
    """Measure until tick 2,000, or another, and write the result."""
    last_tick = int(sys.argv[1]) if len(sys.argv) > 1 else LAST_TICK
    with tempfile.TemporaryDirectory(prefix="petpark-memory-") as scratch:
        found = measure(Path(scratch) / "services", last_tick=last_tick)
        own_kb = own_growth_kb(Path(scratch) / "own")
    result = {
        **describe_run(COMMAND),
        "n": {"ticks": last_tick, "sensors": NUM_COPIES, "photos": NUM_PHOTOS, "own_ticks": NUM_OWN_TICKS},
        "allowed_growth_share": ALLOWED_SHARE,
        "processes": found,
        "the_tick_alone_kb": own_kb,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
