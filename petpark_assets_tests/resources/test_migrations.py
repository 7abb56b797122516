"""Claims about the schemas of Dagster's and MLflow's databases, on SQLite. PostgreSQL's: production/test_upgrade.py."""

import sqlite3

import dagster as dg
import pytest
from mlflow.store.db import utils as mlflow_database

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.resources import migrations


def test_a_refused_upgrade_of_mlflow_tells_what_was_done_before_it(tmp_path, monkeypatch):
    """Dagster's schema is a new one by then: who restores MLflow's backup alone must know."""
    monkeypatch.setattr(mlflow_database, "MAX_RETRY_COUNT", 0)
    (tmp_path / "mlflow.db").write_text("no database, though it is long enough to be one")
    with pytest.raises(TransientError) as refused:
        migrations.upgrade_mlflow(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert str(refused.value).endswith("file is not a database; Dagster's was, before it: try again")


def test_an_older_schema_of_dagster_is_refused_at_the_start(tmp_path, monkeypatch):
    """Dagster's own processes start on it, and fail later, at the first query that meets what is missing."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.get() as instance:
        index = tmp_path / "history" / "runs" / "index.db"
        assert instance.event_log_storage.alembic_version()
    migrations.check_dagster()
    with sqlite3.connect(index) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '16e3655b4d9b'")
    with pytest.raises(InvalidInput, match=r"has the schema 16e3655b4d9b, and .* is installed: type petpark upgrade"):
        migrations.check_dagster()
