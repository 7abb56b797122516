"""What ingestion survives: kills at random moments, damaged photos of every format, two of it at once.

    python -m petpark_assets_tests.benchmarks.faults

At full size here, and small in the tests (domain/lake/test_faults.py), which call the same functions. Everything is
drawn; nothing is timed. The result says what was tried, and that what came of it equals an undisturbed run.
"""

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from petpark_assets.domain import files, images, splits
from petpark_assets.domain.lake import catalogue, ingest
from petpark_assets.domain.lake.drawn import draw_lake, draw_one
from petpark_assets.domain.lake.labels import DEFAULT_LABELS, open_labels
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets_tests.benchmarks.laptop import describe_run

RESULT = Path(__file__).parent / "results" / "faults.json"
RESOLUTION_PX = 32

CHILD = """
import sys
from pathlib import Path
import lance
from petpark_assets_tests.benchmarks.faults import run
print("ready", flush=True)
sys.stdin.readline()
run(Path(sys.argv[1]), Path(sys.argv[2]))
"""
"""One ingestion in a process of its own, which waits until it is told to start: imports are nothing to be killed in."""


def run(lake: Path, home: Path) -> ingest.IngestResult:
    """One ingestion into a home."""
    store, opened = files.LocalStore(home / "store"), open_lake(str(lake))
    return ingest.new_dataset_version(
        opened,
        store,
        OriginalStore(store),
        PixelStore(store.root / "pixels.lance"),
        open_labels(DEFAULT_LABELS, opened, (), {}),
        cache=home / "cache",
        resolution_px=RESOLUTION_PX,
        assign_splits=splits.assign,
    )


def kill_at_random(folder: Path, *, num_kills: int, num_photos: int, seed: int = 0) -> dict[str, Any]:
    """Kill ingestions of one home with SIGKILL, then let one finish; its catalogue must be that of a quiet run.

    After each kill no version may be there that is not whole. Returns at which share of a run's time kills fell.
    """
    lake, dice = folder / "lake", random.Random(seed)  # noqa: S311 - drawn to be repeated, not secret
    draw_lake(lake, num_images=num_photos)
    with _child(lake, folder / "quiet") as child:
        started = time.perf_counter()
        _start(child)
        assert child.wait() == 0
    seconds = time.perf_counter() - started
    shares, num_early, home = [], 0, folder / "home-0"
    for number in range(num_kills):
        with _child(lake, home) as child:
            _start(child)
            share = dice.random()
            time.sleep(share * seconds)
            child.send_signal(signal.SIGKILL)
            is_killed = child.wait() == -signal.SIGKILL
        num_early += is_killed
        shares.append(round(share, 3))
        assert_whole_or_nothing(home)
        if not is_killed or number % 5 == 4:  # up to five kills on top of each other; what is finished stays finished
            home = folder / f"home-{number + 1}"
    for home in sorted(folder.glob("home-*")):
        run(lake, home)
        assert contents(home) == contents(folder / "quiet")
    return {"num_kills": num_kills, "num_while_running": num_early, "shares_of_a_run": shares}


def run_two_at_once(folder: Path, *, num_rounds: int, num_photos: int) -> dict[str, Any]:
    """Two ingestions of one lake into one home, started together: one version, as if there had been one of them."""
    lake = folder / "lake"
    draw_lake(lake, num_images=num_photos)
    run(lake, folder / "quiet")
    for number in range(num_rounds):
        home = folder / f"home-{number}"
        with _child(lake, home) as first, _child(lake, home) as second:
            _start(first)
            _start(second)
            assert (first.wait(), second.wait()) == (0, 0)
        assert catalogue.list_versions(files.LocalStore(home / "store")) == ["v0001"]
        assert contents(home) == contents(folder / "quiet")
    return {"num_rounds": num_rounds}


def ingest_damaged(folder: Path, *, num_mutations: int, seed: int = 0) -> dict[str, Any]:
    """A lake of good photos and of mutations of photos of every format: nothing fails, and none is lost."""
    lake = folder / "lake"
    draw_lake(lake, num_images=40, num_broken=0)
    for number, (name, data) in zip(range(num_mutations), mutations(seed), strict=False):
        (lake / ("cat", "dog")[number % 2] / f"{number:05d}-{name}").write_bytes(data)
    record = run(lake, folder / "home").raw_images
    assert record.images["seen"] == 40 + num_mutations
    assert sum(record.images[state] for state in catalogue.STATES) == record.images["seen"]
    assert set(record.quarantined_by_reason) <= set(images.QUARANTINE_REASONS)
    return {"images": dict(record.images), "quarantined_by_reason": dict(record.quarantined_by_reason)}


def mutations(seed: int) -> Iterator[tuple[str, bytes]]:
    """Endless damaged photos with a name for each: formats in turn, one to four wounds each, by seed."""
    dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not secret
    while True:
        for name, data in _photos_of_every_format(dice):
            wounded = bytearray(data)
            for _ in range(dice.randint(1, 4)):
                dice.choice(WOUNDS)(wounded, dice)
            yield name, bytes(wounded)


def _photos_of_every_format(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    import numpy as np

    drawing = draw_one(np.random.default_rng(dice.randrange(2**32)), dice.choice(("cat", "dog")))
    rgb = drawing.convert("RGB").resize((dice.randint(20, 120), dice.randint(20, 120)))
    frames = [rgb.rotate(turn) for turn in (90, 180)]
    for name, image, options in (
        ("plain.jpg", rgb, {"quality": 80}),
        ("progressive.jpg", rgb, {"progressive": True}),
        ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("plain.png", rgb, {}),
        ("alpha.png", rgb.convert("RGBA"), {}),
        ("deep.png", rgb.convert("I;16"), {}),
        ("palette.gif", rgb.convert("P"), {}),
        ("moving.gif", rgb, {"save_all": True, "append_images": frames}),
        ("lossy.webp", rgb, {"quality": 60}),
        ("lossless.webp", rgb, {"lossless": True}),
        ("plain.bmp", rgb, {}),
        ("packed.tiff", rgb, {"compression": "tiff_lzw"}),
        ("jpeg.tiff", rgb, {"compression": "jpeg"}),
    ):
        buffer = io.BytesIO()
        format_name = {"jpg": "JPEG", "tiff": "TIFF"}.get(name.rpartition(".")[2], name.rpartition(".")[2].upper())
        image.save(buffer, format_name, **options)
        yield name, buffer.getvalue()


def _flip_bits(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 20)):
        if data:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _cut_end(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data) + 1) :]


def _cut_middle(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data) + 1)
    del data[start : start + dice.randint(1, 64)]


def _repeat_part(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data) + 1)
    data[start:start] = data[start : start + dice.randint(1, 64)] * dice.randint(1, 4)


def _overwrite(data: bytearray, dice: random.Random) -> None:
    start, length = dice.randrange(len(data) + 1), dice.randint(1, 16)
    data[start : start + length] = dice.choice((bytes(length), b"\xff" * length, dice.randbytes(length)))


def _wound_header(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 6)):
        if data:
            data[dice.randrange(min(64, len(data)))] = dice.randrange(256)


WOUNDS = (_flip_bits, _cut_end, _cut_middle, _repeat_part, _overwrite, _wound_header)


def assert_whole_or_nothing(home: Path) -> None:
    """Every version that can be seen is whole: its manifest reads, its originals and pixels are there."""
    store = files.LocalStore(home / "store")
    for version in catalogue.list_versions(store):
        ingest.verify(store, version)
        rows = catalogue.read_manifest(store, version).to_pylist()
        accepted = [row["sha256"] for row in rows if row["state"] == catalogue.ACCEPTED]
        assert PixelStore(store.root / "pixels.lance").missing(accepted, RESOLUTION_PX) == []
        assert len(list(OriginalStore(store).read_all(accepted))) == len(set(accepted))


def contents(home: Path) -> dict[str, Any]:
    """What a home holds, as far as it must be the same after any history: versions and originals, byte for byte."""
    store = files.LocalStore(home / "store")
    assert_whole_or_nothing(home)
    originals = sorted(OriginalStore(store).stored().unique().to_pylist())
    return {
        "manifests": {version: catalogue.manifest_sha256(store, version) for version in catalogue.list_versions(store)},
        "originals": hashlib.sha256("\n".join(originals).encode()).hexdigest(),
    }


class _child:  # noqa: N801 - used like a function
    """A process that is ready to ingest; gone at the end of the block."""

    def __init__(self, lake: Path, home: Path) -> None:
        self._command = [sys.executable, "-c", CHILD, str(lake), str(home)]

    def __enter__(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _start(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def main() -> None:
    """Try everything at full size, and write what was tried."""
    with tempfile.TemporaryDirectory(prefix="petpark-faults-") as scratch:
        folder = Path(scratch)
        result = {
            **describe_run("python -m petpark_assets_tests.benchmarks.faults"),
            "kills": kill_at_random(folder / "kills", num_kills=30, num_photos=600),
            "damaged": ingest_damaged(folder / "damaged", num_mutations=1000),
            "two_at_once": run_two_at_once(folder / "two", num_rounds=10, num_photos=200),
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"everything survived: {RESULT}")  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
