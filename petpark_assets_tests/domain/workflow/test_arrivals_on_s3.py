"""A claim about a lake in a bucket: the same arrivals as in a folder, told by ETags instead of times."""

import pytest

from petpark_assets.domain.home import open_home
from petpark_assets.domain.workflow import arrivals, ingestion, reconciliation
from petpark_assets_tests.domain.lake.test_ingest import photo
from petpark_assets_tests.servers import new_bucket

pytestmark = pytest.mark.debian


def test_each_arrival_in_a_bucket_counts_once(tmp_path, s3_server):
    """New, written again with other bytes, removed; and not what was uploaded again as it was."""
    bucket, client, access = new_bucket(s3_server), s3_server.client(), s3_server.access()

    def put(key, number):
        client.put_object(Bucket=bucket, Key=f"park/{key}.png", Body=photo(number))

    for number in range(20):
        put(f"{'cat' if number % 2 else 'dog'}/{number}", number)
    home = open_home(tmp_path, actor="tester", s3=lambda: access)
    uri = f"s3://{bucket}/park"
    ingestion.new_dataset_version(home, uri, 16)
    first = arrivals.look(home, uri)
    assert first.num_photos == 0
    put("cat/new", 100)
    put("dog/0", 101)
    put("cat/1", 1)
    client.delete_object(Bucket=bucket, Key="park/cat/3.png")
    look = arrivals.look(home, uri)
    assert (look.num_new, look.num_changed, look.num_removed) == (1, 1, 1)
    assert look.snapshot != first.snapshot
    found = reconciliation.reconcile(home)
    assert [item["key"] for item in found["offending"]] == ["cat/3.png", "cat/new.png", "dog/0.png"]
