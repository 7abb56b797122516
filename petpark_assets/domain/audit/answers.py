"""The shape of every answer, for whoever shows it: plain fields, and lists of rows."""

from collections.abc import Mapping
from typing import Any


def flat(values: Mapping[str, Any], *, joined_by: str = " ", prefix: str = "") -> dict[str, Any]:
    """Mappings within mappings as fields of their own: `champion by`."""
    rows: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows |= flat(value, joined_by=joined_by, prefix=f"{prefix}{name}{joined_by}")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def divide(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Mapping[str, Any]]]]:
    """The plain fields, flat, and the lists of rows by name, each in their order."""
    tables = {name: value for name, value in document.items() if _is_table(value)}
    return flat({name: value for name, value in document.items() if name not in tables}), tables


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) for row in value)
