"""Claims about how the production profile starts on one machine. All of it: production/."""

import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.production import parts, processes
from petpark_assets.domain.errors import NotFound, TransientError


def closed(path):
    """Whether no other user may read it, or pass."""
    return stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.debian
def test_the_databases_owner_keeps_its_password_to_itself(postgres):
    """Its folder may be passed by all, since the server runs as another user; the path stands on a command line."""
    assert (postgres.folder / "password").read_text() == postgres.password
    assert closed(postgres.folder / "password")
    assert closed(postgres.folder / "data")


@pytest.mark.debian
def test_the_proxys_passwords_are_closed_to_others(tmp_path, debian_program):
    """Digests can be guessed at by whoever has them."""
    debian_program("htpasswd")
    passwords = parts.write_people(tmp_path / "proxy")
    assert closed(tmp_path / "proxy")
    assert closed(tmp_path / "proxy" / "passwords")
    text = (tmp_path / "proxy" / "passwords").read_text()
    assert [line.partition(":")[0] for line in text.splitlines()] == list(passwords)
    assert not any(password in text for password in passwords.values())


def test_missing_programs_are_named_before_anything_is_started(tmp_path, monkeypatch):
    """In one line, with the packages that have them: not after two minutes, when the proxy's turn comes."""
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "htpasswd" else path)
    with ExitStack() as stack, pytest.raises(NotFound) as refused:
        parts.start(stack, tmp_path, lambda _part: pytest.fail("something was started"))
    assert str(refused.value) == "needs Debian's apache2-utils: apt-get install apache2-utils"
    assert list(tmp_path.iterdir()) == []


def test_a_port_is_none_that_the_system_gives_to_connections(monkeypatch):
    """Until a server listens there, any process may have connected from it: MLflow's was taken so."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    with socket.create_server(("127.0.0.1", processes.free_port())) as taken:
        port = taken.getsockname()[1]
        assert not first <= port <= last
        monkeypatch.setattr(processes, "PORTS", range(port, port + 1))
        with pytest.raises(TransientError, match=f"all ports from {port} to {port} are taken"):
            processes.free_port()
