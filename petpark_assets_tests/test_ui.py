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

import psutil
import pytest

from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets_tests.conftest import TEST_FOLDER
from petpark_assets_tests.killing import kill

pytestmark = pytest.mark.timeout(700)

ASSETS_BY_GROUP = {
    "ingestion": {"raw_images", "train_split", "test_split"},
    "training": {"feature_scaling", "hyperparameter_search", "trained_cnn"},
    "testing": {"evaluation_report"},
    "packaging": {"onnx_package"},
    "registration": {"registered_model"},
}
NINE_ASSETS = set().union(*ASSETS_BY_GROUP.values())
CHECKS_BY_ASSET = {
    "raw_images": {"every_photo_is_counted_once"},
    "test_split": {"no_photo_on_both_sides", "no_near_duplicate_on_both_sides", "split_is_80_to_20"},
    "evaluation_report": {"model_satisfies"},
    "onnx_package": {"package_is_whole"},
    "registered_model": {"version_can_be_downloaded"},
}

LOADED_S = 500
"""Until the code is loaded: 30 s on idle cores, several times that on busy ones."""
STOPPED_S = 60

GRAPH = "{ assetNodes { assetKey { path } groupName } }"
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
REEXECUTE = """mutation ($params: ReexecutionParams!) { launchPipelineReexecution(reexecutionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RUN = (
    "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status assetMaterializations { assetKey { path } } } } }"
)
CHECKS = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
    name executionForLatestMaterialization { status partition } } } } } }"""
ATTEMPTS = "{ runsOrError { ... on Runs { results { pipelineName tags { key value } } } } }"
MATERIALIZE = "__ASSET_JOB"
"""The job of Dagster's that the UI's button Materialize launches, with the assets and checks that are selected."""
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
    kill(*left)
    process.wait(timeout=STOPPED_S)
    return left


@pytest.fixture(scope="module")
def checkout():
    """What is in the project's folder before anything is started."""
    return set(PROJECT_FOLDER.iterdir())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the UI's home will be."""
    return tmp_path_factory.mktemp("dev") / "home"


@pytest.fixture(scope="module")
def ui(checkout, home):
    """The address of `petpark dev` on an empty home, once it knows our assets."""
    assert checkout
    port = free_port()
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


def launch(url, job, run_config, *, assets=(), **tags):
    """Begin it, and wait for its end: the names of the assets it materialized."""
    return end(url, begin(url, job, run_config, assets=assets, **tags))


def begin(url, job, run_config, *, assets=(), **tags):
    """Launch a job, or Materialize of assets with their checks, as the UI does: the run's id."""
    selector = {"repositoryLocationName": "petpark_assets", "repositoryName": "__repository__", "jobName": job}
    if assets:
        selector["assetSelection"] = [{"path": [name]} for name in assets]
        selector["assetCheckSelection"] = [
            {"assetKey": {"path": [asset]}, "name": name} for asset in assets for name in CHECKS_BY_ASSET.get(asset, ())
        ]
    params = {
        "selector": selector,
        "runConfigData": run_config,
        "executionMetadata": {"tags": [{"key": f"dagster/{key}", "value": value} for key, value in tags.items()]},
    }
    launched = ask(url, LAUNCH, params=params)["launchRun"]
    assert "run" in launched, launched
    return launched["run"]["runId"]


def end(url, run_id, status="SUCCESS"):
    """Wait for a run's end, which must be this one: the names of the assets it materialized."""
    run = wait_for(lambda: ended(url, run_id), f"the end of run {run_id}")
    assert run["status"] == status
    return {event["assetKey"]["path"][-1] for event in run["assetMaterializations"]}


def ended(url, run_id):
    """A run that has ended; None while it has not."""
    run = ask(url, RUN, id=run_id).get("runOrError", {})
    return run if run.get("status") in {"SUCCESS", "FAILURE", "CANCELED"} else None


def wait_for(find, what):
    """What was found once there was something."""
    deadline = time.monotonic() + BUILT_S
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} has not come after {BUILT_S} s")


def checks(url):
    """How each check ended, and of which version, by its asset and name; None where it was not made yet."""
    return {
        (node["assetKey"]["path"][-1], check["name"]): check["executionForLatestMaterialization"]
        for node in ask(url, CHECKS)["assetNodes"]
        for check in node["assetChecksOrError"].get("checks", ())
    }


RECIPE = {"resources": {"recipe": {"config": SMALL}}}


@pytest.fixture(scope="module")
def built(ui, tmp_path_factory):
    """What Materialize made of the nine assets of v0001, once its job had made that version."""
    lake = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(lake, num_images=40)
    told = {"ops": {"look_at_the_lake": {"config": {"lake": str(lake)}}}}
    launch(ui, "new_dataset_version", {**RECIPE, **told})
    return launch(ui, MATERIALIZE, RECIPE, assets=sorted(NINE_ASSETS), partition="v0001")


@pytest.mark.slow
def test_one_version_is_built_from_the_ui(ui, built):
    """Look at the lake, then Materialize its version: the daemon starts a process for each step of the whole flow."""
    assert built == NINE_ASSETS
    assert checks(ui) == {
        (asset, name): {"status": "SUCCEEDED", "partition": "v0001"}
        for asset, names in CHECKS_BY_ASSET.items()
        for name in names
    }


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_materialize_of_one_asset_goes_on_with_the_attempt(ui):
    """A person selects trained_cnn alone and presses the same button: no second attempt is begun."""
    assert launch(ui, MATERIALIZE, RECIPE, assets=["trained_cnn"], partition="v0001") == {"trained_cnn"}
    runs = ask(ui, ATTEMPTS)["runsOrError"]["results"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs if run["pipelineName"] == MATERIALIZE]
    assert len(tags) == 2
    assert len({run["petpark/attempt"] for run in tags}) == 1


@pytest.mark.long
@pytest.mark.usefixtures("built")
def test_reexecute_goes_on_with_a_search_whose_step_was_killed(ui, home):
    """A person presses Re-execute from failure: of four trials the two that had ended are not run again."""
    told = {**SMALL, "seed": 1, "search": {"algorithm": "random", "num_trials": 4, "trial_epochs": 60}}
    config, parts = {"resources": {"recipe": {"config": told}}}, ["feature_scaling", "hyperparameter_search"]
    run = begin(ui, MATERIALIZE, config, assets=parts, partition="v0001")
    second = wait_for(lambda: next(home.glob("cache/search/*/trials/0002/ended.json"), None), "the second trial's end")
    (raylet,) = (pid for pid in processes_of(home) if psutil.Process(pid).name() == "raylet")
    os.kill(psutil.Process(raylet).ppid(), signal.SIGKILL)  # the step, which started Ray
    assert end(ui, run, "FAILURE") == {"feature_scaling"}
    trials = second.parents[1]
    assert not (trials / "0004/ended.json").exists()
    before = {number: (trials / number / "ended.json").stat().st_mtime_ns for number in ("0001", "0002")}
    again = ask(ui, REEXECUTE, params={"parentRunId": run, "strategy": "FROM_FAILURE"})["launchPipelineReexecution"]
    assert end(ui, again["run"]["runId"]) == {"hyperparameter_search"}
    assert {number: (trials / number / "ended.json").stat().st_mtime_ns for number in before} == before
    assert (trials / "0004/ended.json").exists()


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


@pytest.mark.debian
@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_browser_draws_the_pictures_of_a_report(ui, page):
    """Pictures are links with their bytes in them, which a server's policy or the UI's Markdown may refuse to draw."""
    page.goto(f"{ui}/assets/evaluation_report?view=overview")
    row = page.locator("tr").filter(has=page.get_by_text("confusion", exact=True))
    row.get_by_text("Show Markdown").click(timeout=120_000)
    picture = page.locator("img[src^='data:image/png']").first
    picture.wait_for(timeout=60_000)
    assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 200


def test_services_leave_nothing_in_the_project_folder(checkout, ui):
    """It is a person's checkout, or a container's read-only folder."""
    assert ask(ui, GRAPH)["assetNodes"]
    new = {path.name for path in set(PROJECT_FOLDER.iterdir()) - checkout}
    assert {name for name in new if not name.endswith("_cache")} <= {TEST_FOLDER.name}
