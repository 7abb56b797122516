"""An organisation's login, by OpenID Connect: the whole way of a browser, from our page to the provider and back.

Apache's mod_auth_openidc does the authorization code flow with a real provider (provider.py). What a role may is the
same as with passwords (test_password.py); here it is who gets which.
"""

import json
import re
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from petpark_assets_tests.proxy.asking import LAUNCH, ask, by_websocket, free_port, launching
from petpark_assets_tests.proxy.conftest import running, wait_until

pytestmark = [pytest.mark.debian, pytest.mark.timeout(300)]

GROUPS = {
    "ana": ["petpark-approvers", "staff"],
    "bob": ["petpark-operators", "petpark-viewers"],
    "cy": ["staff", "petpark-viewers"],
    "dan": ["staff", "petpark-approvers-of-last-year", "not-petpark-approvers", "x,petpark-approvers"],
}
"""Dan is known to the organisation, and has no role here."""
PERMISSIONS = "{ permissions { permission value } }"


@pytest.fixture(scope="module")
def provider(apache, tmp_path_factory):
    """The issuer's address, and the port that its one client is to have."""
    assert apache
    pytest.importorskip("oauth2_provider", reason="needs django-oauth-toolkit: make install")
    folder, port, proxy_port = tmp_path_factory.mktemp("provider"), free_port(), free_port()
    told = [str(port), str(folder), f"http://127.0.0.1:{proxy_port}/login", json.dumps(GROUPS)]
    command = [sys.executable, "-m", "petpark_assets_tests.proxy.provider", *told]
    issuer = f"http://127.0.0.1:{port}/o"
    with running(command, {}, folder / "provider.log") as process:
        wait_until(lambda: _is_up(issuer), process, folder)
        yield issuer, proxy_port


def _is_up(issuer):
    try:
        return requests.get(f"{issuer}/.well-known/openid-configuration", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def proxy(start_proxy, provider):
    """The proxy, as the provider's client."""
    issuer, port = provider
    return start_proxy(
        "openid",
        port=port,
        files={},
        PETPARK_OIDC_METADATA_URL=f"{issuer}/.well-known/openid-configuration",
        PETPARK_OIDC_CLIENT_ID="petpark",
        PETPARK_OIDC_CLIENT_SECRET="known to the provider and to the proxy",
        PETPARK_OIDC_PASSPHRASE="what sessions are encrypted with",
    )


def log_in(proxy, user, word=None, path="/runs"):
    """Open a page, log in where one is led to, and come back: the browser's session and the last answer."""
    browser = requests.Session()
    browser.trust_env = False
    form = browser.get(f"http://{proxy}{path}", headers={"Accept": "text/html"}, timeout=30)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
    assert token is not None, form.text
    told = {"csrfmiddlewaretoken": token[1], "username": user, "password": word or f"password of {user}"}
    return browser, browser.post(form.url, told, timeout=30)


def session(browser):
    """The header by which the proxy knows the browser again."""
    return {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)}


@pytest.fixture(scope="module")
def known(proxy):
    """Everybody who is in, by the header that says so."""
    return {user: session(log_in(proxy, user)[0]) for user in GROUPS}


def test_one_comes_back_to_the_page_that_one_asked_for(proxy, provider):
    """By the provider, with a code that is good once, PKCE, and no token in an address."""
    first = ask(proxy, "/runs?a=b", headers={"Accept": "text/html"})
    assert first.status == 302
    asked = parse_qs(urlsplit(first.headers["location"]).query)
    assert first.headers["location"].startswith(provider[0])
    assert (asked["response_type"], asked["code_challenge_method"]) == (["code"], ["S256"])
    browser, page = log_in(proxy, "bob", path="/runs?a=b")
    assert (page.status_code, page.url) == (200, f"http://{proxy}/runs?a=b")
    assert "<html" in page.text
    back = next(answer for answer in page.history if "/login?" in answer.url)
    again = browser.get(back.url, allow_redirects=False, timeout=30)
    assert again.status_code != 200


def test_roles_are_groups(proxy, platform, known):
    """Of several the one that may most; a group that is merely named alike is none."""
    for user, role in {"ana": "approver", "bob": "operator"}.items():
        asked = launching("build", partition="v0001", user="eve", role="approver")
        answer = ask(proxy, "/graphql", query=LAUNCH, variables=asked, headers=known[user]).json()
        run = platform.instance.get_run_by_id(answer["data"]["launchRun"]["run"]["runId"])
        assert (run.tags["petpark/user"], run.tags["petpark/role"]) == (user, role)
    answer = ask(proxy, "/graphql", query=LAUNCH, variables=launching("build"), headers=known["cy"]).json()
    assert answer["data"]["launchRun"]["__typename"] == "UnauthorizedError"
    assert ask(proxy, "/", headers=known["dan"]).status == 403


def test_a_wrong_password_opens_nothing(proxy):
    """The provider shows its form again, and there is no session of ours."""
    browser, page = log_in(proxy, "ana", "guessed")
    assert "csrfmiddlewaretoken" in page.text
    assert ask(proxy, "/server_info", headers=session(browser)).status in {302, 401}


OUTSIDE = {
    "nothing": {},
    "forged claims": {"OIDC_CLAIM_groups": "petpark-approvers", "OIDC-CLAIM-groups": "petpark-approvers"},
    "forged headers": {"X-Petpark-User": "ana", "X-Petpark-Role": "approver", "X-Remote-User": "ana"},
    "a password": {"Authorization": "Basic YW5hOnBhc3N3b3JkIG9mIGFuYQ=="},
    "a made-up session": {"Cookie": "mod_auth_openidc_session=5f0c3a3e-9a0e-4a53-8fd4-0a8a3c3e5d11"},
    "a token of nobody": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbmEifQ."},
}


@pytest.mark.parametrize("headers", OUTSIDE.values(), ids=OUTSIDE)
def test_nobody_gets_in_without_a_login(proxy, platform, headers):
    """Neither to a page nor to the API, by either way."""
    before = platform.runs()
    for path in ("/", "/graphql", "/server_info", "/mlflow/", "/ray/", "//graphql", "/login/../graphql"):
        assert ask(proxy, path, headers=headers).status in {302, 401, 403}
    assert ask(proxy, "/graphql", query=LAUNCH, variables=launching("build"), headers=headers).status in {302, 401}
    assert by_websocket(proxy, PERMISSIONS, headers=headers)["refused"] in {302, 401}
    assert platform.runs() == before


@pytest.mark.parametrize(
    "query", ["code=x&state=y", "code=x", "error=access_denied", "id_token=x", "logout=//evil.org"]
)
def test_a_made_up_answer_of_the_provider_opens_nothing(proxy, query):
    """Whoever may write an address may not say who they are by it."""
    answer = ask(proxy, f"/login?{query}")
    assert answer.status != 200 or "mod_auth_openidc_session" not in answer.headers.get("set-cookie", "")
    assert "evil.org" not in answer.headers.get("location", "")


@pytest.mark.parametrize(
    "forged",
    [
        {"OIDC_CLAIM_groups": "petpark-approvers"},
        {"X-Petpark-User": "ana", "X-Petpark-Role": "approver"},
        {"Connection": "close, X-Petpark-Role", "X-Petpark-Role": "approver"},
    ],
)
def test_a_viewer_who_forges_headers_stays_one(proxy, platform, known, forged):
    """A claim comes from the provider or it is none."""
    before = platform.runs()
    headers = {**known["cy"], **forged}
    answer = ask(proxy, "/graphql", query=LAUNCH, variables=launching("build"), headers=headers)
    assert answer.status == 403 or "UnauthorizedError" in answer.text
    assert platform.runs() == before


def test_neither_session_nor_token_goes_to_the_servers_behind(proxy, platform, known):
    """A log of theirs would keep what opens our door."""
    assert ask(proxy, "/mlflow/", headers=known["bob"]).status == 200
    *_, headers = platform.mlflow.asked[-1]
    assert "mod_auth_openidc_session" not in headers.get("cookie", "")
    assert not {name for name in headers if name.startswith("oidc")}
    assert not {"authorization", "x-petpark-proxy"} & set(headers)


def test_the_page_is_asked_for_again_after_logging_out(proxy):
    """A shared machine must not keep one's role."""
    browser, _ = log_in(proxy, "bob")
    browser.get(f"http://{proxy}/login?logout=http%3A%2F%2F{proxy}%2F", allow_redirects=False, timeout=30)
    assert ask(proxy, "/server_info", headers=session(browser)).status in {302, 401}
