"""Claims about a lake and a store in a bucket, as a person uses them: they work, say what is wrong, and keep no key."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from petpark_assets.definitions import build_defs
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.package.contents import SUMS
from petpark_assets.domain.recipes import find_recipe
from petpark_assets.domain.s3.store import S3Store
from petpark_assets.domain.workflow import packaging
from petpark_assets.resources.environments import read_environment
from petpark_assets.resources.runs import IN_PROCESS
from petpark_assets_tests.servers import expired_access

pytestmark = pytest.mark.debian

NUM_PHOTOS = 24


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small lake in a folder."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_lake(folder, num_images=NUM_PHOTOS, num_broken=2)
    return folder


def ingest(home, lake, variables):
    """`petpark lake ingest`: exit code, and all that it printed."""
    environment = {**os.environ, **variables, "PETPARK_HOME": str(home)}
    command = [Path(sys.executable).parent / "petpark", "lake", "ingest", "--lake", lake, "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def holders(home, *secrets):
    """Files below a home that hold one of the secrets."""
    contents = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return [path for path, content in contents.items() if any(secret.encode() in content for secret in secrets)]


def upload(client, bucket, folder):
    """Put a folder's photos into a bucket."""
    paths = [path for path in folder.rglob("*") if path.is_file()]

    def put(path):
        client.put_object(Bucket=bucket, Key=f"photos/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, paths))


def test_a_lake_and_a_store_in_a_bucket_make_a_version(s3_server, bucket, drawn, tmp_path):
    """What a person with two addresses and a pair of keys does; and no key is found anywhere afterwards."""
    upload(s3_server.client(), bucket, drawn)
    home = tmp_path / "home"
    variables = {**s3_server.variables(), "PETPARK_STORE": f"s3://{bucket}/store"}
    code, out, err = ingest(home, f"s3://{bucket}/photos", variables)
    assert code == 0, err
    assert json.loads(out)["dataset_version"] == "v0001"
    store = S3Store(f"s3://{bucket}/store", s3_server.access(), tmp_path / "cache")
    keys = store.list_keys("")
    assert len([key for key in keys if key.startswith("originals.lance/")]) > 0
    assert len([key for key in keys if key.startswith("pixels.lance/")]) > 0
    assert not (home / "store").exists()
    assert s3_server.secret_key not in out + err
    assert holders(home, s3_server.secret_key) == []
    assert [key for key in keys if s3_server.secret_key.encode() in store.read(key)] == []


def test_a_packages_folder_has_all_its_files(s3_server, bucket, tmp_path):
    """Predictor and registry open the folder; on S3 there is none until its files are fetched."""
    home = open_home(tmp_path, actor="anna", store_uri=f"s3://{bucket}/store", s3=s3_server.access)
    attempt = new_attempt("v0001", find_recipe("demo"))
    for name in (SUMS, "model.onnx"):
        home.store.write_new(f"onnx_package/v0001/{attempt.id}/{name}", name.encode())
    files = sorted(path.name for path in packaging.package_folder(home, attempt).iterdir())
    assert files == sorted([SUMS, "model.onnx"])


def wrong_keys(servers):
    """The secret of another account."""
    return {**servers["ceph"].variables(), "AWS_SECRET_ACCESS_KEY": "another+accounts/secret"}


def expired_token(servers):
    """Yesterday's login."""
    access = expired_access(servers["moto"])
    return {
        **servers["moto"].variables(),
        "AWS_ACCESS_KEY_ID": access.access_key_id,
        "AWS_SECRET_ACCESS_KEY": access.secret_access_key,
        "AWS_SESSION_TOKEN": access.session_token,
    }


def missing_bucket(servers):
    """The right keys for a bucket that is not there."""
    return servers["moto"].variables()


def server_gone(servers):
    """An address where nobody listens."""
    return {**servers["ceph"].variables(), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}


REFUSALS = {
    wrong_keys: "says 403 SignatureDoesNotMatch, the secret key is not the access key's: check AWS_PROFILE",
    expired_token: "says 400 ExpiredToken, the credentials have expired: log in again (aws sso login)",
    missing_bucket: "says 404 NoSuchBucket, there is no bucket no-such-park: check the name",
    server_gone: "cannot be reached: connection refused (http://127.0.0.1:9): check AWS_ENDPOINT_URL",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSALS, ids=lambda what: what.__name__)
def test_what_a_server_refuses_is_one_line_and_leaves_no_secret(s3_server, aws_server, tmp_path, what):
    """The line names the lake, says what is wrong and what to do."""
    variables = what({"ceph": s3_server, "moto": aws_server})
    home = tmp_path / "home"
    code, out, err = ingest(home, "s3://no-such-park/photos", variables)
    assert code == 1
    last = [line for line in err.splitlines() if line.strip()][-1]
    assert "the lake s3://no-such-park/photos cannot be " in last
    assert REFUSALS[what] in last
    assert "Traceback" not in out + err
    secrets = [variables["AWS_SECRET_ACCESS_KEY"], *filter(None, [variables.get("AWS_SESSION_TOKEN")])]
    assert not any(secret in out + err for secret in secrets)
    assert holders(home, *secrets) == []


def test_what_dagster_keeps_of_a_failed_run_holds_no_secret(aws_server, tmp_path, monkeypatch):
    """AWS repeats an expired token in its refusal, and Dagster keeps errors with all their causes for ever."""
    variables = expired_token({"moto": aws_server})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = read_environment({"PETPARK_HOME": str(tmp_path / "home")})
    config = {"ops": {"look_at_the_lake": {"config": {"lake": "s3://park/photos"}}}}
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        job = build_defs(environment).resolve_job_def("new_dataset_version")
        failed = job.execute_in_process(run_config=config, instance=instance, tags=IN_PROCESS, raise_on_error=False)
        assert not failed.success
    assert holders(tmp_path, "the credentials have expired: log in again")  # it is where a secret would be, too
    secrets = (variables["AWS_SESSION_TOKEN"], variables["AWS_SECRET_ACCESS_KEY"], variables["AWS_ACCESS_KEY_ID"])
    assert holders(tmp_path, *secrets) == []
