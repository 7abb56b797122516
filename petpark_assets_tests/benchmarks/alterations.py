"""What people do to a photo before it comes a second time: each from the decoded photo to the bytes of a copy.

The six are those that grouping promises to know again; the others are mild mixtures and neighbours of them.
Not here: what they are done to, and who must notice (grouping.py, the tests of the lake's rooms).
"""

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import Image

Alter = Callable[[Image.Image], bytes]

QUALITY = 90
"""Of what is saved as a JPEG and not said to be worse."""


def as_jpeg(photo: Image.Image, quality: int = QUALITY) -> bytes:
    """Encoded again."""
    return _encoded(photo, "JPEG", quality=quality)


def as_png(photo: Image.Image) -> bytes:
    """The same pixels in another format."""
    return _encoded(photo, "PNG")


def resized(photo: Image.Image, factor: float = 0.75) -> Image.Image:
    """Smaller or larger by bicubic interpolation."""
    return photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.BICUBIC)


def brightened(photo: Image.Image, factor: float = 1.2) -> Image.Image:
    """All levels times a factor, clipped."""
    return photo.point(lambda level: min(255, round(level * factor)))


def mirrored(photo: Image.Image) -> Image.Image:
    """Left and right exchanged."""
    return photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cropped(
    photo: Image.Image, left: float = 0.03, top: float = 0.03, right: float = 0.03, bottom: float = 0.03
) -> Image.Image:
    """Without shares of its width and height."""
    width, height = photo.size
    return photo.crop(
        (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
    )


SIX: Mapping[str, Alter] = MappingProxyType({
    "JPEG quality 40": lambda photo: as_jpeg(photo, 40),
    "resized to 75 %": lambda photo: as_jpeg(resized(photo)),
    "brightness x 1.2": lambda photo: as_jpeg(brightened(photo)),
    "mirrored": lambda photo: as_jpeg(mirrored(photo)),
    "cropped 3 % a side": lambda photo: as_jpeg(cropped(photo)),
    "PNG": as_png,
})  # fmt: skip

MIXED: Mapping[str, Alter] = MappingProxyType({
    "cropped 3 %, mirrored, JPEG quality 40": lambda photo: as_jpeg(mirrored(cropped(photo)), 40),
    "brightness x 1.2, cropped 3 %, JPEG quality 75": lambda photo: as_jpeg(cropped(brightened(photo)), 75),
    "brightness x 1.2, resized to 75 %, mirrored": lambda photo: as_jpeg(mirrored(resized(brightened(photo)))),
    "brightness x 0.8, JPEG quality 40": lambda photo: as_jpeg(brightened(photo, 0.8), 40),
    "cropped 3 % at the left": lambda photo: as_jpeg(cropped(photo, top=0, right=0, bottom=0)),
    "cropped 3 % at the top": lambda photo: as_jpeg(cropped(photo, left=0, right=0, bottom=0)),
    "cropped 3 % at the left and at the top": lambda photo: as_jpeg(cropped(photo, right=0, bottom=0)),
    "cropped 2 % a side": lambda photo: as_jpeg(cropped(photo, 0.02, 0.02, 0.02, 0.02)),
    "cropped 4.5 % a side": lambda photo: as_jpeg(cropped(photo, 0.045, 0.045, 0.045, 0.045)),
    "grey": lambda photo: as_jpeg(photo.convert("L").convert("RGB")),
})  # fmt: skip


def _encoded(photo: Image.Image, file_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, file_format, **options)
    return buffer.getvalue()
