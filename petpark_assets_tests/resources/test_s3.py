"""Claims about where keys for S3 come from: AWS's own places, one clear line when there are none, nothing shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.s3.access import parse_place
from petpark_assets.domain.s3.bucket import Bucket
from petpark_assets.resources.aws import s3_access
from petpark_assets.resources.s3 import S3Connection

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret+key/of+nobody"}


@pytest.fixture
def variables(monkeypatch):
    """Set environment variables for the time of a test."""

    def set_all(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    set_all({"AWS_EC2_METADATA_DISABLED": "true"})  # or the machine's role is looked for in the network
    return set_all


def write_aws_file(name, text):
    """A file in the `~/.aws` of this test run."""
    path = Path.home() / ".aws" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.debian
def test_keys_and_endpoint_come_from_the_environment(variables, s3_server, bucket):
    """The variables that every tool for S3 knows; asked for real."""
    variables(s3_server.variables())
    access = S3Connection().access()
    assert access == s3_access() == s3_server.access()
    assert list(Bucket(place=parse_place(f"s3://{bucket}", "lake"), access=access).list_objects()) == []


def test_a_profile_is_as_good(variables):
    """People with several accounts have them in files."""
    files = [
        write_aws_file("config", "[profile park]\nregion = eu-central-1\nendpoint_url = http://127.0.0.1:7480\n"),
        write_aws_file("credentials", "[park]\naws_access_key_id = AKIDPARK\naws_secret_access_key = park+secret\n"),
    ]
    variables({"AWS_PROFILE": "park"})
    access, from_a_terminal = S3Connection().access(), s3_access()
    for file in files:
        file.unlink()
    assert access == from_a_terminal
    assert (access.endpoint, access.region, access.secret_access_key) == (
        "http://127.0.0.1:7480", "eu-central-1", "park+secret",
    )  # fmt: skip


def test_configuration_comes_before_the_environment(variables):
    """A deployment may say in code which server is meant; never with which keys."""
    variables({**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-2"})
    access = S3Connection(endpoint_url="http://127.0.0.1:2", region_name="eu-west-1").access()
    assert (access.endpoint, access.region) == ("http://127.0.0.1:2", "eu-west-1")
    assert set(S3Connection.model_fields) == {"endpoint_url", "region_name", "profile_name"}


def test_without_an_endpoint_it_is_aws(variables):
    """Of the region, as AWS's own tools choose it."""
    variables({**KEYS, "AWS_REGION": "eu-central-1", "AWS_SESSION_TOKEN": "token"})
    access = S3Connection().access()
    assert access == s3_access()
    assert (access.endpoint, access.session_token) == ("https://s3.eu-central-1.amazonaws.com", "token")


@pytest.mark.parametrize("find", [s3_access, S3Connection().access], ids=["terminal", "step"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "there are no keys for S3: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, "PartialCredentialsError.*: only half of a pair of keys is set"),
        ({**KEYS, "AWS_PROFILE": "nobody"}, "ProfileNotFound.*: there is no such profile: check AWS_PROFILE"),
        ({**KEYS, "AWS_ENDPOINT_URL": "127.0.0.1:7480"}, "the endpoint or the region is none: check AWS_ENDPOINT_URL"),
        ({**KEYS, "AWS_ENDPOINT_URL": "http://anna:geheim@h"}, "has a user or password in it"),
    ],
)
def test_no_keys_end_in_one_clear_line(variables, settings, words, find):
    """What is missing, and where to put it."""
    variables(settings)
    with pytest.raises(InvalidInput, match=words) as caught:
        find()
    assert "\n" not in str(caught.value)
    assert not any(secret in str(caught.value) for secret in (KEYS["AWS_SECRET_ACCESS_KEY"], "geheim"))


def test_a_home_without_s3_looks_for_no_keys(tmp_path):
    """boto3 and dagster-aws take seconds to load, and a search for keys may ask the network."""
    code = (
        "import sys\n"
        "from petpark_assets.resources.environments import open_here, read_environment\n"
        "home = open_here(read_environment({'PETPARK_HOME': sys.argv[1]}))\n"
        "home.store.write_new('a', b'1')\n"
        "print(*sorted({'boto3', 'botocore', 'obstore', 'dagster_aws', 'dagster'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


def test_a_terminal_reaches_s3_without_dagster():
    """An auditor's question of a store on S3 would spend 2 s of imports on a connection that Dagster's steps need."""
    code = (
        "import sys\n"
        "from petpark_assets.resources.environments import s3_access\n"
        "s3_access()\n"
        "print(*sorted({'dagster', 'dagster_aws', 'torch', 'mlflow'} & set(sys.modules)))\n"
    )
    command, variables = [sys.executable, "-c", code], {**os.environ, **KEYS}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
