"""What the recipe `laptop` needs and reaches: one whole `petpark build` on real photos, in a process of its own.

    PETPARK_PHOTOS=~/photos make bench

Minutes are of the whole command, the search included; accuracy is that of the test side, and the same from the
photos' own bytes as packaging measured it. One run is one sample: accuracy has its 95 % interval from the report. The
curve is of the validation part, after each epoch of the final training, by minutes since the command was typed.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from petpark_assets.domain.files import LocalStore, read_record
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import EvaluationReport, HyperparameterSearch, OnnxPackage, TrainedCnn
from petpark_assets.domain.report.metrics import gated

RESULT = Path(__file__).parent / "results" / "laptop.json"
EPOCH = re.compile(r"epoch \d+ of \d+: .*validation accuracy ([\d.]+)")
"""The line of the log that ends an epoch of the final training; a trial's has another form."""
LIBRARIES = ("torch", "ray", "dagster", "pylance", "onnxruntime", "pillow")


def main() -> None:
    """Measure in a home that is thrown away, and write the result."""
    photos = os.environ.get("PETPARK_PHOTOS") or sys.exit("set PETPARK_PHOTOS to a folder of real photos")
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as home:
        command = ["build", "--lake", photos, "--recipe", "laptop", "--home", home, "--json"]
        started = time.perf_counter()
        curve = []
        with subprocess.Popen(
            [sys.executable, "-m", "petpark_assets.cli", *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as build:  # fmt: skip
            for line in build.stderr or ():
                sys.stderr.write(line)
                if found := EPOCH.search(line):
                    curve.append([round((time.perf_counter() - started) / 60, 1), float(found[1])])
            summary = json.loads(build.stdout.read() if build.stdout else "")
        if "error" in summary:
            sys.exit(summary["error"])
        write_result(summary, time.perf_counter() - started, curve)


def write_result(summary: dict[str, Any], seconds: float, curve: list[list[float]]) -> None:
    """Put a build's summary into results/, with what one must know to compare it."""
    store = LocalStore(Path(summary["home"]) / "store")
    names = summary["dataset_version"], summary["attempt"]
    report = read_record(store, EvaluationReport, *names)
    metrics = report.metrics
    search = read_record(store, HyperparameterSearch, *names)
    model = read_record(store, TrainedCnn, *names)
    proved = read_record(store, OnnxPackage, *names).parity if summary["is_accepted"] else None
    result = {
        **describe_run("petpark build --lake PHOTOS --recipe laptop --json"),
        "n": 1,
        "images": summary["images"],
        "accuracy": summary["accuracy"],
        "accuracy_interval": metrics["accuracy_interval"],
        "precision": summary["precision"],
        "recall": summary["recall"],
        "is_accepted": summary["is_accepted"],
        "verdict": report.verdict,
        "targets": report.targets,
        "missed_of_the_default_targets": missed(metrics, Targets()),
        "calibration": {name: metrics["calibration"][name] for name in metrics["calibration"] if name != "bins"},
        "temperature": model.temperature,
        "abstention": metrics["abstention"],
        "parity": proved,
        "default_validation_accuracy": search.default_validation_accuracy,
        "best_validation_accuracy": search.best_validation_accuracy,
        "validation_accuracy_by_minute": curve,
        "minutes": round(seconds / 60, 1),
        "seconds_by_asset": summary["seconds"],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"accuracy {result['accuracy']:.4f} in {result['minutes']} minutes: {RESULT}")  # noqa: T201 - its answer


def missed(metrics: dict[str, Any], targets: Targets) -> list[str]:
    """The figures that do not reach their targets, as `name: figure, target`."""
    return [f"{name}: {value:.4f}, {target}" for name, value, _, target in gated(metrics, targets) if value < target]


def describe_run(command: str) -> dict[str, Any]:
    """What one must know to compare any measurement: commit, command, date, hardware, versions."""
    return {
        "commit": _commit(),
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    }


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def _hardware() -> str:
    """Clouds call all processors of one maker alike: how wide they compute tells them apart."""
    lines = [line.partition(": ") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    models = [value for name, _, value in lines if name.startswith("model name")]
    flags = next((value.split() for name, _, value in lines if name.startswith("flags")), [])
    width = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "neither AVX2 nor AVX-512"
    return f"{len(models)} cores, {models[0]} ({width}), no GPU used"


if __name__ == "__main__":
    main()
