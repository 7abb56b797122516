"""How a record is shown in the UI: its digest and parents, small tables, small pictures.

Metadata beyond about 50 KB slows the UI, so pictures are a few KB of PNG inline, and pages are links.
"""

import base64
import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.files import digest, record_key
from petpark_assets.domain.home import Home
from petpark_assets.domain.records import Record
from petpark_assets.domain.registry import decisions
from petpark_assets.domain.workflow.summary import FLOW

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWNERS = ["team:park-data"]
ASSETS = {kind.asset for kind in FLOW}
"""A record's field that is named like an asset holds that parent's digest."""


def materialized(home: Home, record: Record, metadata: Mapping[str, Any]) -> dg.MaterializeResult[Any]:
    """The materialization of a record: its digest is the data version, its parents are metadata."""
    parents = {
        f"parent_{field.name}": getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name in ASSETS
    }
    key = record_key(type(record), record.dataset_version, getattr(record, "attempt", None))
    return dg.MaterializeResult(
        asset_key=record.asset,
        data_version=dg.DataVersion(digest(record)),
        metadata={
            **metadata,
            "digest": digest(record),
            "record": dg.MetadataValue.path(f"{home.store.uri}/{key}"),
            **parents,
        },
    )


def override(home: Home, attempt: Attempt) -> dict[str, str]:
    """That a person let a rejected model through, by whom and why; nothing where nobody did."""
    found = decisions.overrides(home.ledger.events()).get(attempt.id)
    return {} if found is None else {"override": decisions.sentence(found)}


def table(rows: Iterable[Mapping[str, Any]]) -> dg.MetadataValue[Any]:
    """A table with a column for each name that any row has."""
    plain = [{name: _cell(value) for name, value in row.items()} for row in rows]
    return dg.MetadataValue.md(_markdown(plain)) if plain else dg.MetadataValue.md("none")


def counts(values: Mapping[str, Any], *, of: str) -> dg.MetadataValue[Any]:
    """A table of names and numbers."""
    return table({of: name, "images": number} for name, number in values.items())


def picture(figure: "Figure", description: str) -> dg.MetadataValue[Any]:
    """A figure shown inline, as a PNG."""
    from petpark_assets.domain.report.canvas import to_png

    png = base64.b64encode(to_png(figure)).decode()
    return dg.MetadataValue.md(f"![{description}](data:image/png;base64,{png})")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _markdown(rows: list[dict[str, str]]) -> str:
    header = list(dict.fromkeys(name for row in rows for name in row))
    lines = [header, ["---"] * len(header), *([row.get(name, "") for name in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
