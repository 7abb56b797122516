"""Claims about the comparison of two versions: every change has its name, nothing is counted twice, and it is quick."""

import json
import time

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.lake import catalogue, diff


def row(key, data, label="cat", **fields):
    """An accepted photo of the manifest; `data` stands for its bytes, None for bytes that could not be read."""
    sha256 = None if data is None else files.sha256(data.encode())
    accepted = {"state": "accepted", "split": "train"}
    return {"key": key, "sha256": sha256, "label": label, "size_bytes": 1, "group": sha256, **accepted, **fields}


def set_aside(reason="undecodable"):
    """The fields of a quarantined photo."""
    return {"state": "quarantined", "split": None, "reason": reason}


COPY = {"state": "duplicate", "split": None}


def manifest(*rows):
    """A version's table."""
    return catalogue.build_table(rows, num_ignored=0, previous_manifest=None)


def changes(before, after):
    """(change, class, key before, key after) of every change, and the number of rows that did not change."""
    found, num_unchanged = diff.compare(manifest(*before), manifest(*after))
    names = ("change", "class", "key_before", "key_after")
    return [tuple(item[name] for name in names) for item in found.to_pylist()], num_unchanged


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [row("a", "A")], [("added", "cat", None, "a")]),
        ([row("a", "A", "dog")], [], [("removed", "dog", "a", None)]),
        ([row("a", "A")], [row("b", "A")], [("renamed", "cat", "a", "b")]),
        ([row("a", "A")], [row("a", "B")], [("rewritten", "cat", "a", "a")]),
        ([row("a", "A")], [row("a", "A", "dog")], [("relabelled", "cat to dog", "a", "a")]),
        ([row("a", "A")], [row("a", "A", None)], [("relabelled", "cat to without a class", "a", "a")]),
        ([row("a", "A")], [row("a", "A", **set_aside())], [("quarantined", "cat", "a", "a")]),
        ([row("a", "A", **COPY)], [row("a", "A", **set_aside())], [("quarantined", "cat", "a", "a")]),
        ([row("a", "A", **set_aside())], [row("a", "A")], [("restored", "cat", "a", "a")]),
        ([row("a", "A", **set_aside("bridge"))], [row("a", "A", **COPY)], [("restored", "cat", "a", "a")]),
        ([row("a", None, **set_aside("unreadable"))], [row("a", "A", **set_aside("truncated"))],
         [("other_reason", "cat", "a", "a"), ("rewritten", "cat", "a", "a")]),
        ([row("a", "A")], [row("a", "A", **COPY)], [("became_duplicate", "cat", "a", "a")]),
        ([row("a", "A", **COPY)], [row("a", "A")], [("became_accepted", "cat", "a", "a")]),
        ([row("a", "A", split="test")], [row("a", "A")], [("changed_sides", "cat", "a", "a")]),
    ],
)  # fmt: skip
def test_every_change_has_its_name(before, after, expected):
    """What a person is told of a new version; one row beside it that does not change is not in the list."""
    others = [row("z", "Z"), row("y", None, **set_aside("unreadable"))]
    assert changes([*others, *before], [*others, *after]) == (expected, 2)


def test_a_photo_moved_to_the_other_class_is_the_same_photo_with_another_label():
    """With folders as labels this is how a person corrects one; as removed and added it would look like two photos."""
    found, _ = changes([row("cat/1", "A", "cat")], [row("dog/1", "A", "dog")])
    assert found == [
        ("relabelled", "cat to dog", "cat/1", "dog/1"),
        ("renamed", "cat to dog", "cat/1", "dog/1"),
    ]


def test_bytes_are_the_photo_and_keys_only_its_name():
    """A file that makes room for another under its old name has moved; two that swap names have both moved."""
    found, _ = changes([row("a", "A")], [row("a", "X"), row("b", "A")])
    assert found == [("added", "cat", None, "a"), ("renamed", "cat", "a", "b")]
    found, _ = changes([row("a", "A"), row("b", "B")], [row("a", "B"), row("b", "A")])
    assert found == [("renamed", "cat", "b", "a"), ("renamed", "cat", "a", "b")]


def test_copies_are_counted_one_by_one():
    """Of three copies one was moved, one stayed, and one is gone."""
    before = [row("a", "A"), row("b", "A", **COPY), row("c", "A", **COPY)]
    found, num_unchanged = changes(before, [row("b", "A"), row("d", "A", **COPY)])
    assert found == [
        ("became_accepted", "cat", "b", "b"),
        ("became_duplicate", "cat", "a", "d"),
        ("removed", "cat", "c", None),
        ("renamed", "cat", "a", "d"),
    ]
    assert num_unchanged == 0


def test_rows_without_bytes_are_told_apart_by_their_keys():
    """All unreadable files have the same nothing for a sha256; they must not be taken for copies of each other."""
    unreadable = set_aside("unreadable")
    found, num_unchanged = changes([row("a", None, **unreadable)], [row("b", None, **unreadable)])
    assert found == [("removed", "cat", "a", None), ("added", "cat", None, "b")][::-1]
    assert num_unchanged == 0


@pytest.fixture
def store(tmp_path):
    """Two versions: one photo stayed, one left, two came, one of them set aside and without a class."""
    store = files.LocalStore(tmp_path)
    catalogue.write_manifest(store, "v0001", manifest(row("a", "A"), row("b", "B", "dog")))
    newer = manifest(row("a", "A"), row("c", "C", "dog"), row("d", "D", None, **set_aside("unlabelled")))
    catalogue.write_manifest(store, "v0002", newer)
    return store


def test_the_document_counts_by_class_and_names_each_photo(store):
    """It is what `petpark lake diff --json` prints, so it must be JSON and balance."""
    document = json.loads(json.dumps(diff.diff(store, "v0001", "v0002")))
    assert {name: document[name] for name in diff.CHANGES if document[name]} == {"added": 2, "removed": 1}
    assert [tuple(row.values()) for row in document["by_class"]] == [
        ("added", "dog", 1), ("added", "without a class", 1), ("removed", "dog", 1),
    ]  # fmt: skip
    assert document["num_after"] - document["num_before"] == document["added"] - document["removed"]
    assert (document["num_before"], document["num_after"], document["num_unchanged"]) == (2, 3, 1)
    assert document["manifest_after"] == catalogue.manifest_sha256(store, "v0002")
    *added, gone = document["changes"]
    assert (gone["key_before"], gone["sha256_before"], gone["key_after"]) == ("b", files.sha256(b"B"), None)
    assert [(row["key_after"], row["reason_after"]) for row in added] == [("c", None), ("d", "unlabelled")]


def test_any_two_versions_can_be_compared_also_backwards(store):
    """Time travel: what came is what goes when looked at the other way round."""
    back = diff.diff(store, "v0002", "v0001")
    assert (back["added"], back["removed"]) == (1, 2)
    assert diff.diff(store, "v0002", "v0002")["changes"] == []
    with pytest.raises(NotFound, match="there is: v0001, v0002"):
        diff.diff(store, "v0001", "v0003")


def test_a_hundred_thousand_rows_take_about_a_second():
    """Also when nearly all of them changed; on 2 cores it is 0.3 s, and a loop over rows would be ten times that."""
    before = [row(f"cat/{number:06}", str(number)) for number in range(100_000)]
    after = [row(f"dog/{number:06}", str(number), "dog") for number in range(1_000, 101_000)]
    tables = manifest(*before), manifest(*after)
    started = time.perf_counter()
    found, num_unchanged = diff.compare(*tables)
    seconds = time.perf_counter() - started
    assert (found.num_rows, num_unchanged) == (2 * 99_000 + 2 * 1_000, 0)
    assert seconds < 3
