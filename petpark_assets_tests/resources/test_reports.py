"""Claims about the pages' server: the link in the UI opens the page, and nothing else is served."""

import urllib.error
import urllib.request
from pathlib import Path, PurePath

import pytest

from petpark_assets.resources.reports import ReportPages, serve_reports


def test_a_page_is_found_under_its_link(tmp_path: Path):
    """The metadata's link must open what was drawn."""
    (tmp_path / "v0001").mkdir()
    (tmp_path / "v0001" / "a page.html").write_bytes(b"<p>hello</p>")
    with serve_reports(tmp_path, port=0) as base_url:
        url = ReportPages(base_url=base_url).url(PurePath("v0001/a page.html"))
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"<p>hello</p>"


def test_only_the_folder_is_served_and_only_read(tmp_path: Path):
    """The server is for looking: no path leaves its folder and nothing can be sent to it."""
    (tmp_path / "secret").write_text("no")
    (tmp_path / "reports").mkdir()
    with serve_reports(tmp_path / "reports", port=0) as base_url:
        assert base_url.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"{base_url}/../secret")
        refused.value.close()
        with pytest.raises(urllib.error.HTTPError, match="501") as refused:
            urllib.request.urlopen(f"{base_url}/x", data=b"posted")
        refused.value.close()
