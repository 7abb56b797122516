"""Claims about how the production profile starts on one machine. All of it: production/."""

import stat
from contextlib import ExitStack

import pytest

from infra.production import parts
from petpark_assets.domain.errors import NotFound


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
