"""Servers that tests start for themselves, on loopback and free ports, and stop by their ids: S3 by Ceph and by moto.

Ceph's radosgw is a real S3 server: it checks signatures and keeps objects. moto answers as AWS does where Ceph differs.
Not here: how Ceph is started (infra/production/ceph.py), what stands between a server and a test (faults.py).
"""

import contextlib
import logging
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.production.ceph import Ceph, S3Server
from infra.production.ceph import cluster as start_ceph
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.s3.access import S3Access

ACCESS_KEY = "petparktestkey"
SECRET_KEY = "petpark+test/" + secrets.token_hex(12)
"""Drawn anew for every run of the tests, so that finding it anywhere proves a leak."""


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """Ceph for all tests of a run, or a skip that names the missing program."""
    folder = Path(tempfile.mkdtemp(prefix="petpark-ceph-"))  # short: its sockets have a path of at most 107 bytes
    try:
        with contextlib.ExitStack() as stack:
            try:
                cluster = stack.enter_context(start_ceph(folder, ACCESS_KEY, SECRET_KEY))
            except NotFound as missing:
                pytest.skip(str(missing))
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server(ceph: Ceph) -> Iterator[S3Server]:
    """A real S3 server for all tests of a run: 12 s to start."""
    with ceph.serving() as server:
        ceph.add_user()
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
        yield S3Server(endpoint_url=f"http://127.0.0.1:{port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
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
