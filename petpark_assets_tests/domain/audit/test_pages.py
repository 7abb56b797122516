"""Claims about the audit's pages: self-contained, each box opens its record, and a real browser shows them cleanly."""

import re

import pytest

from petpark_assets.domain.audit import changes, pages, timeline, trail
from petpark_assets_tests.domain.audit.drawn_home import FIRST, REJECTED, SECOND


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory):
    """The index, with the pages of all three models beside it."""
    folder = tmp_path_factory.mktemp("pages")
    assert pages.write_index(home, folder / "index.html") == 3
    pages.write_answer("What changed?", changes.compare_models(home, "1", "2"), folder / "diff.html")
    return folder


def test_the_lineage_has_a_box_for_each_record_and_a_line_for_each_parent(home, folder):
    """Of this model's own records: another attempt of the same data has other boxes."""
    page = (folder / "models" / f"{FIRST}.html").read_text()
    found = trail.read_trail(home.store, "v0001", FIRST)
    assert re.findall(r'<a href="#(\w+)" aria-label', page) == list(trail.FLOW)
    assert page.count('<path class="held"') == sum(len(record.parents) for record in found.documents.values())
    assert 'class="broken"' not in page
    for record in found.documents.values():
        assert record.digest in page


def test_a_page_is_drawn_the_same_again_and_asks_nothing_of_a_network(home, tmp_path):
    """It can be mailed, printed and compared."""
    one, other = (pages.write_model_page(home, "1", tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert one == other
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*", one) == []
    assert "http" not in re.sub(r"<meta[^>]*>", "", one)


def test_what_people_wrote_is_text(folder):
    """A reason is typed by a person, and must not become markup."""
    page = (folder / "models" / f"{SECOND}.html").read_text()
    assert "&lt;my&gt; dog" in page
    assert "<my>" not in page


def test_a_rejected_model_and_a_changed_record_show(copy, attempt_file, tmp_path):
    """A page that looks the same whatever happened would be decoration."""
    page = pages.write_model_page(copy, REJECTED, tmp_path / "r.html").read_text()
    assert "Rejected" in page
    assert "never champion" in page
    path = attempt_file("trained_cnn", FIRST)
    path.write_bytes(path.read_bytes().replace(b'"seed":0', b'"seed":7'))
    page = pages.write_model_page(copy, FIRST, tmp_path / "c.html").read_text()
    assert 'class="changed"' in page
    assert "changed since it was written" in page


def test_the_index_leads_to_every_model(folder):
    """Versions, models, verdicts and champions on one page, each link to a file that is there."""
    page = (folder / "index.html").read_text()
    links = re.findall(r'href="([^"#]+)"', page)
    assert len(links) == 3
    assert all((folder / link).is_file() for link in links)
    for words in ("version 1", "version 2", REJECTED[:8], "accuracy 0.5 is below 0.7", "olga (a person)", "v0002"):
        assert words in page


def test_every_answer_has_a_page(home, tmp_path):
    """Fields within fields, lists, and what people wrote, as text."""
    page = pages.write_answer("Who was it?", timeline.at(home, "2999-01-01"), tmp_path / "at.html").read_text()
    assert "<h1>Who was it?</h1>" in page
    assert re.search(r'<th scope="row">champion by</th><td>olga</td>', page)
    assert "&lt;my&gt; dog" in page
    assert REJECTED in page


@pytest.mark.debian
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1280])
@pytest.mark.parametrize("name", ["index.html", "diff.html", f"models/{FIRST}.html", f"models/{REJECTED}.html"])
def test_a_page_opens_cleanly(browser, folder, name, width_px, scheme):
    """No error in the console, no request but for the file itself, no sideways scrolling, the asked colours."""
    complaints, requests = [], []
    with browser.new_context(viewport={"width": width_px, "height": 844}, color_scheme=scheme) as window:
        page = window.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / name).as_uri())
        scroll = page.evaluate("document.documentElement.scrollWidth")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert complaints == []
    assert requests == [(folder / name).as_uri()]
    assert scroll == width_px
    assert paper == ("rgb(16, 20, 24)" if scheme == "dark" else "rgb(244, 246, 248)")


@pytest.mark.debian
def test_each_box_opens_its_record_with_the_keyboard_alone(browser, folder):
    """Tab to the box, Enter: its record is open and has the focus; a screen reader is told what the box is."""
    with browser.new_context(viewport={"width": 390, "height": 844}) as window:
        page = window.new_page()
        page.goto((folder / "models" / f"{FIRST}.html").as_uri())
        for asset in trail.FLOW:
            box = page.get_by_role("link", name=re.compile(f"^{asset.replace('_', ' ')}, digest"))
            box.focus()
            page.keyboard.press("Enter")
            assert page.locator(f"#{asset}").is_visible()
            assert page.evaluate("document.activeElement.id") == asset


@pytest.mark.debian
def test_closed_records_are_printed(browser, folder):
    """Paper cannot be clicked."""
    with browser.new_context() as window:
        page = window.new_page()
        page.goto((folder / "models" / f"{FIRST}.html").as_uri())
        assert not page.locator("#trained_cnn").is_visible()
        page.emulate_media(media="print")
        assert page.locator("#trained_cnn").bounding_box()["height"] > 100
