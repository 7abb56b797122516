"""The databases of Dagster and MLflow brought to the schema of the versions that are installed.

Both keep a version of their schema by alembic. MLflow's server refuses to work on an older one. Dagster's processes
compare nothing, and would fail at some query: it is done before they start (`check_dagster`). An upgrade of an empty
database makes it.
Not here: a backup, which comes first (README).
"""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.registry.mlflow_store import be_quiet


def upgrade_dagster() -> str:
    """Migrate the storage of this process's instance and move its data; the schema's version then."""
    from alembic.util import CommandError  # an unknown schema: a later release's
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import SQLAlchemyError

    errors = (CommandError, SQLAlchemyError, DagsterPostgresException)
    with (
        _one_line("Dagster's database", errors, "MLflow's was not touched"),
        dg.DagsterInstance.get() as instance,
    ):
        instance.upgrade()
        instance.reindex()
        schema = instance.event_log_storage.alembic_version()
    return str(schema[0] if schema else "")


def check_dagster() -> None:
    """Raises InvalidInput where this instance's schema is another than the installed version's.

    A database that does not answer is left to the process that asked: it tries again for a while, and says so.
    """
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import SQLAlchemyError

    with (
        contextlib.suppress(SQLAlchemyError, DagsterPostgresException),
        dg.DagsterInstance.get() as instance,
    ):
        found, installed = instance.event_log_storage.alembic_version() or (None, None)
        if found != installed:
            raise InvalidInput(
                f"Dagster's database has the schema {found}, and {installed} is installed: type petpark upgrade, or, "
                "where that schema is a later release's, install that release"
            )


def upgrade_mlflow(database: str) -> str:
    """Migrate MLflow's database, a URL of SQLAlchemy, after Dagster's; the schema's version then.

    In this process: `mlflow db upgrade URL` would show the password to everybody who lists processes.
    """
    be_quiet()
    from alembic.runtime.migration import MigrationContext
    from mlflow.db import upgrade
    from mlflow.exceptions import MlflowException
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _one_line("MLflow's database", (SQLAlchemyError, MlflowException), "Dagster's was, before it"):
        assert upgrade.callback is not None  # it is a command of click
        upgrade.callback(database)
        with create_engine(database).connect() as connection:
            return str(MigrationContext.configure(connection).get_current_revision())


@contextmanager
def _one_line(what: str, errors: tuple[type[Exception], ...], others: str) -> Iterator[None]:
    try:
        yield
    except errors as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise TransientError(f"{what} was not upgraded: {reason}; {others}: try again") from None
