"""Claims about a lake and a store in a bucket: the same catalogue as from a folder, whatever the network does."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from petpark_assets.domain import splits
from petpark_assets.domain.errors import TransientError
from petpark_assets.domain.lake import catalogue, ingest
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.lake.labels import DEFAULT_LABELS, open_labels
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets.domain.s3.access import storage_options
from petpark_assets.domain.s3.store import S3Store
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
    bucket, client = new_bucket(s3_server), s3_server.client()
    paths = [path for path in drawn.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(8) as pool:
        keys = [f"park/photos/{path.relative_to(drawn).as_posix()}" for path in paths]
        list(pool.map(lambda key, path: client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes()), keys, paths))
    return f"s3://{bucket}/park/photos"


def open_store(uri, access, cache):
    """A store in a bucket, its originals and its pixels."""
    store, options = S3Store(uri, access, cache / "store"), storage_options(access)
    return store, OriginalStore(store, options), PixelStore(f"{store.uri}/pixels.lance", options)


def run(lake_uri, store_uri, access, cache):
    """One ingestion from a bucket into a bucket."""
    lake = open_lake(lake_uri, lambda: access)
    return ingest.new_dataset_version(
        lake,
        *open_store(store_uri, access, cache),
        open_labels(DEFAULT_LABELS, lake, (), {}),
        cache=cache,
        resolution_px=local.RESOLUTION_PX,
        assign_splits=splits.assign,
    )


def contents(store_uri, access, cache):
    """What a store holds, as far as it must be the same after any history."""
    store, originals, pixels = open_store(store_uri, access, cache)
    rows = catalogue.read_manifest(store, "v0001").to_pylist()
    accepted = [row["sha256"] for row in rows if row["state"] == catalogue.ACCEPTED]
    assert pixels.missing(accepted, local.RESOLUTION_PX) == []
    stored = sorted(originals.stored().unique().to_pylist())
    assert set(accepted) <= set(stored)
    return catalogue.list_versions(store), catalogue.manifest_sha256(store, "v0001"), stored


@pytest.fixture(scope="module")
def quiet(lake_uri, s3_server, tmp_path_factory):
    """What an undisturbed ingestion stored."""
    uri, cache = f"s3://{new_bucket(s3_server)}/quiet", tmp_path_factory.mktemp("quiet")
    assert run(lake_uri, uri, s3_server.access(), cache).is_new
    assert not run(lake_uri, uri, s3_server.access(), cache).is_new
    return contents(uri, s3_server.access(), cache)


def test_a_bucket_gives_the_catalogue_of_the_folder(drawn, lake_uri, s3_server, tmp_path):
    """A park that outgrows its disk moves the photos: sides, groups and reasons must move with them."""
    local.run(drawn, tmp_path / "home")
    here = catalogue.read_manifest(local.files.LocalStore(tmp_path / "home/store"), "v0001").to_pylist()
    bucket = new_bucket(s3_server)
    run(lake_uri, f"s3://{bucket}/store", s3_server.access(), tmp_path / "other")
    store, _, _ = open_store(f"s3://{bucket}/store", s3_server.access(), tmp_path / "other")
    there = catalogue.read_manifest(store, "v0001").to_pylist()
    assert all(row["etag"] for row in there)
    assert [row | {"etag": None} for row in there] == here


def run_until_done(*arguments):
    """Run it again, as its error says, for as long as it gives up; how often it took."""
    for number in range(1, 6):
        try:
            run(*arguments)
        except TransientError:
            continue
        return number
    pytest.fail("five runs gave up")
    return None


@pytest.mark.parametrize("seed", range(3))
def test_failing_slow_and_cut_requests_change_nothing(quiet, lake_uri, s3_server, tmp_path, seed):
    """One request in twenty fails, is late or is cut short: reads, writes and listings; what gave up is run again."""
    uri, access = f"s3://{new_bucket(s3_server)}/store", s3_server.access()
    with spoiling(s3_server.endpoint_url, one_in=20, seed=seed) as proxy:
        spoilt_access = dataclasses.replace(access, endpoint_url=proxy.endpoint_url)
        num_runs = run_until_done(lake_uri, uri, spoilt_access, tmp_path / "cache")
        assert proxy.num_requests > 100
        assert len(proxy.spoilt) > 2
    assert contents(uri, access, tmp_path / "quiet") == quiet
    assert num_runs <= 3
