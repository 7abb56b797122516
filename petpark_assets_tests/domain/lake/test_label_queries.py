"""Claims about queries: real databases answer, are only read, and neither they nor we tell a secret."""

import contextlib
import sqlite3
import traceback
from urllib.parse import quote

import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.lake.label_queries import read
from petpark_assets.domain.lake.label_specs import parse
from petpark_assets.domain.lake.labels import open_labels
from petpark_assets.domain.lake.sources import FolderLake
from petpark_assets_tests.postgres import PASSWORD

SAID = {"cat/1.jpg": ("cat",), "dog/2.jpg": ("dog",)}
TABLE = (
    "DROP TABLE IF EXISTS photos",
    "CREATE TABLE photos (path text, species text)",
    "INSERT INTO photos VALUES ('cat/1.jpg', 'Cats'), ('dog/2.jpg', 'dog'), ('3.jpg', NULL), ('4.jpg', '')",
)
QUERY = "SELECT path AS key, species AS label FROM photos"


def said(spec, **variables):
    """What a query says by key."""
    ((query,),) = parse([spec])
    return dict(read(query, variables).by_key)


def refusal(spec, kind=InvalidInput, **variables):
    """The one line that a query ends in, and proof that nothing anywhere in it is the password."""
    with pytest.raises(kind) as caught:
        said(spec, **variables)
    told = "".join(traceback.format_exception(caught.value))
    assert all(secret not in told for secret in (PASSWORD, quote(PASSWORD, safe=""), "hunter2"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def park(tmp_path):
    """A park's database in a file; its address."""
    path = tmp_path / "park 1.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in TABLE:
            connection.execute(statement)
        connection.commit()
    return f"sqlite:///{path}"


@pytest.fixture
def server(postgres):
    """A PostgreSQL server with the same table."""
    postgres.run(*TABLE)
    return postgres


def with_password(server, password=PASSWORD):
    """The URL that an environment variable holds."""
    return server.address.replace("@", f":{quote(password, safe='')}@")


def test_a_query_on_sqlite_gives_labels(park):
    """The smallest database a park can have; NULL and empty labels say nothing."""
    assert said(f"sql:{park}#{QUERY}") == said(f"sql:$DB#{QUERY}", DB=park) == SAID


def test_a_query_is_sent_as_it_is(park):
    """Colons, percent signs and question marks are parameters elsewhere."""
    query = f"{QUERY} WHERE path LIKE '%at%' AND ':x %s ? #' <> ':y' -- the end"
    assert said(f"sql:{park}#{query}") == {"cat/1.jpg": ("cat",)}


def test_a_database_is_never_changed(park):
    """It is the park's, not ours: a query that writes is refused by the database itself."""
    query = "WITH a AS (SELECT 1) INSERT INTO photos SELECT 'x', 'cat' RETURNING path AS key, species AS label"
    assert "failed (attempt to write a readonly database)" in refusal(f"sql:{park}#{query}")
    assert said(f"sql:{park}#{QUERY}") == SAID


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    """SQLite makes an empty file of every mistyped name."""
    path = tmp_path / "typo.db"
    assert f"the database {path} of the labels sql:typo.db does not exist" in refusal(f"sql:sqlite:///{path}#{QUERY}")
    assert not path.exists()


def test_a_query_that_cannot_be_used_is_named_with_the_remedy(park, tmp_path):
    """Each failure says which source it is and what to mend."""
    (tmp_path / "notes.db").write_text("these are notes, and no database at all")
    no_table, no_columns = "SELECT key, label FROM cats", "SELECT path, species FROM photos"
    told = refusal(f"sql:{park}#{no_table}")
    assert "the query of the labels sql:park 1.db failed (no such table: cats): mend the query" in told
    told = refusal(f"sql:{park}#{no_columns}")
    assert "need the column 'label', and 'key' or 'sha256'; there are 'path', 'species': name them in" in told
    assert "file is not a database" in refusal(f"sql:sqlite:///{tmp_path}/notes.db#{QUERY}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "need the environment variable DB, .* none of petpark's own: set it to the database's URL"),
        ("", "need the environment variable DB"),
        ("park:hunter2", "environment variable DB is no database's URL"),
        ("postgresql://park:hunter2", "environment variable DB is no database's URL"),
        ("postgres://park:hunter2@127.0.0.1/park", "need a driver .* starts with postgresql:// or sqlite://"),
        ("mysql://park:hunter2@127.0.0.1/park", "need a driver that is not installed"),
        ("postgresql://park:hunter2@127.0.0.1/park?hunter2=1", "cannot be used .* check host, user and database"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_not_repeated(url, words):
    """It holds the password: the name of the variable is all that may be told."""
    with pytest.raises(InvalidInput, match=words) as caught:
        said(f"sql:$DB#{QUERY}", **({} if url is None else {"DB": url}))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_is_down_is_a_reason_to_try_again():
    """A warehouse has its nights, and nothing was half-read."""
    words = refusal(f"sql:$DB#{QUERY}", TransientError, DB="postgresql://park:hunter2@127.0.0.1:1/park")
    assert "sql:$DB does not answer" in words
    assert "run the same command again" in words


@pytest.mark.debian
def test_a_query_on_postgresql_gives_labels(server):
    """A real server over the network, with a password from the environment."""
    query = f"{QUERY} WHERE path LIKE '%' AND ':x' <> '%s';"
    assert said(f"sql:$DB#{query}", DB=with_password(server)) == SAID


@pytest.mark.debian
def test_postgresqls_own_ways_to_a_password_work(server, monkeypatch, tmp_path):
    """PGPASSWORD and the password file: what people have set up already; the URL in the spec has none."""
    spec = f"sql:{server.address}#{QUERY}"
    assert "no password supplied" in refusal(spec)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert said(spec) == SAID
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / "pgpass").write_text(f"127.0.0.1:{server.port}:*:*:{PASSWORD}\n")
    (tmp_path / "pgpass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    assert said(spec) == SAID


@pytest.mark.debian
def test_rows_are_taken_in_batches_from_the_server(server):
    """A warehouse's whole table must not come into memory at once: the server keeps a cursor, and lists itself."""
    (cursor,) = said("sql:$DB#SELECT statement AS key, 'cat' AS label FROM pg_cursors", DB=with_password(server))
    assert "FROM pg_cursors" in cursor
    many = "SELECT n::text AS key, 'dog' AS label FROM generate_series(1, 25000) AS n"
    assert len(said(f"sql:$DB#{many}", DB=with_password(server))) == 25_000


@pytest.mark.debian
def test_a_postgresql_database_is_never_changed(server):
    """A function in a query could write: the transaction is one that only reads."""
    server.run("CREATE SEQUENCE IF NOT EXISTS numbers")
    query = "SELECT nextval('numbers')::text AS key, 'cat' AS label"
    assert "cannot execute nextval() in a read-only transaction" in refusal(
        f"sql:$DB#{query}", DB=with_password(server)
    )


@pytest.mark.debian
@pytest.mark.parametrize("driver", ["", "+psycopg2", "+psycopg"])
def test_a_query_is_one_statement(server, driver):
    """A second one could end the transaction that only reads, and then write."""
    address = with_password(server).replace("postgresql://", f"postgresql{driver}://")
    query = "SELECT '1' AS key, 'cat' AS label; COMMIT; DELETE FROM photos; SELECT '1' AS key, 'cat' AS label"
    assert "cannot insert multiple commands" in refusal(f"sql:$DB#{query}", DB=address)
    assert said(f"sql:$DB#{QUERY}", DB=address) == SAID


@pytest.mark.debian
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "hunter2"}, "password authentication failed"),
        ({"user": "nobody"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_wrong_password_user_or_database_ends_in_one_line(server, change, words):
    """Told apart from a server that is down: waiting does not help here."""
    url = with_password(server, change.get("password", PASSWORD)).replace("//park", f"//{change.get('user', 'park')}")
    url = url.replace("/postgres", f"/{change.get('database', 'postgres')}")
    told = refusal(f"sql:$DB#{QUERY}", DB=url)
    assert words in told
    assert "check host, user and database, and the password in PGPASSWORD, ~/.pgpass or the environment" in told


@pytest.mark.debian
def test_a_query_that_fails_on_postgresql_is_named(server):
    """Also when it fails only while rows are being taken."""
    address = {"DB": with_password(server)}
    assert 'sql:$DB failed (relation "cats" does not exist' in refusal("sql:$DB#SELECT * FROM cats", **address)
    query = "SELECT (1 / (n - 20000))::text AS key, 'cat' AS label FROM generate_series(1, 30000) AS n"
    assert "failed (division by zero)" in refusal(f"sql:$DB#{query}", **address)


@pytest.mark.debian
def test_a_server_that_goes_away_is_a_reason_to_try_again(server):
    """In the middle of an answer, or before the next question; back again, it answers as before."""
    address = {"DB": with_password(server)}
    query = "SELECT pg_terminate_backend(pg_backend_pid())::text AS key, 'cat' AS label"
    assert "sql:$DB does not answer" in refusal(f"sql:$DB#{query}", TransientError, **address)
    server.stop()
    try:
        assert "sql:$DB does not answer" in refusal(f"sql:$DB#{QUERY}", TransientError, **address)
    finally:
        server.start()
    assert said(f"sql:$DB#{QUERY}", **address) == SAID


@pytest.mark.debian
def test_databases_and_tables_are_ranked_with_each_other(server, park, tmp_path):
    """One book from two databases, a table and the names, without a secret in anything it holds."""
    server.run("UPDATE photos SET species = 'dog' WHERE path = 'cat/1.jpg'")
    (tmp_path / "labels.csv").write_text("key,label\n3.jpg,cat\n")
    specs = [f"sql:$DB#{QUERY}", f"+sql:{park}#{QUERY}", "labels.csv", "names"]
    book = open_labels(specs, FolderLake(tmp_path), variables={"DB": with_password(server)})
    assert book.judge("cat/1.jpg", None).claims == ("sql:$DB: dog", "sql:park 1.db: cat", "folder: cat")
    assert book.judge("cat/1.jpg", None).reason == "conflicting_label"
    assert book.judge("3.jpg", None).source == "labels.csv"
    assert PASSWORD not in repr(book)
