"""What the value of a variable must be: each is checked once, and refused in one line without repeating a secret.

Not here: which variables there are, or reading them (environments.py).
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.postgres import server
from petpark_assets.domain.s3.access import SCHEME, parse_place

POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg2://")
_DRIVER = POSTGRES[-1]
"""The one that dagster-postgres is written for; SQLAlchemy 2.1 would take another by itself."""


def is_utf8(value: str) -> bool:
    """Whether a word from outside is text: for other bytes Python has letters that no record and no JSON may have."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_utf8(variables: Mapping[str, str], names: Iterable[str]) -> None:
    """Raise InvalidInput with the names of those that are not text."""
    wrong = [name for name in names if not is_utf8(variables.get(name, ""))]
    if wrong:
        raise InvalidInput(f"{', '.join(wrong)} must be UTF-8: write it in letters that are")


def checked_store(uri: str | None, *, must_be_shared: bool) -> str | None:
    """Where many machines reach it, if they must; the same for Dagster's processes, which work in other folders."""
    if not uri:
        return None
    if uri.startswith(SCHEME):
        return parse_place(uri, "store").uri
    if must_be_shared:
        raise InvalidInput("PETPARK_STORE must be s3://bucket/prefix in production: all nodes read and write it")
    if not Path(uri).is_absolute():
        raise InvalidInput("PETPARK_STORE must be s3://bucket/prefix, or an absolute folder")
    return uri


def checked_registry(uri: str | None) -> str | None:
    """Without a password, since the UI shows what resources are told."""
    if not uri:
        return None
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        raise InvalidInput(
            "MLFLOW_TRACKING_URI must be http(s)://HOST:PORT of MLflow's server; a user and a password are given as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri.rstrip("/")


def checked_database(name: str, url: str | None) -> str | None:
    """With the driver that is installed."""
    if not url:
        return None
    for start in POSTGRES:
        if url.startswith(start):
            return _DRIVER + url.removeprefix(start)
    raise InvalidInput(f"{name} must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE")


def checked_files(name: str, uri: str) -> str:
    """A bucket's prefix or a folder that any process finds."""
    if uri.startswith(SCHEME):
        return parse_place(uri, "folder").uri
    path = uri.removeprefix("file://")
    if not Path(path).is_absolute():
        raise InvalidInput(f"{name} must be s3://bucket/prefix, or an absolute folder, to be backed up")
    return path


def checked_lake(uri: str | None) -> str | None:
    """Absolute, since Dagster's processes work in other folders; never with a secret, since the UI shows it."""
    if not uri or uri.startswith("file://"):
        return uri or None
    if uri.startswith(SCHEME):
        return parse_place(uri, "lake").uri
    if "://" in uri:
        raise InvalidInput("PETPARK_LAKE must be s3://bucket/prefix, or a folder")
    return str(Path(uri).expanduser().absolute())


def checked_ledger(url: str | None, dagster: str | None) -> str | None:
    """Any PostgreSQL but the database of Dagster, which others may empty, upgrade, or restore to an earlier day."""
    if not url:
        return None
    database = server.parse(url)
    if dagster and _place(dagster) == _place(url):
        raise InvalidInput(f"PETPARK_LEDGER names {database.where}, Dagster's own database: give the ledger another")
    return url


def _place(url: str) -> str:
    """Host, port and database, of any address: one that nobody can read is refused by those who open it."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower().removesuffix(":5432") + parts.path


def checked_queue(url: str | None) -> str | None:
    """The address of a queue, without a password."""
    if not url:
        return None
    if "@" in url or not re.fullmatch(r"https?://[^/?#\s]+/[^?#\s]+", url):
        raise InvalidInput(
            "PETPARK_LAKE_QUEUE must be a queue's address, like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )
    return url


def checked_job_server(address: str | None) -> str | None:
    """Ray's own variable for its dashboard's address. Without a password, since the UI shows it."""
    if address and (not address.startswith(("http://", "https://")) or "@" in address):
        raise InvalidInput("RAY_API_SERVER_ADDRESS must be http(s)://host:port, without a password")
    return address.rstrip("/") if address else None


def checked_number(variables: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    """A variable's number, or the default where it is not set."""
    try:
        value = float(variables.get(name) or default)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise InvalidInput(f"{name} is {variables[name]!r}: it must be a number, {least} or more")
    return value
