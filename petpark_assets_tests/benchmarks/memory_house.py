"""The house whose memory memory.py watches: the product's own definitions with twenty more of its sensor.

A code server loads it by its name. The copies look as often as the daemon lets them, every 5 s.
"""

import dagster as dg

from petpark_assets.definitions import build_defs
from petpark_assets.jobs import build, new_dataset_version
from petpark_assets.resources.environments import read_environment
from petpark_assets.sensors.lake_arrivals import lake_arrivals

NUM_COPIES = 20
NAME = "copy_of_lake_arrivals"


def copy(number: int) -> dg.SensorDefinition:
    """The sensor once more, under another name, and on."""
    return dg.sensor(
        name=f"{NAME}_{number}",
        jobs=[new_dataset_version, build],
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )(lake_arrivals._raw_fn)


defs = dg.Definitions.merge(
    build_defs(read_environment()), dg.Definitions(sensors=[copy(number) for number in range(NUM_COPIES)])
)
