"""The connection to S3 that Dagster's steps are given, by way of dagster-aws.

No key is a field here: configuration is shown in the UI and stored. Not here: where the keys come from (aws.py), what
is asked of S3 (domain/s3/).
"""

from typing import Any

import dagster as dg
from pydantic import Field

from petpark_assets.domain.s3.access import S3Access
from petpark_assets.resources import aws


class S3Connection(dg.ConfigurableResource[S3Access]):
    """Which server of S3, and as whom; every field left alone is as AWS's variables and files say."""

    endpoint_url: str | None = Field(default=None, description="Address of the server; AWS_ENDPOINT_URL by default.")
    region_name: str | None = Field(default=None, description="Region; AWS_REGION by default.")
    profile_name: str | None = Field(default=None, description="Profile in ~/.aws; AWS_PROFILE by default.")

    def access(self) -> S3Access:
        """Endpoint and keys as they are now, frozen. Raises InvalidInput with the remedy when there are none."""
        return aws.find_access(self._client, region_name=self.region_name, profile_name=self.profile_name)

    def _client(self, region_name: str | None) -> Any:
        from dagster_aws.s3 import S3Resource  # 2 s

        return S3Resource(
            endpoint_url=self.endpoint_url, region_name=region_name, profile_name=self.profile_name
        ).get_client()
