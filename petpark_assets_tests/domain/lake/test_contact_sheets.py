"""Claims about the page of the quarantine: all that was set aside is found, and seen where possible; nothing leaks."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import files, images
from petpark_assets.domain.errors import NotFound
from petpark_assets.domain.lake import catalogue, contact_sheets, tombstones
from petpark_assets.domain.lake.originals import OriginalStore

REPORT_CSS = Path(images.__file__).parent / "report/page.css"


def photo(number, width_px=40, height_px=20):
    """The bytes of a small photo, different for every number."""
    picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, (height_px, width_px, 3), np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def aside(store, key, reason, data=None, **fields):
    """A quarantined row; its bytes are kept as an original where there are some."""
    sha256 = None if data is None else files.sha256(data)
    if data is not None:
        OriginalStore(store).append({sha256: data})
    detail = images.QUARANTINE_REASONS[reason]
    return {"key": key, "sha256": sha256, "size_bytes": 1, "state": "quarantined", "reason": reason,
            "detail": detail, "label": None, **fields}  # fmt: skip


def accepted(number):
    """An accepted row."""
    sha256 = files.sha256(str(number).encode())
    return {"key": f"cat/{number}.jpg", "sha256": sha256, "size_bytes": 1, "label": "cat", "group": sha256,
            "split": "train", "state": "accepted"}  # fmt: skip


def make_version(store, version, *rows):
    """A version of these rows and 20 accepted photos."""
    every = [*rows, *(accepted(number) for number in range(20))]
    catalogue.write_manifest(store, version, catalogue.build_table(every, num_ignored=1, previous_manifest=None))


@pytest.fixture
def store(tmp_path):
    """A version with a photo to look at, three that cannot be, and a name that tries to be a script."""
    store = files.LocalStore(tmp_path / "store")
    make_version(
        store, "v0001",
        aside(store, "what/1.png", "unknown_label", photo(1), claims=["folder: what"]),
        aside(store, "cat/text.jpg", "undecodable", b"no photo"),
        aside(store, "cat/pipe.jpg", "unreadable", detail="it is not a regular file"),
        aside(store, "cat/<script>alert(1)</script>.jpg", "undecodable"),
    )  # fmt: skip
    return store


def test_each_photo_set_aside_has_its_card(store):
    """A person mends a lake by looking: the photo, or its name where there is nothing to see, its key and the cause."""
    sheets = {sheet.reason: sheet for sheet in contact_sheets.contact_sheets(store, OriginalStore(store), "v0001")}
    assert list(sheets) == [name for name in images.QUARANTINE_REASONS if name in sheets]
    assert {reason: sheet.num_photos for reason, sheet in sheets.items()} == {
        "undecodable": 2, "unknown_label": 1, "unreadable": 1,
    }  # fmt: skip
    (unknown,) = sheets["unknown_label"].cards
    head, _, data = unknown["picture"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (head, picture.size, unknown["claims"]) == ("data:image/jpeg;base64", (40, 20), ["folder: what"])
    assert [card["picture"] for card in (*sheets["undecodable"].cards, *sheets["unreadable"].cards)] == [None] * 3
    page = contact_sheets.draw_page(store, OriginalStore(store), "v0001").decode()
    assert "cat/text.jpg" in page
    assert "it is not a regular file" in page
    assert page.count("<img ") == 1


def test_every_reason_there_is_stands_with_its_meaning(store):
    """The list is closed and documented: a person reads here what may happen to a photo, also what did not yet."""
    page = contact_sheets.draw_page(store, OriginalStore(store), "v0001").decode()
    for reason, meaning in images.QUARANTINE_REASONS.items():
        assert reason.replace("_", " ") in page
        assert meaning in page


def test_a_file_name_is_never_markup(store):
    """A lake is filled by strangers, and the page is opened in a browser."""
    page = contact_sheets.draw_page(store, OriginalStore(store), "v0001").decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_more_than_a_sheet_holds_are_counted(tmp_path):
    """Ten thousand broken files must not make a page of a gigabyte, and none is lost from the count."""
    store = files.LocalStore(tmp_path)
    num_photos = contact_sheets.NUM_SHOWN + 7
    rows = [aside(store, f"x/{number:03}.png", "unlabelled", photo(number)) for number in range(num_photos)]
    make_version(store, "v0001", *rows)
    (sheet,) = contact_sheets.contact_sheets(store, OriginalStore(store), "v0001")
    assert (sheet.num_photos, len(sheet.cards)) == (num_photos, contact_sheets.NUM_SHOWN)
    page = contact_sheets.draw_page(store, OriginalStore(store), "v0001").decode()
    assert "7 others" in re.sub(r"\s+", " ", page)
    assert page.count("<img ") == contact_sheets.NUM_SHOWN


def test_a_large_photo_becomes_a_small_picture():
    """Sixty photos of a phone would be 200 MB."""
    small = contact_sheets.thumbnail(np.zeros((3000, 1500, 3), np.uint8))
    assert Image.open(io.BytesIO(small)).size == (contact_sheets.THUMBNAIL_PX // 2, contact_sheets.THUMBNAIL_PX)
    assert len(small) < 5000


def test_a_forgotten_photo_is_never_drawn_again(store):
    """From its tombstone on, also while its original is still being deleted."""
    sha256 = files.sha256(photo(1))
    tombstone = {"keys": ("what/1.png",), "dataset_versions": ("v0001",), "reason": "asked", "who": "me", "when": "now"}
    tombstones.write(store, tombstones.Tombstone(sha256=sha256, **tombstone))
    assert OriginalStore(store).missing([sha256]) == []
    assert b"<img " not in contact_sheets.draw_page(store, OriginalStore(store), "v0001")


def test_a_page_shows_the_versions_up_to_its_own(store, tmp_path):
    """An old page drawn again must be the same page, whatever came after."""
    before = contact_sheets.draw_page(store, OriginalStore(store), "v0001")
    make_version(store, "v0002")
    assert contact_sheets.draw_page(store, OriginalStore(store), "v0001") == before
    newer = contact_sheets.draw_page(store, OriginalStore(store), "v0002").decode()
    assert "Nothing is set aside in this version" in newer
    assert newer.index('scope="row">v0002') < newer.index('scope="row">v0001')
    path = contact_sheets.write_page(store, OriginalStore(store), tmp_path / "reports", "v0001")
    assert path == tmp_path / "reports/lake/v0001/quarantine.html"
    assert path.read_bytes() == before
    with pytest.raises(NotFound, match="there is: v0001, v0002"):
        contact_sheets.draw_page(store, OriginalStore(store), "v0003")


def test_the_page_has_the_colours_of_the_report(store):
    """Two pages of one house: the style sheet is written twice since a lower room cannot use a higher one's files."""
    page = contact_sheets.draw_page(store, OriginalStore(store), "v0001").decode()
    palettes = [re.findall(r":root \{(.*?)\}", text, re.DOTALL) for text in (page, REPORT_CSS.read_text())]
    assert [" ".join(palette.split()) for palette in palettes[0]] == [" ".join(part.split()) for part in palettes[1]]
    assert len(palettes[0]) == 2


@pytest.mark.debian
def test_the_page_opens_cleanly_on_a_phone(browser, store, tmp_path):
    """No error, no request but for the file, no sideways scrolling, every picture drawn."""
    path = contact_sheets.write_page(store, OriginalStore(store), tmp_path / "reports", "v0001")
    complaints, requests = [], []
    with browser.new_context(viewport={"width": 390, "height": 844}) as window:
        page = window.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        scroll, client = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert scroll <= client == 390
    assert widths == [40]
