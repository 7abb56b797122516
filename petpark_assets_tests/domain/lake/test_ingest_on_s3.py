"""Claims about a lake and a store in a bucket: the same catalogue as from a folder, whatever the network does."""

import dataclasses
from functools import partial

import pytest

from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets_tests.benchmarks import faults as local
from petpark_assets_tests.faults import spoiling
from petpark_assets_tests.servers import new_bucket

pytestmark = pytest.mark.debian


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Forty drawings and the eight broken files."""
    folder = tmp_path_factory.mktemp("drawn") / "lake"
    draw_lake(folder, num_images=40)
    return folder


@pytest.fixture(scope="module")
def lake_uri(drawn, s3_server):
    """The same below a prefix of a bucket."""
    bucket, paths = new_bucket(s3_server), [path for path in drawn.rglob("*") if path.is_file()]
    local.upload(s3_server, bucket, {f"park/photos/{path.relative_to(drawn).as_posix()}": path for path in paths})
    return f"s3://{bucket}/park/photos"


@pytest.fixture(scope="module")
def quiet(lake_uri, s3_server, tmp_path_factory):
    """What an undisturbed ingestion stored."""
    uri, cache = f"s3://{new_bucket(s3_server)}/quiet", tmp_path_factory.mktemp("quiet")
    assert local.run_on_s3(lake_uri, uri, s3_server.access(), cache).is_new
    assert not local.run_on_s3(lake_uri, uri, s3_server.access(), cache).is_new
    return local.contents(local.open_bucket(uri, s3_server.access(), cache))


def test_a_bucket_gives_the_catalogue_of_the_folder(drawn, lake_uri, s3_server, tmp_path):
    """A park that outgrows its disk moves the photos: sides, groups and reasons must move with them."""
    local.run(drawn, tmp_path / "home")
    here = catalogue.read_manifest(local.files.LocalStore(tmp_path / "home/store"), "v0001").to_pylist()
    bucket = new_bucket(s3_server)
    local.run_on_s3(lake_uri, f"s3://{bucket}/store", s3_server.access(), tmp_path / "other")
    store, _, _ = local.open_bucket(f"s3://{bucket}/store", s3_server.access(), tmp_path / "other")
    there = catalogue.read_manifest(store, "v0001").to_pylist()
    assert all(row["etag"] for row in there)
    assert [row | {"etag": None} for row in there] == here


@pytest.mark.parametrize("seed", range(3))
def test_failing_slow_and_cut_requests_change_nothing(quiet, lake_uri, s3_server, tmp_path, seed):
    """One request in twenty fails, is late or is cut short: reads, writes and listings; what gave up is run again."""
    uri, access = f"s3://{new_bucket(s3_server)}/store", s3_server.access()
    with spoiling(s3_server.endpoint_url, one_in=20, seed=seed) as proxy:
        spoilt_access = dataclasses.replace(access, endpoint_url=proxy.endpoint_url)
        look = partial(local.open_bucket, uri, access, tmp_path / "look")
        num_runs = local.run_until_done(lake_uri, uri, spoilt_access, tmp_path / "cache", look)
        assert proxy.num_requests > 100
        assert len(proxy.spoilt) > 2
    assert local.contents(local.open_bucket(uri, access, tmp_path / "quiet")) == quiet
    assert num_runs <= 3


def test_an_ingestion_into_a_bucket_that_is_killed_is_as_if_nothing_had_been(s3_server, tmp_path):
    """There is no rename there, and no lock of the system's that ends with a process."""
    tried = local.kill_at_random(local.in_buckets(tmp_path, s3_server, 120), num_kills=3)
    assert tried["num_while_running"] >= 1


def test_two_ingestions_at_once_into_a_bucket_make_one_version(s3_server, tmp_path):
    """Two machines share nothing but the bucket."""
    local.run_two_at_once(local.in_buckets(tmp_path, s3_server, 60), num_rounds=1)
