"""Claims about the environment: read once, checked, and refused with the received value."""

from pathlib import Path

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.resources.environments import PROJECT_FOLDER, read_environment


def test_defaults_are_one_persons_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Nothing needs to be set for a first try."""
    monkeypatch.chdir(tmp_path)
    environment = read_environment({"LOGNAME": "anna"})
    assert environment.name == "local"
    assert environment.home == tmp_path / ".petpark"
    assert environment.photos is None


def test_an_unknown_environment_is_refused_with_the_list():
    """A typo in a deployment must not silently be the default."""
    with pytest.raises(InvalidInput, match="PETPARK_ENV is 'prod': it must be one of local, ci"):
        read_environment({"PETPARK_ENV": "prod"})


def test_the_home_is_absolute(tmp_path: Path):
    """Dagster's processes work in other folders: a relative home would be several homes."""
    assert read_environment({"PETPARK_HOME": "somewhere"}).home.is_absolute()
    assert read_environment({"PETPARK_HOME": str(tmp_path), "PETPARK_ACTOR": "anna"}).actor == "anna"


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


def test_the_job_server_is_an_address_without_a_password():
    """The UI shows it; and Ray would take `host:port` of the cluster itself for its dashboard's."""
    address = read_environment({"RAY_API_SERVER_ADDRESS": "http://head:8265/"}).ray_jobs_address
    assert address == "http://head:8265"
    assert read_environment({"RAY_ADDRESS": "head:6379"}).ray_jobs_address is None
    for value in ("head:8265", "http://ada:secret@head:8265"):
        with pytest.raises(InvalidInput, match="without a password") as caught:
            read_environment({"RAY_API_SERVER_ADDRESS": value})
        assert "secret" not in str(caught.value)
