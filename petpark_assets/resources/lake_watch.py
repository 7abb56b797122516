"""What the sensors watch the lake for: from the environment, and without run config."""

import dagster as dg
from pydantic import Field


class LakeWatch(dg.ConfigurableResource[None]):
    """Which lake is watched, and when what has come is enough."""

    lake: str | None = Field(
        default=None, description="The lake, if not that of the newest version: a folder, or s3://...; PETPARK_LAKE."
    )
    queue: str | None = Field(
        default=None,
        description="Address of the SQS queue that the lake's bucket tells of its objects; PETPARK_LAKE_QUEUE.",
    )
    num_photos: int = Field(
        default=100, description="New, changed or removed photos that make a version at once; PETPARK_ARRIVALS."
    )
    wait_h: float = Field(default=6.0, description="Hours after which fewer make one; PETPARK_ARRIVALS_WAIT_H.")
