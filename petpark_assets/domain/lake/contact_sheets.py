"""What was set aside, to look at: a page with the quarantined photos of one version by reason, and all versions so far.

One HTML file that asks nothing of any network, small enough for a phone. Photos are drawn from the stored originals;
what cannot be decoded, or is not kept, is a grey card with its name. A page holds photos, so it lives in the home's
reports, where forgetting finds it, and never in a record, a package or Dagster's event log.
The words stand in lake_status.html.j2, with looks like those of the evaluation report.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from petpark_assets.domain import files, images
from petpark_assets.domain.lake import catalogue, tombstones
from petpark_assets.domain.lake.catalogue import QUARANTINED
from petpark_assets.domain.lake.originals import OriginalStore
from petpark_assets.domain.records import RawImages

TEMPLATE = "lake_status.html.j2"
NUM_SHOWN = 60
"""Of each reason; more would not be looked at, and 60 thumbnails are about 200 KB."""
THUMBNAIL_PX = 112
JPEG_QUALITY = 80

_COLUMNS = ["key", "sha256", "label", "claims", "reason", "detail", "state"]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The photos of one reason."""

    reason: str
    meaning: str
    num_photos: int
    cards: Sequence[dict[str, Any]]
    """The first NUM_SHOWN by key: key, name, label, claims, detail, and picture, a data URI or None."""


def page_path(reports: Path, version: str) -> Path:
    """Where a version's page is drawn, below a home's reports."""
    return reports / "lake" / version / "quarantine.html"


def write_page(store: files.Store, originals: OriginalStore, reports: Path, version: str) -> Path:
    """Draw a version's page into a home's reports; drawn again when a photo was forgotten meanwhile."""
    path = page_path(reports, version)
    known = None
    while known != (known := tombstones.forgotten(store)):
        files.replace(path, draw_page(store, originals, version))
    return path


def draw_page(store: files.Store, originals: OriginalStore, version: str) -> bytes:
    """A version's page, UTF-8: the versions up to it, every reason of quarantine, and the photos set aside by reason.

    The same store and version give the same bytes. Raises NotFound on no such version, CorruptData.
    """
    sheets = contact_sheets(store, originals, version)
    versions = catalogue.list_versions(store)
    records = [_record(store, name) for name in versions[: versions.index(version) + 1]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["count"] = "{:,}".format
    page = environment.get_template(TEMPLATE).render(
        version=version, record=records[-1], records=records, sheets=sheets, reasons=images.QUARANTINE_REASONS
    )
    return page.encode()


def contact_sheets(
    store: files.Store, originals: OriginalStore, version: str, num_shown: int = NUM_SHOWN
) -> list[Sheet]:
    """The quarantined photos of a version, a sheet for each reason that has any, in the order of the closed list."""
    manifest = catalogue.read_manifest(store, version, columns=_COLUMNS)
    aside = manifest.filter(pc.equal(manifest["state"], QUARANTINED)).sort_by("key")
    sheets = []
    for reason, meaning in images.QUARANTINE_REASONS.items():
        photos = aside.filter(pc.equal(aside["reason"], reason))
        if photos.num_rows:
            cards = _cards(store, originals, photos.slice(0, num_shown))
            sheets.append(Sheet(reason=reason, meaning=meaning, num_photos=photos.num_rows, cards=cards))
    return sheets


def thumbnail(pixels: images.Pixels) -> bytes:
    """A small JPEG of pixels uint8 [H, W, 3], its longer side at most THUMBNAIL_PX, proportions kept."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _cards(store: files.Store, originals: OriginalStore, photos: pa.Table) -> list[dict[str, Any]]:
    shown = set(photos["sha256"].drop_null().to_pylist()) - tombstones.forgotten(store)
    pictures = {sha256: data and _picture(data) for sha256, data in originals.find(sorted(shown))}
    return [
        row
        | {"name": row["key"].rpartition("/")[2], "claims": row["claims"] or [], "picture": pictures.get(row["sha256"])}
        for row in photos.to_pylist()
    ]


def _picture(data: bytes) -> str | None:
    """A photo as a link that holds the thumbnail itself; None where there is nothing to draw it from."""
    try:
        pixels = images.decode(data)
    except images.UnreadablePhoto:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(pixels)).decode()}"


def _record(store: files.Store, version: str) -> RawImages:
    """A version's record; made from its manifest where a crash left none."""
    if files.has_record(store, RawImages, version):
        return files.read_record(store, RawImages, version)
    table, manifest = catalogue.read_with_sha256(store, version)
    return catalogue.raw_images(table, version, manifest)
