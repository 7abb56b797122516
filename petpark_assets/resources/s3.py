"""Where the keys for S3 come from: AWS's own chain of places, by way of dagster-aws, when somebody asks for S3.

Endpoint, region, profile and keys are AWS's standard settings (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE,
AWS_ACCESS_KEY_ID, ..., the files in ~/.aws, a login, the machine's role). No key is a field here: configuration is
shown in the UI and stored. boto3 and dagster-aws take 3 s to load, which only those who use S3 pay.
Not here: what is asked of S3 (domain/s3/).
"""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.s3.access import DEFAULT_REGION, S3Access
from petpark_assets.resources.environments import process_variables

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_NO_KEYS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then run the same command again"
_LOGIN = "the login has expired", "log in again (aws sso login), then run the same command again"
_REASONS = {
    "ProfileNotFound": ("there is no such profile", "check AWS_PROFILE and ~/.aws/config"),
    "PartialCredentialsError": ("only half of a pair of keys is set", _NO_KEYS),
    "SSOTokenLoadError": _LOGIN,
    "TokenRetrievalError": _LOGIN,
    "UnauthorizedSSOTokenError": _LOGIN,
    "LoginRefreshRequired": _LOGIN,
    "ValueError": ("the endpoint or the region is none", "check AWS_ENDPOINT_URL and AWS_REGION"),
    "InvalidRegionError": ("the region is none", "check AWS_REGION"),
}
"""By the name of boto3's error: plain words and the remedy. Its own text may hold a program's output: not shown."""


class S3Connection(dg.ConfigurableResource[S3Access]):
    """Which server of S3, and as whom; every field left alone is as AWS's variables and files say."""

    endpoint_url: str | None = Field(default=None, description="Address of the server; AWS_ENDPOINT_URL by default.")
    region_name: str | None = Field(default=None, description="Region; AWS_REGION by default.")
    profile_name: str | None = Field(default=None, description="Profile in ~/.aws; AWS_PROFILE by default.")

    def access(self) -> S3Access:
        """Endpoint and keys as they are now, frozen. Raises InvalidInput with the remedy when there are none."""
        from botocore.exceptions import BotoCoreError

        try:
            endpoint_url, region, keys = self._look_up()
        except (BotoCoreError, ValueError, OSError) as error:
            problem = type(error).__name__
        else:
            if keys is None:
                raise InvalidInput(f"there are no keys for S3: {_NO_KEYS}")
            return S3Access(
                endpoint_url=endpoint_url,
                region=region,
                access_key_id=keys.access_key,
                secret_access_key=keys.secret_key,
                session_token=keys.token,
            )
        reason, remedy = _REASONS.get(problem, ("AWS's settings cannot be used", "check AWS_PROFILE and ~/.aws"))
        raise InvalidInput(f"there are no keys for S3 ({problem}): {reason}: {remedy}")

    def _look_up(self) -> tuple[str, str, "ReadOnlyCredentials | None"]:
        import boto3
        from dagster_aws.s3 import S3Resource

        # boto3 alone among AWS's tools reads AWS_DEFAULT_REGION only.
        region_name = self.region_name or process_variables().get("AWS_REGION")
        client = S3Resource(
            endpoint_url=self.endpoint_url, region_name=region_name, profile_name=self.profile_name
        ).get_client()
        keys = boto3.session.Session(profile_name=self.profile_name).get_credentials()
        region = client.meta.region_name
        return (
            client.meta.endpoint_url,
            DEFAULT_REGION if region in {None, "aws-global"} else region,
            None if keys is None else keys.get_frozen_credentials(),
        )
