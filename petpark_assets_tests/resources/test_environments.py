"""Claims about the environment: read once, checked, and refused with the received value."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import boto3
import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from petpark_assets.definitions import build_defs
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.ledger import FileLedger
from petpark_assets.domain.postgres.ledger import PostgresLedger
from petpark_assets.resources.environments import (
    PROJECT_FOLDER,
    SECRETS,
    TABLE,
    ray_token,
    read_environment,
    variables_to_name,
)
from petpark_assets.resources.secret_sources import fetched
from petpark_assets_tests.servers import S3Server


def test_defaults_are_one_persons_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Nothing needs to be set for a first try."""
    monkeypatch.chdir(tmp_path)
    environment = read_environment({"LOGNAME": "anna"})
    assert environment.name == "local"
    assert environment.home == tmp_path / ".petpark"
    assert environment.photos is None


def test_ci_needs_no_more_than_a_persons_machine():
    """It differs by its name alone, as what the tests themselves run under."""
    assert read_environment({"PETPARK_ENV": "ci"}) == replace(read_environment({}), name="ci")
    assert read_environment().name == "ci"


def test_an_unknown_environment_is_refused_with_the_list():
    """A typo in a deployment must not silently be the default."""
    with pytest.raises(InvalidInput, match="PETPARK_ENV is 'prod': it must be one of local, ci, production"):
        read_environment({"PETPARK_ENV": "prod"})


def test_the_home_is_absolute(tmp_path: Path):
    """Dagster's processes work in other folders: a relative home would be several homes."""
    assert read_environment({"PETPARK_HOME": "somewhere"}).home.is_absolute()
    assert read_environment({"PETPARK_HOME": str(tmp_path), "PETPARK_ACTOR": "anna"}).actor == "anna"


def test_nobody_names_a_variable_of_ours_as_a_database_of_labels(monkeypatch: pytest.MonkeyPatch):
    """Who may launch a run would read, by the platform's own rights, what only an approver may change."""
    monkeypatch.setenv("PARK_DATABASE", "postgresql://reader@127.0.0.1/park")
    for name in SECRETS:
        monkeypatch.setenv(name, "postgresql://owner@127.0.0.1/park")
        monkeypatch.setenv(f"{name}_FILE", "/run/secrets/park")
    named = variables_to_name()
    assert "PARK_DATABASE" in named
    assert not [name for name in named if name.startswith(SECRETS)]


def test_the_project_folder_holds_the_instance_and_the_code_location():
    """`petpark` points DAGSTER_HOME at it."""
    assert {"dagster.yaml", "workspace.yaml"} <= {path.name for path in PROJECT_FOLDER.iterdir()}


@pytest.mark.parametrize(
    ("value", "store"),
    [(None, None), ("", None), ("s3://park/store/", "s3://park/store"), ("/mnt/store", "/mnt/store")],
)
def test_the_store_may_be_elsewhere(value, store):
    """What must last belongs where many machines reach it; the rest stays in the home."""
    variables = {} if value is None else {"PETPARK_STORE": value}
    assert read_environment(variables).store == store


@pytest.mark.parametrize("value", ["store", "https://anna:secret@park/store", "s3://", "s3://KEY:secret@park"])
def test_a_store_that_is_none_is_refused_and_not_repeated(value):
    """A relative folder would be another one for each of Dagster's processes."""
    with pytest.raises(InvalidInput, match="s3://bucket/prefix") as caught:
        read_environment({"PETPARK_STORE": value})
    assert "secret" not in str(caught.value)


def test_alerts_are_only_logged_unless_somebody_is_named():
    """And whoever prints an environment prints no password."""
    assert set(read_environment({}).alerts.receivers) == {"log"}
    told = {
        "PETPARK_ALERT_WEBHOOK": "https://chat.example/s3cret",
        "PETPARK_ALERT_EMAIL": "smtp://ada:hunter2@mail.example/?to=a@park.example",
        "PETPARK_UI_URL": "https://park.example/dagster/",
    }
    environment = read_environment(told)
    assert set(environment.alerts.receivers) == {"webhook", "email"}
    assert environment.alerts.ui_url == "https://park.example/dagster"
    assert "hunter2" not in repr(environment)
    assert "s3cret" not in repr(environment)


@pytest.mark.parametrize(
    ("value", "lake"),
    [(None, None), ("", None), ("s3://park/lake/", "s3://park/lake"), ("photos", str(Path("photos").absolute()))],
)
def test_the_watched_lake_is_the_same_for_every_process(value, lake):
    """A relative folder would be another one for each of Dagster's processes."""
    assert read_environment({} if value is None else {"PETPARK_LAKE": value}).lake == lake


@pytest.mark.parametrize("value", ["https://anna:secret@park/lake", "s3://KEY:secret@park"])
def test_a_watched_lake_that_is_none_is_refused_and_not_repeated(value):
    """The UI shows what resources are told."""
    with pytest.raises(InvalidInput, match="s3://bucket/prefix") as caught:
        read_environment({"PETPARK_LAKE": value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PETPARK_ARRIVALS", "0"),
        ("PETPARK_ARRIVALS", "many"),
        ("PETPARK_ARRIVALS_WAIT_H", "-1"),
        ("PETPARK_RECIPE", "x"),
    ],
)
def test_a_threshold_that_is_none_is_refused_by_name(name, value):
    """A sensor that never fires, or with every tick, would be found out late."""
    with pytest.raises(InvalidInput, match=value if name == "PETPARK_RECIPE" else name):
        read_environment({name: value})


def test_the_signing_key_is_the_homes_own_unless_another_is_named():
    """A command that is run in another folder must not make another key there."""
    assert read_environment({}).signing_key is None
    assert read_environment({"PETPARK_SIGNING_KEY": "park.pem"}).signing_key == Path("park.pem").absolute()


WHOLE = {
    "PETPARK_ENV": "production",
    "PETPARK_STORE": "s3://park/store",
    "PETPARK_DATABASE": "postgresql://dagster:hunter2@db.park:5432/dagster",
    "PETPARK_LEDGER": "postgresql://ledger:hunter6@db.park:5432/ledger",
    "PETPARK_LOGS_BUCKET": "park-logs",
    "MLFLOW_TRACKING_URI": "http://mlflow.park:5000/",
    "RAY_ADDRESS": "ray.park:6379",
    "RAY_API_SERVER_ADDRESS": "http://ray.park:8265",
    "RAY_AUTH_TOKEN": "hunter3",
    "PETPARK_PROXY_SECRET": "hunter5" * 5,
}
"""All that production requires."""


def test_production_lists_all_that_is_missing_in_one_line():
    """Who sets up a machine must not find out about its variables one by one."""
    given = {"PETPARK_ENV": "production", "PETPARK_DATABASE": "postgresql://dagster:hunter2@db/dagster"}
    with pytest.raises(InvalidInput) as caught:
        read_environment(given)
    said = str(caught.value)
    assert (
        "PETPARK_STORE, PETPARK_LEDGER, PETPARK_LOGS_BUCKET, MLFLOW_TRACKING_URI, PETPARK_PROXY_SECRET, RAY_ADDRESS"
        in said
    )
    assert "PETPARK_DATABASE" not in said
    assert "hunter2" not in said
    assert "\n" not in said


def test_production_needs_no_more_than_the_table_says():
    """And whoever prints the environment prints no password."""
    environment = read_environment(WHOLE)
    assert environment.database == "postgresql+psycopg2://dagster:hunter2@db.park:5432/dagster"
    assert environment.registry == "http://mlflow.park:5000"
    assert environment.ledger == WHOLE["PETPARK_LEDGER"]
    assert "hunter" not in repr(environment)
    assert {row.name for row in TABLE if row.is_required} == WHOLE.keys() - {"PETPARK_ENV"}


@pytest.mark.parametrize("name", sorted(WHOLE.keys() - {"PETPARK_ENV"}))
def test_each_of_them_is_required(name):
    """An empty variable, as a template leaves it, is a missing one."""
    with pytest.raises(InvalidInput, match=name):
        read_environment({**WHOLE, name: " "})


def test_an_address_that_only_its_driver_can_read_stops_no_other_check():
    """A password with a slash in it looks like a port: who opens the database says so, in one line."""
    odd = "postgresql://dagster:hun/ter2@db.park/dagster"
    assert read_environment({**WHOLE, "PETPARK_DATABASE": odd}).ledger == WHOLE["PETPARK_LEDGER"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PETPARK_STORE", "/mnt/store"),
        ("PETPARK_DATABASE", "mysql://park:hunter2@db/dagster"),
        ("PETPARK_LEDGER", "https://park:hunter2@db/ledger"),
        ("PETPARK_LEDGER", "postgresql://ledger:hunter2@db.park/dagster"),
        ("PETPARK_LEDGER", "postgresql://ledger:hunter2@DB.park:5432/dagster?sslmode=require"),
        ("MLFLOW_TRACKING_URI", "http://park:hunter2@mlflow:5000"),
        ("MLFLOW_TRACKING_URI", "sqlite:///hunter2.db"),
        ("PETPARK_CODE_PORT", "four"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_no_secret_repeated(name, value):
    """Logs are read by more people than passwords may be."""
    with pytest.raises(InvalidInput, match=name) as caught:
        read_environment({**WHOLE, name: value})
    assert "hunter2" not in str(caught.value)


def test_a_secret_may_lie_in_a_file(tmp_path: Path):
    """As Docker, Kubernetes and systemd hand them over, with the line's end that an editor leaves."""
    (tmp_path / "token").write_text("hunter4\n")
    told = {name: value for name, value in WHOLE.items() if name != "RAY_AUTH_TOKEN"}
    assert fetched({**told, "RAY_AUTH_TOKEN_FILE": str(tmp_path / "token")}, SECRETS)["RAY_AUTH_TOKEN"] == "hunter4"
    read_environment({**told, "RAY_AUTH_TOKEN_FILE": str(tmp_path / "token")})
    with pytest.raises(InvalidInput, match=r"RAY_AUTH_TOKEN_FILE names .*/none, which cannot be read: No such file"):
        read_environment({**told, "RAY_AUTH_TOKEN_FILE": str(tmp_path / "none")})


def test_a_secret_given_twice_is_refused():
    """Which of them holds would be found out when one of them is changed."""
    with pytest.raises(InvalidInput, match="RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_FILE are set") as caught:
        read_environment({**WHOLE, "RAY_AUTH_TOKEN_FILE": "/run/secrets/token"})
    assert "hunter3" not in str(caught.value)


@pytest.mark.slow
def test_a_secret_may_lie_in_aws_secrets_manager(aws_server: S3Server, monkeypatch: pytest.MonkeyPatch):
    """Fetched when a process starts, so that no machine's settings hold it; what is not there is named."""
    for name, value in aws_server.variables().items():
        monkeypatch.setenv(name, value)
    client = boto3.client("secretsmanager", region_name="us-east-1")
    client.create_secret(Name="park/database", SecretString=WHOLE["PETPARK_DATABASE"])
    told = {name: value for name, value in WHOLE.items() if name != "PETPARK_DATABASE"} | {"AWS_REGION": "us-east-1"}
    environment = read_environment({**told, "PETPARK_DATABASE_SECRET": "park/database"})
    assert environment.database.endswith("hunter2@db.park:5432/dagster")
    with pytest.raises(InvalidInput, match=r"names park/none, which AWS Secrets Manager does not give \(ResourceNot"):
        read_environment({**told, "PETPARK_DATABASE_SECRET": "park/none"})


def test_a_process_and_its_children_are_told_once(tmp_path: Path):
    """Dagster's configuration and Ray read the environment alone: a secret from a file is there, its path no more."""
    (tmp_path / "database").write_text(WHOLE["PETPARK_DATABASE"])
    variables = {**WHOLE, "PETPARK_HOME": str(tmp_path), "PETPARK_DATABASE_FILE": str(tmp_path / "database")}
    variables["AWS_REGION"] = "eu-north-1"
    del variables["PETPARK_DATABASE"]
    script = (
        "import json, os; from petpark_assets.resources import environments as here; here.enter_profile();"
        "here.enter_profile(); print(json.dumps(dict(os.environ)))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["DAGSTER_HOME"] == str(PROJECT_FOLDER / "infra")
    assert told["PETPARK_DATABASE"].startswith("postgresql+psycopg2://dagster:hunter2@")
    assert (told["PETPARK_CODE_HOST"], told["PETPARK_CODE_PORT"]) == ("127.0.0.1", "4000")
    assert "PETPARK_DATABASE_FILE" not in told
    assert told["AWS_DEFAULT_REGION"] == "eu-north-1"  # boto3, in Dagster's logs and MLflow's files, reads no other


@pytest.mark.parametrize("enter", ["enter_profile()", "enter_job(Path('/the/home'))"])
def test_the_password_of_a_proxy_before_mlflow_may_lie_in_a_file(enter: str, tmp_path: Path):
    """MLflow's client reads its own variable alone, on the platform's machine and in a job on another."""
    (tmp_path / "password").write_text("hunter8\n")
    told = {**WHOLE, "PETPARK_HOME": str(tmp_path), "MLFLOW_TRACKING_PASSWORD_FILE": str(tmp_path / "password")}
    script = (
        f"import os; from pathlib import Path; from petpark_assets.resources.environments import *; {enter};"
        "from mlflow.utils.credentials import read_mlflow_creds; print(read_mlflow_creds().password)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=told, capture_output=True, text=True, check=True)
    assert done.stdout == "hunter8\n"


def test_the_token_of_ray_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where nothing was settled before: Dagster's own commands load the definitions as they are."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert ray_token() is None
    (tmp_path / "token").write_text("hunter4\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_FILE", str(tmp_path / "token"))
    assert ray_token() == "hunter4"


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # Dagster's, of each schedule
def test_definitions_of_production_hold_no_secret():
    """Dagster shows resources in the UI and keeps the configuration of runs."""
    shown = str(RepositorySnap.from_def(build_defs(read_environment(WHOLE)).get_repository_def()))
    assert "http://mlflow.park:5000" in shown
    assert "hunter" not in shown


def test_a_step_finds_the_ledger_in_its_processs_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Its resource is shown in the UI, and so has no password; in a file, too, it is found."""
    house = build_defs(read_environment({"PETPARK_HOME": str(tmp_path)}))
    with dg.build_resources({"home": house.resources["home"]}) as resources:
        assert isinstance(resources.home.open().ledger, FileLedger)
        (tmp_path / "ledger").write_text(WHOLE["PETPARK_LEDGER"])
        monkeypatch.setenv("PETPARK_LEDGER_FILE", str(tmp_path / "ledger"))
        assert isinstance(resources.home.open().ledger, PostgresLedger)


def test_the_table_is_that_of_infra():
    """Who sets up a machine reads it there: the name of every variable, and whether production needs it."""
    lines = (PROJECT_FOLDER / "infra" / "README.md").read_text().splitlines()
    shown = {line.split("`")[1]: line for line in lines if line.startswith("| `") and line.split("`")[1].isupper()}
    assert shown.keys() == {row.name for row in TABLE}
    assert {name for name, line in shown.items() if "| required" in line} == {
        row.name for row in TABLE if row.is_required
    }
    assert {name for name, line in shown.items() if "secret" in line} == set(SECRETS)


def test_the_job_server_is_an_address_without_a_password():
    """The UI shows it; and Ray would take `host:port` of the cluster itself for its dashboard's."""
    address = read_environment({"RAY_API_SERVER_ADDRESS": "http://head:8265/"}).ray_jobs_address
    assert address == "http://head:8265"
    assert read_environment({"RAY_ADDRESS": "head:6379"}).ray_jobs_address is None
    for value in ("head:8265", "http://ada:secret@head:8265"):
        with pytest.raises(InvalidInput, match="without a password") as caught:
            read_environment({"RAY_API_SERVER_ADDRESS": value})
        assert "secret" not in str(caught.value)
