"""Claims about lakes: what is listed, and what is refused before anything looks removed."""

import errno
import os
import time

import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.lake import sources
from petpark_assets.domain.lake.sources import open_lake


def write(path, data=b"bytes"):
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def keys(folder):
    """What a lake in a folder lists."""
    return [item.key for item in open_lake(str(folder)).list_objects()]


def test_a_listing_is_sorted_and_leaves_hidden_files_out(tmp_path):
    """Manifests are sorted by key, and a Mac's `._1.jpg` is no photo."""
    for name in ("dog/2.jpg", "cat/b.jpg", "cat/a.jpg", "README.txt", "cat/._a.jpg", ".petpark/x.jpg"):
        write(tmp_path / name)
    assert keys(tmp_path) == ["README.txt", "cat/a.jpg", "cat/b.jpg", "dog/2.jpg"]


def test_a_link_back_to_a_folder_above_ends_there(tmp_path):
    """A loop of links must not make a listing endless, nor its photos appear again and again."""
    write(tmp_path / "cat/1.jpg")
    (tmp_path / "cat/again").symlink_to(tmp_path)
    assert keys(tmp_path) == ["cat/1.jpg"]


def test_links_to_photos_and_folders_elsewhere_are_followed(tmp_path):
    """Lakes are often assembled from links."""
    write(tmp_path / "store/1.jpg")
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/cat").symlink_to(tmp_path / "store")
    (tmp_path / "lake/dog.1.jpg").symlink_to(tmp_path / "store/1.jpg")
    assert keys(tmp_path / "lake") == ["cat/1.jpg", "dog.1.jpg"]


def test_what_cannot_be_a_file_is_listed_with_its_problem(tmp_path):
    """Opening a pipe would wait for ever; a name that is not text cannot be written to a manifest."""
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    write(tmp_path / os.fsdecode(b"caf\xe9.jpg"))
    write(tmp_path / os.fsdecode(b"ch\xe2teau") / "1.jpg")
    problems = {item.key: item.problem for item in open_lake(str(tmp_path)).list_objects()}
    assert problems == {
        "caf\ufffde9.jpg": "its name, or that of a folder on the way, is not UTF-8: rename it",
        "ch\ufffde2teau/1.jpg": "its name, or that of a folder on the way, is not UTF-8: rename it",
        "gone.jpg": "it is a link that leads nowhere",
        "loop.jpg": "it is a link that leads nowhere",
        "pipe.jpg": "it is not a regular file",
    }


def test_two_files_with_one_key_are_refused(tmp_path):
    """Whichever of them were listed first would be the photo."""
    write(tmp_path / os.fsdecode(b"chat\xe9.jpg"))
    write(tmp_path / "chat\ufffde9.jpg")
    with pytest.raises(InvalidInput, match=r"are both chat\ufffde9\.jpg, since the name of one is not UTF-8: rename"):
        keys(tmp_path)


def test_a_message_about_a_name_that_is_no_text_is_text(tmp_path):
    """It must be printed, and be in a JSON document."""
    (tmp_path / os.fsdecode(b"caf\xe9")).symlink_to(tmp_path / "not-mounted")
    with pytest.raises(InvalidInput, match=r"caf\ufffde9 of the lake .* cannot be listed"):
        keys(tmp_path)


def test_a_link_to_a_missing_folder_refuses_the_listing(tmp_path):
    """A disk that is not mounted would make thousands of photos look removed."""
    (tmp_path / "cat").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(InvalidInput, match=r"cat of the lake .* cannot be listed .*look removed"):
        keys(tmp_path)


def test_a_fingerprint_sees_a_rewrite_that_keeps_size_and_time(tmp_path):
    """`cp -p` and rsync keep the time of the content; the photo is another all the same."""
    path = write(tmp_path / "1.jpg", b"before")
    before, (first,) = path.stat(), open_lake(str(tmp_path)).list_objects()
    deadline = time.monotonic() + 5
    while path.stat().st_ctime_ns == before.st_ctime_ns and time.monotonic() < deadline:
        path.write_bytes(b"later!")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (second,) = open_lake(str(tmp_path)).list_objects()
    assert (second.size_bytes, path.stat().st_mtime_ns) == (first.size_bytes, before.st_mtime_ns)
    assert second.fingerprint != first.fingerprint


def test_a_file_that_has_just_changed_is_not_settled(tmp_path, monkeypatch):
    """Within one tick of the clock a file can change and keep its times: its fingerprint proves nothing yet."""
    write(tmp_path / "1.jpg")
    lake = open_lake(str(tmp_path))
    assert [item.is_settled for item in lake.list_objects()] == [False]
    now = time.time()
    monkeypatch.setattr(sources.time, "time", lambda: now + 10)
    assert [item.is_settled for item in lake.list_objects()] == [True]


def test_reading_gives_the_bytes_or_the_first_of_them(tmp_path):
    """Whether an object is an image is asked with its first bytes only."""
    write(tmp_path / "1.jpg", b"0123456789")
    lake = open_lake(str(tmp_path))
    assert (lake.read("1.jpg"), lake.read("1.jpg", 4)) == (b"0123456789", b"0123")


@pytest.mark.parametrize("said_bytes", [0, 4, 10, 11, 1000])
def test_a_file_is_read_to_its_end_whatever_its_size_was(tmp_path, monkeypatch, said_bytes):
    """It may grow or shrink between the two calls, and some file systems know no size before they are read."""
    write(tmp_path / "1.jpg", b"0123456789")
    lake, status = open_lake(str(tmp_path)), os.stat_result((0,) * 6 + (said_bytes,) + (0,) * 3)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda _handle: status)
        found = lake.read("1.jpg")
    assert found == b"0123456789"


def test_a_photo_that_vanished_is_a_reason_to_try_again(tmp_path):
    """It was listed a moment ago: neither a broken photo nor an error for ever."""
    with pytest.raises(TransientError, match=r"cat/1\.jpg was taken out of the lake .* run the same command again"):
        open_lake(str(tmp_path)).read("cat/1.jpg")


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, UnreadablePhoto), (errno.EMFILE, TransientError)])
def test_only_trouble_of_one_file_is_that_photos(tmp_path, monkeypatch, number, kind):
    """Too many open files, or a lost mount, must not set aside every photo of a lake."""

    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind, match=os.strerror(number).lower()):
        open_lake(str(tmp_path)).read("1.jpg")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "address is empty"),
        ("/no/such/lake", "does not exist"),
        ("/dev/null", "is not a folder"),
        ("s3:///photos", "must look like s3://bucket/prefix"),
        ("s3://bucket/photos", "no keys for S3 were handed in"),
        ("https://anna:secret@example.org/photos", "starts with https://, which is not supported: give a folder"),
        ("a\0b", "cannot be opened"),
    ],
)
def test_what_cannot_be_a_lake_is_refused_in_one_line(uri, words):
    """The first thing a person types, and the first thing mistyped."""
    with pytest.raises(InvalidInput, match=words) as caught:
        open_lake(uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_every_spelling_of_a_folder_is_the_same_lake(tmp_path, monkeypatch):
    """A home belongs to a lake, not to the way its path was typed."""
    folder = tmp_path / "my lake"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    spellings = ["my lake", str(folder), str(folder) + "/", str(tmp_path / "link"), folder.as_uri()]
    assert {open_lake(uri).identity for uri in spellings} == {folder.as_uri()}
