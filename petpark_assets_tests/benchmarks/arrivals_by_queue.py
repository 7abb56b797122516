"""What a tick costs where a bucket tells a queue, on a lake of a million objects: when nothing came, and when some did.

    python -m petpark_assets_tests.benchmarks.arrivals_by_queue [ROUNDS]

The bucket and the queue are moto's, on this machine: a real server's distance comes on top, 1 + 2 waits where nothing
came. The version and the fingerprints are made as an ingestion of a million objects would leave them, and the lake
counts as listed before, so the bucket holds only what comes. A tick is a process of its own; memory is its peak.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.production.ceph import S3Server
from infra.production.processes import free_port, is_listening
from petpark_assets_tests.benchmarks.arrivals import _in_process, _rows, _spread
from petpark_assets_tests.benchmarks.laptop import describe_run
from petpark_assets_tests.servers import ACCESS_KEY

RESULT = Path(__file__).parent / "results" / "arrivals_by_queue.json"
NUM_OBJECTS = 1_000_000
NUM_COME = (0, 100)
BUCKET = "bench"


def main() -> None:
    """Measure each number of photos that came, and write the result."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    result = {**describe_run("python -m petpark_assets_tests.benchmarks.arrivals_by_queue"), "n": rounds}
    result |= {"objects": NUM_OBJECTS, "limit_s": 60, "come": {}}
    port = free_port()
    moto = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    os.environ |= _server(f"http://127.0.0.1:{port}").variables()
    try:
        while not is_listening(port):
            time.sleep(0.1)
        with tempfile.TemporaryDirectory(prefix="arrivals-") as folder:
            _here("prepare", folder)
            for number in NUM_COME:
                ticks = [_here("tick", folder, number) for _ in range(rounds)]
                seconds = _spread([tick["seconds"] for tick in ticks])
                result["come"][str(number)] = {"tick_s": seconds, "peak_mb": max(tick["peak_mb"] for tick in ticks)}
    finally:
        moto.kill()
        moto.wait()
    print(json.dumps(result["come"]))  # noqa: T201 - its answer
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def _prepare(folder: Path) -> None:
    """The files that an ingestion and a listing leave, an empty bucket, and a queue that it tells."""
    from petpark_assets.domain import files
    from petpark_assets.domain.lake import catalogue, fingerprints
    from petpark_assets.domain.lake.sources import LakeObject
    from petpark_assets.domain.workflow import hints, ingestion

    server, (home, uri) = _server(), _home(folder)
    server.client().create_bucket(Bucket=BUCKET)
    sqs = _sqs()
    url = sqs.create_queue(QueueName=BUCKET)["QueueUrl"]
    told = [{"QueueArn": f"arn:aws:sqs:us-east-1:123456789012:{BUCKET}", "Events": ["s3:ObjectCreated:*"]}]
    server.client().put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": told}
    )
    names = (f"{'cat' if number % 2 else 'dog'}/photo_{number:07d}.jpg" for number in range(NUM_OBJECTS))
    objects = [LakeObject(key=name, size_bytes=1024, fingerprint="x-1024-y", etag="x") for name in sorted(names)]
    sha256 = files.sha256(bytes(1024))
    lake, book = ingestion.look_at(home, uri)
    nothing = fingerprints.SCHEMA.empty_table()
    fingerprints.remember(home.cache, lake, nothing, [(item, sha256) for item in objects])
    table = catalogue.build_table(list(_rows(objects, sha256)), num_ignored=0, previous_manifest=None)
    manifest = catalogue.write_manifest(home.store, "v0001", table)
    assert manifest is not None
    record = catalogue.raw_images(table, "v0001", manifest)
    files.write_record(home.store, record, {"lake": lake.uri, "labels": ["names"]})
    of = files.digest([lake.identity, url, manifest, book.digest])
    hints.write(home.cache, hints.Hints(of=of, listed_to=None, listed_since=time.time()))


def _tick(folder: Path, num_come: int) -> float:
    """The seconds of a look after so many photos came."""
    from petpark_assets.domain.workflow import arrivals_by_queue, hints
    from petpark_assets.resources.lake_queue import LakeQueue

    (home, uri), client = _home(folder), _server().client()
    hints.write(home.cache, replace(hints.read(home.cache), keys=frozenset()))
    for number in range(num_come):
        client.put_object(Bucket=BUCKET, Key=f"cat/new_{number}.jpg", Body=bytes([number % 256]) * 1024)
    queue = LakeQueue(_sqs().get_queue_url(QueueName=BUCKET)["QueueUrl"], home.s3)
    started = time.perf_counter()
    look = arrivals_by_queue.look(home, uri, queue, time.time())
    seconds = time.perf_counter() - started
    assert (look.num_photos, look.note) == (num_come, ""), look
    return seconds


def _home(folder: Path) -> tuple[Any, str]:
    from petpark_assets.domain.home import open_home

    return open_home(folder / "home", actor="bench", s3=_server().access), f"s3://{BUCKET}"


def _server(endpoint_url: str | None = None) -> S3Server:
    url = endpoint_url or os.environ["AWS_ENDPOINT_URL"]
    return S3Server(endpoint_url=url, access_key=ACCESS_KEY, secret_key=ACCESS_KEY)


def _sqs() -> Any:
    import boto3

    return boto3.client("sqs", region_name="us-east-1")


def _here(what: str, *arguments: Any) -> dict[str, Any]:
    return _in_process(what, *arguments, module="petpark_assets_tests.benchmarks.arrivals_by_queue")


def _answer(what: str, arguments: list[str]) -> None:
    """One part, in this process: its seconds and this process's peak of memory."""
    import resource

    seconds = None
    if what == "tick":
        seconds = _tick(Path(arguments[0]), int(arguments[1]))
    else:
        _prepare(Path(arguments[0]))
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))  # noqa: T201 - what the parent reads


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("--"):
        _answer(sys.argv[1].removeprefix("--"), sys.argv[2:])
    else:
        main()
