"""Claims about `petpark upgrade` on PostgreSQL: from an older schema, and from none, to the one installed here."""

import json
import os
import subprocess
import sys

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as mlflow_database
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import create_engine, inspect, text

from petpark_assets.domain.ledger import FileLedger
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets_tests.postgres import PASSWORD

pytestmark = [pytest.mark.production, pytest.mark.debian]

OLD_MLFLOW = "90e64c465722"
"""A schema of 2019: users' databases are older than the newest release."""
OLD_DAGSTER = "16e3655b4d9b"
"""The schema of 2024, before a run's tags had an index by run and pools a limit of their own."""


def upgrade(variables):
    """`petpark upgrade`, as an operator runs it: exit code, and all that it printed."""
    return petpark(variables, "upgrade", "--json")


def petpark(variables, *words):
    """A verb, as an operator types it: exit code, and all that it printed. One that serves would not end."""
    command = [sys.executable, "-m", "petpark_assets.cli", *words]
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, cwd=PROJECT_FOLDER,
        timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_old_and_empty_databases_come_to_the_installed_version(postgres, ledger_url, tmp_path):
    """A new release must not need a person who knows SQL, nor lose what is in the database."""
    urls = {name: postgres.add_database(name, f"pw-{name}") for name in ("dagster_up", "mlflow_up")}
    FileLedger(tmp_path / "ledger.jsonl", "ada").append("verdict", {})
    variables = {
        "PETPARK_ENV": "production",
        "PETPARK_HOME": str(tmp_path),
        "PETPARK_STORE": "s3://park/store",
        "PETPARK_DATABASE": urls["dagster_up"],
        "PETPARK_LEDGER": ledger_url,
        "PETPARK_LOGS_BUCKET": "park-logs",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_BACKEND_STORE_URI": urls["mlflow_up"],
        "RAY_ADDRESS": "127.0.0.1:9",
        "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9",
        "RAY_AUTH_TOKEN": "token",
        "PETPARK_PROXY_SECRET": "0123456789abcdef" * 2,
        "AWS_REGION": "us-east-1",
    }
    engine = create_engine(urls["mlflow_up"].replace("://", "+psycopg2://"))
    _make_old_mlflow(engine)
    with pytest.raises(MlflowException, match="out-of-date"):
        mlflow_database._verify_schema(engine)
    code, out, err = upgrade(variables)
    assert code == 0, err
    assert json.loads(out)["ledger_events_moved"] == 1
    mlflow_database._verify_schema(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM experiments")).scalars().all() == ["pets"]

    dagster = create_engine(urls["dagster_up"].replace("://", "+psycopg2://"))
    schema = json.loads(out)["dagster"]
    assert _dagster_schema(dagster) == schema
    _make_old_dagster(dagster)
    code, _, refused = petpark(variables, "serve", "daemon")
    assert code == 1
    assert f"the schema {OLD_DAGSTER}, and {schema} is installed: type petpark upgrade" in " ".join(refused.split())
    code, again, err = upgrade(variables)
    assert code == 0, err
    assert json.loads(again)["ledger_events_moved"] == 0
    assert _dagster_schema(dagster) == schema
    columns = {column["name"] for column in inspect(dagster).get_columns("concurrency_limits")}
    assert "using_default_limit" in columns
    engine.dispose()
    dagster.dispose()
    assert "pw-" not in out + err
    assert PASSWORD not in out + err


def test_a_database_that_does_not_answer_is_one_line(tmp_path):
    """An operator with a wrong password gets no traceback of three libraries."""
    variables = {
        "PETPARK_ENV": "production", "PETPARK_HOME": str(tmp_path), "PETPARK_STORE": "s3://park/store",
        "PETPARK_DATABASE": "postgresql://dagster:hunter2@127.0.0.1:9/dagster", "PETPARK_LOGS_BUCKET": "park-logs",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "RAY_ADDRESS": "127.0.0.1:9",
        "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9", "RAY_AUTH_TOKEN": "token",
        "PETPARK_LEDGER": "postgresql://ledger:hunter2@127.0.0.1:9/ledger",
        "PETPARK_PROXY_SECRET": "0123456789abcdef" * 2,
    }  # fmt: skip
    code, out, err = upgrade(variables)
    assert code == 1
    assert "Dagster's database was not upgraded" in json.loads(out)["error"]
    assert "hunter2" not in out + err
    assert "Traceback" not in out + err


def _make_old_mlflow(engine) -> None:
    """As `mlflow server` of then left it, with an experiment."""
    from alembic import command

    InitialBase.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO experiments (name, lifecycle_stage) VALUES ('pets', 'active')"))
    config = mlflow_database._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLD_MLFLOW)


def _make_old_dagster(engine) -> None:
    """As it was before the column of the newest change but one."""
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE concurrency_limits DROP COLUMN using_default_limit"))
        connection.execute(text("UPDATE alembic_version SET version_num = :old"), {"old": OLD_DAGSTER})


def _dagster_schema(engine) -> str:
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
