"""The parts of the production profile, in the order in which they need each other, and what each is told.

PostgreSQL and S3 first, then Ray, then MLflow and the code server side by side, then what asks them.
Every secret is drawn anew and is given by the environment, never on a command line.
Not here: how processes are started and ended (processes.py), or what a person sees of it (__main__.py).
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from infra.production import ceph, postgres
from infra.production.processes import Process, free_port, is_listening, running
from petpark_assets.domain.errors import NotFound, TransientError
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets.resources.login import ROLE_HEADER, ROLES, SECRET_HEADER, USER_HEADER, VIEWER

LAKE, STORE, LOGS = "petpark-lake", "petpark-store", "petpark-logs"
"""Buckets."""
RAY_STARTS = 3
KEPT = ("PETPARK_RECIPE", "PETPARK_ARRIVALS", "PETPARK_ARRIVALS_WAIT_H", "PETPARK_ACTOR")
"""What the person who starts all this may set."""
OTHERS = ("PETPARK_", "DAGSTER_", "MLFLOW_", "RAY_", "AWS_", "PG")
"""All else by these names would lead a part elsewhere."""

Readiness = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Park:
    """All that is up."""

    folder: Path
    variables: dict[str, str]
    """What a process needs to be one of the platform's: `petpark` in a terminal, too."""
    of_mlflow: dict[str, str] = field(default_factory=dict, repr=False)
    """What MLflow's server alone is told, and whoever upgrades, backs up or restores."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Where each part listens, by its name."""
    processes: list[Process] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    """Of the login, by the names of its users, which are those of their roles."""

    def check(self) -> None:
        """Raises TransientError with the end of its log when a part has ended."""
        for process in self.processes:
            process.check()


def start(stack: ExitStack, folder: Path, say: Callable[[str], None], backup: str | None = None) -> Park:
    """Start everything, in a folder that any user may pass; the stack ends it in reverse order.

    With what the last backup in a folder has, if one is given.
    """
    find_programs()
    park = Park(folder=folder, variables=_base(folder))
    say("PostgreSQL and S3")
    databases = _start_postgres(stack, park)
    _start_s3(stack, park)
    _tell_platform(park, databases)
    if backup is not None:
        say("with the last backup")
        _petpark(park, "restore", backup)
    say("the schemas of both databases")
    _petpark(park, "upgrade")
    say("two Ray nodes")
    _start_ray(stack, park)
    say("MLflow and Dagster's code server")
    _wait([_start_mlflow(stack, park), _start_code(stack, park)])
    say("Dagster's webserver and daemon")
    _start_dagster(stack, park)
    return park


def find_programs() -> None:
    """Before anything is started: one line with all of Debian's packages that are missing. Raises NotFound."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))  # where proxy.sh looks for apache2
    needed = {**dict.fromkeys(ceph.PROGRAMS, ceph.PACKAGES), "apache2": "apache2-bin", "htpasswd": "apache2-utils"}
    missing = {package: None for program, package in needed.items() if shutil.which(program, path=path) is None}
    if missing:
        raise NotFound(f"needs Debian's {' '.join(missing)}: apt-get install {' '.join(missing)}")
    postgres.find_programs()


def _base(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    path = os.pathsep.join(filter(None, (str(PROJECT_FOLDER), os.environ.get("PYTHONPATH"))))
    rest = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    return {
        **rest,
        **kept,
        "PYTHONPATH": path,
        "PETPARK_ENV": "production",
        "PETPARK_HOME": str(folder / "home"),
        "PETPARK_STORE": f"s3://{STORE}/store",
        "PETPARK_LAKE": f"s3://{LAKE}/photos",
        "PETPARK_LOGS_BUCKET": LOGS,
    }


def _start_postgres(stack: ExitStack, park: Park) -> dict[str, str]:
    """URLs of the databases, by their owner."""
    folder = park.folder / "postgres"
    folder.mkdir()
    server = postgres.make_server(folder, free_port(), secrets.token_urlsafe(24))
    stack.callback(server.stop)
    server.start()
    assert server.process is not None  # it was just started
    park.processes.append(server.process)
    park.addresses["PostgreSQL"] = f"127.0.0.1:{server.port}"
    databases = {name: server.add_database(name, secrets.token_urlsafe(24)) for name in ("dagster", "mlflow")}
    return {**databases, "ledger": server.add_ledger(secrets.token_urlsafe(24))}


def _start_s3(stack: ExitStack, park: Park) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="petpark-ceph-")))  # its sockets: short paths
    keys = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    cluster = stack.enter_context(ceph.cluster(folder, *keys))
    server = stack.enter_context(cluster.serving())
    cluster.add_user()
    for bucket in (LAKE, STORE, LOGS):
        server.client().create_bucket(Bucket=bucket)
    park.processes.extend(cluster.processes)
    park.addresses["S3"] = server.endpoint_url
    park.variables.update(server.variables())


def _tell_platform(park: Park, databases: Mapping[str, str]) -> None:
    """What all processes of the platform know: where each part will be, and the secrets between them."""
    ports = {name: free_port() for name in ("proxy", "ui", "ui read-only", "reports", "code", "mlflow", "ray", "jobs")}
    park.addresses.update(
        {
            "login": f"http://127.0.0.1:{ports['proxy']}",
            "UI": f"http://127.0.0.1:{ports['ui']}",
            "UI read-only": f"http://127.0.0.1:{ports['ui read-only']}",
            "reports": f"http://127.0.0.1:{ports['reports']}",
            "code server": f"127.0.0.1:{ports['code']}",
            "MLflow": f"http://127.0.0.1:{ports['mlflow']}",
            "Ray": f"127.0.0.1:{ports['ray']}",
            "Ray's jobs": f"http://127.0.0.1:{ports['jobs']}",
        }
    )
    told = {
        "PETPARK_DATABASE": databases["dagster"],
        "PETPARK_LEDGER": databases["ledger"],
        "PETPARK_CODE_PORT": str(ports["code"]),
        "PETPARK_UI_URL": park.addresses["login"],
        "PETPARK_REPORTS_URL": f"{park.addresses['login']}/reports",
        "PETPARK_PROXY_SECRET": secrets.token_hex(32),
        "MLFLOW_TRACKING_URI": park.addresses["MLflow"],
        "RAY_ADDRESS": park.addresses["Ray"],
        "RAY_API_SERVER_ADDRESS": park.addresses["Ray's jobs"],
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all of Ray's listeners on 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    park.variables.update(told)
    park.of_mlflow.update(
        MLFLOW_BACKEND_STORE_URI=databases["mlflow"], MLFLOW_ARTIFACTS_DESTINATION=f"s3://{STORE}/mlflow"
    )


def _petpark(park: Park, *words: str) -> None:
    command, variables = [sys.executable, "-m", "petpark_assets.cli", *words], {**park.variables, **park.of_mlflow}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise TransientError(f"petpark {words[0]} failed: {done.stderr[-2000:]}")


def _start_mlflow(stack: ExitStack, park: Park) -> tuple[Process, Readiness]:
    """It alone knows its database and its files; of the platform's secrets it knows the keys of S3."""
    variables = {name: value for name, value in park.variables.items() if not name.startswith(OTHERS[:-2])}
    variables |= {"PETPARK_HOME": park.variables["PETPARK_HOME"], **park.of_mlflow}
    port = park.addresses["MLflow"].rpartition(":")[2]
    arguments = ["serve", "mlflow", "--port", port, "--", "--workers", "1"]
    process = _start(stack, park, "MLflow", ["petpark_assets.cli", *arguments], variables)
    return process, lambda: _answers(f"{park.addresses['MLflow']}/health")


def _start_ray(stack: ExitStack, park: Park) -> None:
    """Alone, and again if need be: Ray gives its daemons 30 s to come up, which a busy machine can exceed."""
    for attempt in range(1, RAY_STARTS + 1):
        with ExitStack() as trying:
            folder = trying.enter_context(
                tempfile.TemporaryDirectory(prefix="petpark-ray-")
            )  # its sockets: short paths
            ports = [park.addresses[name].rpartition(":")[2] for name in ("Ray", "Ray's jobs")]
            told = ["infra.production.ray_nodes", *ports]
            process = _start(trying, park, "Ray", told, {**park.variables, "RAY_TMPDIR": folder})
            try:
                process.wait_until(lambda log=process.log: "nodes are up" in log.read_text())  # type: ignore[misc]
            except TransientError:
                if attempt == RAY_STARTS:
                    raise
                park.processes.remove(process)
                continue
            stack.push(trying.pop_all())
            return


def _start_code(stack: ExitStack, park: Park) -> tuple[Process, Readiness]:
    process = _start(stack, park, "code server", ["petpark_assets.cli", "serve", "code"], park.variables)
    port = int(park.variables["PETPARK_CODE_PORT"])
    return process, lambda: is_listening(port)


def _start_dagster(stack: ExitStack, park: Park) -> None:
    """What asks the others, and the one address that people are told."""
    cli, ports = "petpark_assets.cli", {name: _port(park, name) for name in ("UI", "UI read-only", "reports")}
    ui = _start(stack, park, "UI", [cli, "serve", "ui", "--port", ports["UI"]], park.variables)
    read_only = [cli, "serve", "ui", "--port", ports["UI read-only"], "--", "--read-only"]
    other_ui = _start(stack, park, "UI read-only", read_only, park.variables)
    daemon = _start(stack, park, "daemon", [cli, "serve", "daemon"], park.variables)
    reports = _start(stack, park, "reports", [cli, "serve", "reports", "--port", ports["reports"]], park.variables)
    proxy = _start_proxy(stack, park)
    _wait(
        [
            (proxy, lambda: is_listening(int(_port(park, "login")))),
            (reports, lambda: is_listening(int(ports["reports"]))),
            (ui, lambda: bool(_ask(park, "{ assetNodes { id } }").get("assetNodes"))),
            (other_ui, lambda: is_listening(int(ports["UI read-only"]))),
            (daemon, lambda: _are_daemons_well(park)),
        ]
    )


def _start_proxy(stack: ExitStack, park: Park) -> Process:
    """The login proxy with a password file: one person of each role, with passwords drawn anew."""
    folder = park.folder / "proxy"
    park.passwords.update(write_people(folder))
    user = []
    if os.getuid() == 0:  # it needs no root
        user = ["--reuid=www-data", "--regid=www-data", "--clear-groups"]
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "www-data", "www-data")
    told = {
        "PATH": os.environ.get("PATH", ""),
        "PETPARK_PROXY_LISTEN": f"127.0.0.1:{_port(park, 'login')}",
        "PETPARK_PROXY_STATE": str(folder),
        "PETPARK_PROXY_SECRET": park.variables["PETPARK_PROXY_SECRET"],
        "PETPARK_PROXY_UI": f"127.0.0.1:{_port(park, 'UI')}",
        "PETPARK_PROXY_UI_READ_ONLY": f"127.0.0.1:{_port(park, 'UI read-only')}",
        "PETPARK_PROXY_MLFLOW": f"127.0.0.1:{_port(park, 'MLflow')}",
        "PETPARK_PROXY_REPORTS": f"127.0.0.1:{_port(park, 'reports')}",
        "PETPARK_PROXY_RAY": park.addresses["Ray's jobs"].removeprefix("http://"),
        "PETPARK_PROXY_RAY_TOKEN": park.variables["RAY_AUTH_TOKEN"],
        "PETPARK_PROXY_PASSWORDS": str(folder / "passwords"),
        "PETPARK_PROXY_ROLES": str(folder / "roles"),
    }
    rest = {name: value for name, value in park.variables.items() if not name.startswith(OTHERS)}
    command = [str(PROJECT_FOLDER / "infra" / "proxy" / "proxy.sh"), "password"]
    log = park.folder / "proxy.log"
    process = stack.enter_context(running("login proxy", command, log=log, variables={**rest, **told}, user=user))
    park.processes.append(process)
    return process


def write_people(folder: Path) -> dict[str, str]:
    """A new folder of passwords' digests and roles, closed to other users; the passwords, by role."""
    folder.mkdir(mode=0o700)
    passwords = {role: secrets.token_urlsafe(12) for role in ROLES}
    (folder / "passwords").touch(mode=0o600)
    for role, password in passwords.items():
        command = ["htpasswd", "-iB", "passwords", role]
        subprocess.run(command, cwd=folder, input=password, text=True, check=True, capture_output=True)  # noqa: S603
    (folder / "roles").write_text("".join(f"{role} {role}\n" for role in ROLES))
    return passwords


def _port(park: Park, name: str) -> str:
    return park.addresses[name].rpartition(":")[2]


def _start(stack: ExitStack, park: Park, name: str, module: list[str], variables: Mapping[str, str]) -> Process:
    log = park.folder / f"{name.lower().replace(', ', '-').replace(' ', '-')}.log"
    process = stack.enter_context(running(name, [sys.executable, "-m", *module], log=log, variables=variables))
    park.processes.append(process)
    return process


def _wait(parts: list[tuple[Process, Readiness]]) -> None:
    for process, is_ready in parts:
        process.wait_until(is_ready)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of our own servers
            return bool(answer.status == 200)
    except OSError:
        return False


def _ask(park: Park, query: str) -> dict[str, object]:
    """The data of a GraphQL answer; nothing while the server is not there. With broken code it answers happily."""
    asked = json.dumps({"query": query}).encode()
    request = urllib.request.Request(  # noqa: S310 - of our own servers
        f"{park.addresses['UI']}/graphql", asked, {"Content-Type": "application/json", **_as_proxy(park)}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            data: dict[str, object] | None = json.load(answer).get("data")
            return data or {}
    except OSError:
        return {}


def _as_proxy(park: Park) -> dict[str, str]:
    """What the proxy says of a viewer: the webserver answers nobody else."""
    return {SECRET_HEADER: park.variables["PETPARK_PROXY_SECRET"], USER_HEADER: "start", ROLE_HEADER: VIEWER}


def _are_daemons_well(park: Park) -> bool:
    told = _ask(park, "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }")
    statuses = json.loads(json.dumps(told)).get("instance", {}).get("daemonHealth", {}).get("allDaemonStatuses", [])
    return bool(statuses) and all(status["healthy"] for status in statuses if status["required"])
