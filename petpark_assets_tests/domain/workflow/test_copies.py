"""Claims about copies: each home of a shared store deletes its own, once, and never what was made since."""

import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import files
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import contact_sheets, tombstones
from petpark_assets.domain.workflow import copies, forgetting, ingestion, sides, verification
from petpark_assets_tests.domain.workflow import scan

SIDE = 16


def png(number):
    """A file of noise, another for every number."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def homes(tmp_path):
    """Two homes of one store, each with copies of both sides and with pages."""
    lake = tmp_path / "lake"
    for number in range(24):
        path = lake / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    (lake / "nobody-knows.png").write_bytes(png(100))
    both = [open_home(tmp_path / name, actor="Kim", store_uri=str(tmp_path / "store")) for name in ("one", "other")]
    ingestion.new_dataset_version(both[0], str(lake), SIDE)
    for home in both:
        open_sides(home)
        ingestion.draw_quarantine(home, "v0001")
    return both


def open_sides(home):
    """Both sides of the version, which leaves a copy of each in the cache."""
    for side in ("train", "test"):
        sides.open_side(home, "v0001", side, SIDE)


def test_a_photo_forgotten_in_one_home_goes_from_the_others_too(homes):
    """Who asks to be forgotten does not know of homes; a copy on a colleague's disk is a copy."""
    one, other = homes
    wanted = scan.blocks(one.pixels.read([files.sha256(png(1))], SIDE).tobytes())
    assert scan.files_with(wanted, [other.root])
    forgetting.forget(one, "cat/1.png", "asked")
    forgetting.forget(one, "nobody-knows.png", "asked")
    assert b"data:image" in contact_sheets.page_path(other.reports, "v0001").read_bytes()
    assert set(copies.left(other)) == {files.sha256(png(1)), files.sha256(png(100))}
    open_sides(other)
    assert scan.files_with(wanted, [home.root for home in homes]) == []
    assert not contact_sheets.page_path(other.reports, "v0001").exists()
    assert copies.left(one) == copies.left(other) == {}


def test_what_was_made_since_stays(homes, monkeypatch):
    """Cheap when nothing changed: one listing, and a cache that is kept."""
    one, other = homes
    forgetting.forget(one, "cat/1.png", "asked")
    open_sides(other)
    made = sorted((other.cache / "pixels").iterdir())
    assert len(made) == 2
    monkeypatch.setattr(copies, "_remove", lambda _paths: pytest.fail("it deletes again"))
    monkeypatch.setattr(copies, "find_rows", lambda *_: pytest.fail("it reads manifests"))
    open_sides(other)
    assert sorted((other.cache / "pixels").iterdir()) == made


def test_forgetting_one_photo_does_not_hide_another_that_was_not_followed(homes):
    """Each is noted for itself: the other home's photo may be on pages that this one's is not on."""
    one, other = homes
    forgetting.forget(one, "nobody-knows.png", "asked")
    forgetting.forget(other, "cat/1.png", "asked")
    assert set(copies.left(other)) == {files.sha256(png(100))}
    copies.follow(other)
    assert not contact_sheets.page_path(other.reports, "v0001").exists()


@pytest.mark.parametrize("note", [b"", b'["ab', b"7", b"\xff"])
def test_a_damaged_note_is_none(homes, note):
    """A machine that stopped while it was written: all is deleted once more, and the note is whole again."""
    one, other = homes
    forgetting.forget(one, "cat/1.png", "asked")
    (other.root / copies.NOTE_NAME).write_bytes(note)
    copies.follow(other)
    assert not (other.cache / "pixels").exists()
    assert copies.left(other) == {}


def test_a_deleted_cache_takes_no_note_with_it(homes):
    """Pages that were drawn again since would be taken for older ones, and a sound home for none."""
    one, _ = homes
    forgetting.forget(one, "nobody-knows.png", "asked")
    assert contact_sheets.page_path(one.reports, "v0001").exists()
    shutil.rmtree(one.cache)
    assert copies.left(one) == {}
    assert verification.verify_versions(one)["is_sound"]


def test_a_note_of_an_earlier_release_counts(homes):
    """It lay in the cache: what was made since stays, and the next photo is noted beside it."""
    one, _ = homes
    forgetting.forget(one, "nobody-knows.png", "asked")
    (one.root / copies.NOTE_NAME).rename(one.cache / copies.NOTE_NAME)
    assert copies.left(one) == {}
    forgetting.forget(one, "cat/1.png", "asked")
    shutil.rmtree(one.cache)
    assert copies.left(one) == {}


def test_of_two_that_follow_at_once_the_later_deletes_nothing(homes, monkeypatch):
    """The two sides may be opened by two processes: what one has made by then is in use."""
    one, other = homes
    forgetting.forget(one, "cat/1.png", "asked")
    real, barrier = copies._noting, threading.Barrier(2)

    def noting(home):
        barrier.wait(10)  # both have seen that there is something to do
        return real(home)

    deletions = []
    remove = copies._remove
    monkeypatch.setattr(copies, "_noting", noting)
    monkeypatch.setattr(copies, "_remove", lambda paths: (deletions.append(1), remove(paths)))
    threads = [threading.Thread(target=copies.follow, args=(other,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(deletions) == 1


def test_a_home_without_copies_is_left_alone(tmp_path):
    """Nothing is made by looking, where nobody was ever forgotten."""
    home = open_home(tmp_path / "home", actor="Kim")
    copies.follow(home)
    assert copies.left(home) == {}
    assert tombstones.forgotten(home.store) == frozenset()
    assert not home.root.exists()
