"""Claims about tables of labels: every format and place gives the same rows, and each failure is one clear line."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.lake import labels
from petpark_assets.domain.lake.label_specs import parse
from petpark_assets.domain.lake.label_tables import read
from petpark_assets.domain.lake.sources import FolderLake

ROWS = "key,label\ncat/1.jpg,cat\ndog/2.jpg,dog\n"
SAID = {"cat/1.jpg": ("cat",), "dog/2.jpg": ("dog",)}


@dataclasses.dataclass(frozen=True)
class BucketLake:
    """A lake that is not on this machine."""

    objects: dict
    uri: str = "s3://bucket/lake"

    def read(self, key):
        """Bytes, or why not."""
        if isinstance(self.objects[key], Exception):
            raise self.objects[key]
        return self.objects[key]


def said(spec, lake, read_bytes=None):
    """What a table says by key."""
    ((table,),) = parse([str(spec)])
    return dict(read(table, lake, read_bytes).by_key)


def write(folder, name, data):
    """A file with its folders."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def parquet(path, columns):
    """A Parquet file."""
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def lake(tmp_path):
    """An empty lake in a folder."""
    (tmp_path / "lake").mkdir()
    return FolderLake(tmp_path / "lake")


@pytest.mark.parametrize("spec", ["labels.csv", "lake:labels.csv", "below/labels.csv", "lake:below/labels.csv"])
def test_a_table_may_lie_next_to_the_photos(lake, spec):
    """The way most people keep labels; the lake is found wherever the command is run."""
    write(lake.folder, spec.removeprefix("lake:"), ROWS)
    assert said(spec, lake) == SAID


def test_a_table_may_lie_elsewhere(lake, tmp_path, monkeypatch):
    """A warehouse's export is not in the lake; of two tables of one name the lake's is meant, unless ./ is written."""
    path = write(tmp_path, "exports/labels.csv", ROWS)
    assert said(path, lake) == SAID
    monkeypatch.chdir(path.parent)
    assert said("labels.csv", lake) == SAID
    write(lake.folder, "labels.csv", "key,label\nother.jpg,cat\n")
    assert said("labels.csv", lake) == {"other.jpg": ("cat",)}
    assert said("./labels.csv", lake) == SAID


def test_a_table_beside_the_lake_may_be_spelt_by_it(lake, tmp_path):
    """A path is a path, and what it comes to lies elsewhere."""
    write(tmp_path, "labels.csv", ROWS)
    spelt = f"{lake.folder}/../labels.csv"
    assert said(spelt, lake) == SAID
    (settled,) = labels.settled([spelt], lake)
    assert said(settled, lake) == SAID


def test_a_table_of_a_lake_in_a_bucket_is_read_through_the_lake():
    """Its keys and its endpoint are those of the lake: nothing more has to be set up."""
    lake = BucketLake({"labels.csv": ROWS.encode()})
    assert said("lake:labels.csv", lake) == SAID
    assert said("s3://bucket/lake/labels.csv", lake) == SAID


def test_a_table_in_another_bucket_is_read_with_the_access_handed_in(lake):
    """A warehouse exports to a bucket of its own."""
    buckets = {"s3://warehouse/labels.csv": ROWS.encode()}
    assert said("s3://warehouse/labels.csv", lake, buckets.__getitem__) == SAID
    with pytest.raises(InvalidInput, match="are in a bucket, and there is no access to S3"):
        said("s3://warehouse/labels.csv", lake)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "\ufeff" + ROWS),
        ("labels.csv", ROWS.replace("\n", "\r\n").rstrip()),
        ("labels.csv", 'note,LABEL,Key\n"one\ntwo, ""three""",cat,cat/1.jpg\n,dog,dog/2.jpg\n'),
        ("labels.TSV", ROWS.replace(",", "\t")),
    ],
)
def test_what_spreadsheets_write_is_read(lake, name, text):
    """Marks at the beginning, other line ends, quoted texts in other columns, tabs."""
    write(lake.folder, name, text)
    assert said(name, lake) == SAID


def test_text_is_never_taken_for_a_number(lake):
    """The photo 007 is not 7, and a date or a true in a label's column is a word."""
    write(lake.folder, "labels.csv", "key,label\n007,cat\n1e3,true\nNULL,dog\n")
    assert said("labels.csv", lake) == {"007": ("cat",), "1e3": ("true",), "NULL": ("dog",)}


def test_parquet_is_read_with_the_types_it_has(lake):
    """Warehouses write dictionaries, bytes and large strings; columns nobody asked for are not read."""
    keys, labels = pa.array(["cat/1.jpg", "dog/2.jpg"], pa.large_string()), pa.array(["Cat", "Dog"])
    parquet(lake.folder / "l.parquet", {"extra": [{"a": 1}, None], "key": keys, "label": labels.dictionary_encode()})
    assert said("l.parquet", lake) == SAID
    digests = pa.array([bytes(32)], pa.binary(32))
    parquet(lake.folder / "s.parquet", {"sha256": digests, "label": ["cat"]})
    ((table,),) = parse(["s.parquet"])
    assert read(table, lake, None).words("any.jpg", "0" * 64) == ("cat",)


def test_columns_of_other_names_are_chosen_in_the_spec(lake):
    """Nobody should have to rewrite an export."""
    write(lake.folder, "labels.csv", "photo path,kind,label\ncat/1.jpg,cat,x\ndog/2.jpg,dog,y\n")
    assert said("labels.csv?key=photo%20path&label=kind", lake) == SAID


def test_a_table_with_no_rows_says_nothing(lake):
    """A header alone is what an export is on its first day."""
    write(lake.folder, "labels.csv", "key,label\n")
    parquet(lake.folder / "l.parquet", {"key": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    assert said("labels.csv", lake) == said("l.parquet", lake) == {}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("labels.csv", "", r"lake:labels\.csv cannot be read \(Empty CSV file\)"),
        ("labels.csv", "key,label\na,b,c\n", r"cannot be read \(CSV parse error: .*Expected 2 columns, got 3"),
        (
            "labels.csv",
            b"cl\xe9,label\na.jpg,cat\n",
            r"decode byte 0xe9.*\): give a CSV or TSV file in UTF-8",
        ),
        ("labels.csv", b"key,label\ncaf\xe9.jpg,cat\n", r"invalid UTF8 data\): give a CSV or TSV file in UTF-8"),
        ("labels.csv", "key;label\na;cat\n", r"there are 'key;label': choose them like .*separated by commas"),
        ("labels.csv", "path,species\na,cat\n", r"choose them like lake:labels\.csv\?key=path&label=species"),
        ("l.parquet", "key,label\na,cat\n", r"lake:l\.parquet cannot be read \(.*Parquet"),
        ("l.parquet", "", r"lake:l\.parquet cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_the_remedy(lake, name, data, words):
    """It was written by someone else, elsewhere, and read at night."""
    write(lake.folder, name, data)
    with pytest.raises(InvalidInput, match=words) as caught:
        said(f"lake:{name}", lake)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(f"lake:{name} ") == 1, "one trouble was told as the words of another"


@pytest.mark.parametrize("spec", ["nowhere.csv", "/no/such/labels.parquet", "lake:nowhere.csv", "~/nowhere.tsv"])
def test_a_table_that_is_not_there_is_named(lake, spec):
    """A mistyped name is the likeliest mistake, and the lake is the likeliest place."""
    with pytest.raises(InvalidInput, match="do not exist: give the table's path, or lake:FILE for one next to the"):
        said(spec, lake)


def test_a_column_that_python_cannot_hold_is_named(lake):
    """Warehouses mark what has no end by a date that is after the last year, and a column may be the wrong one."""
    dates = pa.array([2**52], pa.timestamp("ms"))
    pq.write_table(pa.table({"key": ["a.jpg"], "label": dates}), lake.folder / "l.parquet")
    with pytest.raises(InvalidInput, match=r"lake:l\.parquet cannot be read \(.*or a Parquet file"):
        said("lake:l.parquet", lake)


def test_a_folder_named_like_a_table_is_no_table(lake):
    """Spark writes folders that end in .parquet: it must be said that one file is wanted."""
    (lake.folder / "l.parquet").mkdir()
    with pytest.raises(InvalidInput, match=r"lake:l\.parquet cannot be read .*or a Parquet file"):
        said("lake:l.parquet", lake)


@pytest.mark.parametrize("spec", ["lake:../labels.csv", "lake:/etc/labels.csv"])
def test_a_table_of_the_lake_lies_in_it(lake, spec):
    """Otherwise `lake:` would be one more way to name any file."""
    with pytest.raises(InvalidInput, match="are not in the lake: give a path below it"):
        said(spec, lake)


def test_a_bucket_that_goes_away_is_a_reason_to_try_again():
    """Labels must never silently be missing because a server was."""
    lake = BucketLake({"a.csv": TransientError("the bucket went away"), "b.csv": UnreadablePhoto("unreadable", "no")})
    with pytest.raises(TransientError, match="went away"):
        said("lake:a.csv", lake)
    with pytest.raises(InvalidInput, match=r"lake:b\.csv cannot be read \(no\)"):
        said("lake:b.csv", lake)
