"""Servers that tests start for themselves, on loopback and free ports, and stop by their ids: S3 by Ceph and by moto.

Ceph's radosgw is a real S3 server: it checks signatures and keeps objects. moto answers as AWS does where Ceph differs.
Not here: what stands between a server and a test to spoil its answers (faults.py).
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from petpark_assets.domain.s3.access import S3Access

ACCESS_KEY = "petparktestkey"
SECRET_KEY = "petpark+test/" + secrets.token_hex(12)
"""Drawn anew for every run of the tests, so that finding it anywhere proves a leak."""

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")
START_TIMEOUT_S = 90

# Ceph's own pace would make a start 12 s instead of 3, and the others wait 22 s for a server that a test has killed.
CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
run_dir = {folder}
log_file = {folder}/$name.log
admin_socket = {folder}/$name.$pid.asok
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_initial_members = a
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 2000
paxos_propose_interval = 0.05
osd_client_watch_timeout = 3
objecter_tick_interval = 0.5
[mon.a]
mon_data = {folder}/mon
[osd.0]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
[client.rgw]
ms_mon_client_mode = crc
rgw_data = {folder}/rgw
rgw_thread_pool_size = 32
"""


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server of S3 that is up, and the keys it knows."""

    endpoint_url: str
    access_key: str = ACCESS_KEY
    secret_key: str = field(default=SECRET_KEY, repr=False)
    pid: int | None = None
    """Of the process that answers."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.endpoint_url.rpartition(":")[2])

    def kill(self) -> None:
        """Make it go away at once."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGKILL)

    def access(self, **changes: Any) -> S3Access:
        """Its endpoint and keys, or others."""
        known = {
            "endpoint_url": self.endpoint_url, "access_key_id": self.access_key, "secret_access_key": self.secret_key,
        }  # fmt: skip
        return S3Access(**{**known, **changes})

    def variables(self) -> dict[str, str]:
        """The same as AWS's environment variables."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A boto3 client, for what only a test needs: to make buckets, and keys that are no paths."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2, "mode": "standard"}),
        )


@dataclass(frozen=True)
class Ceph:
    """A monitor and a disk in memory, before which any number of S3 servers can be started."""

    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        """One of Ceph's tools; what it prints."""
        command = [program, *arguments]
        result = subprocess.run(
            command, env=_environment(self.folder), capture_output=True, text=True, check=False, timeout=START_TIMEOUT_S
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout

    @contextlib.contextmanager
    def serving(self) -> Iterator[S3Server]:
        """One more S3 server on a port of its own."""
        port = _free_port()
        arguments = ["-n", "client.rgw", f"--rgw_frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1"]
        with _daemon(self.folder, "radosgw", *arguments) as process:
            _wait_until(lambda: _is_listening(port), process)
            yield S3Server(endpoint_url=f"http://127.0.0.1:{port}", pid=process.pid)


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """Ceph for all tests of a run, or a skip that names the missing program."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"needs Debian's {program}: apt-get install radosgw ceph-mon ceph-osd ceph-common")
    folder = Path(tempfile.mkdtemp(prefix="petpark-ceph-"))  # short: its sockets have a path of at most 107 bytes
    try:
        with _cluster(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server(ceph: Ceph) -> Iterator[S3Server]:
    """A real S3 server for all tests of a run: 12 s to start."""
    with ceph.serving() as server:
        user = ["user", "create", "--uid=petpark", "--display-name=petpark"]
        ceph.run("radosgw-admin", "-n", "client.rgw", *user, f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """An empty bucket of the real server, by name."""
    return new_bucket(s3_server)


def new_bucket(server: S3Server) -> str:
    """Make an empty bucket with a name of its own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    server.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def aws_server() -> Iterator[S3Server]:
    """moto: AWS's own answers, for any keys."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # requests are not news
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    assert server._server is not None
    server._server.app = _minding_expiry(server._server.app)
    try:
        _, port = server.get_host_and_port()
        yield S3Server(endpoint_url=f"http://127.0.0.1:{port}")
    finally:
        server.stop()


def expired_access(server: S3Server) -> S3Access:
    """Keys of a role that moto handed out and that have expired since."""
    import boto3
    from botocore.config import Config

    sts = boto3.client(
        "sts",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(parameter_validation=False),  # 900 s are the least that AWS takes
    )
    role = {"RoleArn": "arn:aws:iam::123456789012:role/park", "RoleSessionName": "test", "DurationSeconds": -1}
    keys = sts.assume_role(**role)["Credentials"]
    return server.access(
        access_key_id=keys["AccessKeyId"],
        secret_access_key=keys["SecretAccessKey"],
        session_token=keys["SessionToken"],
    )


EXPIRED_ANSWER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>ExpiredToken</Code><Message>The provided token has expired.'
    "</Message><Token-0>{token}</Token-0><RequestId>W3TQ9NDV2A2HX1RB</RequestId><HostId>host</HostId></Error>"
)
"""AWS's answer, which repeats the token."""


def _minding_expiry(app: Callable[..., Any]) -> Callable[..., Any]:
    """By itself moto notes when keys expire that it hands out, and takes them all the same; AWS answers so."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN")
        if token is None or not _has_expired(token):
            return app(environ, start_response)
        start_response("400 Bad Request", [("Content-Type", "application/xml")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [EXPIRED_ANSWER.format(token=token).encode()]

    return answer


def _has_expired(token: str) -> bool:
    from moto.sts.models import sts_backends

    backends = [backend for account in sts_backends.values() for backend in account.values()]
    roles = [role for backend in backends for role in backend.assumed_roles if role.session_token == token]
    return any(role.expiration.replace(tzinfo=None) < datetime.now(UTC).replace(tzinfo=None) for role in roles)


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[Ceph]:
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    fsid, ports = str(uuid.uuid4()), (_free_port(), _free_port())
    (folder / "ceph.conf").write_text(CONFIGURATION.format(folder=folder, fsid=fsid, mon_v2=ports[0], mon_v1=ports[1]))
    cluster, addresses = Ceph(folder), f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
    cluster.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, str(folder / "monmap"))
    cluster.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
    with _daemon(folder, "ceph-mon", "-i", "a") as monitor:
        _wait_until(lambda: _is_listening(ports[0]), monitor)
        disk = str(uuid.uuid4())  # known to the monitor and on the disk, or it never comes up and nobody says why
        cluster.run("ceph", "--connect-timeout", "30", "osd", "new", disk)
        cluster.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        with _daemon(folder, "ceph-osd", "-i", "0") as storage:
            _wait_until(lambda: _is_up(cluster), storage)
            yield cluster


@contextlib.contextmanager
def _daemon(folder: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of Ceph's servers, ended on the way out; by the kernel when this process is killed."""
    command = ["setpriv", "--pdeathsig", "KILL", program, *arguments, "-f"]
    with (folder / f"{program}.out").open("ab") as output:
        process = subprocess.Popen(command, env=_environment(folder), stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()  # nothing it holds is worth a clean end, which takes seconds
        process.wait()


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None:
            raise AssertionError(f"{process.args} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{process.args} is not ready after {START_TIMEOUT_S} s")
        time.sleep(0.1)


def _is_up(cluster: Ceph) -> bool:
    return bool(json.loads(cluster.run("ceph", "--connect-timeout", "30", "osd", "stat", "-f", "json"))["num_up_osds"])


def _is_listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
