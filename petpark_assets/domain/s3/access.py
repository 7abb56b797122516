"""How a server of S3 is reached and as whom, and which part of a bucket is meant.

Not here: where the keys come from (resources/aws.py), or what is asked of the server (bucket.py, listing.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from petpark_assets.domain.errors import InvalidInput

Role = Literal["lake", "store", "folder"]

SCHEME = "s3://"
DEFAULT_REGION = "us-east-1"
"""What a server that knows no regions is signed for."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
"""AWS's rule for new buckets is narrower; old ones, and other servers', have capitals and underscores."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """Endpoint and keys, frozen for a step; workers elsewhere get a pickled copy. Its text shows no key."""

    endpoint_url: str | None = None
    """Where the server is, `http://` only when that is what a person wrote; None: AWS's own of the region."""
    region: str = DEFAULT_REGION
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of keys that expire."""

    def __post_init__(self) -> None:
        """Refuse an endpoint that is no address; one with a password is not repeated."""
        if self.endpoint_url is None:
            return
        if "@" in self.endpoint_url:
            raise InvalidInput(
                "the endpoint of S3 (AWS_ENDPOINT_URL) has a user or password in it: give host and port alone"
            )
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", self.endpoint_url):
            raise InvalidInput(
                f"the endpoint of S3 is {self.endpoint_url!r}: AWS_ENDPOINT_URL must look like https://host:port"
            )

    @property
    def endpoint(self) -> str:
        """The server's address, without a slash at its end."""
        return (self.endpoint_url or f"https://s3.{self.region}.amazonaws.com").rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The part of a bucket below a prefix, and what it is to us."""

    role: Role
    bucket: str
    prefix: str
    """Without slashes at its ends; empty for the whole bucket."""

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`; the same for every spelling of the same place."""
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def folder(self) -> str:
        """What every full key of this place starts with."""
        return f"{self.prefix}/" if self.prefix else ""


def parse_place(uri: str, role: Role) -> Place:
    """The place of `s3://bucket/prefix`. Raises InvalidInput; never repeats what may be a key given in the address."""
    bucket, _, rest = uri.removeprefix(SCHEME).partition("/")
    if "@" in bucket or ":" in bucket:
        raise InvalidInput(
            f"the {role}'s address has an @ or a colon where the bucket's name is: give s3://bucket/prefix, and keys "
            "by AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    prefix = rest.strip("/")
    if not _BUCKET.fullmatch(bucket) or (prefix and odd_key(prefix)):
        raise InvalidInput(f"the {role} {uri!r} cannot be opened: its address must look like s3://bucket/prefix")
    return Place(role=role, bucket=bucket, prefix=prefix)


def odd_key(key: str) -> str | None:
    """Why a key can be no path, which is what tools (obstore too) take it for; None for all others."""
    parts = key.split("/")
    if "" in parts:
        return "its key has an empty part (a slash too many): rename it"
    if "." in parts or ".." in parts:
        return "its key has a part that is . or ..: rename it"
    if _CONTROL.search(key):
        return "its key has a control character: rename it"
    return None


def storage_options(access: S3Access) -> dict[str, str]:
    """The same for Lance, which reads and writes S3 by itself. Holds the keys: never show or store it.

    Lance repeats whole operations, up to 12 times, in which each request is tried as often as said here: a server that
    goes away is given up after 9 s, one that hangs after minutes (lance 14.0.2). `Bucket.check` is quicker and clearer.
    """
    options = {
        "aws_endpoint_url_s3": access.endpoint,  # an AWS_ENDPOINT_URL_S3 of the process would win over `aws_endpoint`
        "aws_endpoint": access.endpoint,
        "aws_region": access.region,
        "aws_access_key_id": access.access_key_id,
        "aws_secret_access_key": access.secret_access_key,
        "aws_virtual_hosted_style_request": "false",
        "allow_http": str(access.endpoint.startswith("http://")).lower(),
        "client_max_retries": "5",
        "client_retry_timeout": "12",
        "connect_timeout": "5s",
    }
    return options | ({"aws_session_token": access.session_token} if access.session_token else {})


def access_of(options: Mapping[str, str]) -> S3Access:
    """Whose storage options these are: the other way round."""
    return S3Access(
        endpoint_url=options["aws_endpoint"],
        region=options["aws_region"],
        access_key_id=options["aws_access_key_id"],
        secret_access_key=options["aws_secret_access_key"],
        session_token=options.get("aws_session_token"),
    )
