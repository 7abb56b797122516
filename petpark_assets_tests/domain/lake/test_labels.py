"""Claims about labels: whose word counts, that nothing is guessed, and that every word said stays in the row."""

import time

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.images import QUARANTINE_REASONS
from petpark_assets.domain.lake.corrections import Correction
from petpark_assets.domain.lake.labels import open_labels
from petpark_assets.domain.lake.sources import FolderLake, LakeObject
from petpark_assets.domain.lake.survey import inputs_digest

BYTES = "ab" * 32
OTHER_BYTES = "cd" * 32


@pytest.fixture
def folder(tmp_path):
    """Where the lake is, and tables next to its photos."""
    return tmp_path


def table(folder, *lines, name="labels.csv", header="key,label"):
    """A CSV table next to the photos."""
    (folder / name).write_text("\n".join((header, *lines, "")))


def book(folder, *specs, corrections=()):
    """The labels of a lake in a folder."""
    return open_labels(specs, FolderLake(folder), corrections)


def correction(label, by="Ann", because="pointed ears", sha256=BYTES):
    """What a person said."""
    return Correction(sha256=sha256, label=label, by=by, because=because)


@pytest.mark.parametrize(
    ("key", "label", "source"),
    [
        ("cat/1.jpg", "cat", "folder"),
        ("DOGS/rex.PNG", "dog", "folder"),
        ("2024/park/cats/evening/1.jpg", "cat", "folder"),
        ("cat/cat.1.jpg", "cat", "folder"),
        ("cat.123.jpg", "cat", "file_name"),
        ("train/dog.7.jpg", "dog", "file_name"),
        ("Dog_12.jpeg", "dog", "file_name"),
    ],
)
def test_a_key_says_what_it_shows(folder, key, label, source):
    """Both layouts people have: folders, and the names of the well-known data set."""
    judged = book(folder).judge(key, None)
    assert (judged.label, judged.source, judged.reason) == (label, source, None)


@pytest.mark.parametrize(
    ("key", "reason", "claims"),
    [
        ("mystery.jpg", "unlabelled", ()),
        ("catalogue.1.jpg", "unlabelled", ()),
        ("cat-and-dog.jpg", "unlabelled", ()),
        ("animals/Bird/1.jpg", "unknown_label", ("folder: Bird",)),
        ("catfish/1.jpg", "unknown_label", ("folder: catfish",)),
        ("cat/dog.1.jpg", "conflicting_label", ("folder: cat", "file_name: dog")),
        ("dog/cat/1.jpg", "conflicting_label", ("folder: dog", "folder: cat")),
    ],
)
def test_a_key_that_says_nothing_certain_is_never_guessed(folder, key, reason, claims):
    """A wrong label is worse than none: it teaches the network, and nobody sees it."""
    judged = book(folder).judge(key, None)
    assert (judged.label, judged.source, judged.reason, judged.claims) == (None, None, reason, claims)
    assert reason in QUARANTINE_REASONS
    assert judged.detail


def test_the_first_rank_that_says_anything_decides_and_both_claims_stay(folder):
    """The order is the park's own: its warehouse may know better than its folders, or the other way round."""
    table(folder, "dog/1.jpg,Cats")
    judged = book(folder, "labels.csv", "names").judge("dog/1.jpg", None)
    assert (judged.label, judged.source) == ("cat", "labels.csv")
    assert judged.claims == ("labels.csv: cat", "folder: dog")
    turned = book(folder, "names", "labels.csv").judge("dog/1.jpg", None)
    assert (turned.label, turned.source, turned.claims) == ("dog", "folder", ("folder: dog", "labels.csv: cat"))


@pytest.mark.parametrize("nothing", ["", '""', "NULL", "n/a", "  "])
def test_a_source_that_says_nothing_leaves_it_to_the_next(folder, nothing):
    """Exports write a missing label in many ways, and none of them is a class."""
    table(folder, f"dog/1.jpg,{nothing}")
    judged = book(folder, "labels.csv", "folders").judge("dog/1.jpg", None)
    assert (judged.label, judged.source, judged.claims) == ("dog", "folder", ("folder: dog",))


def test_sources_of_equal_rank_that_differ_are_a_conflict_with_both_claims(folder):
    """Nobody said whom to believe: a person must look, and needs to see who said what."""
    table(folder, "dog/1.jpg,cat", "dog/2.jpg,dog")
    judge = book(folder, "labels.csv", "+folders").judge
    judged = judge("dog/1.jpg", None)
    assert (judged.label, judged.reason) == (None, "conflicting_label")
    assert judged.claims == ("labels.csv: cat", "folder: dog")
    assert all(claim in judged.detail for claim in judged.claims)
    assert (judge("dog/2.jpg", None).label, judge("dog/2.jpg", None).source) == ("dog", "labels.csv")


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("key,label", ("1.jpg,cat", "1.jpg,dog")),
        ("sha256,label", (f"{BYTES},cat", f"{BYTES.upper()},dogs")),
        ("key,sha256,label", ("1.jpg,,cat", f"0.jpg,{BYTES},dog")),
    ],
)
def test_a_table_that_names_a_photo_twice_and_differently_contradicts_itself(folder, header, rows):
    """The last row must not win by chance: exports come in any order."""
    table(folder, *rows, header=header)
    judged = book(folder, "labels.csv", "names").judge("1.jpg", BYTES)
    assert (judged.reason, judged.claims) == ("conflicting_label", ("labels.csv: cat", "labels.csv: dog"))


def test_the_same_label_twice_is_no_conflict(folder):
    """A join in a warehouse easily doubles rows."""
    table(folder, "1.jpg,cat", "1.jpg,CATS")
    judged = book(folder, "labels.csv").judge("1.jpg", None)
    assert (judged.label, judged.claims) == ("cat", ("labels.csv: cat",))


def test_a_word_that_is_no_class_is_kept_and_hides_lower_ranks(folder):
    """Who ranks highest called it a bird: a folder named dog must not make a dog of it."""
    table(folder, "dog/1.jpg,  Grey\tHeron ", f"dog/2.jpg,{'x' * 500}")
    judge = book(folder, "labels.csv", "folders").judge
    judged = judge("dog/1.jpg", None)
    assert (judged.label, judged.reason) == (None, "unknown_label")
    assert judged.claims == ("labels.csv: Grey Heron", "folder: dog")
    assert max(map(len, judge("dog/2.jpg", None).claims)) < 100


def test_a_correction_comes_before_all_sources_and_all_claims_stay(folder):
    """A person looked at it; who, why, and what was said before must remain to be seen."""
    table(folder, "dog/1.jpg,dog")
    corrected = book(folder, "labels.csv", "+names", corrections=[correction("cat")])
    judged = corrected.judge("dog/1.jpg", BYTES)
    assert (judged.label, judged.source, judged.reason) == ("cat", "correction", None)
    assert judged.claims == ("correction by Ann (pointed ears): cat", "labels.csv: dog", "folder: dog")
    assert corrected.judge("copy/of/it.jpg", BYTES).label == "cat"  # it is of the bytes, wherever they lie
    assert corrected.judge("dog/1.jpg", OTHER_BYTES).label == "dog"


def test_the_last_correction_counts_and_the_earlier_ones_are_still_told(folder):
    """People correct each other; a row must show that they did."""
    corrections = [correction("cat"), correction("dog", by="Bob", because="it barks")]
    judged = book(folder, corrections=corrections).judge("cat/1.jpg", BYTES)
    assert judged.label == "dog"
    assert judged.claims == (
        "correction by Bob (it barks): dog", "correction by Ann (pointed ears): cat", "folder: cat",
    )  # fmt: skip


def test_a_row_with_a_sha256_is_about_these_bytes_wherever_they_lie(folder):
    """A label must not pass to another photo that came under the same key, and must follow a photo that moved."""
    table(folder, f"1.jpg,{BYTES},cat", header="key,sha256,label")
    judge = book(folder, "labels.csv").judge
    assert judge("moved.jpg", BYTES).label == "cat"
    assert judge("1.jpg", OTHER_BYTES).reason == "unlabelled"
    assert judge("1.jpg", None).reason == "unlabelled"


def test_keys_alone_tell_unless_bytes_can_change_a_label(folder):
    """Whether a lake lacks a class can be told before anything is read, or cannot."""
    table(folder, "1.jpg,cat")
    table(folder, f"{BYTES},cat", name="bytes.csv", header="sha256,label")
    assert not book(folder, "labels.csv", "names").judges_by_sha256
    assert book(folder, "bytes.csv").judges_by_sha256
    assert book(folder, corrections=[correction("cat")]).judges_by_sha256


def test_rows_about_no_photo_of_the_lake_are_counted_by_source(folder):
    """A wrong prefix in a table shows as a number, not as a lake without labels."""
    table(folder, "1.jpg,cat", "gone.jpg,cat", "gone.jpg,dog", "gone.jpg,", ",dog")
    table(folder, f"{BYTES},cat", f"{OTHER_BYTES},cat", name="bytes.csv", header="sha256,label")
    labels = book(folder, "labels.csv", "bytes.csv", "names")
    assert labels.num_unused(["1.jpg", "2.jpg"], [BYTES, None]) == {"labels.csv": 2, "bytes.csv": 1}


def digest(labels):
    """Of what a version would be made from, of two photos."""
    keys, sha256s = ["cat/1.jpg", "2.jpg"], [BYTES, OTHER_BYTES]
    objects = [LakeObject(key=key, size_bytes=1, fingerprint="") for key in keys]
    return inputs_digest(objects, sha256s, labels.judge_all(keys, sha256s), frozenset())


def test_the_digest_is_of_what_is_said_in_whatever_order_and_place(folder, tmp_path):
    """An unchanged table that was exported again must not look like other labels."""
    table(folder, "cat/1.jpg,cat", "2.jpg,dog", "cat/1.jpg,cat")
    before = digest(book(folder, "labels.csv", "names"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    table(elsewhere, "2.jpg,Dogs", "cat/1.jpg,CAT", "3.jpg,")
    assert digest(book(folder, str(elsewhere / "labels.csv"), "names")) == before


@pytest.mark.parametrize(
    ("specs", "row", "corrections"),
    [
        (("labels.csv", "names"), "cat/1.jpg,cat", ()),
        (("labels.csv", "names"), "2.jpg,cat", ()),
        (("labels.csv", "+names"), "cat/1.jpg,dog", ()),
        (("names", "labels.csv"), "cat/1.jpg,dog", ()),
        (("labels.csv", "names"), "cat/1.jpg,dog", (correction("cat"),)),
    ],
)
def test_the_digest_changes_with_everything_that_can_change_a_label(folder, specs, row, corrections):
    """Otherwise a changed table beside an unchanged lake would make no new version."""
    table(folder, "cat/1.jpg,dog")
    before = digest(book(folder, "labels.csv", "names"))
    table(folder, row)
    assert digest(book(folder, *specs, corrections=corrections)) != before


def test_two_tables_of_one_name_are_told_apart(folder):
    """A row that says `labels.csv: cat` and `labels.csv: dog` would tell nobody which to mend."""
    (folder / "old").mkdir()
    table(folder, "1.jpg,cat")
    table(folder / "old", "1.jpg,dog")
    judged = book(folder, "labels.csv", "old/labels.csv").judge("1.jpg", None)
    assert judged.claims == ("labels.csv: cat", "labels.csv (2): dog")


def test_a_broken_source_is_refused_before_anything_is_judged(folder):
    """A version with half of the labels would be a wrong version."""
    with pytest.raises(InvalidInput, match=r"labels nowhere\.csv do not exist"):
        book(folder, "names", "nowhere.csv")


def test_judging_a_photo_costs_microseconds(folder):
    """100,000 photos are judged each time the lake is looked at: 20,000 in 0.4 s are eight times what was measured."""
    keys = [f"park-{number % 40}/{'cats' if number % 2 else 'dogs'}/{number}.jpg" for number in range(20_000)]
    table(folder, *(f"{key},cat" for key in keys))
    labels = book(folder, "labels.csv", "+names")
    started = time.process_time()
    judged = [labels.judge(key, BYTES) for key in keys]
    assert time.process_time() - started < 0.4
    assert [item.reason for item in judged[:2]] == ["conflicting_label", None]
