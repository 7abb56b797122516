"""What is remembered of files saves reading them; it must never speak for content that nobody read."""

import pytest

from petpark_assets.domain.lake import fingerprints
from petpark_assets.domain.lake.fingerprints import NO_IMAGE
from petpark_assets.domain.lake.sources import LakeObject, open_lake


@pytest.fixture
def lake(tmp_path):
    """A lake of which only the address counts."""
    (tmp_path / "lake").mkdir()
    return open_lake(str(tmp_path / "lake"))


def objects(*names, written=1):
    """Settled files."""
    return [LakeObject(name, 3, f"3-{written}") for name in names]


def recall(cache, lake, listed):
    """What is recalled, by key."""
    found = fingerprints.recall(cache, lake, listed)
    return dict(zip(found["key"].to_pylist(), found["content"].to_pylist(), strict=True))


def remember(cache, lake, listed, *read):
    """As an ingestion does, that listed all of these and had to read some."""
    fingerprints.remember(cache, lake, fingerprints.recall(cache, lake, listed), read)


def test_what_was_read_is_recalled_while_a_file_stays_as_it_is(tmp_path, lake):
    """Between two looks files come, go and change."""
    first = objects("b", "d", "c")
    remember(tmp_path, lake, first, *zip(first, ["sha of b", NO_IMAGE, "sha of c"], strict=True))
    assert recall(tmp_path, lake, first) == {"b": "sha of b", "c": "sha of c", "d": NO_IMAGE}
    [changed] = objects("c", written=2)
    now = [*objects("a", "b"), changed]
    assert recall(tmp_path, lake, now) == {"b": "sha of b"}
    remember(tmp_path, lake, now, (now[0], "sha of a"), (changed, "new sha of c"))
    assert recall(tmp_path, lake, now) == {"a": "sha of a", "b": "sha of b", "c": "new sha of c"}
    assert recall(tmp_path, lake, [*now, *objects("d")]).get("d") is None  # it was away in between
    entries = list(fingerprints.stream(tmp_path, lake))
    assert [entry.key for entry in entries] == ["a", "b", "c"]  # by key, as those who merge them expect


def test_who_reads_again_is_believed_rather_than_what_is_remembered(tmp_path, lake):
    """Files are read again where their originals were lost; by then they may hold anything, or be unreadable."""
    files = objects("a", "b", "c")
    remember(tmp_path, lake, files, *((item, "old") for item in files))
    remember(tmp_path, lake, files, (files[0], "new"), (files[1], None))
    assert recall(tmp_path, lake, files) == {"a": "new", "c": "old"}


def test_what_has_not_settled_is_not_remembered(tmp_path, lake):
    """It may be written to again within the tick of a clock."""
    [file] = objects("a")
    unsettled = file._replace(is_settled=False)
    remember(tmp_path, lake, [unsettled], (unsettled, "sha"))
    assert recall(tmp_path, lake, [file]) == {}


def test_nothing_is_written_where_nothing_changed(tmp_path, lake):
    """Whoever watches the file would look at the lake again."""
    files = objects("a", "b")
    remember(tmp_path, lake, files, *((item, "sha") for item in files))
    before = fingerprints.stamp(tmp_path)
    remember(tmp_path, lake, files)
    assert fingerprints.stamp(tmp_path) == before != ""
