"""What persons decide about models: who and why, asked for and told in the same words everywhere.

Light, so that every view can ask. Not here: what a decision changes (versions.py, workflow/gate.py).
"""

from collections.abc import Iterable

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.ledger import Event

MAX_CHARACTERS = 2000
"""Of a reason: it goes into packages, tags and pages."""


def require_signed(by: str, because: str, *, what: str) -> tuple[str, str]:
    """Who and why, each in one line. Raises InvalidInput where one is missing, or is no sentence but a text."""
    by, because = " ".join(by.split()), " ".join(because.split())
    if not by or not because:
        raise InvalidInput(f"{what} needs who and why: --by NAME --because TEXT")
    if max(len(by), len(because)) > MAX_CHARACTERS:
        raise InvalidInput(f"{what} has a reason of {len(because)} characters: say it in {MAX_CHARACTERS}")
    return by, because


def overrides(events: Iterable[Event]) -> dict[str, Event]:
    """The last override of the gate for each attempt that has one, from the ledger."""
    return {event.subject["attempt"]: event for event in events if event.event == "gate_overridden"}


def told(override: Event | None) -> dict[str, str | None]:
    """An override as a row's fields: overridden_by, overridden_because, overridden_at (ISO 8601, UTC), or None each."""
    if override is None:
        return dict.fromkeys(("overridden_by", "overridden_because", "overridden_at"))
    by, because = override.subject["by"], override.subject["because"]
    return {"overridden_by": by, "overridden_because": because, "overridden_at": override.time}


def sentence(override: Event) -> str:
    """An override in one line."""
    by, because = override.subject["by"], override.subject["because"]
    return f"rejected, and let through by {by} on {override.time[:16].replace('T', ' ')} UTC: {because}"
