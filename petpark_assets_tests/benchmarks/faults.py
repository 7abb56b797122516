"""What ingestion survives: kills at random moments, damaged photos, two of it at once, requests that a network spoils.

    PETPARK_PHOTOS=~/photos python -m petpark_assets_tests.benchmarks.faults

At full size here, and small in the tests (domain/lake/test_faults.py, test_ingest_on_s3.py), which call the same
functions. Nothing is timed. The result says what was tried, and that what came of it equals an undisturbed run, photos'
bytes and pixels among it. Without PETPARK_PHOTOS all is drawn. S3 is Debian's Ceph, which must be installed.
"""

import dataclasses
import importlib
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from infra.production.ceph import S3Server
from infra.production.ceph import cluster as start_ceph
from petpark_assets.domain import files, images, splits
from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.lake import catalogue, ingest
from petpark_assets.domain.lake.drawn import draw_lake, draw_one
from petpark_assets.domain.lake.labels import DEFAULT_LABELS, open_labels
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import Lake, open_lake
from petpark_assets.domain.s3.access import S3Access, storage_options
from petpark_assets.domain.s3.store import S3Store
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.faults import spoiling

RESULT = Path(__file__).parent / "results" / "faults.json"
RESOLUTION_PX = 32
NUM_PHOTOS = 3000
"""In the bucket, and to be damaged."""
NUM_UPLOADERS = 16
MOST_RUNS = 9
"""Of one ingestion over a bad network: each that gives up keeps what it has stored."""
MOST_SIDE_PX = 400
"""Of real photos that are damaged: a thousand of them are small files."""

Stores = tuple[files.Store, OriginalStore, PixelStore]

CHILD = """
import pickle
import sys
import lance
import petpark_assets_tests.benchmarks.faults
print("ready", flush=True)
pickle.load(sys.stdin.buffer)()
"""
"""One ingestion in a process of its own, which waits until it is told to start: imports are nothing to be killed in."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A lake and a store of its own."""

    ingest: Callable[[], ingest.IngestResult]
    """From the one into the other; can be pickled."""
    open: Callable[[], Stores]


Sites = Callable[[str], Site]
"""By name; all are of the same lake."""


def in_folders(folder: Path, num_photos: int) -> Sites:
    """Sites below a folder, of a lake that is drawn there."""
    lake = folder / "lake"
    draw_lake(lake, num_images=num_photos)
    return lambda name: Site(ingest=partial(run, lake, folder / name), open=partial(open_home, folder / name))


def in_buckets(folder: Path, server: S3Server, num_photos: int) -> Sites:
    """Sites in two buckets; their caches are in this folder."""
    draw_lake(folder / "lake", num_images=num_photos)
    buckets = [f"faults-{uuid.uuid4().hex[:12]}-{part}" for part in ("lake", "store")]
    for bucket in buckets:
        server.client().create_bucket(Bucket=bucket)
    drawn = [path for path in (folder / "lake").rglob("*") if path.is_file()]
    upload(server, buckets[0], {path.relative_to(folder / "lake").as_posix(): path for path in drawn})

    def site(name: str) -> Site:
        uri, access = f"s3://{buckets[1]}/{name}", server.access()
        return Site(
            ingest=partial(run_on_s3, f"s3://{buckets[0]}", uri, access, folder / name),
            open=partial(open_bucket, uri, access, folder / "look"),
        )

    return site


def run(lake: Path, home: Path) -> ingest.IngestResult:
    """One ingestion into a home."""
    return _ingest(open_lake(str(lake)), open_home(home), home / "cache")


def run_on_s3(lake_uri: str, store_uri: str, access: S3Access, cache: Path) -> ingest.IngestResult:
    """One ingestion from a bucket into a bucket."""
    return _ingest(open_lake(lake_uri, lambda: access), open_bucket(store_uri, access, cache), cache)


def open_home(home: Path) -> Stores:
    """A home's store, its originals and its pixels."""
    store = files.LocalStore(home / "store")
    return _with_photos(store, store.root / ".originals.lock", None)


def open_bucket(uri: str, access: S3Access, cache: Path) -> Stores:
    """A store in a bucket, its originals and its pixels."""
    return _with_photos(S3Store(uri, access, cache / "store"), cache / "originals.lock", storage_options(access))


def _with_photos(store: files.Store, lock: Path, options: Mapping[str, str] | None) -> Stores:
    """As in a home."""
    alone = partial(files.alone, lock)
    return store, OriginalStore(store, options, alone), PixelStore(f"{store.uri}/pixels.lance", options, alone)


def _ingest(lake: Lake, stores: Stores, cache: Path) -> ingest.IngestResult:
    return ingest.new_dataset_version(
        lake,
        *stores,
        open_labels(DEFAULT_LABELS, lake, (), {}),
        cache=cache,
        resolution_px=RESOLUTION_PX,
        assign_splits=splits.assign,
    )


def kill_at_random(sites: Sites, *, num_kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill ingestions of one home with SIGKILL, then let one finish; its catalogue must be that of a quiet run.

    After each kill no version may be there that is not whole. Returns at which share of a run's time kills fell.
    """
    dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not secret
    with _child(sites("quiet")) as child:
        started = time.perf_counter()
        child.start()
        assert child.process.wait() == 0
    seconds, expected = time.perf_counter() - started, contents(sites("quiet").open())
    shares, num_early, killed = [], 0, [sites("home-0")]
    for number in range(num_kills):
        with _child(killed[-1]) as child:
            child.start()
            share = dice.random()
            time.sleep(share * seconds)
            child.process.send_signal(signal.SIGKILL)
            is_killed = child.process.wait() == -signal.SIGKILL
        num_early += is_killed
        shares.append(round(share, 3))
        assert_whole_or_nothing(killed[-1].open())
        if not is_killed or number % 5 == 4:  # up to five kills on top of each other; what is finished stays finished
            killed.append(sites(f"home-{number + 1}"))
    for site in killed:
        site.ingest()
        assert contents(site.open()) == expected
    return {"num_kills": num_kills, "num_while_running": num_early, "shares_of_a_run": shares}


def run_two_at_once(sites: Sites, *, num_rounds: int) -> dict[str, Any]:
    """Two ingestions of one lake into one home, started together: one version, as if there had been one of them.

    Nor is a photo stored twice.
    """
    sites("quiet").ingest()
    expected = contents(sites("quiet").open())
    for number in range(num_rounds):
        site = sites(f"two-{number}")
        with _child(site) as first, _child(site) as second:
            first.start()
            second.start()
            assert (first.process.wait(), second.process.wait()) == (0, 0)
        assert list(expected["manifests"]) == ["v0001"]
        assert contents(site.open()) == expected
    return {"num_rounds": num_rounds}


def ingest_damaged(folder: Path, *, num_mutations: int, seed: int = 0, photos: Sequence[Path] = ()) -> dict[str, Any]:
    """A lake of good photos and of mutations of photos of every format: nothing fails, and none is lost.

    They are mutations of real photos where there are some.
    """
    lake = folder / "lake"
    draw_lake(lake, num_images=40, num_broken=0)
    for number, (name, data) in zip(range(num_mutations), mutations(seed, photos), strict=False):
        (lake / ("cat", "dog")[number % 2] / f"{number:05d}-{name}").write_bytes(data)
    record = run(lake, folder / "home").raw_images
    assert record.images["seen"] == 40 + num_mutations
    assert sum(record.images[state] for state in catalogue.STATES) == record.images["seen"]
    assert set(record.quarantined_by_reason) <= set(images.QUARANTINE_REASONS)
    assert_whole_or_nothing(open_home(folder / "home"))
    return {"images": dict(record.images), "quarantined_by_reason": dict(record.quarantined_by_reason)}


def ingest_over_a_bad_network(
    folder: Path, server: S3Server, photos: Sequence[Path], *, one_in: int = 20, seed: int = 0
) -> dict[str, Any]:
    """A lake and a store in buckets, one request in so many failing, late or cut: the catalogue of a quiet run.

    Photos have their label in the name of their folder.
    """
    access, buckets = server.access(), [f"faults-{part}-{seed}" for part in ("lake", "quiet", "store")]
    for bucket in buckets:
        server.client().create_bucket(Bucket=bucket)
    upload(server, buckets[0], {f"{path.parent.name}/{path.name}": path for path in photos})
    lake_uri, quiet_uri, store_uri = (f"s3://{bucket}" for bucket in buckets)
    record = run_on_s3(lake_uri, quiet_uri, access, folder / "quiet").raw_images
    with spoiling(server.endpoint_url, one_in=one_in, seed=seed) as proxy:
        spoilt = dataclasses.replace(access, endpoint_url=proxy.endpoint_url)
        look = partial(open_bucket, store_uri, access, folder / "look")  # by the sound network
        num_runs = run_until_done(lake_uri, store_uri, spoilt, folder / "spoilt", look)
    found, expected = (contents(open_bucket(uri, access, folder / "look")) for uri in (store_uri, quiet_uri))
    assert found == expected
    kinds = [request.kind for request in proxy.spoilt]
    return {
        "one_in": one_in,
        "images": dict(record.images),
        "num_runs": num_runs,
        "num_requests": proxy.num_requests,
        "num_spoilt": {kind: kinds.count(kind) for kind in proxy.kinds},
    }


def upload(server: S3Server, bucket: str, photos: dict[str, Path]) -> None:
    """Put files into a bucket, by key."""
    client = server.client()
    with ThreadPoolExecutor(NUM_UPLOADERS) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=photos[key].read_bytes()), photos))


def run_until_done(lake_uri: str, store_uri: str, access: S3Access, cache: Path, look: Callable[[], Stores]) -> int:
    """Run it again, as its error says, for as long as it gives up; how often it took. `look` opens what is there."""
    for number in range(1, MOST_RUNS + 1):
        try:
            run_on_s3(lake_uri, store_uri, access, cache)
        except TransientError:
            assert_whole_or_nothing(look())
            continue
        return number
    raise AssertionError(f"{MOST_RUNS} runs gave up")


def mutations(seed: int, photos: Sequence[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Endless damaged photos with a name for each: formats in turn, one to four wounds each, by seed."""
    dice = random.Random(seed)  # noqa: S311 - drawn to be repeated, not secret
    while True:
        for name, data in _photo_in_every_format(dice, photos):
            wounded = bytearray(data)
            for _ in range(dice.randint(1, 4)):
                dice.choice(WOUNDS)(wounded, dice)
            yield name, bytes(wounded)


def _picture(dice: random.Random, photos: Sequence[Path]) -> Image.Image:
    if photos:
        with Image.open(dice.choice(photos)) as photo:
            rgb = photo.convert("RGB")
        rgb.thumbnail((MOST_SIDE_PX, MOST_SIDE_PX))
        return rgb
    drawing = draw_one(np.random.default_rng(dice.randrange(2**32)), dice.choice(("cat", "dog")))
    return drawing.convert("RGB").resize((dice.randint(20, 120), dice.randint(20, 120)))


def _photo_in_every_format(dice: random.Random, photos: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    rgb = _picture(dice, photos)
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


def assert_whole_or_nothing(stores: Stores) -> None:
    """Every version that can be seen is whole: its manifest reads, its originals and pixels are there."""
    store, originals, pixels = stores
    for version in catalogue.list_versions(store):
        ingest.verify(store, version)
        rows = catalogue.read_manifest(store, version).to_pylist()
        accepted = [row["sha256"] for row in rows if row["state"] == catalogue.ACCEPTED]
        assert pixels.missing(accepted, RESOLUTION_PX) == []
        assert len(list(originals.read_all(accepted))) == len(set(accepted))


def contents(stores: Stores) -> dict[str, Any]:
    """What must be the same after any history, byte for byte: versions, originals and pixels, each once."""
    store, originals, pixels = stores
    assert_whole_or_nothing(stores)
    kept, drawn = originals.stored().to_pylist(), sorted(pixels.stored(RESOLUTION_PX).to_pylist())
    assert len(kept) == len(set(kept))
    assert len(drawn) == len(set(drawn))
    squares = zip(drawn, pixels.read(drawn, RESOLUTION_PX), strict=True)
    return {
        "manifests": {version: catalogue.manifest_sha256(store, version) for version in catalogue.list_versions(store)},
        "originals": {sha256: files.sha256(data) for sha256, data in originals.read_all(kept)},
        "pixels": {sha256: files.sha256(square.tobytes()) for sha256, square in squares},
    }


class _child:  # noqa: N801 - used like a function
    """A process that is ready to ingest; gone at the end of the block."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> Self:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", CHILD], **pipes)  # type: ignore[call-overload]
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def start(self) -> None:
        """Not by the command line, which everybody on a machine can read: there may be keys in it."""
        pickle.dump(self._site.ingest, self.process.stdin)
        self.process.stdin.flush()

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def some_photos(folder: Path, num_photos: int) -> list[Path]:
    """Photos of both classes, the same each time; all where there are no more."""
    found = sorted(folder.glob("*/*.jpg"))
    return found[:: max(1, len(found) // num_photos)][:num_photos]


def main() -> None:
    """Try everything at full size, and write what was tried."""
    with tempfile.TemporaryDirectory(prefix="petpark-faults-") as scratch:
        folder = Path(scratch)
        if named := os.environ.get("PETPARK_PHOTOS"):
            photos = some_photos(Path(named), NUM_PHOTOS)
        else:
            draw_lake(folder / "drawn", num_images=NUM_PHOTOS, num_broken=0)
            photos = some_photos(folder / "drawn", NUM_PHOTOS)
        (folder / "ceph").mkdir()
        with start_ceph(folder / "ceph", "faults", "petpark-faults-key") as ceph, ceph.serving() as server:
            ceph.add_user()
            bad_network = ingest_over_a_bad_network(folder / "s3", server, photos)
            kills_on_s3 = kill_at_random(in_buckets(folder / "kills-on-s3", server, 600), num_kills=30, seed=1)
            two_on_s3 = run_two_at_once(in_buckets(folder / "two-on-s3", server, 200), num_rounds=10)
        result = {
            **describe_run("python -m petpark_assets_tests.benchmarks.faults"),
            "kills": kill_at_random(in_folders(folder / "kills", 600), num_kills=30),
            "kills_on_s3": kills_on_s3,
            "is_real": bool(named),
            "bad_network": bad_network,
            "damaged": ingest_damaged(folder / "damaged", num_mutations=1000, photos=photos if named else ()),
            "two_at_once": run_two_at_once(in_folders(folder / "two", 200), num_rounds=10),
            "two_at_once_on_s3": two_on_s3,
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"everything survived: {RESULT}")  # noqa: T201 - its answer


if __name__ == "__main__":
    importlib.import_module("petpark_assets_tests.benchmarks.faults").main()  # named, as what is pickled must be
