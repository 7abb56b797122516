"""A real S3 server on loopback: Debian's Ceph with one monitor, one disk in memory and any number of gateways.

It checks signatures and keeps objects, until it stops. Not here: AWS's own answers where they differ (the tests' moto).
"""

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.production.processes import START_TIMEOUT_S, Process, free_port, is_listening, running
from petpark_assets.domain.errors import NotFound, TransientError
from petpark_assets.domain.s3.access import S3Access

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")
PACKAGES = "radosgw ceph-mon ceph-osd ceph-common"
REGION = "us-east-1"

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
    access_key: str
    secret_key: str = field(repr=False)
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
            "AWS_REGION": REGION,
        }

    def client(self) -> Any:
        """A boto3 client, for what only an owner needs: to make buckets, and keys that are no paths."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2, "mode": "standard"}),
        )


@dataclass(frozen=True)
class Ceph:
    """A monitor and a disk in memory, before which any number of S3 servers can be started."""

    folder: Path
    access_key: str
    secret_key: str = field(repr=False)
    """Of the one user; `add_user` makes it."""
    processes: list[Process] = field(default_factory=list, repr=False)
    """All that must live for it to answer."""

    def run(self, program: str, *arguments: str) -> str:
        """One of Ceph's tools; what it prints. Raises TransientError with what it says when it fails."""
        command = [program, *arguments]
        result = subprocess.run(  # noqa: S603
            command, env=_variables(self.folder), capture_output=True, text=True, check=False, timeout=START_TIMEOUT_S
        )
        if result.returncode:
            raise TransientError(f"{program} {arguments[0]} failed: {result.stderr}")
        return result.stdout

    @contextmanager
    def serving(self) -> Iterator[S3Server]:
        """One more S3 server on a port of its own."""
        port = free_port()
        command = ["radosgw", "-n", "client.rgw", f"--rgw_frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1"]
        with _daemon(self, command, lambda: is_listening(port)) as process:
            yield S3Server(
                endpoint_url=f"http://127.0.0.1:{port}",
                access_key=self.access_key,
                secret_key=self.secret_key,
                pid=process.popen.pid,
            )

    def add_user(self) -> None:
        """Who may make buckets. A server must be up."""
        user = ["user", "create", "--uid=petpark", "--display-name=petpark"]
        keys = [f"--access-key={self.access_key}", f"--secret-key={self.secret_key}"]
        self.run("radosgw-admin", "-n", "client.rgw", *user, *keys)


@contextmanager
def cluster(folder: Path, access_key: str, secret_key: str) -> Iterator[Ceph]:
    """Ceph in an empty folder, with a short path: its sockets have one of at most 107 bytes. Raises NotFound."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise NotFound(f"needs Debian's {program}: apt-get install {PACKAGES}")
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    fsid, ports = str(uuid.uuid4()), (free_port(), free_port())
    (folder / "ceph.conf").write_text(CONFIGURATION.format(folder=folder, fsid=fsid, mon_v2=ports[0], mon_v1=ports[1]))
    ceph, addresses = Ceph(folder, access_key, secret_key), f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
    ceph.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, str(folder / "monmap"))
    ceph.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
    with _daemon(ceph, ["ceph-mon", "-i", "a"], lambda: is_listening(ports[0])):
        disk = str(uuid.uuid4())  # known to the monitor and on the disk, or it never comes up and nobody says why
        ceph.run("ceph", "--connect-timeout", "30", "osd", "new", disk)
        ceph.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        with _daemon(ceph, ["ceph-osd", "-i", "0"], lambda: _is_up(ceph)):
            yield ceph


@contextmanager
def _daemon(ceph: Ceph, command: list[str], is_ready: Callable[[], bool]) -> Iterator[Process]:
    """One of Ceph's servers, once it is ready; killed on the way out: nothing it holds is worth a clean end."""
    log = ceph.folder / f"{command[0]}.out"
    with running(
        command[0], [*command, "-f"], log=log, variables=_variables(ceph.folder), ending=signal.SIGKILL
    ) as process:
        process.wait_until(is_ready)
        ceph.processes.append(process)
        yield process


def _variables(folder: Path) -> dict[str, str]:
    return {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}


def _is_up(ceph: Ceph) -> bool:
    return bool(json.loads(ceph.run("ceph", "--connect-timeout", "30", "osd", "stat", "-f", "json"))["num_up_osds"])
