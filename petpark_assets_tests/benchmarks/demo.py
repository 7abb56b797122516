"""How long the whole `petpark demo` takes on a machine that never ran it: drawn, trained, examined and registered.

    python -m petpark_assets_tests.benchmarks.demo

Each run is a process of its own in a home of its own, so that the lake is drawn and the databases of MLflow and Dagster
are made each time; seconds are of the whole command, Python's own start among them. It may take 90 s on two cores. The
drawn lake is the same each time, and so is the accuracy on one machine. Needs no photos; minutes on two idle cores.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petpark_assets_tests.benchmarks.laptop import describe_run

RESULT = Path(__file__).parent / "results" / "demo.json"
NUM_RUNS = 3
ALLOWED_S = 90


def main() -> None:
    """Measure in homes that are thrown away, and write the result."""
    runs = [measure() for _ in range(NUM_RUNS)]
    summaries = [summary for _, summary in runs]
    by_asset = {name: [summary["seconds"][name] for summary in summaries] for name in summaries[0]["seconds"]}
    result = {
        **describe_run("petpark demo --json"),
        "n": NUM_RUNS,
        "seconds": spread([seconds for seconds, _ in runs], 1),
        "allowed_s": ALLOWED_S,
        "images": summaries[0]["images"],
        "test_images": summaries[0]["test_images"],
        "accuracy": spread([summary["accuracy"] for summary in summaries], 4),
        "is_accepted": [summary["is_accepted"] for summary in summaries],
        "seconds_by_asset": {name: spread(values, 2) for name, values in by_asset.items()},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(RESULT.read_text())  # noqa: T201 - its answer


def measure() -> tuple[float, dict[str, Any]]:
    """Seconds of one whole command, and what it answered. Exits where it failed: a rejected model is an answer."""
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as home:
        command = [sys.executable, "-m", "petpark_assets.cli", "demo", "--home", home, "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        seconds = time.perf_counter() - started
    summary = json.loads(done.stdout)
    if "error" in summary:
        sys.exit(summary["error"])
    return seconds, summary


def spread(values: Sequence[float], digits: int) -> dict[str, Any]:
    """Mean and deviation of a few values, and the values."""
    return {
        "mean": round(statistics.fmean(values), digits),
        "sd": round(statistics.stdev(values), digits),
        "values": [round(value, digits) for value in values],
    }


if __name__ == "__main__":
    main()
