"""Labels from a database: one query, by SQLAlchemy, in a transaction that may only read, taken batch by batch.

The one home of SQLAlchemy. A URL with a password is taken from an environment variable only, never from a spec, and
what a database answers is cleaned of it. Not here: what the rows come to (label_sources.py).
"""

import contextlib
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from petpark_assets.domain.errors import InvalidInput, PetparkError, TransientError
from petpark_assets.domain.lake.label_sources import Row, Statements, find_columns, gather

if TYPE_CHECKING:
    import sqlalchemy

BATCH_ROWS = 10_000
CONNECT_TIMEOUT_S = 10
"""A host that answers nothing at all would otherwise be waited for for two minutes."""

_NO_PATH = (":memory:", "file:")
"""So a SQLite database starts that is no file's path."""
_REMEDY = "name them in the query: SELECT path AS key, species AS label FROM ..."
_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_READS = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_SECRET = re.compile(r"pass(?!file)|pwd|secret|token", re.IGNORECASE)
_COMES_BACK = re.compile(
    r"refused|time(d )?out|temporary failure|unreachable|starting up|shutting down|too many|remaining connection slots|"
    r"locked|terminating|closed the connection|connection (is closed|reset|lost)",
    re.IGNORECASE,
)
"""In the words of a database that may answer later."""


@dataclass(frozen=True, kw_only=True)
class QuerySpec:
    """A query on a database, without any secret."""

    database: str
    """SQLAlchemy's URL without a password, or `$VARIABLE`."""
    query: str

    @property
    def name(self) -> str:
        """Short, for manifests: `sql:park.db`, `sql:$PARK_DATABASE`."""
        if self.database.startswith("$"):
            return f"sql:{self.database}"
        url = _parse_url(self.database)
        return f"sql:{PurePosixPath(url.database or '').name or url.drivername}"


def parse(text: str) -> QuerySpec:
    """A query out of `URL#QUERY`. Raises InvalidInput, which repeats nothing of it: a password may be anywhere."""
    database, _, query = text.partition("#")
    if not _VARIABLE.fullmatch(database):
        try:
            url = _parse_url(database)
        except ValueError:
            raise InvalidInput(
                "the labels sql:… do not start with a database's URL: write sql:sqlite:////data/park.db#SELECT key, "
                "label FROM labels, or sql:postgresql://user@host/park#SELECT ..."
            ) from None
        if _secrets(url):
            raise InvalidInput(
                "the labels sql:… have a password in the URL, and they would be stored and shown: put the URL into an "
                "environment variable, 'sql:$PARK_DATABASE#SELECT ...' (in single quotes), or the password into "
                "PGPASSWORD or ~/.pgpass"
            )
    if not _READS.match(query):
        raise InvalidInput(
            "the labels sql:… have no query that starts with SELECT or WITH after the first #: write it like "
            "'sql:$PARK_DATABASE#SELECT key, label FROM labels' (in single quotes)"
        )
    return QuerySpec(database=database, query=query)


def settled(text: str) -> str:
    """The same query with the absolute path of a SQLite database on this machine."""
    database, _, query = text.partition("#")
    if _VARIABLE.fullmatch(database):
        return text
    url = _parse_url(database)
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith(_NO_PATH):
        return text
    return f"{url.set(database=os.path.abspath(url.database)).render_as_string()}#{query}"  # noqa: PTH100 - a text


def read(spec: QuerySpec, variables: Mapping[str, str]) -> Statements:
    """All that a query says; `variables` are those that it may name.

    Raises TransientError where the database cannot be reached, InvalidInput where it, or the query, is not as needed.
    """
    url = _resolve(spec, variables)
    with contextlib.closing(_rows(spec, url)) as rows:
        return gather(spec.name, rows)


def _resolve(spec: QuerySpec, variables: Mapping[str, str]) -> "sqlalchemy.URL":
    variable = _VARIABLE.fullmatch(spec.database)
    if variable is None:
        return _parse_url(spec.database)
    value = variables.get(variable[1])
    if not value:
        raise InvalidInput(
            f"the labels {spec.name} need the environment variable {variable[1]}, which must be none of petpark's own: "
            "set it to the database's URL, such as postgresql://user:password@host/park"
        )
    try:
        return _parse_url(value)
    except ValueError:
        raise InvalidInput(
            f"the environment variable {variable[1]} is no database's URL: set it to one such as "
            "postgresql://user:password@host/park (% and @ in a password are written %25 and %40)"
        ) from None


def _parse_url(text: str) -> "sqlalchemy.URL":
    """Raises ValueError, whose message may repeat a part of the text."""
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(text)
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError(str(error)) from None
    if set(url.host or "") & set("@#/?;") or ";" in (url.database or ""):  # an unquoted password goes on there
        raise ValueError("a sign of the password is not quoted")
    return url


def _rows(spec: QuerySpec, url: "sqlalchemy.URL") -> Generator[Row]:
    import sqlalchemy

    is_connected = False
    try:
        engine = sqlalchemy.create_engine(
            _only_reading(spec, url), poolclass=sqlalchemy.pool.NullPool, connect_args=_connect_args(url)
        )
        with engine.connect() as connection:
            is_connected = True
            # Not text(), which takes a colon in the query for a parameter; without parameters a % stays a %.
            options = {"yield_per": BATCH_ROWS, "no_parameters": True, "postgresql_readonly": True}
            with contextlib.closing(connection.execution_options(**options).exec_driver_sql(spec.query)) as result:
                places = find_columns(spec.name, list(result.keys()), {}, _REMEDY)
                for row in result:
                    yield _row(row, places)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        # Without its cause: SQLAlchemy's errors hold the statement, and a driver's may quote the URL, into any log.
        raise _trouble(spec, error, url, is_connected) from None


def _row(row: Any, places: tuple[int | None, ...]) -> Row:
    key, sha256, label = (None if place is None else row[place] for place in places)
    return key, sha256, label


def _only_reading(spec: QuerySpec, url: "sqlalchemy.URL") -> "sqlalchemy.URL":
    """SQLite makes a file that is not there, and has no transaction that only reads: its file is opened so.

    PostgreSQL takes several statements at once by psycopg2, and one of them could end the transaction.
    """
    if url.drivername == "postgresql+psycopg2":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith(_NO_PATH):
        return url
    if not Path(url.database).is_file():
        raise InvalidInput(f"the database {url.database} of the labels {spec.name} does not exist: check its path")
    return url.set(database=f"file:{quote(url.database)}").update_query_dict({"mode": "ro", "uri": "true"})


def _connect_args(url: "sqlalchemy.URL") -> dict[str, Any]:
    is_libpq = url.get_backend_name() == "postgresql" and url.get_driver_name() in ("psycopg", "psycopg2")
    return {"connect_timeout": CONNECT_TIMEOUT_S} if is_libpq and "connect_timeout" not in url.query else {}


def _trouble(spec: QuerySpec, error: Exception, url: "sqlalchemy.URL", is_connected: bool) -> PetparkError:
    """One line that names the source and says who must mend what, without a secret."""
    import sqlalchemy

    words = _words(error, url)
    is_gone = isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated
    if is_gone or _COMES_BACK.search(words):
        return TransientError(
            f"the database of the labels {spec.name} does not answer ({words}): see that it runs, under this host and "
            "port, and run the same command again"
        )
    if isinstance(error, ImportError | sqlalchemy.exc.NoSuchModuleError):
        return InvalidInput(
            f"the labels {spec.name} need a driver that is not installed ({words}): give a URL that starts with "
            "postgresql:// or sqlite://, or install the driver"
        )
    if not is_connected:
        return InvalidInput(
            f"the database of the labels {spec.name} cannot be used ({words}): check host, user and database, and the "
            "password in PGPASSWORD, ~/.pgpass or the environment variable"
        )
    return InvalidInput(f"the query of the labels {spec.name} failed ({words}): mend the query")


def _words(error: Exception, url: "sqlalchemy.URL") -> str:
    """What a driver says, in one line, with *** for every secret of the URL."""
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    for secret in sorted(_secrets(url), key=len, reverse=True):
        for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
            words = words.replace(spelling, "***")
    return words[:300]


def _secrets(url: "sqlalchemy.URL") -> list[str]:
    """The password, and what else the URL's query holds that must not be seen."""
    found = [
        value
        for name, given in url.query.items()
        for value in ((given,) if isinstance(given, str) else given)
        if _SECRET.search(name) or _SECRET.search(value)
    ]
    return [secret for secret in (str(url.password or ""), *found) if secret]
