"""What holds for every test holds: no network, no skip where CI allows none, nothing in the person's own folders."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from petpark_assets_tests.conftest import heed_ctrl_c

SKIPPING = """
import pytest

@pytest.mark.debian
def test_with_a_program(debian_program):
    debian_program("no-such-program")
"""


@pytest.mark.parametrize(("flags", "outcome"), [((), "1 skipped"), (("--debian",), "1 failed")])
def test_missing_program_is_named_and_fails_only_in_ci(flags, outcome, tmp_path):
    """A laptop without a browser tests everything else; CI that silently skips the browser tests nothing."""
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  debian: needs a program\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *flags]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome in result.stdout
    assert "apt-get install no-such-program" in result.stdout
    assert (result.returncode == 0) == (not flags)


def test_network_is_out_of_reach():
    """A test that needs the network fails on somebody's train and nowhere else."""
    with socket.socket() as connection, pytest.raises(OSError, match="only loopback is allowed"):
        connection.connect(("192.0.2.1", 80))  # an address reserved for documentation


def test_loopback_is_in_reach():
    """Servers started by a test are talked to as always."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.connect(server.getsockname())


def test_home_is_not_the_persons_own():
    """Tests that wrote to a person's home would change what the person's own builds find there."""
    scratch = Path(os.environ["PETPARK_HOME"]).parent
    assert scratch.name.startswith("petpark-")
    assert Path.home().parent == scratch


def test_ctrl_c_is_heeded_by_tests_that_were_started_with_an_ampersand():
    """A shell has it ignored in them and in all that they start: processes that a test ends would wait for ever."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        heed_ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert before is not signal.SIG_IGN
