"""Claims about listings: every key as it is, all pages, and nothing beside the prefix."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from petpark_assets.domain.s3.access import parse_place
from petpark_assets.domain.s3.bucket import Bucket
from petpark_assets.domain.s3.listing import PAGE_KEYS

ODD_KEYS = [
    "/abs.jpg", "p/\x01.jpg", "p/&amp;.jpg", "p/../up.jpg", "p/./dot.jpg", "p/.hidden/x.jpg", "p//lead.jpg",
    "p/100%.jpg", "p/[x]{y}.jpg", "p/a b.jpg", "p/a#b?c.jpg", "p/a%20b.jpg", "p/a*b'\"<>|`^.jpg", "p/a+b.jpg",
    "p/a//b.jpg", "p/a~b.jpg",
    "p/back\\slash.jpg", "p/folder/", "p/tab\tnl\n.jpg", "p/trail ", "p/ü/é.jpg", "p/cafe\u0301.jpg", "p/猫/1.jpg",
]  # fmt: skip


@pytest.mark.debian
def test_every_key_is_listed_as_it_is(s3_server, bucket):
    """One key with a slash too many must not hide 100,000 photos, as it does for tools that take keys for paths."""
    client = s3_server.client()
    for key in ODD_KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    listed = list(Bucket(place=parse_place(f"s3://{bucket}", "lake"), access=s3_server.access()).list_objects())
    assert [item.key for item in listed] == sorted(ODD_KEYS)
    assert [item.size_bytes for item in listed] == [len(key.encode()) for key in sorted(ODD_KEYS)]


@pytest.mark.debian
def test_all_pages_are_listed_and_nothing_beside_the_prefix(s3_server, bucket):
    """S3 gives 1,000 keys at a time, and takes `cat` for the beginning of `cats/` too."""
    inside = Bucket(place=parse_place(f"s3://{bucket}/cat", "lake"), access=s3_server.access())
    beside = Bucket(place=parse_place(f"s3://{bucket}/cats", "lake"), access=s3_server.access())
    names = [f"{number:05d}.jpg" for number in range(PAGE_KEYS + 50)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: inside.create(name, b""), names))
    beside.create("1.jpg", b"")
    assert [item.key for item in inside.list_objects()] == names


@pytest.mark.debian
def test_the_same_content_has_the_same_etag_and_other_content_another(s3_server, bucket):
    """The ETag is how an unchanged photo is known without reading it."""
    client = s3_server.client()
    for key, body in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        client.put_object(Bucket=bucket, Key=key, Body=body)
    place = parse_place(f"s3://{bucket}", "lake")
    first, second, third = (item.etag for item in Bucket(place=place, access=s3_server.access()).list_objects())
    assert first == second != third
