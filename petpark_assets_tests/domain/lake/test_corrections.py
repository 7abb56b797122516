"""Claims about corrections: whose they are is always known, none is lost, and none can be changed unseen."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.lake.corrections import Correction, correct, read_corrections


def make(number=0, **changes):
    """A correction of a photo of its own."""
    given = {"sha256": f"{number:064x}", "label": "cat", "by": "Ann", "because": "pointed ears"}
    return Correction(**(given | changes))


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return LocalStore(tmp_path)


def test_corrections_come_back_in_the_order_they_were_made(store):
    """The last one counts, so the order is what they mean; it goes on after 999,999."""
    assert read_corrections(store) == ()
    made = [make(label="cat"), make(label="dog", by="Bob"), make(7)]
    keys = [correct(store, item, {"when": "2026-11-22"}) for item in made]
    assert keys == ["corrections/000001.json", "corrections/000002.json", "corrections/000003.json"]
    (store.root / keys[2]).rename(store.root / "corrections/999999.json")
    assert correct(store, make(8)) == "corrections/1000000.json"
    assert read_corrections(store) == (*made, make(8))


def test_of_many_people_at_once_nobody_is_lost(store):
    """Two who correct at the same moment would otherwise take the same number."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda number: correct(store, make(number)), range(40)))
    assert len(set(keys)) == 40
    assert sorted(item.sha256 for item in read_corrections(store)) == [f"{number:064x}" for number in range(40)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "cat/1.jpg"}, "'cat/1.jpg' is no sha256"),
        ({"label": "bird"}, "'bird' is no class: a photo can be corrected to cat or dog"),
        ({"by": ""}, "'by' is ''"),
        ({"by": "   "}, "names the person"),
        ({"because": ""}, "'because' is '': it names the person and the reason"),
        ({"because": "one\ntwo"}, "each in one line"),
        ({"because": "x" * 501}, "at most 500 characters"),
    ],
)
def test_a_correction_without_a_name_or_a_reason_is_refused(changes, words):
    """It overrules every source for ever: someone must answer for it."""
    with pytest.raises(InvalidInput, match=words) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"{}", b"not json", b'{"content": {}, "digest": ""}'])
def test_a_correction_that_was_damaged_is_named(store, data):
    """It must not be passed over: the photo would silently have its old label again."""
    key = correct(store, make())
    (store.root / key).write_bytes(data)
    with pytest.raises(CorruptData, match=r"corrections/000001\.json in .* was changed"):
        read_corrections(store)


def test_a_correction_that_says_something_else_now_is_named(store):
    """A label can be turned with an editor; the digest beside it cannot follow by itself."""
    key = correct(store, make())
    path = store.root / key
    path.write_bytes(path.read_bytes().replace(b'"cat"', b'"dog"'))
    with pytest.raises(CorruptData, match="was changed after it was made"):
        read_corrections(store)
