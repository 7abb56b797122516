"""Claims about `make audit`: it finds what a database knows, and a database that knows nothing is never "all clean".

Against servers of OSV's own protocol on loopback, by the real pip-audit.
"""

import http.server
import json
import threading
import time
from contextlib import contextmanager

import pytest

from petpark_assets_tests.security import dependency_audit
from petpark_assets_tests.security.dependency_audit import LOCK, PLANTED, audit

pytest.importorskip("pip_audit", reason="needs pip-audit: make install")

KNOWN = {release.split("==")[0] for release in PLANTED}


@contextmanager
def database(known, *, status=200, hangs_s=0.0):
    """A server that knows of one hole in every release of some packages; gives the service for pip-audit."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Requests are no news."""

        def do_POST(self):
            time.sleep(hangs_s)
            name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            body = json.dumps({"vulns": [hole(name)]} if name in known else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "test", ("--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query")
        server.shutdown()


def hole(name):
    """In OSV's format: from the first release to 999."""
    events = [{"introduced": "0"}, {"fixed": "999"}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": f"TEST-{name}", "modified": "2026-01-01T00:00:00Z", "affected": [affected]}


@pytest.fixture
def pinned(tmp_path):
    """A short lock."""
    path = tmp_path / "requirements.txt"
    path.write_text("numpy==2.3.0\npillow==12.0.0\n")
    return path


def test_a_hole_is_found_and_named(pinned, capsys):
    """With the release that mends it."""
    with database(KNOWN | {"pillow"}) as service:
        assert audit(pinned, [service]) == 1
    assert capsys.readouterr().out == "pillow 12.0.0: TEST-pillow (fixed in 999)\n"


def test_clean_is_said_only_by_a_database_that_named_the_planted_ones(pinned, capsys):
    """This is the one answer with exit code 0."""
    with database(KNOWN) as service:
        assert audit(pinned, [service]) == 0
    assert capsys.readouterr().out.startswith("2 pinned packages have no hole that test knows")


@pytest.mark.parametrize("known", [set(), KNOWN - {"pyyaml"}], ids=["nothing", "not all"])
def test_a_database_that_misses_a_planted_one_is_not_believed(pinned, capsys, known):
    """A mirror without its list of holes calls everything clean."""
    with database(known) as service:
        assert audit(pinned, [service]) == 2
    said = capsys.readouterr().out
    assert said.startswith("not audited")
    assert "pyyaml==5.3" in said


def test_a_server_that_fails_is_not_believed_and_the_next_is_asked(pinned, capsys):
    """One of two is enough."""
    with database(KNOWN, status=500) as broken, database(KNOWN | {"numpy"}) as service:
        assert audit(pinned, [broken]) == 2
        assert "not audited" in capsys.readouterr().out
        assert audit(pinned, [broken, service]) == 1


def test_a_server_that_hangs_is_not_audited(pinned, capsys, monkeypatch):
    """Exit code 1 would say that there are holes."""
    monkeypatch.setattr(dependency_audit, "TIMEOUT_S", 3)
    with database(KNOWN, hangs_s=4) as hanging:
        assert audit(pinned, [hanging]) == 2
    assert "test: it gave no answer within 3 s" in capsys.readouterr().out


def test_a_package_that_nobody_knows_is_not_called_clean(capsys):
    """A database may have nothing to say."""
    findings = dependency_audit.Findings(num_packages=2, holes=(), unknown=("petpark",))
    assert dependency_audit.report("test", findings) == 2
    assert "not audited: test says nothing about petpark" in capsys.readouterr().out


def test_all_that_is_pinned_is_asked_about():
    """Every line of the lock whose marker fits this machine, by pip-audit's own reading of it."""
    with database(KNOWN) as (_, service):
        num = dependency_audit.ask(LOCK, service).num_packages
    assert num > 150
