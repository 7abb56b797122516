"""Real processes for the proxy's tests: two of Dagster's webservers, stand-ins for MLflow and Ray, Apache before them.

Not here: who logs in how (test_password.py, test_openid.py).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from petpark_assets_tests.proxy.asking import LOCATION, Address, Stranger, ask, free_port

PROXY = Path(__file__).parents[2] / "infra" / "proxy" / "proxy.sh"
SECRET = "0123456789abcdef" * 4
STARTED_S = 120

INSTANCE = """
storage: {{sqlite: {{base_dir: {folder}}}}}
local_artifact_storage:
  {{module: dagster._core.storage.root, class: LocalArtifactStorage, config: {{base_dir: {folder}}}}}
compute_logs: {{module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}}
run_coordinator:
  module: petpark_assets.resources.run_coordinator
  class: LoginRunCoordinator
  config: {{secret: {{env: PETPARK_PROXY_SECRET}}}}
concurrency: {{runs: {{max_concurrent_runs: 2}}}}
telemetry: {{enabled: false}}
"""


@dataclass(frozen=True)
class Platform:
    """What stands behind the proxy."""

    folder: Path
    """DAGSTER_HOME."""
    instance: dg.DagsterInstance
    ui: Address
    read_only: Address
    mlflow: Stranger
    ray: Stranger

    def runs(self) -> set[str]:
        """Of all runs there are."""
        return {run.run_id for run in self.instance.get_runs()}


@dataclass(frozen=True)
class Proxy(Address):
    """A proxy that is up."""

    folder: Path
    """Of the files that it was given."""


@pytest.fixture(scope="session")
def apache() -> str:
    """The program, or a skip that names it."""
    path = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None or not Path("/usr/lib/apache2/modules/mod_auth_openidc.so").exists():
        pytest.skip("needs Debian's apache2-bin: apt-get install apache2-bin apache2-utils libapache2-mod-auth-openidc")
    return path


@pytest.fixture(scope="session")
def platform(apache: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Both webservers, with one code location that has two jobs."""
    assert apache
    folder = tmp_path_factory.mktemp("dagster")
    (folder / "dagster.yaml").write_text(INSTANCE.format(folder=folder))
    ports = {name: free_port() for name in ("code", "ui", "read_only")}
    (folder / "workspace.yaml").write_text(
        f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {ports['code']}, location_name: {LOCATION}}}}}]"
    )
    variables = {"DAGSTER_HOME": str(folder), "PETPARK_PROXY_SECRET": SECRET}
    code = [sys.executable, "-m", "dagster", "api", "grpc", "-m", "petpark_assets_tests.proxy.park", "-p"]
    ui = [sys.executable, "-m", "petpark_assets.webserver", "-w", str(folder / "workspace.yaml"), "-p"]
    with (
        pytest.MonkeyPatch.context() as patch,
        running([*code, str(ports["code"])], variables, folder / "code.log"),
        running([*ui, str(ports["ui"])], variables, folder / "ui.log") as first,
        running([*ui, str(ports["read_only"]), "--read-only"], variables, folder / "read_only.log") as second,
        Stranger() as mlflow,
        Stranger() as ray,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            ui_at, read_only_at = Address(ports["ui"]), Address(ports["read_only"])
            for address, process in ((ui_at, first), (read_only_at, second)):
                wait_until(lambda address=address: _is_loaded(address), process, folder)
            yield Platform(folder, instance, ui_at, read_only_at, mlflow, ray)


def _is_loaded(address: Address) -> bool:
    """The webserver answers the proxy, and knows the jobs."""
    by_proxy = {"X-Petpark-Proxy": SECRET, "X-Petpark-User": "test", "X-Petpark-Role": "viewer"}
    query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
    answer = ask(address, "/graphql", query=query, headers=by_proxy)
    return bool(answer.status == 200 and answer.json()["data"]["repositoriesOrError"].get("nodes"))


@contextlib.contextmanager
def running(command: list[str], variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server for as long as the block; asked to stop, and waited for."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def start_proxy(platform: Platform) -> Iterator[Callable[..., Proxy]]:
    """`start_proxy("password", files={...}, **variables)`: proxy.sh, without root; where it listens."""
    with contextlib.ExitStack() as stack:
        yield lambda login, **options: stack.enter_context(_proxy(platform, login, **options))


@contextlib.contextmanager
def _proxy(
    platform: Platform, login: str, *, files: dict[str, str], port: int | None = None, **variables: str
) -> Iterator[Proxy]:
    """`files` are written where it may read them; a variable's `{folder}` becomes that folder."""
    folder = Path(tempfile.mkdtemp(prefix="petpark-proxy-"))  # not tmp_path, which only its owner may enter
    address = Proxy(port or free_port(), folder)
    try:
        for name, text in files.items():
            (folder / name).write_text(text)
        own(folder)
        told = {name: value.format(folder=folder) for name, value in variables.items()}
        command = [*without_root(), str(PROXY), login]
        told = {**proxy_variables(platform, folder, address), **told}
        with running(command, told, platform.folder / "proxy.log") as process:
            wait_until(lambda: ask(address, "/").status is not None, process, platform.folder)
            yield address
    finally:
        shutil.rmtree(folder)


def proxy_variables(platform: Platform, folder: Path, address: Address) -> dict[str, str]:
    """What every proxy must be told."""
    return {
        "PETPARK_PROXY_LISTEN": str(address),
        "PETPARK_PROXY_STATE": str(folder),
        "PETPARK_PROXY_SECRET": SECRET,
        "PETPARK_PROXY_UI": str(platform.ui),
        "PETPARK_PROXY_UI_READ_ONLY": str(platform.read_only),
        "PETPARK_PROXY_MLFLOW": str(platform.mlflow.address),
        "PETPARK_PROXY_RAY": str(platform.ray.address),
        "PETPARK_PROXY_RAY_TOKEN": "rays-own-token",
    }


def without_root() -> list[str]:
    """As the user www-data, where the tests run as root: the proxy needs none."""
    return ["setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups"] if os.getuid() == 0 else []


def own(folder: Path) -> None:
    """Give a folder to that user."""
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "www-data", "www-data")


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    """Ask again and again; what the logs of the folder say when the process ended or takes too long."""
    deadline = time.monotonic() + STARTED_S
    while not is_ready():
        logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
        assert process.poll() is None, f"{process.args} ended:\n{logs}"
        assert time.monotonic() < deadline, f"{process.args} is not ready after {STARTED_S} s:\n{logs}"
        time.sleep(0.1)
