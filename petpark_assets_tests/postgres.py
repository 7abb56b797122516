"""A real PostgreSQL server for tests: Debian's, on loopback, with passwords, in a temporary folder.

Not here: how it is started (infra/production/postgres.py), or what is asked of it.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.production.postgres import Postgres, make_server
from infra.production.processes import free_port
from petpark_assets.domain.errors import NotFound

PASSWORD = "s3cret/+@word"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server with one empty database, or skip the test naming Debian's package and its remedy."""
    folder = Path(tempfile.mkdtemp(prefix="petpark-postgres-"))  # not tmp_path, which only its owner may enter
    try:
        server = make_server(folder, free_port(), PASSWORD)
    except NotFound as missing:
        shutil.rmtree(folder)
        pytest.skip(str(missing))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def ledger_url(postgres: Postgres) -> Iterator[str]:
    """An empty database for a ledger, as infra/ledger.sql makes it; the URL of the role that reads and appends."""
    yield postgres.add_ledger(PASSWORD)
    postgres.run("DROP DATABASE ledger WITH (FORCE)")
