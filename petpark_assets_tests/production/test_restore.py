"""The drill of production: backed up while a build runs, all servers and all data gone, started from the backup.

The second park has other passwords, other ports and empty servers: `make prove-production`.
"""

import time

import pytest

from petpark_assets.domain.backup import places
from petpark_assets.domain.files import LocalStore, sha256_file
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets_tests.production.conftest import started
from petpark_assets_tests.production.test_profile import (
    BUILT_S,
    digests,
    launch,
    looking,
    recipe,
    store_of,
    upload,
    wait_for_run,
)
from petpark_assets_tests.test_whole_flow import TINY

pytestmark = [pytest.mark.production, pytest.mark.debian, pytest.mark.timeout(2400)]

ALL_RUNS = """{ runsOrError { ... on Runs { results { runId pipelineName status tags { key value }
    stats { ... on RunStatsSnapshot { stepsSucceeded materializations } } } } } }"""
PRINTED = """query ($key: [String!]!) { capturedLogs(logKey: $key) { stderr } }"""


def make_version(park, number):
    """The next version of the lake, as far as its manifest."""
    launch(park, "new_dataset_version", looking(park, TINY))
    wait_for_run(park, "new_dataset_version", number)


def runs(park):
    """All that the UI knows of runs that are over, by their ids."""
    found = {run["runId"]: run for run in park.ask(ALL_RUNS)["runsOrError"]["results"]}
    return {name: run for name, run in found.items() if run["status"] == "SUCCESS"}


def printed(park):
    """What steps printed, as the UI shows it, by the log's key."""
    bucket = park.variables()["PETPARK_LOGS_BUCKET"]
    listed = park.s3().client().list_objects_v2(Bucket=bucket, Prefix="dagster/storage/")["Contents"]
    keys = [item["Key"].removeprefix("dagster/storage/") for item in listed if item["Key"].endswith(".err")]
    return {key: park.ask(PRINTED, key=key.removesuffix(".err").split("/"))["capturedLogs"]["stderr"] for key in keys}


def download(park, folder):
    """sha256 of each file of the first registered version."""
    park.petpark("registry", "download", "1", "--to", str(folder))
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def test_a_park_that_is_lost_goes_on_from_its_backup(tmp_path):
    """Every server, disk and password is gone: what was in the backup is as before, and its build goes on."""
    place, photos = LocalStore(tmp_path / "backups"), tmp_path / "photos"
    draw_lake(photos, num_images=40, num_broken=2)
    with started(tmp_path_made(tmp_path / "first")) as park:
        upload(park, photos)
        make_version(park, 1)
        launch(park, "build", recipe(TINY), "v0001")
        wait_for_run(park, "build", 1)
        before = {"runs": runs(park), "printed": printed(park), "files": download(park, tmp_path / "model 1")}
        before["registry"] = park.petpark("registry", "list")
        assert all(before.values()), before
        add_photos(photos)
        upload(park, photos)
        make_version(park, 2)
        launch(park, "build", recipe(TINY), "v0002")
        wait_for_key(park, tmp_path, "feature_scaling/v0002/")
        began = time.monotonic()
        told = park.petpark("backup", str(place.root))
        seconds = time.monotonic() - began
        wait_for_run(park, "build", 2)
        undisturbed = digests(store_of(park, tmp_path), "v0002")
    assert not park.folder.exists()
    listed = places.read_files(place, places.find(place))
    assert not any(path.startswith("store/registered_model/v0002") for path in listed), "it was no longer building"
    print(f"backup: {told['num_files']} files, {told['size_bytes']} bytes, {seconds:.1f} s")  # noqa: T201 - for the README
    with started(tmp_path_made(tmp_path / "second"), str(place.root)) as park:
        assert before["runs"].items() <= runs(park).items()
        assert before["printed"].items() <= printed(park).items()
        assert park.petpark("registry", "list")[:1] == before["registry"]
        assert download(park, tmp_path / "model 1 again") == before["files"]
        assert park.petpark("audit", "verify")["offending"] == []
        upload(park, photos)  # the lake is not ours, and is not in a backup
        wait_for_build(park)
        assert digests(store_of(park, tmp_path / "again"), "v0002") == undisturbed
        assert [row["version"] for row in park.petpark("registry", "list")] == [1, 2]
        assert park.petpark("audit", "verify")["offending"] == park.petpark("lake", "verify")["offending"] == []


def tmp_path_made(folder):
    """A folder that is there."""
    folder.mkdir()
    return folder


def add_photos(photos):
    """Three photos more, with a byte more than others."""
    for path in sorted((photos / "cat").glob("*.*"))[:3]:
        (photos / "cat" / f"again-{path.name}").write_bytes(path.read_bytes() + b"\0")


def wait_for_key(park, cache, start):
    """Until the store has something there."""
    store, deadline = store_of(park, cache), time.monotonic() + BUILT_S
    folder = start.rstrip("/")
    while not store.list_keys(folder):
        assert time.monotonic() < deadline, park.said()
        time.sleep(0.2)


def wait_for_build(park):
    """Until the run that was lost with its machine was seen to be lost, and its successor has built the version."""
    deadline = time.monotonic() + BUILT_S
    while time.monotonic() < deadline:
        done = [run for run in runs(park).values() if {"key": "dagster/partition", "value": "v0002"} in run["tags"]]
        if any(run["pipelineName"] == "build" for run in done):
            return
        time.sleep(2)
    pytest.fail(f"the build does not go on: {park.ask(ALL_RUNS)}")
