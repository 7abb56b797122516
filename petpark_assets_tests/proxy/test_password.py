"""A small team's login, by a file of passwords: who gets in, as what, and that nobody gets in otherwise.

Real Apache before two real webservers of Dagster. Everything that must not happen is tried, and then the instance is
asked whether it happened.
"""

import http.client
import os
import re
import shutil
import ssl
import subprocess
from contextlib import closing
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run
from dagster._core.storage.tags import BACKFILL_ID_TAG

from petpark_assets.domain.ledger import FileLedger
from petpark_assets_tests.proxy import park
from petpark_assets_tests.proxy.asking import LAUNCH, LOCATION, Stranger, ask, by_websocket, launching, password
from petpark_assets_tests.proxy.conftest import PROXY, SECRET, proxy_variables

pytestmark = [pytest.mark.debian, pytest.mark.timeout(300)]

TEAM = {"ana": "approver", "bob": "operator", "cy": "viewer", "dan": None}
"""Dan has a password, and no role."""

ME = "{ canBulkTerminate permissions { permission value } }"
SENSORS_OFF = "mutation { setAutoMaterializePaused(paused: true) }"
WIPE = 'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["photos"]}}]) { __typename } }'
DELETE = "mutation ($id: String!) { deletePipelineRun(runId: $id) { __typename } }"
TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
RELOAD = "mutation { reloadWorkspace { __typename } }"
REPORT = (
    "mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, "
    'assetKey: {path: ["photos"]}}) { __typename } }'
)
BACKFILL = (
    "mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename } }"
)
AGAIN = """mutation ($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
LOGS = "subscription ($id: ID!) { pipelineRunLogs(runId: $id) { __typename } }"


@pytest.fixture(scope="module")
def team():
    """What every proxy of this team is told: files and variables."""
    if shutil.which("htpasswd") is None:
        pytest.skip("needs Debian's htpasswd: apt-get install apache2-utils")
    lines = [
        subprocess.run(["htpasswd", "-nbB", user, f"password of {user}"], check=True, capture_output=True, text=True)
        for user in TEAM
    ]
    roles = "".join(f"{user} {role}\n" for user, role in TEAM.items() if role)
    return {
        "files": {"passwords": "".join(line.stdout.strip() + "\n" for line in lines), "roles": roles},
        "PETPARK_PROXY_PASSWORDS": "{folder}/passwords",
        "PETPARK_PROXY_ROLES": "{folder}/roles",
    }


@pytest.fixture(scope="module")
def proxy(start_proxy, team):
    """The proxy, with the team's passwords and roles."""
    return start_proxy("password", **team)


@pytest.fixture
def nothing_happens(platform):
    """Whatever a test tries, there are no more runs afterwards than before."""
    before = platform.runs()
    yield
    assert platform.runs() == before


def launch(proxy, by, job="build", partition="v0001", **tags):
    """Launch a job as a person; the run as Dagster keeps it."""
    asked = launching(job, partition=partition if job == "build" else None, **tags)
    answer = ask(proxy, "/graphql", query=LAUNCH, variables=asked, headers=password(by)).json()
    launched = answer["data"]["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return launched["run"]["runId"]


NOBODY = {
    "no login": {},
    "wrong password": password("ana", "guessed"),
    "unknown person": password("eve"),
    "no password": password("ana", ""),
    "no role": password("dan"),
    "forged headers": {"X-Petpark-User": "ana", "X-Petpark-Role": "approver", "X-Forwarded-User": "ana"},
    "another scheme": {"Authorization": f"Bearer {SECRET}"},
}


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("headers", NOBODY.values(), ids=NOBODY)
def test_nobody_gets_in_without_a_login(proxy, platform, headers):
    """Neither to the UI, nor to its API by either way, nor to MLflow and Ray."""
    asked = len(platform.mlflow.asked), len(platform.ray.asked)
    for path in ("/", "/graphql", "/server_info", "/mlflow/", "/ray/", "/favicon.png", "/logs/x"):
        assert ask(proxy, path, headers=headers).status in {401, 403}
    assert ask(proxy, "/graphql", query=LAUNCH, variables=launching("build"), headers=headers).status in {401, 403}
    assert by_websocket(proxy, ME, headers=headers)["refused"] in {401, 403}
    assert (len(platform.mlflow.asked), len(platform.ray.asked)) == asked


def test_a_viewer_looks(proxy):
    """What they are for: the UI, what it asks, and what changes while they look."""
    assert "<html" in ask(proxy, "/", headers=password("cy")).text
    permissions = ask(proxy, "/graphql", query=ME, headers=password("cy")).json()["data"]["permissions"]
    assert permissions
    assert [row["permission"] for row in permissions if row["value"]] == []


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_viewer_launches_nothing_by_graphql(proxy, method):
    """Dagster takes a mutation by GET too."""
    answer = ask(
        proxy, "/graphql", method=method, query=LAUNCH, variables=launching("build"), headers=password("cy")
    ).json()
    assert answer["data"]["launchRun"]["__typename"] == "UnauthorizedError"


@pytest.mark.usefixtures("nothing_happens")
def test_a_viewer_launches_nothing_by_a_websocket(proxy):
    """A mutation by the way of subscriptions."""
    answer = by_websocket(proxy, LAUNCH, launching("build"), headers=password("cy"))
    assert answer.get("type") != "data" or "run" not in str(answer["payload"].get("data"))


PATHS = [
    "//graphql", "/./graphql", "/x/../graphql", "/x/%2e%2e/graphql", "/%67raphql", "/graphql/", "/GraphQL",
    "/graphql;a", "/graphql%00", "/graphql%2f", "/%2fgraphql", "/..%2fgraphql", "/graphql%3Fa=b", "/graphql#a",
    "/mlflow/../graphql", "/mlflow/%2e%2e/graphql", "/mlflow%2f..%2fgraphql", "/ray/../graphql", "/ray//graphql",
    "http://127.0.0.1/graphql", "/\\graphql", "/graphql%0d%0aX-Petpark-Role:%20approver",
]  # fmt: skip


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("path", PATHS)
def test_no_way_of_writing_a_path_lets_a_viewer_launch(proxy, platform, path):
    """The role alone chooses the webserver; and what is written strangely for MLflow or Ray reaches neither."""
    asked = len(platform.mlflow.asked), len(platform.ray.asked)
    for method in ("POST", "GET"):
        answer = ask(proxy, path, method=method, query=LAUNCH, variables=launching("build"), headers=password("cy"))
        assert "LaunchRunSuccess" not in answer.text
    assert platform.ray.asked[asked[1] :] == []
    assert [method for method, *_ in platform.mlflow.asked[asked[0] :] if method != "GET"] == []


FORGED = {
    "ours": {"X-Petpark-User": "ana", "X-Petpark-Role": "approver", "X-Petpark-Proxy": "guess"},
    "ours, in other letters": {"x-petpark-user": "ana", "X-PETPARK-ROLE": "approver"},
    "with underscores": {"X_Petpark_User": "ana", "X_Petpark_Role": "approver"},
    "others'": {"X-Forwarded-User": "ana", "Remote-User": "ana", "X-Remote-User": "ana", "OIDC_CLAIM_groups": "a"},
    "dropped on the way": {"Connection": "close, X-Petpark-Role", "X-Petpark-Role": "approver"},
    "all dropped": {"Connection": "close, X-Petpark-Role, X-Petpark-User, X-Petpark-Proxy"},
    "dropped by another name": {"Connection": "close, x-petpark-USER"},
}


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_viewer_who_forges_headers_stays_one(proxy, forged):
    """The proxy replaces what a client says of itself; what a client has it drop is missing, and that is refused."""
    headers = {**password("cy"), **forged}
    answer = ask(proxy, "/graphql", query=LAUNCH, variables=launching("build"), headers=headers)
    assert answer.status == 403 or "UnauthorizedError" in answer.text


def test_an_operator_who_forges_headers_stays_one(proxy, platform):
    """A launch by somebody else's name would put the blame there."""
    for forged in FORGED.values():
        headers = {**password("bob"), **forged}
        asked = launching("build", partition="v0001", user="ana", role="approver")
        answer = ask(proxy, "/graphql", query=LAUNCH, variables=asked, headers=headers)
        if answer.status != 403:
            tags = platform.instance.get_run_by_id(answer.json()["data"]["launchRun"]["run"]["runId"]).tags
            assert (tags["petpark/user"], tags["petpark/role"]) == ("bob", "operator")


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("secret", [None, "guessed", "", "${PETPARK_PROXY_SECRET}", SECRET[:-1], SECRET.upper()])
def test_nobody_gets_in_past_the_proxy(platform, secret):
    """Whoever is on the machine, or in its network, finds two closed doors: not even the page is shown."""
    headers = {"X-Petpark-User": "ana", "X-Petpark-Role": "approver"}
    if secret is not None:
        headers["X-Petpark-Proxy"] = secret
    for address in (platform.ui, platform.read_only):
        for path in ("/", "/graphql", "/server_info", "/logs/a", "/report_asset_materialization/photos", "/no/such"):
            assert ask(address, path, headers=headers).status == 403
        assert ask(address, "/graphql", query=LAUNCH, variables=launching("build"), headers=headers).status == 403
        assert "refused" in by_websocket(address, ME, headers=headers)


def test_an_operators_launch_is_in_the_runs_tags(proxy, platform):
    """Whatever the client says, since who did it is what an auditor asks first."""
    run = platform.instance.get_run_by_id(launch(proxy, "bob", user="ana", role="approver", reason="why not"))
    assert (run.tags["petpark/user"], run.tags["petpark/role"], run.tags["user"]) == ("bob", "operator", "bob")
    assert run.tags["petpark/reason"] == "why not"
    found = platform.instance.get_runs(dg.RunsFilter(tags={"petpark/user": "ana"}, run_ids=[run.run_id]))
    assert found == []  # Dagster keeps tags twice: in the run, and to search by


def test_a_run_launched_again_is_in_the_name_of_who_does_it(proxy, platform):
    """Dagster copies the tags of the first run: an operator must not go on with an approver's."""
    first = launch(proxy, "ana", job="promote")
    forged = [{"key": "petpark/user", "value": "ana"}, {"key": "petpark/role", "value": "approver"}]
    params = {"parentRunId": first, "strategy": "ALL_STEPS", "extraTags": forged, "useParentRunTags": True}
    answer = ask(proxy, "/graphql", query=AGAIN, variables={"params": params}, headers=password("bob")).json()
    again = platform.instance.get_run_by_id(answer["data"]["launchRunReexecution"]["run"]["runId"])
    assert (again.tags["petpark/user"], again.tags["petpark/role"]) == ("bob", "operator")


def test_the_queue_stays_as_it_is_configured(platform):
    """A coordinator that is not Dagster's own must not lose the limit of runs."""
    assert platform.instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 2


@pytest.mark.parametrize("user", ["cy", "ana"])
def test_the_secret_is_never_shown(proxy, platform, user):
    """The UI has a page with the instance's configuration."""
    query = "{ instance { info } }"
    shown = ask(proxy, "/graphql", query=query, headers=password(user)).text
    assert "LoginRunCoordinator" in shown
    assert SECRET not in shown + str(platform.instance.get_ref().to_dict())


def test_a_backfill_is_in_the_name_of_who_asked_for_it(proxy, platform):
    """The daemon launches its runs; the role does not go with them."""
    selector = {
        "partitionSetName": "build_partition_set",
        "repositorySelector": {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"},
    }
    forged = [{"key": "petpark/user", "value": "ana"}, {"key": "petpark/role", "value": "approver"}]
    params = {"selector": selector, "partitionNames": ["v0001", "v0002"], "tags": forged}
    ask(proxy, "/graphql", query=BACKFILL, variables={"params": params}, headers=password("bob"))
    (backfill,) = platform.instance.get_backfills()
    assert (backfill.tags["petpark/user"], backfill.tags["petpark/role"]) == ("bob", "operator")


def test_the_daemon_has_no_role_that_promotes(platform):
    """Neither a sensor nor a backfill with an approver's tags is an approver."""
    run = platform.instance.create_run_for_job(
        park.promote, tags={"petpark/user": "ana", "petpark/role": "approver", BACKFILL_ID_TAG: "x"}
    )
    context = SimpleNamespace(dagster_run=run, workspace=None)
    stamped = platform.instance.run_coordinator._caller(context)
    assert (stamped.user, stamped.role) == ("ana", "daemon")


def test_what_is_evidence_is_deleted_by_approvers_only(proxy, platform):
    """Runs say who did what: an operator who could delete them, or report what never ran, could hide it."""
    run_id = launch(proxy, "bob")
    for query in (WIPE, DELETE, REPORT):
        answer = ask(proxy, "/graphql", query=query, variables={"id": run_id}, headers=password("bob"))
        assert "UnauthorizedError" in answer.text, answer.text
    path = "/report_asset_materialization/photos"
    assert ask(proxy, path, query=REPORT, headers=password("bob")).status == 401
    assert run_id in platform.runs()
    assert "Success" in ask(proxy, "/graphql", query=REPORT, headers=password("ana")).text
    reported = platform.instance.get_latest_materialization_event(dg.AssetKey("photos")).asset_materialization
    assert reported.tags["dagster/reporting_user"] == "ana"
    answer = ask(proxy, "/graphql", query=DELETE, variables={"id": run_id}, headers=password("ana"))
    assert "DeletePipelineRunSuccess" in answer.text
    assert run_id not in platform.runs()


def test_a_viewer_stops_nothing(proxy, platform):
    """The read-only webserver refuses every kind of change, not only launches."""
    run_id = launch(proxy, "bob")
    for query in (TERMINATE, DELETE, WIPE, RELOAD, REPORT, SENSORS_OFF):
        answer = ask(proxy, "/graphql", query=query, variables={"id": run_id}, headers=password("cy"))
        assert re.search("UnauthorizedError|TerminateRunFailure", answer.text), answer.text
    assert platform.instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.QUEUED
    assert ask(proxy, "/report_asset_materialization/photos", query=REPORT, headers=password("cy")).status == 401


def execute(platform, run_id):
    """What the daemon does with a queued run, in this process."""
    starting = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_STARTING.value, job_name="promote")
    platform.instance.report_dagster_event(starting, run_id)
    job, run = dg.reconstructable(park.promote), platform.instance.get_run_by_id(run_id)
    return execute_run(job, run, platform.instance, raise_on_error=False)


def test_an_operators_promotion_is_refused_and_an_approvers_is_noted(proxy, platform):
    """By the run itself, wherever it was launched: in its tags and in the ledger."""
    assert not execute(platform, launch(proxy, "bob", job="promote", user="ana", role="approver")).success
    assert not (platform.folder / "ledger.jsonl").exists()
    assert execute(platform, launch(proxy, "ana", job="promote")).success
    (event,) = FileLedger(platform.folder / "ledger.jsonl", "reader").events()
    assert event.actor == "ana"


def test_subscriptions_work_through_the_proxy(proxy):
    """The UI shows a run's log by a websocket; without one it stands still."""
    run_id = launch(proxy, "bob")
    for user in ("cy", "bob"):
        answer = by_websocket(proxy, LOGS, {"id": run_id}, headers=password(user))
        assert answer["type"] == "data"
        assert answer["payload"]["data"]["pipelineRunLogs"]["__typename"] == "PipelineRunLogsSubscriptionSuccess"


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("mode", ["no-cors", "cors", "navigate", "websocket"])
def test_another_site_launches_nothing_in_an_operators_name(proxy, mode):
    """A browser sends a login along with whatever a page of another site makes it ask."""
    headers = {**password("bob"), "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
    for method in ("GET", "POST"):
        answer = ask(proxy, "/graphql", method=method, query=LAUNCH, variables=launching("build"), headers=headers)
        assert answer.status == 403
    assert ask(proxy, "/report_asset_check/photos", method="POST", headers=headers).status == 403
    assert by_websocket(proxy, ME, headers=headers)["refused"] == 403


def test_a_link_from_another_site_is_followed(proxy):
    """Alerts link to the UI from mails and chats."""
    headers = {**password("cy"), "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(proxy, "/runs/abc", headers=headers).status == 200


def test_mlflow_is_read_and_never_written(proxy, platform):
    """Its own buttons would promote past the gate; its UI reads by POST too."""
    reading = [("GET", "/mlflow/"), ("POST", "/mlflow/graphql"), ("POST", "/mlflow/ajax-api/2.0/mlflow/runs/search")]
    for user in ("cy", "ana"):
        for method, path in reading:
            assert ask(proxy, path, method=method, headers=password(user)).status == 200
            assert platform.mlflow.asked[-1][:2] == (method, path.removeprefix("/mlflow"))
        for method in ("POST", "PATCH", "PUT", "DELETE"):
            for path in ("registered-models/alias", "runs/delete", "runs/delete?search", "runs/delete/search"):
                url = f"/mlflow/ajax-api/2.0/mlflow/{path}"
                assert ask(proxy, url, method=method, headers=password(user)).status == 403


def test_rays_dashboard_is_for_operators_and_starts_nothing(proxy, platform):
    """It shows jobs' environments, and its API starts any program it is sent."""
    assert ask(proxy, "/ray/", headers=password("cy")).status == 403
    assert ask(proxy, "/ray/api/jobs/?a=b", headers=password("bob")).status == 200
    method, path, headers = platform.ray.asked[-1]
    assert (method, path, headers["x-ray-authorization"]) == ("GET", "/api/jobs/?a=b", "Bearer rays-own-token")
    for user in ("bob", "ana"):
        assert ask(proxy, "/ray/api/jobs/", method="POST", headers=password(user)).status == 403


def test_no_password_and_no_secret_goes_further_than_it_must(proxy, platform):
    """MLflow and Ray need neither; a log of theirs would keep both."""
    for path, server in (("/mlflow/", platform.mlflow), ("/ray/", platform.ray)):
        ask(proxy, path, headers={**password("bob"), "X-Petpark-Proxy": "x"})
        *_, headers = server.asked[-1]
        assert not {"authorization", "x-petpark-proxy"} & set(headers)


def test_who_loses_a_role_is_out_at_once(proxy):
    """A line is taken out of a file, and nothing is started again."""
    roles = proxy.folder / "roles"
    known = roles.read_text()
    try:
        roles.write_text(known + "dan viewer\n")
        assert ask(proxy, "/server_info", headers=password("dan")).status == 200
        os.utime(roles, (1, 1))  # the same second is the same file to Apache
        roles.write_text(known)
        os.utime(roles, (2, 2))
        assert ask(proxy, "/server_info", headers=password("dan")).status == 403
    finally:
        roles.write_text(known)


@pytest.fixture(scope="module")
def open_proxy(start_proxy, team, tmp_path_factory):
    """The same for a network: with a certificate; and with reports to show."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, "-keyout", "key", "-out", "cert"], cwd=folder, check=True, capture_output=True)
    made = {name: (folder / name).read_text() for name in ("key", "cert")}
    variables = {"PETPARK_PROXY_CERTIFICATE": "{folder}/cert", "PETPARK_PROXY_KEY": "{folder}/key"}
    with Stranger() as reports:
        told = {**team, **variables, "files": {**team["files"], **made}, "PETPARK_PROXY_REPORTS": str(reports.address)}
        yield start_proxy("password", **told), reports


def test_with_a_certificate_it_speaks_tls_and_nothing_else(open_proxy):
    """A password in the clear is everybody's; and a person looks at the reports that the UI links to."""
    address, reports = open_proxy
    assert ask(address, "/", headers=password("cy")).status == 400
    trusted = ssl.create_default_context(cafile=str(address.folder / "cert"))
    with closing(http.client.HTTPSConnection("localhost", address.port, context=trusted, timeout=30)) as connection:
        for headers, status in ((password("cy"), 200), ({}, 401)):
            connection.request("GET", "/reports/v0001/page.html", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.headers["Strict-Transport-Security"]) == (status, "max-age=31536000")
    assert [path for _, path, _ in reports.asked] == ["/v0001/page.html"]


def started(platform, tmp_path, login="password", **changes):
    """What proxy.sh says when it refuses to start."""
    told = {**proxy_variables(platform, tmp_path, platform.ui), "PATH": "/usr/bin:/bin", **changes}
    told = {name: value for name, value in told.items() if value is not None}
    result = subprocess.run([str(PROXY), login], env=told, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode != 0
    return result.stderr


def test_a_proxy_that_would_not_protect_does_not_start(platform, tmp_path):
    """Each refusal names what to mend; a secret that is not set would else be a text that everybody knows."""
    files = {"PETPARK_PROXY_PASSWORDS": "p", "PETPARK_PROXY_ROLES": "r"}
    assert "PETPARK_PROXY_SECRET PETPARK_PROXY_ROLES" in started(
        platform, tmp_path, PETPARK_PROXY_PASSWORDS="p", PETPARK_PROXY_SECRET=None
    )
    assert "PETPARK_PROXY_RAY_TOKEN" in started(platform, tmp_path, PETPARK_PROXY_RAY_TOKEN=None, **files)
    assert "32 letters" in started(platform, tmp_path, PETPARK_PROXY_SECRET="short", **files)
    assert "in the clear" in started(platform, tmp_path, PETPARK_PROXY_LISTEN="0.0.0.0:8080", **files)
    assert "password or openid" in started(platform, tmp_path, login="none")
    assert "PETPARK_OIDC_CLIENT_SECRET" in started(platform, tmp_path, login="openid")
