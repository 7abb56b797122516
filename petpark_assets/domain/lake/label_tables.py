"""Labels from a table: a CSV, TSV or Parquet file next to the photos, elsewhere, or in a bucket, taken batch by batch.

Not here: how a table is spelt (label_specs.py), what its rows come to (label_sources.py).
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from petpark_assets.domain import files
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.lake import label_specs
from petpark_assets.domain.lake.label_sources import Row, Statements, find_columns, gather
from petpark_assets.domain.lake.label_specs import TableSpec
from petpark_assets.domain.lake.sources import FolderLake, Lake, S3Lake

IN_LAKE = "lake:"
"""A location that starts so is a key of the lake."""

BATCH_ROWS = 10_000

File = Path | bytes
"""A table on this machine, or the bytes of one that is not."""


def read(spec: TableSpec, lake: Lake, read_bytes: Callable[[str], bytes] | None) -> Statements:
    """All that a table says. Raises InvalidInput in one line on one that cannot be read or lacks the columns."""
    name = PurePosixPath(spec.location.removeprefix(IN_LAKE)).name
    with _named_errors(spec.location):
        file = _find(spec.location, lake, read_bytes)
        is_parquet = spec.location.lower().endswith(".parquet")
        return gather(name, _read_parquet(file, spec) if is_parquet else _read_csv(file, spec))


def settled(spec: str, lake: Lake) -> str:
    """The same table from any folder: `lake:labels.csv` for one that was found next to the photos, an absolute path."""
    location = label_specs.location_of(spec)
    if location.startswith((IN_LAKE, "s3://")):
        return spec
    key = _key_in_lake(location, lake)
    found = str(Path(location).expanduser().absolute()) if key is None else f"{IN_LAKE}{key}"
    return f"{found}{spec[len(location) :]}"


def _find(location: str, lake: Lake, read_bytes: Callable[[str], bytes] | None) -> File:
    key = _key_in_lake(location, lake)
    if key is not None and isinstance(lake, S3Lake) and lake.bucket.find(key) is None:
        raise FileNotFoundError(key)  # a photo that is not there was just taken out: here the name is wrong
    if key is not None:
        return lake.folder / key if isinstance(lake, FolderLake) else lake.read(key)
    if not location.startswith("s3://"):
        return Path(location).expanduser()
    if read_bytes is None:
        raise InvalidInput(f"the labels {location} are in a bucket, and there is no access to S3: give a copy's path")
    return read_bytes(location)


def _key_in_lake(location: str, lake: Lake) -> str | None:
    """The key of a table that lies next to the photos; None for one that lies elsewhere."""
    if location.startswith(IN_LAKE):
        key = location.removeprefix(IN_LAKE)
        if key.startswith("/") or ".." in key.split("/"):
            raise InvalidInput(f"the labels {location} are not in the lake: give a path below it, without ..")
        return key
    inside = location.removeprefix(f"{lake.uri.rstrip('/')}/")
    if inside != location and ".." not in inside.split("/"):
        return inside
    is_bare = not location.startswith((".", "/", "~"))
    return location if is_bare and isinstance(lake, FolderLake) and (lake.folder / location).is_file() else None


def _read_csv(file: File, spec: TableSpec) -> Iterator[Row]:
    """Rows of text: a key like 007 stays as it is, and no word is taken for null but the empty one."""
    delimiter = "\t" if spec.location.lower().endswith(".tsv") else ","
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with _open(file) as stream, pacsv.open_csv(stream, parse_options=parse) as header:
        names = header.schema.names
    places = _find_columns(spec, names)
    wanted = [names[place] for place in places if place is not None]
    convert = pacsv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()))
    with _open(file) as stream, pacsv.open_csv(stream, parse_options=parse, convert_options=convert) as batches:
        for batch in batches:
            yield from _rows(batch, names, places)


def _read_parquet(file: File, spec: TableSpec) -> Iterator[Row]:
    with _open(file) as stream, pq.ParquetFile(stream) as table:
        names = table.schema_arrow.names
        places = _find_columns(spec, names)
        wanted = [names[place] for place in places if place is not None]
        for batch in table.iter_batches(BATCH_ROWS, columns=wanted):
            yield from _rows(batch, names, places)


def _find_columns(spec: TableSpec, names: list[str]) -> tuple[int | None, int | None, int]:
    remedy = (
        f"choose them like {spec.location}?key=path&label=species (columns are separated by commas, in a .tsv by tabs)"
    )
    return find_columns(spec.location, names, dict(spec.columns), remedy)


def _rows(batch: Any, names: list[str], places: tuple[int | None, ...]) -> Iterator[Row]:
    nothing = [None] * batch.num_rows
    columns = [nothing if place is None else batch.column(names[place]).to_pylist() for place in places]
    yield from zip(*columns, strict=True)


def _open(file: File) -> Any:
    return pa.OSFile(str(file)) if isinstance(file, Path) else files.arrow_reader(file)


@contextlib.contextmanager
def _named_errors(location: str) -> Iterator[None]:
    """Turn what files and their formats answer into one line that names the table."""
    try:
        yield
    except InvalidInput:  # a ValueError, too
        raise
    except FileNotFoundError as error:
        raise InvalidInput(
            f"the labels {location} do not exist: give the table's path, or lake:FILE for one next to the photos"
        ) from error
    except (OSError, pa.ArrowException, UnreadablePhoto, ValueError, OverflowError) as error:  # or a date too far away
        raise InvalidInput(
            f"the labels {location} cannot be read ({_one_line(error)}): give a CSV or TSV file in UTF-8 with a header "
            "row, or a Parquet file"
        ) from error


def _one_line(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split())[:200]
