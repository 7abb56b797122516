"""Claims about the production profile: the same code on other engines builds the same, shows no secret, and stops.

Twelve minutes on two busy cores: `make prove-production`.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psycopg
import pytest

from petpark_assets.domain.files import Store
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.s3.store import S3Store
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets_tests.benchmarks.counters import TABLES
from petpark_assets_tests.browser import browser  # noqa: F401  a fixture
from petpark_assets_tests.production.conftest import SETTINGS, Park, started
from petpark_assets_tests.test_whole_flow import TINY

pytestmark = [pytest.mark.production, pytest.mark.debian, pytest.mark.timeout(1800)]

BUILT_S = 900
LOOK_S = 2
RUNS = """query ($job: String!) { runsOrError(filter: {pipelineName: $job}) { ... on Runs { results {
    runId status tags { key value } } } } }"""
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
START_SENSOR = """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
    __typename ... on PythonError { message } } }"""
WHY = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
    ... on ExecutionStepFailureEvent { error { message errorChain { error { message } } } } } } } }"""
LOCATION = {"repositoryLocationName": "petpark_assets", "repositoryName": "__repository__"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn photos and two broken ones, in a folder."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    draw_lake(folder, num_images=40, num_broken=2)
    return folder


LOCALLY = """
import json, sys
from pathlib import Path
from petpark_assets_tests.test_whole_flow import House
house = House(Path(sys.argv[1]), sys.argv[2])
assert house.ingest().success
done = house.build(json.loads(sys.argv[3]), version=sys.argv[4])
print()
print("succeeded" if done.success else "failed")
"""


@pytest.fixture(scope="module")
def local(park: Park, lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """What the local profile builds of the same."""
    upload(park, lake)
    return built_locally(park, tmp_path_factory.mktemp("local") / "home", TINY)


def built_locally(park: Park, root: Path, told: dict, version: str = "v0001", *, must_succeed: bool = True) -> Home:
    """A home of the local profile on the same lake: a folder has no etags, which a manifest of S3 holds as well.

    In a process without a browser, whose event loop Ray's would meet.
    """
    command = [sys.executable, "-c", LOCALLY, str(root), park.variables()["PETPARK_LAKE"], json.dumps(told), version]
    variables = {**os.environ, **park.s3().variables()}
    done = subprocess.run(command, env=variables, check=True, cwd=PROJECT_FOLDER, stdout=subprocess.PIPE, text=True)
    assert not must_succeed or "succeeded" in done.stdout.splitlines()
    return open_home(root, actor="tester", s3=park.s3().access)


def upload(park: Park, folder: Path) -> None:
    """Put a folder's photos into the lake's bucket."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"photos/{path.relative_to(folder).as_posix()}"
            park.s3().client().put_object(Bucket="petpark-lake", Key=key, Body=path.read_bytes())


def objects(park: Park, bucket: str) -> Iterator[tuple[str, bytes]]:
    """What is in a bucket, by key."""
    client = park.s3().client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            yield item["Key"], client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def wait_for_run(park: Park, job: str, number: int, *, must_succeed: bool = True) -> list[dict]:
    """The runs of a job, newest first, once there are so many and all have ended."""
    deadline = time.monotonic() + BUILT_S
    while time.monotonic() < deadline:
        runs = park.ask(RUNS, job=job)["runsOrError"]["results"]
        statuses = {run["status"] for run in runs}
        park.watch()
        assert not (must_succeed and statuses & {"FAILURE", "CANCELED"}), park.said()
        if len(runs) >= number and statuses <= {"SUCCESS", "FAILURE"}:
            return runs
        time.sleep(LOOK_S)
    pytest.fail(f"{job} is not done after {BUILT_S} s")


def launch(park: Park, job: str, config: dict, partition: str | None = None, asker: str = "operator") -> str:
    """Launch a job as one of the proxy's users; its run's id."""
    tags = [{"key": "dagster/partition", "value": partition}] if partition else []
    params = {
        "selector": {**LOCATION, "jobName": job},
        "runConfigData": config,
        "executionMetadata": {"tags": tags},
    }
    launched = park.ask(LAUNCH, asker=asker, params=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def recipe(told: dict) -> dict:
    """The configuration of a run by this recipe."""
    return {"resources": {"recipe": {"config": told}}}


def looking(park: Park, told: dict) -> dict:
    """The configuration of a run that looks at the lake."""
    lake = park.variables()["PETPARK_LAKE"]
    return {"ops": {"look_at_the_lake": {"config": {"lake": lake}}}, **recipe(told)}


def digests(store: Store, version: str) -> dict[str, str]:
    """Of every record of a version, by its key."""
    keys = [key for key in store.list_keys("") if f"/{version}" in key and key.endswith(".json")]
    documents = {key: json.loads(store.read(key)) for key in keys}
    return {key: document["digest"] for key, document in documents.items() if "digest" in document}


def store_of(park: Park, folder: Path) -> S3Store:
    """The store in its bucket."""
    return S3Store(park.variables()["PETPARK_STORE"], park.s3().access(), folder)


def press_launch(park: Park, browser, job: str, config: dict, partition: str | None = None) -> None:  # noqa: F811
    """What an operator does: the launchpad of a job, its configuration and partition, the button."""
    tag = {"tags[0][key]": "dagster/partition", "tags[0][value]": partition} if partition else {}
    words = urlencode({"mode": "default", "config": json.dumps(config), **tag})
    login = {"username": "operator", "password": park.address("operator")}
    page = browser.new_page(viewport={"width": 1600, "height": 1000}, http_credentials=login)
    page.goto(f"{park.address('login')}/locations/petpark_assets/jobs/{job}/playground/setup?{words}")
    page.get_by_role("button", name="Launch Run").click(timeout=120_000)


def test_a_person_makes_a_version_in_the_browser(park, lake, browser):  # noqa: F811  a fixture
    """The lake's address is all that is typed."""
    upload(park, lake)
    press_launch(park, browser, "new_dataset_version", looking(park, TINY))
    (run,) = wait_for_run(park, "new_dataset_version", 1)
    assert {"key": "petpark/user", "value": "operator"} in run["tags"]


def test_it_is_built_in_the_browser_to_the_same_digests_as_on_one_machine(park, browser, local, tmp_path):  # noqa: F811
    """Manifests, splits and every record; the search and the network are made by jobs of the Ray cluster."""
    press_launch(park, browser, "build", recipe(TINY), "v0001")
    (run,) = wait_for_run(park, "build", 1)
    assert {"key": "petpark/user", "value": "operator"} in run["tags"]
    found, expected = digests(store_of(park, tmp_path), "v0001"), digests(local.store, "v0001")
    assert len(expected) >= 9
    assert found == expected
    jobs = park.jobs()
    assert {name.split("-")[1] for name in jobs} == {"search", "train"}
    assert {job["status"] for job in jobs.values()} == {"SUCCEEDED"}


def test_the_sensor_builds_what_comes(park, local, lake, tmp_path):
    """Copies with a byte more come: the daemon sees them on S3, and the next version is the same as on one machine."""
    for path in sorted((lake / "cat").glob("*.*"))[:3]:
        (lake / "cat" / f"again-{path.name}").write_bytes(path.read_bytes() + b"\0")
    upload(park, lake)
    answer = park.ask(START_SENSOR, selector={**LOCATION, "sensorName": "lake_arrivals"})["startSensor"]
    assert answer["__typename"] == "Sensor", answer
    wait_for_run(park, "new_dataset_version", 2)
    wait_for_run(park, "build", 2, must_succeed=False)  # what its model is worth is not the claim
    # By the recipe that the sensor's runs have, which conftest.py gives the profile.
    built_locally(park, local.root, {"recipe": SETTINGS["PETPARK_RECIPE"]}, "v0002", must_succeed=False)
    found, expected = digests(store_of(park, tmp_path), "v0002"), digests(local.store, "v0002")
    assert any(key.startswith("evaluation_report/v0002/") for key in expected)
    assert found == expected


def test_only_an_approver_decides(park):
    """Who launches a decision as an operator changes nothing; an approver's name is on the run and in the ledger."""
    launch(park, "build", recipe({**TINY, "seed": 1}), "v0001")  # of two models one is not the champion
    wait_for_run(park, "build", 3, must_succeed=False)
    other = next(row["version"] for row in park.petpark("registry", "list") if "champion" not in row["aliases"])
    words = {"because": "it is tried"}
    promotion = {"ops": {"promote_version": {"config": {"model": str(other), **words}}}}
    override = {"ops": {"let_model_through": {"config": {"attempt": "12345678", **words}}}}
    before = decisions(park)
    for job, config in (("promote_model", promotion), ("override_gate", override)):
        run = launch(park, job, config)
        assert wait_for_run(park, job, 1, must_succeed=False)[0]["status"] == "FAILURE"
        assert "operator is operator, and only an approver may do this" in json.dumps(park.ask(WHY, id=run))
    assert decisions(park) == before
    launch(park, "promote_model", promotion, asker="approver")
    run, _ = wait_for_run(park, "promote_model", 2, must_succeed=False)
    assert run["status"] == "SUCCESS"
    asked = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert (asked["petpark/user"], asked["petpark/role"]) == ("approver", "approver")
    (move,) = decisions(park)[len(before) :]
    assert (move["event"], move["actor"], move["subject"]["by"]) == ("alias_moved", "approver", "approver")


def decisions(park: Park) -> list[dict]:
    """What the ledger knows of champions and of models that were let through."""
    with psycopg.connect(park.variables()["PETPARK_LEDGER"]) as connection:
        lines = connection.execute("SELECT line FROM ledger.events ORDER BY number").fetchall()
    events = [json.loads(line) for (line,) in lines]
    return [event for event in events if event["event"] in {"alias_moved", "gate_overridden"}]


def test_engines_hold_what_they_are_for(park, tmp_path):
    """Runs in PostgreSQL, files and logs on S3, models in MLflow's server; the home keeps neither."""
    assert park.petpark("registry", "list")[0]["version"] == 1
    downloaded = park.petpark("registry", "download", "1", "--to", str(tmp_path))
    assert downloaded
    logs = park.s3().client().list_objects_v2(Bucket="petpark-logs", Prefix="dagster/")
    assert logs["KeyCount"] > 0
    home = park.folder / "home"
    assert not list(home.rglob("*.db"))
    assert not (home / "store").exists()
    assert not (home / "ledger.jsonl").exists()
    park.petpark("audit", "verify")


def test_no_secret_is_shown(park):
    """Not in any table of the three databases, in the store, the steps' logs, the home, or on a command line."""
    told = park.variables()
    names = ("PETPARK_DATABASE", "PETPARK_LEDGER", "MLFLOW_BACKEND_STORE_URI")
    passwords = [
        *(urlsplit(told[name]).password for name in names),
        *map(park.address, ("viewer", "operator", "approver")),
    ]
    keys = ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "PETPARK_PROXY_SECRET")
    owners = park.folder / "postgres" / "password"
    closed = [owners, park.folder / "proxy", park.folder / "variables"]  # any user may pass the folder around them
    assert [path for path in closed if path.stat().st_mode & 0o077] == []
    secrets = [*(told[name] for name in keys), *passwords, owners.read_text()]
    assert all(len(secret) > 8 for secret in secrets)
    for name in names:
        with psycopg.connect(told[name].replace("+psycopg2", "")) as connection:
            tables = connection.execute(TABLES).fetchall()
            assert tables
            for (table,), secret in itertools.product(tables, secrets):
                query = f"SELECT count(*) FROM {table} AS one WHERE position(%s in one::text) > 0"  # noqa: S608 - ours
                assert connection.execute(query, (secret,)).fetchone() == (0,), (name, table)
    kept = list(objects(park, "petpark-store")) + list(objects(park, "petpark-logs"))
    assert any("/storage/" in key for key, _ in kept)  # what steps printed
    assert [key for key, data in kept if any(secret.encode() in data for secret in secrets)] == []
    (of_ray,) = {folder for folder in park.variables_seen("RAY_TMPDIR") if "petpark-ray-" in folder}
    shown = [path for folder in (park.folder / "home", Path(of_ray)) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("job-driver-") for path in shown)  # what Ray keeps of a search
    shown += park.folder.glob("*.log")
    assert [path for path in shown if any(secret.encode() in _bytes(path) for secret in secrets)] == []
    shown = [*park.processes().values(), json.dumps(park.jobs())]
    assert [line for line in shown if any(secret in line for secret in secrets)] == []


def test_everything_listens_on_loopback_and_fits(park):
    """Nobody outside the machine can ask a server that has no login; and eight GiB are enough for all of it.

    Looked at every other second of the builds above, too: trials and trainings are processes of their own.
    """
    park.watch()
    assert park.num_looks > 1  # as many as there were while the tests above waited for runs
    assert {address.split(":")[0] for address in park.listened} == {"127.0.0.1"}
    assert park.most_bytes < 8 * 1024**3, park.most_bytes
    print(f"{park.most_bytes / 1024**3:.2f} GiB at most, of {park.num_looks} looks")  # noqa: T201 - for the README


def test_it_stops_and_leaves_nothing(park):
    """SIGTERM, as systemd sends it: every process, also those of runs, is gone, and the folder with its keys."""
    folder = park.folder
    assert len(park.processes()) > 10
    park.process.send_signal(signal.SIGTERM)
    assert park.wait() == 0
    assert park.left == {}
    assert not folder.exists()


def test_a_part_that_dies_ends_all_and_is_named(tmp_path):
    """Half a platform would take requests and answer none."""
    with started(tmp_path) as park:
        daemon = next(pid for pid, line in park.processes().items() if "dagster._daemon run" in line)
        os.kill(daemon, signal.SIGKILL)
        assert park.wait() == 1
        assert "daemon ended with -9; its log ends:" in park.said()
        assert park.left == {}


def _bytes(path: Path) -> bytes:
    """Of a file that Ray may remove meanwhile."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
