"""What the UI shows of an asset, read back: tables into rows, pictures into pixels.

Not here: how it is made (assets/metadata.py).
"""

import base64
import io
import re

import dagster as dg
from PIL import Image

MIN_COLOURS = 8
"""Of a drawn figure: axes, letters with their edges, and what is drawn; an empty one is white."""


def rows(table: dg.MetadataValue) -> list[dict[str, str]]:
    """A table's rows by the names of its columns; "none" has none."""
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in table.value.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def picture(figure: dg.MetadataValue) -> Image.Image:
    """A picture inline, decoded; something is drawn on it."""
    found = re.fullmatch(r"!\[[\w, -]+\]\(data:image/png;base64,([\w+/=]+)\)", figure.value)
    assert found, figure.value[:80]
    image = Image.open(io.BytesIO(base64.b64decode(found[1], validate=True)))
    image.load()
    assert image.format == "PNG"
    assert min(image.size) > 200
    assert len(image.convert("RGB").getcolors()) > MIN_COLOURS
    return image
