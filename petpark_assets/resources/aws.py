"""Where the keys for S3 come from: AWS's own chain of places, when somebody asks for S3.

Endpoint, region, profile and keys are AWS's standard settings (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE,
AWS_ACCESS_KEY_ID, ..., the files in ~/.aws, a login, the machine's role). boto3 takes half a second to load, which only
those who use S3 pay. Not here: the connection that Dagster's steps are given (s3.py), what is asked of S3 (domain/s3/).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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


def s3_access() -> S3Access:
    """What a terminal reaches S3 with: Dagster and dagster-aws would take it 2 s to load. Raises InvalidInput."""
    return find_access(_client)


def find_access(
    make_client: Callable[[str | None], Any], *, region_name: str | None = None, profile_name: str | None = None
) -> S3Access:
    """Endpoint and keys as they are now, frozen; the client of S3 for a region is made by its caller.

    Raises InvalidInput with the remedy when there are none.
    """
    from botocore.exceptions import BotoCoreError

    try:
        # boto3 alone among AWS's tools reads AWS_DEFAULT_REGION only.
        where = make_client(region_name or process_variables().get("AWS_REGION")).meta
        keys = _keys(profile_name)
    except (BotoCoreError, ValueError, OSError) as error:
        problem = type(error).__name__
    else:
        return _frozen(where, keys)
    reason, remedy = _REASONS.get(problem, ("AWS's settings cannot be used", "check AWS_PROFILE and ~/.aws"))
    raise InvalidInput(f"there are no keys for S3 ({problem}): {reason}: {remedy}")


def _client(region_name: str | None) -> Any:
    import boto3

    return boto3.session.Session().client("s3", region_name=region_name)


def _keys(profile_name: str | None) -> "ReadOnlyCredentials | None":
    import boto3

    found = boto3.session.Session(profile_name=profile_name).get_credentials()
    return None if found is None else found.get_frozen_credentials()


def _frozen(where: Any, keys: "ReadOnlyCredentials | None") -> S3Access:
    if keys is None:
        raise InvalidInput(f"there are no keys for S3: {_NO_KEYS}")
    return S3Access(
        endpoint_url=where.endpoint_url,
        region=DEFAULT_REGION if where.region_name in {None, "aws-global"} else where.region_name,
        access_key_id=keys.access_key,
        secret_access_key=keys.secret_key,
        session_token=keys.token,
    )
