"""What the checks say of a home, asked as Dagster asks them: by the door's own definitions, in a run.

Not here: the claims about them (test_*.py), or homes of which they say something bad (doctored.py).
"""

from typing import Any

import dagster as dg

from petpark_assets.assets.versions import show_versions
from petpark_assets.definitions import build_defs
from petpark_assets.domain.home import Home
from petpark_assets.resources.environments import Environment
from petpark_assets_tests.checks.doctored import RECIPE


def verdict(home: Home, check: str, version: str = "v0001") -> dg.AssetCheckEvaluation:
    """What one check alone says of a version."""
    definitions = _definitions(home)
    (key,) = (key for key in definitions.resolve_asset_graph().asset_check_keys if key.name == check)
    alone = definitions.resolve_job_def("build").get_subset(asset_check_selection={key})
    (found,) = _run(alone, home, version).get_asset_check_evaluations()
    assert (found.check_name, found.partition) == (check, version)
    return found


def build(home: Home, *assets: str) -> dg.ExecuteInProcessResult:
    """A run of some assets with their checks."""
    job = _definitions(home).resolve_job_def("build")
    return _run(job, home, "v0001", asset_selection=[dg.AssetKey(asset) for asset in assets])


def _definitions(home: Home) -> dg.Definitions:
    return build_defs(
        Environment(name="ci", home=home.root, actor="tester", photos=None, ray_address=None, recipe=RECIPE.name)
    )


def _run(job: dg.JobDefinition, home: Home, version: str, **options: Any) -> dg.ExecuteInProcessResult:
    folder = home.root / "dagster"
    folder.mkdir(exist_ok=True)
    with dg.DagsterInstance.ephemeral(tempdir=str(folder)) as instance:
        show_versions(instance, home)
        return job.execute_in_process(instance=instance, partition_key=version, raise_on_error=False, **options)
