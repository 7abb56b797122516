"""The local Dagster instance, dagster.yaml, as Dagster itself reads it; and the settings of that of production."""

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from petpark_assets.resources.environments import PROJECT_FOLDER, enter_home, instance_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home that this process has entered, and leaves again."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PETPARK_HOME", "PETPARK_DAGSTER", "DAGSTER_HOME"):
            patch.setenv(name, "set by enter_home, and put back afterwards")
        folder = tmp_path_factory.mktemp("home")
        enter_home(folder)
        yield folder


@pytest.fixture(scope="module")
def instance(home):
    """The instance of that home, as `petpark` and the UI open it."""
    assert home.is_dir()
    with dg.DagsterInstance.get() as loaded:
        yield loaded


@dg.asset
def said():
    """Something that a run writes: an event, an output and a log."""
    print("hello")  # noqa: T201 - what the compute log keeps
    return 1


def test_everything_stays_in_the_home(instance, home):
    """Runs and logs are the home's: they survive a restart, and deleting the home deletes them."""
    before = set(PROJECT_FOLDER.iterdir())
    assert dg.materialize([said], instance=instance).success
    assert {path.name for path in (home / "dagster").iterdir()} >= {"history", "schedules", "storage"}
    assert set(PROJECT_FOLDER.iterdir()) == before


def test_runs_survive_a_restart(instance):
    """What was built yesterday is seen in the UI today."""
    run_id = dg.materialize([said], instance=instance).run_id
    with dg.DagsterInstance.get() as restarted:
        assert restarted.get_run_by_id(run_id).is_success


def test_failed_step_is_not_retried(instance):
    """A rejected model fails its run by intent: training it again would give the same model and the same verdict."""
    assert instance.run_retries_enabled
    assert not instance.run_retries_retry_on_asset_or_op_failure


def test_one_training_at_a_time(instance):
    """Two trainings on one machine take twice as long each, and SQLite locks under many runs."""
    config = instance.get_concurrency_config()
    assert config.pool_config.default_pool_limit == 1
    assert config.run_queue_config.max_concurrent_runs == 2


def test_a_run_that_hangs_is_ended(instance):
    """One with a process that lives and gets nowhere: the daemon looks, and six hours are enough for any recipe."""
    assert instance.run_monitoring_enabled
    assert 0 < instance.run_monitoring_max_runtime_seconds <= 6 * 3600
    assert instance.run_monitoring_cancel_timeout_seconds > 0


def test_nothing_is_reported_to_anybody(instance):
    """What a park does with its photos is its own business."""
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


@pytest.fixture
def production(monkeypatch):
    """The settings of infra/dagster.yaml, checked by Dagster against its own schema; nothing is connected to."""
    for name in ("PETPARK_DATABASE", "PETPARK_LOGS_BUCKET", "PETPARK_DAGSTER", "PETPARK_PROXY_SECRET"):
        monkeypatch.setenv(name, f"/{name}")
    return InstanceRef.from_dir(str(instance_folder("production")))


def test_production_keeps_runs_and_logs_where_all_machines_see_them(production):
    """The webserver that shows what a step printed is another machine than the one that ran it."""
    classes = {data.class_name for data in (production.storage_data, production.compute_logs_data)}
    assert classes == {"DagsterPostgresStorage", "S3ComputeLogManager"}
    assert "PETPARK_DATABASE" in production.storage_data.config_yaml
    assert "/PETPARK_DATABASE" not in production.storage_data.config_yaml  # the variable's name, never its value


def test_production_gives_places_back_and_retries_crashes_alone(production):
    """A lost machine must not keep its GPU taken, nor a rejected model be trained for ever."""
    settings = production.settings
    assert settings["run_monitoring"]["enabled"]
    assert settings["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert settings["run_retries"]["max_retries"] > 0
    assert settings["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert settings["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}
    assert settings["retention"]["sensor"]["purge_after_days"]["skipped"] <= 7
    assert not settings["telemetry"]["enabled"]
