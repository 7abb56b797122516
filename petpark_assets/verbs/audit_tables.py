"""How the answers of `petpark audit` are shown to people: what fits a terminal; `--json` and pages have all of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from petpark_assets.domain.audit.answers import divide
from petpark_assets.terminal import DIGITS, MOST_ROWS, show_fields, show_rows

COLUMNS: Mapping[str, Sequence[str]] = {
    "records": ("asset", "digest", "is_whole", "when", "who"),
    "events": ("number", "time", "actor", "event", "alias", "because"),
    "models": (
        "model_version", "dataset_version", "attempt", "side", "is_accepted", "overridden_by", "predicted", "is_right",
    ),
    "rejected": ("dataset_version", "attempt", "accuracy", "verdict", "overridden_by", "overridden_because"),
    "approved": ("when", "model_version", "alias", "by", "because", "overridden_by"),
    "changed_photos": ("change", "class", "key_before", "key_after"),
    "flipped": ("sha256", "label", "is_right_before", "is_right_after"),
    "index": (
        "model_version", "aliases", "dataset_version", "attempt", "is_accepted", "overridden_by", "accuracy", "who",
    ),
}  # fmt: skip
"""Of lists of rows whose rows are wider than a terminal."""
RARE = {"overridden_by", "overridden_because"}
"""Columns that are left out where they are empty."""


def show(document: Mapping[str, Any]) -> None:
    """One thing: its plain fields, then each list of rows under its name, cut to what can be read."""
    plain, lists = divide(document)
    if plain:
        show_fields(
            {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in plain.items()}
        )
    for name, rows in lists.items():
        Console(highlight=False).print(f"\n{name.replace('_', ' ')}", style="bold", markup=False)
        show_table(name, rows)


def show_table(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the columns of COLUMNS that any of them has, at most MOST_ROWS."""
    names = [column for column in COLUMNS.get(name, ()) if any(column in row for row in rows)]
    names = [column for column in names if column not in RARE or any(row.get(column) for row in rows)]
    show_rows({column: _short(row.get(column)) for column in names or row} for row in rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        Console(highlight=False).print(f"and {len(rows) - MOST_ROWS} more: --json prints all")


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4f}"
    is_digest = isinstance(value, str) and len(value) == 64 and value.isalnum()
    return value[:DIGITS] if is_digest else value[:19] if _is_time(value) else value


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and value[10:11] == "T" and value[:4].isdecimal()
