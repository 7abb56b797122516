"""The home of this process as a Dagster resource."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from petpark_assets.domain.home import Home, open_home
from petpark_assets.resources.environments import process_variables
from petpark_assets.resources.s3 import S3Connection


class PetparkHome(dg.ConfigurableResource[Home]):
    """Where everything is kept, and who is noted as having made it."""

    root: str = Field(description="The folder of the home; PETPARK_HOME.")
    actor: str = Field(description="Who is noted in records and in the ledger; PETPARK_ACTOR.")
    store: str | None = Field(
        default=None, description="Where what must last is kept, if not in the home: s3://bucket/prefix; PETPARK_STORE."
    )
    registry: str | None = Field(
        default=None, description="MLflow's server, if the registry is not in the home; MLFLOW_TRACKING_URI."
    )
    s3: S3Connection

    def open(self, *, run_id: str | None = None, actor: str | None = None) -> Home:
        """The home as the domain knows it; `run_id` is noted beside what the run makes, `actor` in place of ours."""
        return open_home(
            Path(self.root),
            actor=actor or self.actor,
            run_id=run_id,
            store_uri=self.store,
            registry_uri=self.registry,
            s3=self.s3.access,
            variables=process_variables(),
        )
