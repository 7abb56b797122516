"""infra/cloudformation.yaml as the tests ask it: read, deployed into moto, and its policies judged.

moto makes the network, machines, database, buckets and roles of a template, and leaves out of buckets what is asked
here all the same: `deploy` puts that by S3's own calls, in the template's words.
Not here: the claims (test_cloudformation.py).
"""

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml

from petpark_assets_tests.servers import S3Server

INFRA = Path(__file__).parents[2] / "infra"
TEMPLATE = INFRA / "cloudformation.yaml"
ACCOUNT, REGION, NAME = "123456789012", "us-east-1", "petpark"
OWNER = f"arn:aws:iam::{ACCOUNT}:role/photographer"
LAKE, STORE = f"{NAME}-lake-{ACCOUNT}", f"{NAME}-store-{ACCOUNT}"

UNKNOWN_TO_MOTO = {
    "${Database.Endpoint.Address}": "database.internal",
    "{{resolve:secretsmanager:${DatabasePassword}}}": "only-for-moto",
}
"""What moto 5.2 cannot resolve in this template, and what stands there instead."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (`!Ref X`) as their long ones ({"Ref": X})."""


def _long_form(loader: _Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        value: Any = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]
    if name == "GetAtt":
        value = value.split(".", 1)
    return {name if name == "Ref" else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


def read_template() -> dict[str, Any]:
    """The template as data."""
    return yaml.load(TEMPLATE.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader with words of CloudFormation


def resolved(value: Any) -> Any:
    """A part of the template with the names of buckets, queue and parameters filled in."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"}:
        return _named(value["Ref"])
    if value.keys() == {"Fn::GetAtt"}:
        return _named(".".join(value["Fn::GetAtt"]))
    if value.keys() == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda found: _named(found[1]), value["Fn::Sub"])
    return {name: resolved(item) for name, item in value.items()}


def _named(name: str) -> str:
    return {
        "AWS::Partition": "aws", "AWS::StackName": NAME, "AWS::AccountId": ACCOUNT, "LakeOwnerArn": OWNER,
        "Lake.Arn": f"arn:aws:s3:::{LAKE}", "Store.Arn": f"arn:aws:s3:::{STORE}", "Lake": LAKE, "Store": STORE,
        "LakeQueue.Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}-lake",
    }.get(name) or read_template()["Parameters"].get(name, {}).get("Default", name)  # fmt: skip


def client(server: S3Server, service: str, **keys: Any) -> Any:
    """A client of moto, as its administrator or with the keys of a role."""
    known = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key, **keys}
    return boto3.client(service, endpoint_url=server.endpoint_url, region_name=REGION, **known)


def deploy(server: S3Server) -> None:
    """Make everything, as far as moto can."""
    text = TEMPLATE.read_text()
    for known, stand_in in UNKNOWN_TO_MOTO.items():
        assert known in text
        text = text.replace(known, stand_in)
    image = client(server, "ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    told = {
        "LakeOwnerArn": OWNER, "AllowedCidr": "203.0.113.0/24", "ImageTag": "1", "PublicName": "park.test",
        "ProxyImage": image, "PlatformImage": image, "GpuImage": image,
    }  # fmt: skip
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in told.items()]
    clouds = client(server, "cloudformation")
    clouds.create_stack(
        StackName=NAME, TemplateBody=text, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )  # fmt: skip
    assert clouds.describe_stacks(StackName=NAME)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    _spell_policies()
    for resource, bucket in (("Lake", LAKE), ("Store", STORE)):
        _complete_bucket(client(server, "s3"), bucket, read_template()["Resources"][resource]["Properties"])


def _spell_policies() -> None:
    """By itself moto keeps a template's policies as data, and can judge only those that came as text."""
    from moto.iam.models import iam_backends

    for role in iam_backends[ACCOUNT]["aws"].roles.values():
        for name, document in role.policies.items():
            role.policies[name] = document if isinstance(document, str) else json.dumps(document)


def _complete_bucket(s3: Any, bucket: str, told: Mapping[str, Any]) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=resolved(told["VersioningConfiguration"]))
    s3.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=told["PublicAccessBlockConfiguration"]
    )  # fmt: skip
    rules = [_lifecycle_rule(dict(rule)) for rule in told["LifecycleConfiguration"]["Rules"]]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    if "NotificationConfiguration" in told:
        queues = resolved(told["NotificationConfiguration"])["QueueConfigurations"]
        configurations = [{"QueueArn": queue["Queue"], "Events": [queue["Event"]]} for queue in queues]
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": configurations}
        )


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """CloudFormation and S3 have two spellings of the same."""
    if rule.pop("ExpiredObjectDeleteMarker", False):
        rule["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    return {"ID": rule.pop("Id"), "Filter": {"Prefix": ""}, **rule}


def keys_of(server: S3Server, resource: str) -> dict[str, str]:
    """Keys of a role, as a machine of that role is given them."""
    arn = next(
        role["Arn"] for role in client(server, "iam").list_roles()["Roles"] if f"-{resource}-" in role["RoleName"]
    )
    keys = client(server, "sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


@contextmanager
def permissions_checked() -> Iterator[None]:
    """Have moto look at roles' policies, which it does not by itself."""
    from moto import settings
    from moto.core.authorization import ActionAuthenticatorMixin

    before = settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count
    settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count = 0, 0
    try:
        yield
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count = before


def is_denied(policy: Mapping[str, Any], *, action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a bucket's policy refuses, whatever roles allow: AWS's rule for the conditions that ours uses."""
    return any(
        statement["Effect"] == "Deny"
        and _matches(statement["Action"], action)
        and _matches(statement["Resource"], resource)
        and all(_holds(name, test, context) for name, test in statement.get("Condition", {}).items())
        for statement in policy["Statement"]
    )


def _matches(patterns: str | list[str], value: str) -> bool:
    return any(
        fnmatch.fnmatchcase(value, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    )


def _holds(name: str, test: Mapping[str, str], context: Mapping[str, str]) -> bool:
    compare = {"Bool": lambda a, b: a == b, "ArnNotEquals": lambda a, b: not fnmatch.fnmatchcase(a, b)}[name]
    return all(compare(context[key], expected) for key, expected in test.items())


def bucket_policy(resource: str) -> Any:
    """A policy of the template, with names filled in."""
    return json.loads(json.dumps(resolved(read_template()["Resources"][resource]["Properties"]["PolicyDocument"])))
