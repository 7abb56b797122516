"""The page as a real browser shows it: nothing fails, nothing is asked of a network, and a phone can read it."""

import numpy as np
import pytest

from petpark_assets.domain.report.gallery import thumbnail
from petpark_assets.domain.report.page import render
from petpark_assets_tests.domain.report import toy

CONTRAST = """() => {
  const seen = getComputedStyle(document.querySelector('figure svg text')).fill;
  return [seen, getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor];
}"""

pytestmark = pytest.mark.debian


@pytest.fixture(scope="module", params=["packaged", "with photos"])
def page_file(request, tmp_path_factory):
    """The page of a package, and the home's view of it."""
    context = toy.context()
    photo = thumbnail(np.full((60, 40, 3), 90, dtype=np.uint8))
    photos = {wrong.sha256: photo for wrong in context.most_wrong} if request.param == "with photos" else None
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_bytes(render(context, photos))
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_page_opens_cleanly(browser, page_file, width_px, scheme):
    """No error in the console, no request but for the file itself, no sideways scrolling, readable in the dark."""
    complaints, requests = [], []
    with browser.new_context(viewport={"width": width_px, "height": 844}, color_scheme=scheme) as window:
        page = window.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri())
        scroll, client = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        svg_ink, ink, paper = page.evaluate(CONTRAST)
        broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert scroll <= client == width_px
    assert svg_ink == ink
    assert (brightness(ink) > brightness(paper)) == (scheme == "dark")
    assert broken == 0


def brightness(colour):
    """Sum of the channels of `rgb(1, 2, 3)`."""
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
