"""The pages of a home as links: `petpark dev` serves them, read-only and on loopback, since a browser refuses file://."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from urllib.parse import quote

import dagster as dg
from pydantic import Field


class ReportPages(dg.ConfigurableResource[None]):
    """Where the pages of this home's reports are found in a browser."""

    base_url: str = Field(description="Where `petpark dev` serves the home's reports; PETPARK_REPORTS_URL.")

    def url(self, page: PurePath) -> str:
        """The link to a page, given by its path below the reports' folder."""
        return f"{self.base_url}/{quote(page.as_posix())}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder, GET and HEAD only; says nothing on the terminal."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        """Requests are not news."""


@contextmanager
def serve_reports(folder: Path, port: int, *, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve a folder, on loopback, while the block runs; gives the base URL. Port 0 takes any free one."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer((host, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
