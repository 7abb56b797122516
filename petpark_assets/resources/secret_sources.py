"""Where the value of a secret comes from when a variable does not hold it: a file, or AWS Secrets Manager.

A secret is given as itself (`NAME`), as the path of a file that holds it (`NAME_FILE`: Docker, Kubernetes, systemd),
or as the name or ARN of a secret of AWS Secrets Manager (`NAME_SECRET`), which is asked by way of dagster-aws. No error
repeats one, nor what a server says of one.
Not here: which variables are secrets (environments.py).
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from petpark_assets.domain.errors import InvalidInput

FROM_FILE = "_FILE"
FROM_AWS = "_SECRET"


def fetched(variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """All variables, with the secrets of these names fetched from where they lie, and no longer where that is.

    Raises InvalidInput naming the variable, never its value, when a secret is given twice or cannot be read.
    """
    found = dict(variables)
    for name in names:
        given = [word for word in (name, name + FROM_FILE, name + FROM_AWS) if found.get(word)]
        if len(given) > 1:
            raise InvalidInput(f"{' and '.join(given)} are set: give one of them")
        path, secret = found.pop(name + FROM_FILE, None), found.pop(name + FROM_AWS, None)
        if path:
            found[name] = _from_file(name + FROM_FILE, Path(path))
        elif secret:
            found[name] = _from_aws(name + FROM_AWS, secret, variables.get("AWS_REGION"))
    return found


def _from_file(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"{name} names {path}, which cannot be read: {reason}") from None


def _from_aws(name: str, secret: str, region: str | None) -> str:
    """Its SecretString, by AWS's own chain of keys. boto3 takes seconds to load: only those who use it pay."""
    from botocore.exceptions import BotoCoreError, ClientError
    from dagster_aws.secretsmanager import SecretsManagerResource

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dagster-aws 0.29 calls this resource a beta
            client = SecretsManagerResource(region_name=region).get_client()
        return str(client.get_secret_value(SecretId=secret)["SecretString"])
    except ClientError as error:
        reason = error.response["Error"].get("Code", "an error")
    except (BotoCoreError, KeyError) as error:
        reason = type(error).__name__
    raise InvalidInput(
        f"{name} names {secret}, which AWS Secrets Manager does not give ({reason}): check the name, AWS_REGION and "
        "the role's right secretsmanager:GetSecretValue"
    )
