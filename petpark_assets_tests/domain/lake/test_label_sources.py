"""Claims about what a source says: rows in any database's types come to the same words."""

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake.label_sources import MAX_WORDS, FileNames, Folders, find_columns, gather

BYTES = "ab" * 32


def test_names_say_nothing_that_is_not_exactly_a_class():
    """A catalogue is no cat, and a number must follow in a name."""
    assert Folders().words("a/Cat/b/DOGS/1.jpg", None) == ("cat", "dog")
    assert Folders().words("catfish/my cat/1.jpg", None) == ()
    assert Folders().words("cat.jpg", None) == ()
    assert FileNames().words("bird/CATS-12.x.jpg", None) == ("cat",)
    assert [FileNames().words(name, None) for name in ("cat.jpg", "cats and 1.jpg", "dogcat.1.jpg")] == [(), (), ()]


def test_rows_have_the_types_of_any_database():
    """A BYTEA column, a number for a label, a key of bytes: drivers give what the table has."""
    said = gather("x", [(7, None, "cat"), (b"b.jpg", None, 1), (None, bytes.fromhex(BYTES), "dog"), ("c", "", True)])
    assert said.words("7", None) == ("cat",)
    assert said.words("b.jpg", None) == ("1",)
    assert said.words("anything", BYTES) == ("dog",)
    assert said.words("c", None) == ("True",)
    assert gather("x", [(None, memoryview(bytes.fromhex(BYTES)), "dog")]).words("", BYTES) == ("dog",)


def test_a_photo_named_by_every_row_costs_no_more_than_many_photos():
    """With the wrong column chosen as key, all rows may be about one: 50,000 words must not be sorted 50,000 times."""
    rows = [("1.jpg", None, f"word {number}") for number in range(50_000)]
    said, turned = (gather("x", order) for order in (rows, reversed(rows)))
    assert said == turned
    assert len(said.words("1.jpg", None)) == MAX_WORDS


def test_what_is_no_sha256_is_refused():
    """An MD5 would name no photo, and all labels would seem to be missing."""
    with pytest.raises(InvalidInput, match=r"labels park have 'd41d8.*' as a sha256: give 64 hexadecimal digits"):
        gather("park", [(None, "d41d8cd98f00b204e9800998ecf8427e", "cat")])


def test_columns_are_found_in_any_case_but_their_own_comes_first():
    """Some warehouses answer in capitals."""
    assert find_columns("x", ["LABEL", " Key "], {}, "") == (1, None, 0)
    assert find_columns("x", ["KEY", "key", "label", "sha256"], {}, "") == (1, 3, 2)
    assert find_columns("x", ["path", "key", "kind"], {"key": "path", "label": "kind"}, "") == (0, None, 2)


@pytest.mark.parametrize(
    ("found", "chosen", "words"),
    [
        (["key", "species"], {}, "need the column 'label', and 'key' or 'sha256'; there are 'key', 'species': mend it"),
        (["label"], {}, "there are 'label': mend it"),
        ([], {}, "there are none: mend it"),
        (["key", "sha256", "label"], {"key": "path"}, "'path' or 'sha256'"),
        (["key", "label", "label"], {}, "have 2 columns 'label'"),
    ],
)
def test_missing_columns_are_named_with_what_there_is(found, chosen, words):
    """The commonest mistake with a table: one look must be enough to mend it."""
    with pytest.raises(InvalidInput, match=words):
        find_columns("x", found, chosen, "mend it")
