"""The photos the network was most wrong about: which they are, and how they look in a page.

A package never holds a photo, only its sha256: photos are put into the page that is drawn for people at home.
Where photos are kept is not known here.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.images import Pixels
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.report.metrics import THRESHOLD

NUM_MOST_WRONG = 24
"""Of each kind; more would not be looked at."""
THUMBNAIL_PX = 160
JPEG_QUALITY = 85
MEDIA_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True, kw_only=True)
class WrongPhoto:
    """One photo of the test side that got the other class."""

    sha256: str
    label: str
    """The truth."""
    predicted: str
    probability: float
    """Of dog, 0 to 1."""


def most_wrong(
    sha256s: Sequence[str],
    labels: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.floating[Any]],
    num: int = NUM_MOST_WRONG,
) -> list[WrongPhoto]:
    """At most `num` false cats, then at most `num` false dogs, the surest mistakes first.

    Args:
        sha256s: [N], of the photos.
        labels: uint8 [N], the truth: 0 cat, 1 dog.
        probabilities: float [N] of dog.
        num: of each kind.
    """
    wrong = [
        WrongPhoto(sha256=sha256, label=LABELS[label], predicted=LABELS[1 - label], probability=float(probability))
        for sha256, label, probability in zip(sha256s, labels.tolist(), probabilities, strict=True)
        if (probability >= THRESHOLD) != label
    ]
    wrong.sort(key=lambda photo: (-abs(photo.probability - THRESHOLD), photo.sha256))
    return [photo for label in LABELS for photo in [row for row in wrong if row.predicted == label][:num]]


def thumbnail(pixels: Pixels) -> bytes:
    """A small JPEG of pixels uint8 [H, W, 3], its longer side at most THUMBNAIL_PX, proportions kept."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def data_uri(photo: bytes) -> str:
    """A JPEG or PNG as a link that holds the picture itself. Raises InvalidInput on other formats."""
    for magic, media_type in MEDIA_TYPES.items():
        if photo.startswith(magic):
            return f"data:{media_type};base64,{base64.b64encode(photo).decode()}"
    raise InvalidInput(f"a photo of the gallery starts with {photo[:8]!r}: give a JPEG or a PNG (gallery.thumbnail)")
