"""Claims about buckets that keep old versions: what would outlive its deletion is seen, and only that."""

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.s3 import listing, versioning
from petpark_assets.domain.s3.access import parse_place
from petpark_assets.domain.s3.answers import Answer, Refused
from petpark_assets.domain.s3.bucket import Bucket
from petpark_assets_tests.servers import new_bucket


@pytest.fixture(params=["ceph", "moto"])
def server(request):
    """A real server, and AWS's own answers."""
    return request.getfixturevalue({"ceph": "s3_server", "moto": "aws_server"}[request.param])


def set_versioning(server, name, status):
    """Switch it on, or off as far as S3 lets one."""
    server.client().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})


@pytest.mark.debian
def test_a_bucket_is_refused_as_long_as_it_keeps_anything_there(server):
    """Through the life of a bucket: never versioned, versioned, suspended with old versions, and cleaned up."""
    name = new_bucket(server)
    bucket = Bucket(place=parse_place(f"s3://{name}/store", "store"), access=server.access())
    bucket.create("originals/a b", b"before")
    bucket.check_deletable("originals", "pixels.lance")
    set_versioning(server, name, "Enabled")
    bucket.create("originals/c", b"kept")
    for change in (lambda: bucket.check_deletable("originals"), lambda: bucket.delete("originals/c")):
        with pytest.raises(InvalidInput, match=rf"originals/.* copy all of s3://{name}/store to a bucket that never"):
            change()
    set_versioning(server, name, "Suspended")
    bucket.check_deletable("pixels.lance")
    with pytest.raises(InvalidInput, match="keeps old versions"):
        bucket.check_deletable("pixels.lance", "originals")
    client = server.client()
    (kept,) = client.list_object_versions(Bucket=name, Prefix="store/originals/c")["Versions"]
    client.delete_object(Bucket=name, Key="store/originals/c", VersionId=kept["VersionId"])
    bucket.check_deletable("originals", "pixels.lance")
    bucket.delete("originals/a b")
    assert "Versions" not in client.list_object_versions(Bucket=name)


@pytest.mark.debian
def test_every_page_of_versions_is_looked_through(server, monkeypatch):
    """A server gives 1,000 at once; the one that is kept may be the last."""
    name = new_bucket(server)
    place, client = parse_place(f"s3://{name}/store", "store"), server.client()
    for number in range(5):
        client.put_object(Bucket=name, Key=f"store/originals/é {number}", Body=b"?")
    set_versioning(server, name, "Enabled")
    client.put_object(Bucket=name, Key="store/originals/é 4", Body=b"!")
    pages = []

    def ask(place, access, query, *roots):
        pages.append(query)
        return listing.ask(place, access, {**query, "max-keys": "2"}, *roots)

    monkeypatch.setattr(versioning, "ask", ask)
    assert versioning.has_kept(place, server.access(), "originals")
    assert len(pages) == 3
    assert not versioning.has_kept(place, server.access(), "pixels.lance")


def test_a_server_that_knows_no_versions_keeps_none(monkeypatch):
    """Not all servers of S3 have them, and those say so."""

    def ask(*_):
        raise Refused(Answer(status=501, code="NotImplemented"))

    monkeypatch.setattr(versioning, "ask", ask)
    assert versioning.status(parse_place("s3://bucket/store", "store"), None) is None
