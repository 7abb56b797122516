"""Claims about buckets that keep old versions: what is deleted is gone, old versions too, and nothing else."""

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import ownership
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets.domain.s3 import listing, versioning
from petpark_assets.domain.s3.access import S3Access, parse_place
from petpark_assets.domain.s3.answers import Answer, Refused
from petpark_assets.domain.s3.bucket import Bucket
from petpark_assets.domain.s3.store import S3Store
from petpark_assets_tests.servers import new_bucket

STATUSES = ("Enabled", "Suspended")


@pytest.fixture(params=["ceph", "moto"])
def server(request):
    """A real server, and AWS's own answers."""
    return request.getfixturevalue({"ceph": "s3_server", "moto": "aws_server"}[request.param])


def set_versioning(server, name, status):
    """Switch it on, or off as far as S3 lets one."""
    server.client().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})


def open_bucket(server, name):
    """A store in it."""
    return Bucket(place=parse_place(f"s3://{name}/store", "store"), access=server.access())


def kept(server, name):
    """All versions and marks of deletions, by key, with how many there are."""
    answer = server.client().list_object_versions(Bucket=name)
    found = [item["Key"] for kind in ("Versions", "DeleteMarkers") for item in answer.get(kind, [])]
    return {key: found.count(key) for key in found}


@pytest.mark.debian
@pytest.mark.parametrize("last", STATUSES)
def test_a_deleted_object_leaves_no_version_and_no_mark(server, last):
    """Written before there were versions, while there were, deleted by others, and after; its neighbours stay."""
    name = new_bucket(server)
    bucket, client = open_bucket(server, name), server.client()
    for key in ("originals/é b c", "originals/é b cd"):
        bucket.create(key, b"before")
    for status in STATUSES:
        set_versioning(server, name, status)
        client.put_object(Bucket=name, Key="store/originals/é b c", Body=status.encode())
        client.delete_object(Bucket=name, Key="store/originals/é b c")
        client.put_object(Bucket=name, Key="store/originals/é b c", Body=status.encode())
    set_versioning(server, name, last)
    assert kept(server, name)["store/originals/é b c"] >= (4 if server.pid else 1)  # moto, suspended, keeps the last
    bucket.check_deletable()
    for _ in range(2):
        bucket.delete("originals/é b c")
        assert kept(server, name) == {"store/originals/é b cd": 1}
    assert bucket.read("originals/é b cd") == b"before"


@pytest.mark.debian
def test_old_versions_of_a_place_go_and_what_is_there_stays(server, monkeypatch):
    """Lance deletes files by itself, and knows of no versions; a server gives 1,000 at once, the last may matter."""
    name = new_bucket(server)
    set_versioning(server, name, "Enabled")
    client = server.client()
    for key in ("store/pixels/0", "store/pixels/1", "store/pixels/2", "store/other", "stores/pixels/0"):
        for content in (b"old", b"new"):
            client.put_object(Bucket=name, Key=key, Body=content)
    client.delete_object(Bucket=name, Key="store/pixels/1")
    pages = []

    def ask(place, access, query, *roots):
        pages.append(query)
        return listing.ask(place, access, {**query, "max-keys": "2"} if "versions" in query else query, *roots)

    monkeypatch.setattr(versioning, "ask", ask)
    open_bucket(server, name).delete_old_versions("pixels")
    assert len([query for query in pages if "versions" in query]) == 4
    expected = {"store/pixels/0": 1, "store/pixels/2": 1, "store/other": 2, "stores/pixels/0": 2}
    assert kept(server, name) == expected
    assert open_bucket(server, name).read("pixels/2") == b"new"
    open_bucket(server, name).delete_old_versions()
    assert kept(server, name) == {**expected, "store/other": 1}


@pytest.mark.debian
def test_a_store_whose_records_could_be_replaced_is_not_begun(server, tmp_path):
    """Ceph 16 forgets the condition of a creation in a bucket with versions, AWS does not: the first use tells."""
    name = new_bucket(server)
    set_versioning(server, name, "Enabled")
    store = S3Store(f"s3://{name}/store", server.access(), tmp_path)
    lake = open_lake(str(tmp_path))
    if server.pid is None:
        ownership.claim(store, lake)
        assert not store.write_new(ownership.KEY, b"another's")
        return
    with pytest.raises(InvalidInput, match=r"replaces what is there, .*: choose one without"):
        ownership.claim(store, lake)
    assert kept(server, name) == {}


@pytest.mark.debian
def test_a_locked_bucket_is_one_clear_line(server):
    """Its versions cannot be deleted by anybody: nobody must read that a photo in it is forgotten."""
    name = new_bucket(server)
    open_bucket(server, name).check_deletable()
    client = server.client()
    client.create_bucket(Bucket=f"{name}-locked", ObjectLockEnabledForBucket=True)
    with pytest.raises(InvalidInput, match=rf"for good from the store s3://{name}-locked/store: .* under Object") as e:
        open_bucket(server, f"{name}-locked").check_deletable()
    assert "\n" not in str(e.value)


def test_a_server_that_knows_no_versions_keeps_none(monkeypatch):
    """Not all servers of S3 have them, and those say so."""

    def ask(*_):
        raise Refused(Answer(status=501, code="NotImplemented"))

    monkeypatch.setattr(versioning, "ask", ask)
    assert not versioning.has_versions(parse_place("s3://bucket/store", "store"), None)


def test_versions_that_only_a_second_factor_deletes_are_said_to_be(monkeypatch):
    """MFA Delete is asked for by AWS's own answer, which no server here gives."""
    answer = b"""<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>
        <MfaDelete>Enabled</MfaDelete></VersioningConfiguration>"""
    monkeypatch.setattr(listing, "send", lambda *_: answer)
    place = parse_place("s3://bucket/store", "store")
    access = S3Access(access_key_id="a", secret_access_key="b")
    assert versioning.what_protects(place, access) == "MFA Delete"
