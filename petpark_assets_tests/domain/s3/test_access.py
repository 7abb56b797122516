"""Claims about addresses and keys of S3: one spelling, refused when they are none, and no key is ever shown."""

import pickle

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.s3.access import S3Access, access_of, odd_key, parse_place, storage_options

SECRET = "wJalrXUtnFEMI/K7MDENG/secret"
ACCESS = S3Access(
    endpoint_url="http://127.0.0.1:7480",
    access_key_id="AKIDEXAMPLE",
    secret_access_key=SECRET,
    session_token="tokentoken",
)


@pytest.mark.parametrize("uri", ["s3://park/photos", "s3://park/photos/", "s3://park//photos//"])
def test_every_spelling_of_a_place_is_the_same(uri):
    """A home belongs to a lake, not to the way its address was typed."""
    place = parse_place(uri, "lake")
    assert (place.uri, place.folder) == ("s3://park/photos", "photos/")


def test_a_whole_bucket_is_a_place():
    """Its keys have no prefix to take off."""
    place = parse_place("s3://park", "lake")
    assert (place.uri, place.folder) == ("s3://park", "")


@pytest.mark.parametrize("uri", ["s3://", "s3:///photos", "s3://-/x", "s3://park/a/../b", "s3://park/a\nb"])
def test_what_is_no_address_is_refused_in_one_line(uri):
    """Before any server is asked."""
    with pytest.raises(InvalidInput, match="must look like s3://bucket/prefix") as caught:
        parse_place(uri, "store")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", [f"s3://AKIDEXAMPLE:{SECRET}@park/photos", "s3://AKIDEXAMPLE@park/photos"])
def test_keys_in_an_address_are_refused_and_not_repeated(uri):
    """Other tools take them there; ours would write them to manifests and messages."""
    with pytest.raises(InvalidInput, match="keys by AWS_PROFILE") as caught:
        parse_place(uri, "lake")
    assert "AKIDEXAMPLE" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_no_key_is_shown():
    """What is logged, raised or kept as metadata is text."""
    for text in (repr(ACCESS), str(ACCESS), f"{ACCESS}", repr([ACCESS])):
        assert not any(word in text for word in ("AKIDEXAMPLE", SECRET, "tokentoken"))


def test_workers_get_a_copy():
    """Keys are looked up once a step, not by every worker on its machine."""
    assert pickle.loads(pickle.dumps(ACCESS)) == ACCESS  # noqa: S301 - our own


@pytest.mark.parametrize("endpoint", ["127.0.0.1:7480", "ftp://park", "http://", "https://park?x=1", "https://a b"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint):
    """AWS_ENDPOINT_URL without its scheme is the usual slip."""
    with pytest.raises(InvalidInput, match="must look like https://host:port"):
        S3Access(endpoint_url=endpoint, access_key_id="a", secret_access_key="b")


def test_a_password_in_an_endpoint_is_refused_and_not_repeated():
    """Endpoints stand in every message about a server."""
    with pytest.raises(InvalidInput, match="has a user or password in it") as caught:
        S3Access(endpoint_url="https://anna:geheim@park", access_key_id="a", secret_access_key="b")
    assert "geheim" not in str(caught.value)


def test_without_an_endpoint_it_is_that_of_the_region():
    """A person with nothing but keys means AWS."""
    access = S3Access(region="eu-central-1", access_key_id="a", secret_access_key="b")
    assert access.endpoint == "https://s3.eu-central-1.amazonaws.com"
    assert storage_options(access)["allow_http"] == "false"


def test_lance_asks_the_same_server_as_the_same_person():
    """Pixels lie below the store's address; an error of theirs names the store and its server."""
    assert access_of(storage_options(ACCESS)) == ACCESS


@pytest.mark.parametrize("key", ["cat/1.jpg", "ü/猫.jpg", "a b+c%20~#?.jpg", "..cat/x", "cat../x", ".hidden"])
def test_ordinary_keys_are_not_odd(key):
    """All that a folder could hold."""
    assert odd_key(key) is None


@pytest.mark.parametrize("key", ["/a", "a//b", "a/", "", ".", "../a", "a/./b", "a/..", "a\tb", "a\x7f"])
def test_keys_that_no_folder_could_hold_are_odd(key):
    """obstore, Lance and every file system would take them for another key, or for none."""
    assert "rename it" in str(odd_key(key))
