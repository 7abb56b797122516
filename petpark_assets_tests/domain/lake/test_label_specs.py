"""Claims about the spelling of sources: ranks are as declared, and a secret is neither taken nor repeated."""

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake.label_queries import QuerySpec
from petpark_assets.domain.lake.label_sources import FileNames, Folders
from petpark_assets.domain.lake.label_specs import TableSpec, parse


def test_each_source_ranks_below_those_before_it():
    """What is typed first counts most; the pair of names has one rank."""
    assert parse(["labels.csv", "names"]) == ((TableSpec(location="labels.csv"),), (Folders(), FileNames()))
    assert parse(["file-names", "folders"]) == ((FileNames(),), (Folders(),))


def test_a_plus_gives_the_rank_of_the_source_before():
    """How equal rank is declared; a file whose name starts with one is written ./+labels.csv."""
    assert parse(["folders", "+lake:a.csv", "./+b.csv"]) == (
        (Folders(), TableSpec(location="lake:a.csv")),
        (TableSpec(location="./+b.csv"),),
    )


def test_a_tables_columns_can_have_other_names():
    """A warehouse's export has its own."""
    (rank,) = parse(["s3://bucket/Labels.PARQUET?label=species&key=photo%20path"])
    columns = (("key", "photo path"), ("label", "species"))
    assert rank == (TableSpec(location="s3://bucket/Labels.PARQUET", columns=columns),)


def test_a_query_is_all_that_follows_the_first_hash():
    """Queries have every other character in them."""
    query = "SELECT key, label FROM labels WHERE note LIKE '#?a=b%' OR note = ':x'"
    assert parse([f"sql:sqlite:////data/park.db#{query}", f"sql:$PARK_DB#{query}"]) == (
        (QuerySpec(database="sqlite:////data/park.db", query=query),),
        (QuerySpec(database="$PARK_DB", query=query),),
    )


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (["labels.xlsx"], r"'labels\.xlsx' are no source of labels: give folders, file-names, names"),
        ([""], "'' are no source of labels"),
        (["folder"], "'folder' are no source"),
        (["https://example.org/labels.csv"], "https://… are no source"),
        (["+names"], r"'\+names' come first: a \+ gives the rank of the source before"),
        (["folders", "names"], "'names' are given twice"),
        (["a.csv", "folders", "a.csv"], r"'a\.csv' are given twice"),
        (["a.csv?path=key"], r"a\.csv choose 'path', .* none of key, sha256, label: write it like a\.csv\?key=path"),
        (["a.csv?label="], "choose 'label', which has no column"),
        (["sql:sqlite:///a.db"], r"no query that starts with SELECT or WITH after the first #"),
        (["sql:sqlite:///a.db#DELETE FROM labels"], "no query that starts with SELECT"),
        (["sql:park.db#SELECT 1"], "do not start with a database's URL"),
        (["sql:$#SELECT 1"], "do not start with a database's URL"),
    ],
)
def test_what_is_no_source_is_refused_in_one_line(specs, words):
    """The remedy stands in the message: nobody knows this spelling by heart."""
    with pytest.raises(InvalidInput, match=words) as caught:
        parse(specs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "sql:postgresql://park:hunter2@db/park#SELECT key, label FROM labels",
        "sql:postgresql://park:hunter2@db/park",
        "sql:postgresql://park:hunter2",
        "sql:postgresql://park:12#hunter2@db/park#SELECT key, label FROM labels",
        "sql:postgresql://park@db/park?password=hunter2#SELECT key, label FROM labels",
        "sql:mssql+pyodbc://?odbc_connect=UID%3Dpark%3BPWD%3Dhunter2#SELECT key, label FROM labels",
        "postgresql://park:hunter2@db/park#SELECT key, label FROM labels",
        "+postgresql://park:hunter2@db/labels.csv",
        "s3://park:hunter2@bucket/labels.csv",
        "https://park:hunter2@example.org/labels.csv",
    ],
)
def test_a_secret_in_a_spec_is_refused_and_not_repeated(spec):
    """Specs are stored in run configurations and records, and shown: a password there is a password published."""
    with pytest.raises(InvalidInput) as caught:
        parse(["folders", spec])
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__suppress_context__ or "hunter2" not in repr(caught.value.__context__)


def test_the_remedy_for_a_password_names_where_it_may_stand():
    """A refusal alone would leave a person with no way to the database."""
    with pytest.raises(InvalidInput, match=r"environment variable, 'sql:\$PARK_DATABASE.*PGPASSWORD or ~/\.pgpass"):
        parse(["sql:postgresql://park:hunter2@db/park#SELECT key, label FROM labels"])
