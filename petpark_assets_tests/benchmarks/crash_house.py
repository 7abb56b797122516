"""The house that crashes.py kills: the product's own definitions with a tiny recipe, and sensors that look often.

A code server loads it by its name. Sensors look every 5 s in place of 30 and 60, and take a lake as settled after 1 s
in place of 20, or most of an hour of kills would be waiting; nothing else is otherwise.

    python -m petpark_assets_tests.benchmarks.crash_house LAKE        the same build in this process, undisturbed
"""

import importlib
import sys

import dagster as dg

from petpark_assets.definitions import SENSORS, build_defs
from petpark_assets.resources.environments import read_environment
from petpark_assets.resources.recipe import RunRecipe

INTERVAL_S = 5
SETTLE_S = 1.0
ON = ("lake_arrivals", "run_failures", "stuck_runs")
TINY = {
    "recipe": "demo",
    "search": {"num_trials": 2, "trial_epochs": 1},
    "hyperparameters": {"epochs": 2, "width": 4},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}
"""Two trials on Ray and two epochs: what is learned does not matter here, that it is the same does."""

vars(importlib.import_module("petpark_assets.sensors.lake_arrivals"))["SETTLE_S"] = SETTLE_S
for sensor in SENSORS:
    sensor._min_interval = INTERVAL_S
    if sensor.name in ON:
        sensor._default_status = dg.DefaultSensorStatus.RUNNING

defs = build_defs(read_environment(), overrides={"recipe": RunRecipe(**TINY)})


def main() -> None:
    """The first version of a lake, and all that is made of it."""
    look = {"ops": {"look_at_the_lake": {"config": {"lake": sys.argv[1]}}}}
    with dg.DagsterInstance.local_temp() as instance:  # an ephemeral one resolves no partition
        defs.resolve_job_def("new_dataset_version").execute_in_process(instance=instance, run_config=look)
        defs.resolve_job_def("build").execute_in_process(instance=instance, partition_key="v0001")


if __name__ == "__main__":
    main()
