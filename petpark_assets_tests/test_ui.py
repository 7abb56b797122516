"""What a park employee sees: `petpark dev` answers, and a browser shows the graph with all nine assets.

The real processes are started as a person starts them, on a home of their own, and none may outlive the test.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets_tests.conftest import TEST_FOLDER

pytestmark = pytest.mark.timeout(700)

ASSETS_BY_GROUP = {
    "ingestion": {"raw_images", "train_split", "test_split"},
    "training": {"feature_scaling", "hyperparameter_search", "trained_cnn"},
    "testing": {"evaluation_report"},
    "packaging": {"onnx_package"},
    "registration": {"registered_model"},
}
NINE_ASSETS = set().union(*ASSETS_BY_GROUP.values())

LOADED_S = 500
"""Until the code is loaded: 30 s on idle cores, several times that on busy ones."""
STOPPED_S = 60

GRAPH = "{ assetNodes { assetKey { path } groupName } }"
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
RUN = (
    "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status assetMaterializations { assetKey { path } } } } }"
)
SMALL = {
    "recipe": "demo",
    "hyperparameters": {"epochs": 1, "width": 4},
    "search": {"algorithm": "none"},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}
"""Enough for every step to run; what is learned does not matter here."""
BUILT_S = 500
"""Each step and each check is a process of its own: 14 of them, some seconds each."""

LARGE_SCREEN = {"width": 3800, "height": 1500}
"""The whole graph fits without being shrunk so far that Dagster cuts long names in the middle."""
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def free_port():
    """A port that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def ask(url, query, **variables):
    """The data of a GraphQL answer, or {} while the server is not there yet."""
    asked = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", asked, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer).get("data") or {}
    except OSError:
        return {}


def processes_of(home):
    """The ids of all processes that work in a home, whoever their parent is now."""
    mark = f"PETPARK_HOME={home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def stop(process, home):
    """Ctrl-C, as a person does it; then without mercy. Gives the processes that Ctrl-C had left behind."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + STOPPED_S
    while (left := processes_of(home)) and time.monotonic() < deadline:
        process.poll()
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    process.wait(timeout=STOPPED_S)
    return left


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """The address of `petpark dev` on an empty home, once it knows our assets."""
    home, port = tmp_path_factory.mktemp("dev") / "home", free_port()
    log = home.parent / "dev.log"
    command = [
        sys.executable, "-m", "petpark_assets.cli",
        "dev", "--port", str(port), "--reports-port", str(free_port()),
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, "PETPARK_HOME": str(home)},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + LOADED_S
    try:
        # An own asset is asked for: with a broken code location the server itself answers happily.
        while not ask(url, GRAPH).get("assetNodes"):
            assert process.poll() is None, f"petpark dev ended:\n{log.read_text()[-5000:]}"
            assert time.monotonic() < deadline, (
                f"petpark dev is not ready after {LOADED_S} s:\n{log.read_text()[-5000:]}"
            )
            time.sleep(0.5)
        yield url
    finally:
        left_behind = stop(process, home)
    assert left_behind == [], log.read_text()[-5000:]


@pytest.fixture(scope="module")
def chromium():
    """Debian's browser, looked for before anything is started."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    return path


@pytest.fixture(scope="module")
def page(chromium, ui):
    """A page of headless Chromium that reaches nothing but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport=LARGE_SCREEN, device_scale_factor=0.6)
        page.route(lambda address: not address.startswith(ui), lambda route: route.abort())
        yield page
        browser.close()


def test_server_knows_every_asset_in_its_step(ui):
    """The groups are the steps of the workflow, in its words: that is how people find their way in the graph."""
    nodes = ask(ui, GRAPH)["assetNodes"]
    found = {(node["groupName"], node["assetKey"]["path"][-1]) for node in nodes}
    assert found >= {(group, name) for group, names in ASSETS_BY_GROUP.items() for name in names}


def launch(url, job, run_config, **tags):
    """Launch a job as the UI does and wait for its end; the names of the assets it materialized."""
    selector = {"repositoryLocationName": "petpark_assets", "repositoryName": "__repository__", "jobName": job}
    params = {
        "selector": selector,
        "runConfigData": run_config,
        "executionMetadata": {"tags": [{"key": f"dagster/{key}", "value": value} for key, value in tags.items()]},
    }
    launched = ask(url, LAUNCH, params=params)["launchRun"]
    assert "run" in launched, launched
    deadline = time.monotonic() + BUILT_S
    while time.monotonic() < deadline:
        run = ask(url, RUN, id=launched["run"]["runId"]).get("runOrError", {})
        if run.get("status") in {"SUCCESS", "FAILURE", "CANCELED"}:
            assert run["status"] == "SUCCESS"
            return {event["assetKey"]["path"][-1] for event in run["assetMaterializations"]}
        time.sleep(1)
    pytest.fail(f"{job} is not done after {BUILT_S} s")


@pytest.mark.slow
def test_one_version_is_built_from_the_ui(ui, tmp_path):
    """Look at the lake, then materialize its version: the daemon starts a process for each step of the whole flow."""
    draw_lake(tmp_path / "lake", num_images=40)
    recipe = {"resources": {"recipe": {"config": SMALL}}}
    lake = {"ops": {"look_at_the_lake": {"config": {"lake": str(tmp_path / "lake")}}}}
    launch(ui, "new_dataset_version", {**recipe, **lake})
    assert launch(ui, "build", recipe, partition="v0001") == NINE_ASSETS


@pytest.mark.debian
def test_browser_shows_the_graph_with_all_nine_assets(ui, page, request):
    """The graph is the first thing a new colleague opens; what is not in it does not exist for them."""
    expanded = ",".join(f"global@global:{group}" for group in ASSETS_BY_GROUP)
    page.goto(f"{ui}/asset-groups?expanded={quote(expanded)}")
    for name in NINE_ASSETS:
        page.locator("svg foreignObject").get_by_text(name, exact=True).first.wait_for(timeout=120_000)
    page.wait_for_timeout(2000)  # the graph glides to its place
    picture = request.config.getoption("--picture") or TEST_FOLDER / "asset_graph.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, clip=page.locator("svg:has(foreignObject)").first.bounding_box())
    assert picture.read_bytes().startswith(b"\x89PNG")
