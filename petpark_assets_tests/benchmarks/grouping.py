"""How surely copies of photos are known again, what is merged wrongly, and what grouping 100,000 photos costs.

    PETPARK_PHOTOS=~/photos python -m petpark_assets_tests.benchmarks.grouping

Every photo is altered in six ways, and mixed ones, and must then be in one group with its copies; pairs among the
photos themselves are compared at full resolution. Costs are of processes of their own, imports apart: distinct photos
(mosaics, by mosaics.py's rule, of thumbnails), the worst case (five altered copies of 20,000 photos), one camera's
frames, a thousand new photos on the others; and of the independent check of a split. Ten minutes on idle cores, 6 GB.
Not here: what computing signatures costs as part of ingestion (ingestion.py).
"""

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from petpark_assets.domain import images
from petpark_assets.domain.files import sha256
from petpark_assets.domain.lake.groups import assign_groups
from petpark_assets.domain.lake.judgement import regroup
from petpark_assets.domain.lake.leakage import find_leaks
from petpark_assets.domain.lake.likeness import near_duplicates
from petpark_assets.domain.lake.signatures import SIGNATURE_BYTES
from petpark_assets_tests.benchmarks.alterations import MIXED, SIX
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.likeness_sets import (
    CHECKED_PX,
    ORIGINAL,
    PLANTED_STEP,
    draw,
    draw_sets,
    planted_of,
    say,
    signatures_of,
)

RESULT = Path(__file__).parent / "results" / "grouping.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.grouping"
SIZES = (10_000, 31_623, 100_000)
NUM_NEW = 1_000
NUM_TIMES = 3
SAME_RMS = 20
"""Levels: photos that differ by less at full resolution are the same picture; the most alike of the others by 35."""


def main() -> None:
    """Measure in a folder that is thrown away, and write the result; or, in a process of its own, one cost."""
    if len(sys.argv) > 1:
        print(json.dumps(COSTS[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))))  # noqa: T201 - its answer
        return
    photos = Path(os.environ.get("PETPARK_PHOTOS") or sys.exit("set PETPARK_PHOTOS to a folder of real photos"))
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as name:
        folder = Path(name)
        paths = sorted(photos.glob("*/*.jpg"))
        draw(paths, folder)
        count = draw_sets(folder)
        result = {
            **describe_run(COMMAND),
            "n": len(paths),
            "signature_bytes": SIGNATURE_BYTES,
            "missed_copies": missed_copies(folder),
            "merged_photos": merged_photos(folder, paths),
            "costs": costs(folder, count),
            "independent_check": independent_check(folder, count),
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(RESULT.read_text())  # noqa: T201 - its answer


def missed_copies(folder: Path) -> dict[str, Any]:
    """By alteration how many copies are in another group than their photo."""
    original = np.load(signatures_of(folder, ORIGINAL))
    by_alteration = {}
    for name in (*SIX, *MIXED):
        found = np.concatenate([original, np.load(signatures_of(folder, name))])
        names = _names(len(found))
        group_of = assign_groups(names, near_duplicates(found, np.ones(len(found), np.bool_)), {}, {}).group_of
        pairs = zip(names[: len(original)], names[len(original) :], strict=True)
        by_alteration[name] = sum(group_of[one] != group_of[other] for one, other in pairs)
        say(f"{name}: {by_alteration[name]} of {len(original)} copies missed")
    return {
        "six": {name: by_alteration[name] for name in SIX},
        "missed_of_six": sum(by_alteration[name] for name in SIX),
        "num_copies_of_six": len(SIX) * len(original),
        "mixed": {name: by_alteration[name] for name in MIXED},
    }


def merged_photos(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Pairs among the photos themselves, and how much they differ at full resolution, mirrored where that is nearer."""
    found = np.load(signatures_of(folder, ORIGINAL))
    pairs = near_duplicates(found, np.ones(len(found), np.bool_)).tolist()
    rms = {
        (paths[i].parent.name + "/" + paths[i].name, paths[j].parent.name + "/" + paths[j].name): _rms(
            paths[i], paths[j]
        )
        for i, j in pairs
    }
    wrong = {name for names, value in rms.items() if value > SAME_RMS for name in names}
    return {
        "num_pairs": len(rms),
        "photos_merged_wrongly": len(wrong),
        "pairs": [{"photos": names, "rms_levels": round(value, 2)} for names, value in rms.items()],
    }


def _rms(first: Path, second: Path) -> float:
    one, other = (images.decode(path.read_bytes()).astype(np.float64) for path in (first, second))
    if one.shape != other.shape:
        return math.inf
    return min(float(np.sqrt(np.mean((one - turned) ** 2))) for turned in (other, other[:, ::-1]))


def costs(folder: Path, count: int) -> dict[str, Any]:
    """Seconds and memory of each cost, and the exponents with which it grows."""
    sizes = [size for size in SIZES if size <= count]
    by_size = {str(size): _measured("distinct", folder, size) for size in sizes}
    means = [found["seconds"]["mean"] for found in by_size.values()]
    steps = [math.log(after / before) for before, after in itertools.pairwise(means)]
    growths = [math.log(after / before) for before, after in itertools.pairwise(sizes)]
    return {
        "distinct": by_size,
        "exponents": [round(step / growth, 3) for step, growth in zip(steps, growths, strict=True)],
        "exponent": round(sum(steps) / sum(growths), 3) if steps else None,
        "worst_case": _measured("copies", folder, count),
        "one_camera": _measured("frames", folder, count),
        "new_on_top": _measured("new_on_top", folder, count),
    }


def independent_check(folder: Path, count: int) -> dict[str, Any]:
    """How many planted copies it verifies, what it verifies besides, and its cost."""
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    planted = {name: _planted(pixels, np.load(planted_of(folder, name), mmap_mode="r")) for name in SIX}
    is_test = np.arange(len(pixels)) % PLANTED_STEP == 0
    leaks = find_leaks(pixels[~is_test], pixels[is_test])
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    known = {
        tuple(pair)
        for pair in near_duplicates(np.load(signatures_of(folder, ORIGINAL)), np.ones(len(pixels), np.bool_)).tolist()
    }
    verified = {tuple(sorted((int(train[i]), int(test[j])))) for i, j in leaks.verified}
    return {
        "resolution_px": CHECKED_PX,
        "num_train": len(pixels),
        "planted": planted,
        "of_the_photos_themselves": {
            "train": len(train),
            "test": len(test),
            "verified": len(verified),
            "verified_that_grouping_does_not_know": len(verified - known),
            "suspects": len(leaks.suspects),
        },
        "cost": _measured("check", folder, count),
    }


def _planted(train: np.ndarray, copies: np.ndarray) -> dict[str, int]:
    leaks = find_leaks(train, copies)
    verified, suspects = (
        {int(test) for place, test in pairs if place == test * PLANTED_STEP}
        for pairs in (leaks.verified, leaks.suspects)
    )
    return {
        "n": len(copies),
        "verified": len(verified),
        "suspects": len(suspects),
        "missed": len(copies) - len(verified | suspects),
    }


def _group(found: np.ndarray, num_new: int) -> dict[str, Any]:
    """The cost of grouping the last photos with the others, which are in groups of their own and on sides."""
    names = pa.array(_names(len(found)), pa.string())
    known, new = names[: len(names) - num_new], names[len(names) - num_new :]
    sides = pa.array(["test" if name < "33" else "train" for name in known.to_pylist()], pa.string())
    settled = pa.table({"sha256": known, "group": known, "split": sides})
    started = time.perf_counter()
    pairs = near_duplicates(found, np.arange(len(found)) >= len(known))
    paired = time.perf_counter()
    group_of, _ = regroup(settled, new, pairs)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "assign_seconds": seconds - (paired - started),
        "num_pairs": len(pairs),
        "num_groups": len(found) - len(group_of) + len(set(group_of.values())),
    }


def _of_set(name: str) -> Callable[[Path, int], dict[str, Any]]:
    def cost(folder: Path, size: int) -> dict[str, Any]:
        found = np.load(folder / f"{name}.npy")[:size]
        return {**_group(found, len(found)), "peak_mb": _peak_mb()}

    return cost


def _new_on_top(folder: Path, size: int) -> dict[str, Any]:
    found = np.load(folder / "distinct.npy")[:size]
    return {**_group(found, NUM_NEW), "peak_mb": _peak_mb()}


def _check(folder: Path, size: int) -> dict[str, Any]:
    pixels = np.load(folder / "mosaics.npy", mmap_mode="r")
    started = time.perf_counter()
    leaks = find_leaks(pixels[: size * 4 // 5], pixels[size * 4 // 5 : size])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "verified": len(leaks.verified), "suspects": len(leaks.suspects), "peak_mb": _peak_mb()}


COSTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "distinct": _of_set("distinct"),
    "copies": _of_set("copies"),
    "frames": _of_set("frames"),
    "new_on_top": _new_on_top,
    "check": _check,
}


def _measured(name: str, folder: Path, size: int) -> dict[str, Any]:
    """A cost in processes of its own: means and deviations of what varies."""
    command = [sys.executable, "-m", "petpark_assets_tests.benchmarks.grouping", name, str(folder), str(size)]
    runs = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(NUM_TIMES)]
    found: dict[str, Any] = {"n": NUM_TIMES, "photos": size}
    for key in runs[0]:
        values = [run[key] for run in runs]
        if key in {"seconds", "assign_seconds", "peak_mb"}:
            found[key] = {"mean": round(statistics.mean(values), 3), "sd": round(statistics.stdev(values), 3)}
        else:
            found[key] = values[0]
    say(f"{name} {size}: {found['seconds']}")
    return found


def _peak_mb() -> float:
    """The most memory of this process's own, mapped files apart."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "RssFile"))}
    return (sizes["VmHWM"] - sizes["RssFile"]) / 1024


def _names(count: int) -> list[str]:
    return [sha256(str(number).encode()) for number in range(count)]


if __name__ == "__main__":
    main()
