"""Claims about history: bytes are decoded once, and a side is for ever, whatever became of a photo since."""

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.lake import catalogue, history
from petpark_assets_tests.domain.lake.test_catalogue import quarantined, row, table


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return files.LocalStore(tmp_path / "store")


def sha256(name):
    """Of the photo of this name."""
    return files.sha256(name.encode())


def make(store, number, *rows):
    """A version of rows."""
    catalogue.write_manifest(store, catalogue.version_name(number), table(*rows))


def test_a_photo_keeps_its_side_though_it_was_gone_for_a_version(store):
    """A photo that returns from a holiday must not come back on the other side of the exam."""
    make(store, 1, row("a", split="test"), row("b"))
    make(store, 2, row("b"), row("c"))
    make(store, 3, quarantined("b", "conflicting_label"))
    sides = {sha256("a"): "test", sha256("b"): "train", sha256("c"): "train"}
    assert history.sides(history.read_history(store)) == sides
    assert history.sides(history.read_history(store, besides="v0001")) == {
        name: side for name, side in sides.items() if name != sha256("a")
    }


def test_what_was_learned_from_bytes_is_known_in_every_later_version(store):
    """Bytes are decoded once, whether they were good or bad; bytes that nobody read are not claimed to be known."""
    make(store, 1, row("a", sharpness=0.25, signature=b"12"), quarantined("bad", "truncated", detail="ends early"))
    unread = quarantined("new", "forgotten", first_version=None)
    make(store, 2, row("a", sharpness=0.25, signature=None, label="dog"), unread)
    facts = {known["sha256"]: known for known in history.read_history(store).to_pylist()}
    assert set(facts) == {sha256("a"), sha256("bad")}
    good, bad = facts[sha256("a")], facts[sha256("bad")]
    assert (good["sharpness"], good["first_version"], good["signature"], good["reason"]) == (0.25, "v0001", b"12", None)
    assert (bad["reason"], bad["detail"], bad["group"], bad["split"]) == ("truncated", "ends early", None, None)


def test_a_photo_set_aside_for_its_label_is_known_without_that_reason(store):
    """Its label may be mended without its bytes changing: the old reason must not stick to them."""
    make(store, 1, row("a", state="quarantined", reason="unlabelled", detail="no label", split=None, group=None))
    (known,) = history.read_history(store).to_pylist()
    assert (known["format"], known["reason"], known["detail"], known["split"]) == ("JPEG", None, None, None)


def test_the_newest_group_counts(store):
    """Two groups become one when a new photo joins them; every later photo must find the one name."""
    make(store, 1, row("a", group="g1"), row("b", group="g2"))
    make(store, 2, row("a", group="g1"), row("b", group="g1"), row("c", group="g1", first_version="v0002"))
    assert history.read_history(store)["group"].to_pylist() == ["g1"] * 3


def test_a_photo_that_is_away_goes_with_its_group(store):
    """It is not compared again when it comes back, and would be parted from its copies for ever."""
    make(store, 1, row("a", group="g1"), row("b", group="g2"), row("b again", group="g2"), row("d", group="d"))
    make(store, 2, row("a", group="g1"), row("b again", group="g1"), row("d", group="d"))
    known = {one["sha256"]: one["group"] for one in history.read_history(store).to_pylist()}
    assert known == {sha256("a"): "g1", sha256("b"): "g1", sha256("b again"): "g1", sha256("d"): "d"}


def test_a_photo_that_is_set_aside_for_its_label_goes_with_its_group(store):
    """When somebody has mended its label, it is with its copies."""
    make(store, 1, row("a", group="a"), row("b", group="a"), row("c", group="c"))
    set_aside = quarantined("a", "conflicting_label", first_version="v0001")
    make(store, 2, set_aside, row("b", group="c"), row("c", group="c"))
    assert history.read_history(store)["group"].to_pylist() == ["c"] * 3


def test_a_bridge_stays_a_group_of_its_own(store):
    """It is judged anew in each version: the others' new name is not for it."""
    make(store, 1, row("a", group="a"), row("b", group="a"))
    make(store, 2, quarantined("a", "bridge", first_version="v0001"), row("b", group="b"))
    known = {one["sha256"]: one["group"] for one in history.read_history(store).to_pylist()}
    assert known == {sha256("a"): "a", sha256("b"): "b"}


def test_with_a_cache_only_new_versions_are_read_and_the_answer_is_the_same(store, tmp_path):
    """Hundreds of versions of 100,000 photos would take minutes to read again at each look."""
    make(store, 1, row("a", split="test"), row("b"))
    make(store, 2, row("b"))
    history.read_history(store, tmp_path)
    make(store, 3, row("b"), row("c", first_version="v0003"))
    whole = history.read_history(store)
    store.local_path(catalogue.manifest_key("v0001")).write_bytes(b"whoever reads this fails")
    with pytest.raises(CorruptData, match="v0001"):
        history.read_history(store)
    assert history.read_history(store, tmp_path).equals(whole)


@pytest.mark.parametrize("cached", [b"", b"PAR1", b"nonsense"])
def test_a_damaged_cache_costs_time_and_nothing_else(store, tmp_path, cached):
    """Everything under cache/ can be deleted, or be anything."""
    make(store, 1, row("a"))
    (tmp_path / history.FILE_NAME).write_bytes(cached)
    assert history.read_history(store, tmp_path).equals(history.read_history(store))


def test_the_cache_of_another_store_is_not_believed(store, tmp_path):
    """A home that was moved or drawn anew would inherit sides of photos it never had."""
    make(store, 1, row("a"))
    other = files.LocalStore(tmp_path / "other")
    make(other, 1, row("b"))
    history.read_history(other, tmp_path)
    assert history.read_history(store, tmp_path)["sha256"].to_pylist() == [sha256("a")]
