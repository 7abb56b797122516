"""How fast and in how much memory a lake is ingested, beside bare loops and ImageFolder, and how that grows.

    PETPARK_PHOTOS=~/photos python -m petpark_assets_tests.benchmarks.ingestion

Contenders (contenders.py) run one after the other, each in a process of its own, in rounds: a ratio is of one round, so
that whatever else slows the machine slows both. Half an hour on idle cores, 30 GB of disk in the temporary folder.
Bare loops whose library is not installed are left out; `pip install simplejpeg opencv-python-headless` for all of them.
The 100,000 are mosaics (mosaics.py), checked not to be near-duplicates. Not here: grouping's worst case (grouping.py).
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets_tests.benchmarks.contenders import LOOPS
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.mosaics import draw_mosaics

RESULT = Path(__file__).parent / "results" / "ingestion.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.ingestion"
RESOLUTION_PX = 96
NUM_ROUNDS = 5
PHOTOS_A_ROUND = 10_000
SIZES = {1_000: 5, 10_000: 3, 100_000: 3}
"""How often each is measured."""
NUM_NEW = 1_000
NUM_TIMES_NEW = 3
"""How often these are added, each time to a copy of the same home."""
SETTLING_S = 3
"""Until files that were just written count as settled."""

IMAGEFOLDERS = ("imagefolder", "imagefolder_uint8")
LIBRARY = {"pillow": "PIL", "opencv": "cv2"}
"""Modules that are not named like their loop."""


def main() -> None:
    """Measure in a folder that is thrown away, and write the result."""
    photos = Path(os.environ.get("PETPARK_PHOTOS") or sys.exit("set PETPARK_PHOTOS to a folder of real photos"))
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as name:
        folder = Path(name)
        result = {
            **describe_run(COMMAND),
            "kernel": platform.release(),
            "resolution_px": RESOLUTION_PX,
            "first_ingestion": first_ingestion(photos, folder),
            "epoch": epoch(folder),
            **growth(photos, folder),
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{RESULT}")  # noqa: T201 - its answer


def first_ingestion(photos: Path, folder: Path) -> dict[str, Any]:
    """Ours beside every bare loop and ImageFolder, in rounds."""
    lake = _copy_some(photos, folder / "some", PHOTOS_A_ROUND)
    names = ["petpark", *loops(), *IMAGEFOLDERS]
    rounds = [
        {name: run(name, lake, folder / f"round-{number}" / name) for name in names} for number in range(NUM_ROUNDS)
    ]
    seconds = {name: [found[name]["seconds"] for found in rounds] for name in names}
    fastest = min(loops(same_work=True), key=lambda name: statistics.mean(seconds[name]))
    _remove(folder.glob("round-*"))
    return {
        "photos": PHOTOS_A_ROUND,
        "n": NUM_ROUNDS,
        "seconds": {name: describe(values) for name, values in seconds.items()},
        "photos_per_second": {
            name: describe([PHOTOS_A_ROUND / value for value in values]) for name, values in seconds.items()
        },
        "share_of_loop_speed": {
            name: describe(ratios(seconds[name], seconds["petpark"])) for name in names if name in loops()
        },
        "fastest_loop": fastest,
        "share_of_fastest_loop_speed": describe(ratios(seconds[fastest], seconds["petpark"])),
        "times_speed_of": {name: describe(ratios(seconds[name], seconds["petpark"])) for name in IMAGEFOLDERS},
        "not_timed_import_seconds": {name: describe([found[name]["import_s"] for found in rounds]) for name in names},
    }


def epoch(folder: Path) -> dict[str, Any]:
    """Reading the train side for training beside one epoch of ImageFolder, photo for photo, in rounds."""
    lake = folder / "some"
    home = folder / "epoch"
    run("petpark", lake, home)
    rounds = [
        {"petpark": run("petpark_epoch", lake, home), **{name: run(name, lake, folder) for name in IMAGEFOLDERS}}
        for _ in range(NUM_ROUNDS)
    ]
    rates = {name: [found[name]["photos"] / found[name]["seconds"] for found in rounds] for name in rounds[0]}
    _remove([home, lake])
    return {
        "photos": rounds[0]["petpark"]["photos"],
        "n": NUM_ROUNDS,
        "photos_per_second": {name: describe(values) for name, values in rates.items()},
        "times_speed_of": {name: describe(ratios(rates["petpark"], rates[name])) for name in IMAGEFOLDERS},
        "copy_once_a_node_seconds": rounds[0]["petpark"]["copy_s"],
    }


def growth(photos: Path, folder: Path) -> dict[str, Any]:
    """First ingestion and an unchanged lake by size; then a few new photos on top of nearly all."""
    lakes = folder / "mosaics"
    draw_mosaics(photos, lakes, max(SIZES))
    sizes = dict[str, dict[str, Any]]()
    for size, repeats in SIZES.items():
        lake = _take(lakes, folder / f"lake-{size}", size)
        homes = [folder / f"home-{size}-{number}" for number in range(repeats)]
        first = [run("petpark", lake, home) for home in homes]
        again = [run("petpark_again", lake, homes[0]) for _ in range(NUM_ROUNDS)]
        if any(found["is_new"] for found in again):
            raise AssertionError("an unchanged lake made a version")
        sizes[str(size)] = {
            "n": repeats,
            "first_seconds": describe([found["seconds"] for found in first]),
            "first_photos_per_second": describe([size / found["seconds"] for found in first]),
            "first_cpu_us_a_photo": describe([found["cpu_s"] / size * 1e6 for found in first]),
            "first_peak_mb": describe([found["peak_mb"] for found in first]),
            "unchanged_seconds": describe([found["seconds"] for found in again]),
            "unchanged_command_seconds": describe([_command(lake, homes[0]) for _ in range(NUM_ROUNDS)]),
            "unchanged_cpu_us_a_photo": describe([found["cpu_s"] / size * 1e6 for found in again]),
            "unchanged_peak_mb": describe([found["peak_mb"] for found in again]),
            **_state(homes[0], size),
        }
        _remove(homes)
    whole = sizes[str(max(SIZES))]["first_seconds"]["mean"]
    return {"by_size": sizes, "new_on_top": new_on_top(folder / f"lake-{max(SIZES)}", folder, whole)}


def new_on_top(lake: Path, folder: Path, whole_s: float) -> dict[str, Any]:
    """A thousand new photos on a home that knows all the others."""
    outside = folder / "outside"
    for path in sorted(lake.glob("*/*.jpg"))[:: max(SIZES) // NUM_NEW]:
        target = outside / path.relative_to(lake)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    home, kept = folder / "more", folder / "kept"
    run("petpark", lake, home)
    home.rename(kept)
    shutil.copytree(outside, lake / "new")
    time.sleep(SETTLING_S)
    seconds = []
    for _ in range(NUM_TIMES_NEW):
        shutil.copytree(kept, home)  # where it was, or it would be another home's history that it finds in its cache
        found = run("petpark", lake, home)
        if found["read"] != NUM_NEW or not found["is_new"]:
            raise AssertionError(f"{found['read']} photos were read, {NUM_NEW} are new")
        seconds.append(found["seconds"])
        _remove([home])
    return {
        "new": NUM_NEW,
        "on_top_of": max(SIZES) - NUM_NEW,
        "n": NUM_TIMES_NEW,
        "seconds": describe(seconds),
        "allowed_seconds": round(0.03 * whole_s + 3, 3),
    }


def run(name: str, lake: Path, folder: Path, resolution_px: int = RESOLUTION_PX) -> dict[str, Any]:
    """One contender in its own process, when what others wrote is on the disk."""
    os.sync()
    command = [sys.executable, "-m", "petpark_assets_tests.benchmarks.contenders", name, lake, folder, resolution_px]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    print(f"{name}: {answer['photos']} photos in {answer['seconds']:.2f} s", file=sys.stderr, flush=True)  # noqa: T201
    return answer


def loops(*, same_work: bool = False) -> list[str]:
    """The bare loops whose library is installed."""
    names = [name for name in LOOPS if find_spec(LIBRARY.get(name, name))]
    return names if same_work or "opencv" not in names else [*names, "opencv_skipping"]


def describe(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation of a sample."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "sd": round(deviation, 4)}


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]


def _command(lake: Path, home: Path) -> float:
    """Seconds of the whole `petpark lake ingest`, from a person's return key to the prompt."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "petpark_assets.cli", "lake", "ingest", "--lake", str(lake), "--json"]
    environment = {**os.environ, "PETPARK_HOME": str(home)}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, check=True)
    return time.perf_counter() - started


def _state(home: Path, size: int) -> dict[str, float]:
    """What a home keeps beside originals and pixels, in bytes a photo; and how many photos were merged by likeness."""
    opened = open_home(home, actor="benchmark")
    manifest = catalogue.read_manifest(opened.store, "v0001")
    accepted = manifest.filter(pc.equal(manifest["state"], catalogue.ACCEPTED))
    manifest_bytes = sum(path.stat().st_size for path in (home / "store/raw_images").rglob("*") if path.is_file())
    cache_bytes = sum(path.stat().st_size for path in home.glob("cache/*") if path.is_file())
    return {
        "manifest_bytes_a_photo": round(manifest_bytes / size, 1),
        "cache_bytes_a_photo": round(cache_bytes / size, 1),
        "photos_merged_by_likeness": accepted.num_rows - pc.count_distinct(accepted["group"]).as_py(),
    }


def _copy_some(photos: Path, lake: Path, count: int) -> Path:
    """As many cats as dogs."""
    for label in ("cat", "dog"):
        (lake / label).mkdir(parents=True)
        for path in sorted(photos.glob(f"{label}/*.jpg"))[: count // 2]:
            shutil.copy(path, lake / label / path.name)
    time.sleep(SETTLING_S)
    return lake


def _take(mosaics: Path, lake: Path, count: int) -> Path:
    """A lake of the first mosaics, as hard links: no bytes are copied."""
    for label in ("cat", "dog"):
        (lake / label).mkdir(parents=True)
        for path in sorted(mosaics.glob(f"{label}/*.jpg"))[: count // 2]:
            os.link(path, lake / label / path.name)
    time.sleep(SETTLING_S)
    return lake


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
