"""What a backup of production costs, and its restore: a real PostgreSQL and a real S3 on this machine, to a folder.

    python -m petpark_assets_tests.benchmarks.backups [NUM_PHOTOS] [ROUNDS]

Photos are some of PETPARK_PHOTOS; the store lies in Ceph (in memory), a table in Dagster's database has as many rows as
a year of a run a day would leave events, MLflow's server the files of 50 versions. A round is the first backup, one
after nothing happened, and a restore after everything was deleted. Not measured: a cloud's distance.
"""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from infra.production import ceph, postgres
from infra.production.processes import free_port
from petpark_assets.domain.backup import making, restoring
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.workflow import ingestion
from petpark_assets_tests.benchmarks.arrivals import _spread
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.domain.backup.conftest import NAMES, PACKAGE, Servers

RESULT = Path(__file__).parent / "results" / "backups.json"
SIDE_PX = 112
NUM_EVENTS, EVENT_BYTES = 100_000, 1500
"""365 runs of 270 events each."""
EVENTS = f"""INSERT INTO event_logs (event)
    SELECT repeat('STEP_OUTPUT materialization ', {EVENT_BYTES // 56}) ||
        (SELECT string_agg(md5(n::text || m::text), '') FROM generate_series(1, {EVENT_BYTES // 64}) m)
    FROM generate_series(1, {NUM_EVENTS}) n"""  # noqa: S608 - our words
"""Half of each is words that all have, half its own."""
NUM_VERSIONS, PACKAGE_BYTES = 50, 4_000_000


def main() -> None:
    """Measure, and write the result."""
    num_photos = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory(prefix="backups-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        servers = _start(stack, folder)
        root = _fill(servers, folder, num_photos)
        measured = [_round(servers, root, folder) for _ in range(rounds)]
    result = {**describe_run("python -m petpark_assets_tests.benchmarks.backups"), "n": rounds, "photos": num_photos}
    result |= {
        "events": NUM_EVENTS,
        "registered_versions": NUM_VERSIONS,
        **{key: measured[-1][key] for key in ("files", "bytes")},
    }
    for key in ("first_s", "again_s", "restore_s"):
        result[key] = _spread([one[key] for one in measured])
    print(json.dumps(result))  # noqa: T201 - its answer
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def _start(stack: ExitStack, folder: Path) -> Servers:
    (folder / "postgres").mkdir()
    server = postgres.make_server(folder / "postgres", free_port(), secrets.token_urlsafe(24))
    stack.callback(server.stop)
    server.start()
    short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="petpark-ceph-")))
    cluster = stack.enter_context(ceph.cluster(short, "benchkey", secrets.token_urlsafe(30)))
    s3_server = stack.enter_context(cluster.serving())
    cluster.add_user()
    return Servers(server, s3_server, folder / "cache")


def _fill(servers: Servers, folder: Path, num_photos: int) -> Path:
    """A version of the lake, a year of events and registered versions; the home's folder."""
    for path in sorted(Path(os.environ["PETPARK_PHOTOS"]).rglob("*.jpg"))[:: max(1, 20_000 // num_photos)][:num_photos]:
        to = folder / "lake" / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    home = servers.open(folder / "home")
    version = ingestion.new_dataset_version(home, str(folder / "lake"), SIDE_PX).dataset_version
    ingestion.split(home, version)
    servers.run("dagster", "CREATE TABLE event_logs (id bigserial PRIMARY KEY, event text)", EVENTS)
    for number in range(NUM_VERSIONS):
        servers.engines().artifacts.write_new(PACKAGE.format(run=f"run{number}"), os.urandom(PACKAGE_BYTES))
    servers.run("mlflow", "CREATE TABLE versions (number int)")
    return home.root


def _round(servers: Servers, root: Path, folder: Path) -> dict[str, Any]:
    place, home = LocalStore(folder / "place"), servers.open(root)
    first_s, told = _timed(lambda: making.make(home, place, servers.engines()))
    again_s, _ = _timed(lambda: making.make(home, place, servers.engines()))
    for name in NAMES:
        servers.empty_database(name)
    servers.empty_buckets()
    shutil.rmtree(root)
    restore_s, _ = _timed(lambda: restoring.restore(place, root, servers.open, servers.engines()))
    shutil.rmtree(place.root)
    return {
        "first_s": first_s, "again_s": again_s, "restore_s": restore_s,
        "files": told["num_files"], "bytes": told["size_bytes"],
    }  # fmt: skip


def _timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    done = work()
    return time.perf_counter() - began, done


if __name__ == "__main__":
    main()
