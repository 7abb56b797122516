"""What passes by itself, a server that went away or a full disk, is waited for: the step is tried again.

So is a step that could not write to Dagster's own database. Errors that are permanent fail at once, and so does what
runs in a person's terminal, who reads the line and decides.
Not here: requests that are asked again within seconds (domain/s3/answers.py), runs whose process died (dagster.yaml).
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg

from petpark_assets.domain.errors import TransientError
from petpark_assets.resources.runs import DATABASE_LOST, IN_PROCESS

Step = TypeVar("Step", bound=Callable[..., Any])

PAUSES_S = (15, 30, 60, 120)
"""Before each further try. With what the tries themselves wait, an outage of four minutes is outlived."""


DATABASE_LIBRARIES = {"dagster_postgres", "psycopg2", "sqlalchemy"}
"""Whose errors say that Dagster's database is away: those of other databases are our own by the time they come here."""


def passing(error: Exception) -> TransientError | None:
    """What a person reads of an error that may be gone in a minute; None for all others."""
    if isinstance(error, TransientError):
        return error
    is_of_database = type(error).__module__.partition(".")[0] in DATABASE_LIBRARIES
    return TransientError(DATABASE_LOST) if is_of_database else None


def tried_again(step: Step) -> Step:
    """A function of Dagster's, `context` first, that is tried again after an error that is transient."""

    @functools.wraps(step)
    def trying(context: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return step(context, *arguments, **named)
        except Exception as error:
            trouble = passing(error)
            if trouble is None or context.run.tags.items() >= IN_PROCESS.items():
                raise
            pause_s = PAUSES_S[min(context.retry_number, len(PAUSES_S) - 1)]
            raise dg.RetryRequested(max_retries=len(PAUSES_S), seconds_to_wait=pause_s) from trouble

    return trying  # type: ignore[return-value]
