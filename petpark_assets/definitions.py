"""The door: everything Dagster knows of this platform, built for one environment.

`defs` is what workspace.yaml loads. Tests build a house of their own with `build_defs` and never patch this one.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from petpark_assets import jobs
from petpark_assets.assets import lake, model, package, registry, report, splits
from petpark_assets.checks import lake as lake_checks
from petpark_assets.checks import package as package_checks
from petpark_assets.checks import registry as registry_checks
from petpark_assets.checks import report as report_checks
from petpark_assets.checks import splits as splits_checks
from petpark_assets.resources.closed import NoValues, closed
from petpark_assets.resources.environments import Environment, read_environment
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.lake_watch import LakeWatch
from petpark_assets.resources.ray_cluster import RayCluster
from petpark_assets.resources.ray_jobs import RayJobs
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.reports import ReportPages
from petpark_assets.resources.runs import noting_executor
from petpark_assets.resources.s3 import S3Connection
from petpark_assets.sensors.daily_reconcile import daily_reconcile
from petpark_assets.sensors.lake_arrivals import lake_arrivals
from petpark_assets.sensors.rejected_models import rejected_models
from petpark_assets.sensors.run_failures import run_failures
from petpark_assets.sensors.stuck_runs import stuck_runs

SENSORS = (lake_arrivals, run_failures, stuck_runs, rejected_models)

FORKED = noting_executor.configured(lambda _told: {"start_method": {"forkserver": {}}}, name="forked", config_schema={})
"""A process a step, forked from one a run that has imported this module: Dagster's default imports it for each step.

A run says nothing of it: that process would import whatever module it names."""

OPEN = {"recipe"}
"""The resources that a run may be told otherwise."""


def build_defs(
    environment: Environment,
    overrides: Mapping[str, Any] | None = None,
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
) -> dg.Definitions:
    """The definitions of an environment; `overrides` puts other resources in by name, `loggers` other loggers."""
    s3 = S3Connection()
    resources = {
        "io_manager": NoValues(),
        "s3": s3,
        "home": PetparkHome(
            root=str(environment.home),
            actor=environment.actor,
            store=environment.store,
            registry=environment.registry,
            s3=s3,
        ),
        "recipe": RunRecipe(recipe=environment.recipe),
        "ray_cluster": RayCluster(address=environment.ray_address),
        "ray_jobs": RayJobs(address=environment.ray_jobs_address, gpus_per_training=environment.training_gpus),
        "report_pages": ReportPages(base_url=environment.reports_url),
        "alerts": environment.alerts,
        "lake_watch": LakeWatch(
            lake=environment.lake,
            queue=environment.lake_queue,
            num_photos=environment.arrivals,
            wait_h=environment.arrivals_wait_h,
        ),
        **(overrides or {}),
    }
    return dg.Definitions(
        assets=dg.load_assets_from_modules([lake, splits, model, report, package, registry], include_specs=True),
        asset_checks=dg.load_asset_checks_from_modules(
            [lake_checks, splits_checks, report_checks, package_checks, registry_checks]
        ),
        jobs=jobs.JOBS,
        sensors=SENSORS,
        schedules=[daily_reconcile],
        resources={name: told if name in OPEN else closed(told) for name, told in resources.items()},
        loggers=loggers,
        executor=FORKED,
    )


defs = build_defs(read_environment())
