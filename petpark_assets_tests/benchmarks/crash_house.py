"""The house that crashes.py kills: the product's own definitions with a tiny recipe, and sensors that look often.

A code server loads it by its name. Sensors look every 5 s in place of 30 and 60, and take a lake as settled after 1 s
in place of 20, or most of an hour of kills would be waiting; nothing else is otherwise.
"""

import importlib

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
