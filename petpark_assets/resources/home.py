"""The home of this process as a Dagster resource."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from petpark_assets.domain.home import Home, open_home
from petpark_assets.resources.environments import ledger_here, variables_to_name
from petpark_assets.resources.login import USER_TAG
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

    def open(self, run: dg.DagsterRun | None = None) -> Home:
        """The home as the domain knows it; for a step of a run, in the name of who launched it, where people log in."""
        tags = {} if run is None else run.tags
        return open_home(
            Path(self.root),
            actor=tags.get(USER_TAG) or self.actor,
            run_id=None if run is None else run.run_id,
            store_uri=self.store,
            registry_uri=self.registry,
            ledger_url=ledger_here(),
            s3=self.s3.access,
            variables=variables_to_name(),
        )
