"""How a source of labels is spelt, on the command line and in a run's configuration.

    names                            folders and file names, with equal rank: what counts where nothing is said
    folders | file-names             one of them alone
    FILE.csv | FILE.tsv | FILE.parquet, with ?key=COLUMN&sha256=COLUMN&label=COLUMN where columns have other names
        labels.csv, /exports/labels.csv    a file, looked for next to the photos of a lake on this machine first
        lake:labels.csv                    next to the photos, wherever the lake is
        s3://bucket/labels.parquet         in a bucket
    sql:URL#QUERY                    rows of a database: SQLAlchemy's URL, without a password; or
    sql:$VARIABLE#QUERY              an environment variable that holds the URL, with a password if need be

Each further one ranks below those before it; with a leading `+` it has the rank of the one before. Specs are stored in
records and shown, so one with a secret in it is refused, and no message repeats what may be one.
Not here: reading (label_tables.py, label_queries.py).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import parse_qsl

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import label_queries
from petpark_assets.domain.lake.label_queries import QuerySpec
from petpark_assets.domain.lake.label_sources import COLUMNS, FileNames, Folders

NAMES: Mapping[str, tuple[Folders | FileNames, ...]] = MappingProxyType({
    "folders": (Folders(),),
    "file-names": (FileNames(),),
    "names": (Folders(), FileNames()),
})  # fmt: skip
"""What is spelt with one word."""

SYNTAX = (
    "folders, file-names, names (both), a table (FILE.csv, FILE.tsv, FILE.parquet, lake:FILE.csv for one next to the "
    "photos, s3://...), or sql:URL#QUERY"
)
"""What may be given, for people."""

_TABLE = re.compile(r"(?P<location>.+\.(?:csv|tsv|parquet))(?:\?(?P<columns>.*))?", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table in a file."""

    location: str
    """A path, `lake:KEY`, or `s3://bucket/key`."""
    columns: tuple[tuple[str, str], ...] = ()
    """Pairs of one of COLUMNS and the table's own name for it."""


Spec = Folders | FileNames | TableSpec | QuerySpec


def parse(specs: Sequence[str]) -> tuple[tuple[Spec, ...], ...]:
    """Sources by rank, best first. Raises InvalidInput on what is no source, one given twice, one with a secret.

    >>> parse(["lake:labels.csv?label=species", "folders", "+file-names"])
    ((TableSpec(location='lake:labels.csv', columns=(('label', 'species'),)),), (Folders(), FileNames()))
    """
    ranks: list[tuple[Spec, ...]] = []
    for spec in specs:
        found = _parse(spec.removeprefix("+").strip())
        if any(source in rank for rank in ranks for source in found):
            raise InvalidInput(f"the labels {_shown(spec)} are given twice: each source has one rank")
        if not spec.startswith("+"):
            ranks.append(found)
        elif ranks:
            ranks[-1] += found
        else:
            raise InvalidInput(f"the labels {_shown(spec)} come first: a + gives the rank of the source before")
    return tuple(ranks)


def location_of(spec: str) -> str:
    """Of a table's spec, without a `+`, all but its columns."""
    table = _TABLE.fullmatch(spec)
    if table is None:
        raise AssertionError("the spec of a table was not parsed before")
    return table["location"]


def _parse(spec: str) -> tuple[Spec, ...]:
    if spec in NAMES:
        return NAMES[spec]
    if spec.startswith("sql:"):
        return (label_queries.parse(spec.removeprefix("sql:")),)
    return (_parse_table(spec),)


def _parse_table(spec: str) -> TableSpec:
    scheme = _SCHEME.match(spec)
    table = _TABLE.fullmatch(spec)
    if table is None or (scheme and (scheme[1] != "s3" or "@" in spec.split("/")[2])):
        raise InvalidInput(f"the labels {_shown(spec)} are no source of labels: give {SYNTAX}")
    columns = dict(parse_qsl(table["columns"] or "", keep_blank_values=True))
    unknown = next((name for name, column in columns.items() if name not in COLUMNS or not column), None)
    if unknown is not None:
        raise InvalidInput(
            f"the labels {table['location']} choose {unknown[:40]!r}, which has no column or is none of "
            f"{', '.join(COLUMNS)}: write it like {table['location']}?key=path&label=species"
        )
    return TableSpec(location=table["location"], columns=tuple(sorted(columns.items())))


def _shown(spec: str) -> str:
    """A spec for a message; of what looks like an address, which may hold a password, only the scheme."""
    if spec.removeprefix("+").startswith("sql:"):
        return "sql:…"
    scheme = _SCHEME.search(spec)
    return repr(spec) if scheme is None else f"{scheme[1]}://…"
