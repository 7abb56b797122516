"""Claims about the daily comparison: it is silent while all is well, and a failed run names what is not."""

import dagster as dg

from petpark_assets.definitions import build_defs
from petpark_assets.domain.home import open_home
from petpark_assets.domain.workflow import ingestion
from petpark_assets.resources.environments import Environment
from petpark_assets.sensors.daily_reconcile import daily_reconcile
from petpark_assets_tests.domain.lake.test_ingest import make_lake, photo, put


def test_comparison_of_the_day_fails_naming_what_differs(tmp_path):
    """Whoever is told of failed runs must read in one line which photo it is about."""
    lake = make_lake(tmp_path / "lake")
    ingestion.new_dataset_version(open_home(tmp_path / "home", actor="tester"), str(lake), 16)
    environment = Environment(name="ci", home=tmp_path / "home", actor="tester", photos=None, ray_address=None)
    job = build_defs(environment).resolve_job_def(daily_reconcile.job_name)
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        assert job.execute_in_process(instance=instance).success
        put(lake, "cat/late.png", photo(500))
        failed = job.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = failed.filter_events(lambda event: event.is_step_failure)
    assert "1 missing" in event.step_failure_data.user_failure_data.description
    assert "cat/late.png (missing)" in event.step_failure_data.user_failure_data.description
