"""Claims about searches as jobs of the production profile's Ray cluster: cancelled, a node lost, looked at by people.

They share one profile and are run in their order: `make prove-production`.
"""

import json
import re
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from petpark_assets_tests.browser import browser  # noqa: F401  a fixture
from petpark_assets_tests.production.conftest import Park
from petpark_assets_tests.production.test_profile import (
    built_locally,
    digests,
    lake,  # noqa: F401  a fixture
    launch,
    looking,
    recipe,
    store_of,
    upload,
    wait_for_run,
)
from petpark_assets_tests.proxy.asking import Address, ask, password
from petpark_assets_tests.test_whole_flow import TINY

pytestmark = [pytest.mark.production, pytest.mark.debian, pytest.mark.timeout(1800)]

NUM_TRIALS, EPOCHS = 3, 120
LONG = {
    **TINY,
    "search": {
        "algorithm": "random",
        "num_trials": NUM_TRIALS,
        "trial_epochs": EPOCHS,
        "max_concurrent_trials": 2,
        "scheduler": "none",
    },
}
"""A trial on each of the two nodes, for some ten seconds; such a search is the same whatever runs beside what."""
SAID = """query ($id: ID!, $cursor: String) { logsForRun(runId: $id, afterCursor: $cursor) { ... on EventConnection {
    cursor hasMore events { ... on MessageEvent { message } } } } }"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"


@pytest.fixture(scope="module")
def ready(park: Park, lake: Path) -> Park:  # noqa: F811  a fixture
    """The profile with a version to train on."""
    upload(park, lake)
    launch(park, "new_dataset_version", looking(park, TINY))
    wait_for_run(park, "new_dataset_version", 1)
    return park


def test_a_cancelled_run_stops_its_job(ready):
    """Whoever cancels in the UI wants the GPU back; and saw the search's progress there until then."""
    run = launch(ready, "build", recipe(LONG), "v0001")
    wait_until(lambda: epochs_said(ready, run), "an epoch")
    (name,) = [name for name, job in ready.jobs().items() if job["status"] == "RUNNING"]
    assert any(name in line for line in said(ready, run))
    assert len(searching(ready)) > 1  # a driver and a trial at least
    assert ready.ask(TERMINATE, id=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    wait_until(lambda: ready.jobs()[name]["status"] == "STOPPED" and not searching(ready), "the search's end", 30)
    wait_until(lambda: ready.ask(STATUS, id=run)["runOrError"]["status"] == "CANCELED", "the run's end", 120)
    assert searching(ready) == []


def test_a_lost_node_costs_only_its_running_trials(ready, tmp_path):
    """Machines of a cloud are taken away: the other trials and the records must not show it."""
    expected = digests(built_locally(ready, tmp_path / "home", LONG).store, "v0001")
    jobs = ready.jobs()
    run = launch(ready, "build", recipe(LONG), "v0001")
    wait_until(lambda: len(epochs_said(ready, run).keys() & {1, 2}) == 2, "both trials")
    before = epochs_said(ready, run)
    lose_a_node(ready)

    wait_until(lambda: ready.ask(STATUS, id=run)["runOrError"]["status"] not in {"STARTED", "STARTING"}, "its end", 600)

    assert ready.ask(STATUS, id=run)["runOrError"]["status"] == "SUCCESS", said(ready, run)[-20:]
    assert max(max(epochs) for epochs in before.values()) < EPOCHS  # it was lost in the middle
    after = epochs_said(ready, run)
    assert {number: max(epochs) for number, epochs in after.items()} == dict.fromkeys(range(1, NUM_TRIALS + 1), EPOCHS)
    again = [number for number, epochs in after.items() if max(epochs.values()) > 1]
    assert len(again) <= 1, again  # an epoch that its checkpoint did not hold yet
    made = {name.split("-")[1]: job["status"] for name, job in ready.jobs().items() if name not in jobs}
    assert made == {"search": "SUCCEEDED", "train": "SUCCEEDED"}
    assert digests(store_of(ready, tmp_path), "v0001") == expected


def test_rays_dashboard_is_looked_at_by_operators_alone_and_starts_nothing(ready):
    """It has no roles of its own: with its token whoever asks starts any program."""
    proxy = Address(int(ready.address("login").rpartition(":")[2]))
    jobs = ready.jobs()
    name, running = min(jobs), {"entrypoint": "touch /tmp/hole", "submission_id": "hole"}
    writing = [("POST", "/api/jobs/"), ("POST", f"/api/jobs/{name}/stop"), ("DELETE", f"/api/jobs/{name}"),
               ("PUT", "/api/serve/applications/")]  # fmt: skip
    for user, may_look in (("viewer", False), ("operator", True), ("approver", True)):
        headers = login(ready, user)
        answer = ask(proxy, "/ray/api/jobs/", headers=headers)
        assert answer.status == (200 if may_look else 403)
        assert (name in answer.text) == may_look
        for method, path in writing:
            told = {**running, "method": method}
            assert ask(proxy, f"/ray{path}", method=method, query=json.dumps(told), headers=headers).status == 403
    for headers in ({}, login(ready, "operator", "guessed"), {"X-Ray-Authorization": "Bearer guessed"}):
        assert ask(proxy, "/ray/api/jobs/", headers=headers).status == 401
    # What looks by looking into a process is off, whoever asks.
    assert ask(proxy, "/ray/worker/traceback?pid=1&ip=127.0.0.1", headers=login(ready, "approver")).status == 403
    assert ready.jobs() == jobs


def test_nobody_gets_to_rays_dashboard_past_the_proxy(ready):
    """Whoever is on the machine knows the port, and may call himself what he likes."""
    dashboard = Address(int(ready.variables()["RAY_API_SERVER_ADDRESS"].rpartition(":")[2]))
    known = {"X-Petpark-User": "approver", "X-Petpark-Role": "approver"}
    guesses = [{}, {"Authorization": "Bearer guessed"}, {"X-Ray-Authorization": "Bearer guessed"},
               {"Cookie": "ray-authentication-token=guessed"}, login(ready, "approver")]  # fmt: skip
    for guess in guesses:
        for method in ("GET", "POST"):
            answer = ask(dashboard, "/api/jobs/", method=method, headers={**known, **guess})
            assert answer.status in {401, 403}


def test_an_operator_sees_the_jobs_in_the_browser(ready, browser):  # noqa: F811  a fixture
    """Ray's page asks for its token where it is not let in: nobody has that."""
    user = {"username": "operator", "password": ready.address("operator")}
    page = browser.new_page(viewport={"width": 1600, "height": 1000}, http_credentials=user)
    page.goto(f"{ready.address('login')}/ray/#/jobs")
    page.get_by_text(min(ready.jobs())).first.wait_for(timeout=60_000)
    assert "oken" not in page.inner_text("body")
    assert ready.variables()["RAY_AUTH_TOKEN"] not in json.dumps([page.content(), page.context.cookies()])


def login(park: Park, user: str, word: str | None = None) -> dict[str, str]:
    """The header of a person, by default with the right password."""
    return password(user, word or park.address(user))


def searching(park: Park) -> list[str]:
    """The processes of searches: their jobs' drivers and their trials, by their command lines."""
    return [line for line in park.processes().values() if "ray_job search" in line or "ray::ImplicitFunc" in line]


def wait_until(is_so, what: str, timeout_s: float = 180) -> None:
    """Ask every second."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not come in {timeout_s} s"
        time.sleep(1)


def said(park: Park, run: str) -> list[str]:
    """The messages of a run, as the UI shows them."""
    lines, cursor, has_more = [], None, True
    while has_more:
        page = park.ask(SAID, id=run, cursor=cursor)["logsForRun"]
        lines += [event["message"] for event in page["events"] if event]
        cursor, has_more = page["cursor"], page["hasMore"]
    return lines


def epochs_said(park: Park, run: str) -> dict[int, Counter[int]]:
    """How often each epoch of each trial was told."""
    found: dict[int, Counter[int]] = {}
    for line in said(park, run):
        if told := re.match(r"trial (\d+), epoch (\d+):", line):
            found.setdefault(int(told[1]), Counter())[int(told[2])] += 1
    return found


def lose_a_node(park: Park) -> None:
    """Kill the node that is not the head's: its raylet with all below it, none of which is asked."""
    (raylet,) = (pid for pid, line in park.processes().items() if re.match(r"\S+/raylet .*sockets/raylet\.1 ", line))
    node = psutil.Process(raylet)
    for process in [node, *node.children(recursive=True)]:
        process.kill()
