"""What the production profile's ingestion costs, beside the local profile's on the same photos.

    PETPARK_PHOTOS=~/photos python -m petpark_assets_tests.benchmarks.ingestion_on_s3 [LARGEST_SIZE]

All of `make production` runs: lake and store on a real S3 server (Ceph), two Ray nodes, Dagster on PostgreSQL. The lake
is uploaded, and its versions are made by the job `new_dataset_version`, as from the UI, each size in a store of its
own; then the same lake is ingested from a folder into a local home. Both must say the same of every photo.
Everything shares one machine's cores, the S3 server that keeps all in memory too, so a photo costs more here than where
servers have machines of their own: what a photo needs of them (requests, bytes) does not change.
Requests, bytes and processor seconds are those of counters.py. A quarter of an hour on two idle cores, 10 GB of memory.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from infra.production.ceph import S3Server
from infra.production.parts import LAKE, STORE, Park, start
from infra.production.processes import nothing_left
from petpark_assets.domain.files import LocalStore, read_record
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.recipes import find_recipe
from petpark_assets.domain.records import RawImages
from petpark_assets.domain.s3.access import parse_place
from petpark_assets.domain.s3.bucket import Bucket
from petpark_assets.domain.s3.store import S3Store
from petpark_assets_tests.benchmarks import ingestion
from petpark_assets_tests.benchmarks.counters import COUNTED, counting
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.benchmarks.mosaics import draw_mosaics

RESULT = Path(__file__).parent / "results" / "ingestion-on-s3.json"
MODULE = "petpark_assets_tests.benchmarks.ingestion_on_s3"
RECIPE = "laptop"
SIZES = {1_000: 3, 10_000: 2, 100_000: 1}
"""How often each is measured: with more, the server would be full, which keeps 8 GB."""
NUM_UPLOADERS = 16
LOOK_S = 0.5


def main() -> None:
    """Measure in folders that are thrown away, and write the result."""
    photos = Path(os.environ.get("PETPARK_PHOTOS") or sys.exit("set PETPARK_PHOTOS to a folder of real photos"))
    sizes = [size for size in SIZES if size <= int(sys.argv[1] if len(sys.argv) > 1 else max(SIZES))]
    with tempfile.TemporaryDirectory(prefix="petpark-bench-") as name, nothing_left(), ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as another user, and must pass
        draw_mosaics(photos, folder / "mosaics", max(sizes))
        park = start(stack, folder, _say)
        found = {str(size): measure(park, folder, size) for size in sizes}
    result = {
        **describe_run(f"python -m {MODULE}"),
        "resolution_px": find_recipe(RECIPE).resolution_px,
        "ray_nodes": 2,
        "by_size": found,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    _say(f"{RESULT}")


def measure(park: Park, folder: Path, size: int) -> dict[str, Any]:
    """One size: uploaded, ingested and looked at again, in both profiles."""
    lake = ingestion._take(folder / "mosaics", folder / f"lake-{size}", size)
    with counting(park) as uploading:
        upload_s = upload(park, lake, size)
    first, again, local = (list[dict[str, Any]]() for _ in range(3))
    for number in range(SIZES[size]):
        name = f"{size}-{number}"
        for answers in (first, again):
            with counting(park) as counted:
                answer = in_production(park, name, size)
            answers.append({**answer, **counted})
        local.append(ingestion.run("petpark", lake, folder / f"local-{name}", find_recipe(RECIPE).resolution_px))
        _check_same(park, name, folder / f"local-{name}")
        shutil.rmtree(folder / f"local-{name}")
    names = ("seconds", "run_seconds", "driver_peak_mb", "workers_peak_mb", *COUNTED)
    return {
        "n": SIZES[size],
        "lake_bytes": sum(path.stat().st_size for path in lake.rglob("*.jpg")),
        "upload_seconds": round(upload_s, 2),
        "upload_requests": uploading["requests"],
        "first": {name: ingestion.describe([found[name] for found in first]) for name in names},
        "unchanged": {name: ingestion.describe([found[name] for found in again]) for name in names},
        "local_first": {
            "seconds": ingestion.describe([found["seconds"] for found in local]),
            "peak_mb": ingestion.describe([found["peak_mb"] for found in local]),
        },
    }


def upload(park: Park, lake: Path, size: int) -> float:
    """Put a lake into its bucket; the seconds it took."""
    bucket = Bucket(place=parse_place(lake_uri(size), "lake"), access=server(park).access())
    paths = sorted(lake.rglob("*.jpg"))

    def put(path: Path) -> None:
        bucket.create(path.relative_to(lake).as_posix(), path.read_bytes())

    started = time.perf_counter()
    with ThreadPoolExecutor(NUM_UPLOADERS) as pool:
        list(pool.map(put, paths))
    return time.perf_counter() - started


def in_production(park: Park, name: str, size: int) -> dict[str, Any]:
    """The job's run, in a process of its own as Dagster gives it one; what that answers."""
    variables = {
        **park.variables,
        "PETPARK_HOME": str(park.folder / f"home-{name}"),
        "PETPARK_STORE": _store_uri(name),
        "PETPARK_LAKE": lake_uri(size),
        "PETPARK_RECIPE": RECIPE,
    }
    with _watching_workers(park) as workers:
        done = subprocess.run(
            [sys.executable, "-m", MODULE, "run"], env=variables, stdout=subprocess.PIPE, check=True
        )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if answer["photos"] != size:
        raise AssertionError(f"{answer['photos']} photos were seen of {size}")
    print(f"{name}: {answer['seconds']:.2f} s", file=sys.stderr, flush=True)  # noqa: T201
    return {**answer, "workers_peak_mb": round(sum(workers.values()), 1)}


def run() -> None:
    """Execute the job on the instance in PostgreSQL, and print what it took: what `in_production` starts."""
    import dagster as dg

    from petpark_assets.definitions import build_defs
    from petpark_assets.resources.environments import enter_profile, open_here

    environment = enter_profile()
    job = build_defs(environment).resolve_job_def("new_dataset_version")
    lake = {"ops": {"look_at_the_lake": {"config": {"lake": environment.lake}}}}
    with dg.DagsterInstance.get() as instance:
        started = time.perf_counter()
        done = job.execute_in_process(run_config=lake, instance=instance)
        run_seconds = time.perf_counter() - started
        stats = instance.get_run_step_stats(done.run_id)[0]
    assert stats.start_time is not None
    assert stats.end_time is not None
    version, _ = done.output_for_node("look_at_the_lake")
    record = read_record(open_here(environment).store, RawImages, version)
    answer = {
        "photos": record.images["seen"],
        "seconds": stats.end_time - stats.start_time,
        "run_seconds": run_seconds,
        "driver_peak_mb": _peak_mb(os.getpid()),
    }
    print(json.dumps(answer))  # noqa: T201 - its answer


@contextmanager
def _watching_workers(park: Park) -> Iterator[Mapping[int, float]]:
    """The most memory of each of this park's Ray workers so far, in MB by process, from /proc every LOOK_S."""
    found: dict[int, float] = {}
    mark, ended = f"RAY_AUTH_TOKEN={park.variables['RAY_AUTH_TOKEN']}".encode(), threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_S):
            found.update({pid: _peak_mb(pid) for pid in _workers(mark)})

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _workers(mark: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = (folder / "cmdline").read_bytes().startswith(b"ray::")
            if is_worker and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def _peak_mb(pid: int) -> float:
    """The most memory a process had; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _check_same(park: Park, name: str, local: Path) -> None:
    """A folder gives no etags; all else of the manifests is the same, groups and sides among it."""
    remote = S3Store(_store_uri(name), server(park).access(), park.folder / "cache")
    ours, theirs = (catalogue.read_manifest(store, "v0001") for store in (LocalStore(local / "store"), remote))
    if not catalogue.says_the_same(ours, theirs):
        raise AssertionError(f"{name}: the two profiles made different versions")


def lake_uri(size: int) -> str:
    """Where a lake of so many photos is uploaded."""
    return f"s3://{LAKE}/photos-{size}"


def _store_uri(name: str) -> str:
    return f"s3://{STORE}/{name}"


def server(park: Park) -> S3Server:
    """Its S3, and its keys."""
    told = park.variables
    return S3Server(
        endpoint_url=told["AWS_ENDPOINT_URL"],
        access_key=told["AWS_ACCESS_KEY_ID"],
        secret_key=told["AWS_SECRET_ACCESS_KEY"],
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    run() if sys.argv[1:] == ["run"] else main()
