"""What holds for every test: a home, caches and temporary folders of its own, and no network but loopback.

Not here: servers (servers.py), toy lakes, records and homes; each test draws its own.
"""

import errno
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from petpark_assets_tests.browser import browser  # noqa: F401  a fixture
from petpark_assets_tests.postgres import ledger_url, postgres  # noqa: F401  fixtures

pytest_plugins = ("petpark_assets_tests.servers",)

LEAKING_PREFIXES = ("PETPARK_", "DAGSTER_", "MLFLOW_", "RAY_", "AWS_", "PG")
"""Settings of the person's shell that would lead a test to that person's lake, registry or cluster."""

TEST_FOLDER = Path(__file__).parents[1] / ".petpark-test"
"""Kept between runs and ignored by git: the browser's last screenshot, caches worth keeping."""

WRITTEN_BY_VERBS = (
    "PETPARK_HOME", "DAGSTER_HOME", "PETPARK_DAGSTER", "DAGSTER_DISABLE_TELEMETRY", "PETPARK_REPORTS_URL",
    "PETPARK_UI_URL",
)  # fmt: skip
"""What `enter_home` sets for its process, which here is that of all tests."""

_SCRATCH = pytest.StashKey[Path]()


class NoNetworkError(OSError):
    """What a machine without a network answers, so that nothing here can depend on one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make `--debian` (no test may skip for want of a Debian program), `--long` and `--picture FILE` known."""
    group = parser.getgroup("petpark")
    group.addoption("--debian", action="store_true", help="a missing Debian program is a failure, not a skip")
    group.addoption("--long", action="store_true", help="also the proofs that take minutes each")
    group.addoption("--picture", type=Path, help="keep the browser's picture of the asset graph in this file")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: some libraries read the environment once, on import."""
    heed_ctrl_c()
    scratch = Path(tempfile.mkdtemp(prefix="petpark-"))  # short: Ray's sockets have a path of at most 107 bytes
    config.stash[_SCRATCH] = scratch
    for name in [name for name in os.environ if name.startswith(LEAKING_PREFIXES)]:
        if name != "PETPARK_PHOTOS":  # made for tests
            del os.environ[name]
    (scratch / "home").mkdir()
    os.environ |= {
        "HOME": str(scratch / "home"),  # Ray writes its token there, MLflow and Chromium their settings
        "PETPARK_ENV": "ci",
        "PETPARK_HOME": str(scratch / "petpark"),
        "PETPARK_ACTOR": "tester",
        "RAY_TMPDIR": str(scratch / "ray"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_WAIT_POLICY": "PASSIVE",  # or torch's threads spin for processors that others want: thrice the work
        "MPLCONFIGDIR": str(TEST_FOLDER / "matplotlib"),  # its list of fonts takes seconds to make
    }


def heed_ctrl_c() -> None:
    """Whoever started the tests with & had it ignored, in all processes below; Dagster then ignores SIGTERM too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind in the temporary folder."""
    shutil.rmtree(config.stash[_SCRATCH], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`long` and `production` are for `make prove`, or CI would take half an hour. Files with slow tests come first.

    Side by side, nobody then waits at the end for one file alone.
    """
    slow_files = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow_files)  # stable: each file keeps its order
    if config.getoption("--long"):
        return
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in ("long", "production"))]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With `--debian`, a test marked `debian` that skips has failed: CI installs every program it needs."""
    report: Any = yield
    is_needed = item.config.getoption("--debian") and item.get_closest_marker("debian") is not None
    if is_needed and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome, report.longrepr = "failed", f"no skip is allowed under --debian: {reason}"
    return report


@pytest.fixture(autouse=True)
def _own_home() -> Iterator[None]:
    """A verb that was tried in this process must not lead the next test to its home, nor Dagster to our own folder.

    Name by name: gRPC's threads, which tests leave behind, read the environment, and to clear it crashes them.
    """
    before = {name: os.environ.get(name) for name in WRITTEN_BY_VERBS}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def connect_on_loopback(self: socket.socket, address: Any) -> None:
        is_remote = self.family != socket.AF_UNIX and not _is_loopback(str(address[0]))
        if is_remote and self.type != socket.SOCK_DGRAM:  # an unsent datagram is how a host learns its own address
            raise NoNetworkError(errno.ENETUNREACH, f"a test connects to {address!r}: only loopback is allowed")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_on_loopback)


def _is_loopback(host: str) -> bool:
    own_addresses = {"localhost", "::1", socket.gethostname()}
    return host in own_addresses or host.startswith("127.") or host in _addresses_of_this_machine()


def _addresses_of_this_machine() -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}


@pytest.fixture
def debian_program() -> Callable[[str], str]:
    """Find an installed program by name, or skip the test naming it and its remedy."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"needs Debian's {name}: apt-get install {name}")
        return path

    return find


@pytest.fixture
def photos() -> Path:
    """The folder of real photos, or skip."""
    folder = os.environ.get("PETPARK_PHOTOS")
    if not folder:
        pytest.skip("needs PETPARK_PHOTOS, a folder of real photos")
    return Path(folder).absolute()
