"""Claims about sums: equal where the lake is as it was, in any order, and no object is hidden by another."""

import tracemalloc
from pathlib import Path

import pytest

from petpark_assets.domain.lake import arrivals
from petpark_assets.domain.lake.arrivals import Known, Row
from petpark_assets.domain.lake.sources import FolderLake, LakeObject


class Listed:
    """A lake that is a list."""

    def __init__(self, objects):
        self.objects = objects

    def iter_objects(self):
        """As they come."""
        return iter(self.objects)


def items(number):
    """So many objects that settled long ago."""
    return (LakeObject(key=f"cat/{index}.jpg", size_bytes=9, fingerprint=f"9-{index}") for index in range(number))


def test_order_does_not_matter():
    """A folder lists its files as it likes; sorting a million of them would need them all in memory."""
    one = list(items(1000))
    assert arrivals.lake_sums(Listed(one)) == arrivals.lake_sums(Listed(one[::-1]))


@pytest.mark.parametrize("change", ["key", "fingerprint", "is_settled", "missing", "twice"])
def test_any_change_shows_in_its_bucket_alone(change):
    """Only a bucket that differs is looked at: one that should and does not would hide a photo for ever."""
    before = list(items(1000))
    one = before[500]
    now = {
        "key": [one._replace(key="cat/500.jpeg")],
        "fingerprint": [one._replace(fingerprint="9-501")],
        "is_settled": [one._replace(is_settled=False)],
        "missing": [],
        "twice": [one, one],
    }[change]
    sums = [arrivals.lake_sums(Listed(objects)) for objects in (before, [*before[:500], *now, *before[501:]])]
    expected = {arrivals.bucket(item.key) for item in (one, *now)}
    assert arrivals.differing(*sums) == expected


def test_what_is_known_has_the_sums_of_its_listing():
    """Both sides are summed by their own rules; a lake that never seems unchanged would be read with every tick."""
    listed = [*items(50), LakeObject(key="dog/x.jpg", size_bytes=0, fingerprint="", problem="a link to nowhere")]
    known = [Known(item.key, Row(item.key, 9, "a" * 64, "cat"), item.fingerprint) for item in items(50)]
    known.append(Known("dog/x.jpg", Row("dog/x.jpg", 0, None, "dog"), None))
    assert arrivals.known_sums(known) == arrivals.lake_sums(Listed(listed))


def test_row_that_nothing_proves_is_looked_at_also_when_its_object_is_gone():
    """Without a mark of its own it would be missing on both sides, and its removal never seen."""
    known = [Known("cat/1.jpg", Row("cat/1.jpg", 9, "a" * 64, "cat"), None)]
    sums = arrivals.known_sums(known), arrivals.lake_sums(Listed([]))
    assert arrivals.differing(*sums) == {arrivals.bucket("cat/1.jpg")}


def test_memory_does_not_grow_with_the_lake(tmp_path: Path):
    """A tick holds one object at a time: ten times the files in a folder take the memory of one."""
    peaks = []
    for number in (200, 2000):
        folder = tmp_path / str(number)
        folder.mkdir()
        for index in range(number):
            (folder / f"{index}.jpg").touch()
        tracemalloc.start()
        arrivals.lake_sums(FolderLake(folder))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
