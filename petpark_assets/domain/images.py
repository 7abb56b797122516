"""From a photo's bytes to pixels, in one way for everybody: the one decoder and the one preprocessing record.

Ingestion, training, evaluation, export and the service all use these; nothing here knows torch.
Not here: how pixels are squeezed to a square (resizing.py), which photos there are (lake/), or where pixels are kept
(lake/pixels.py).
"""

import contextlib
import dataclasses
import io
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from petpark_assets.domain.errors import PermanentError
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.resizing import Pixels, resize

__all__ = ["Pixels", "resize"]  # with all that is defined here

Thumbnails = npt.NDArray[np.uint8]
"""uint8 [N, 64, 64, 3]: photos at the one size at which they are measured, whatever the recipe's resolution."""
Luminance = npt.NDArray[np.uint8]
"""uint8 [N, 64, 64]."""

MAX_PIXELS = 64 * 2**20
"""More are refused from the header (67 million: every 50 and 64 megapixel phone; decoding takes 0.9 GB at most)."""
MAX_SIDE_PX = 65_535
"""JPEG's own limit. Squeezing a longer strip takes memory by its length, whatever its width."""
MIN_SIDE_PX = 16
"""A shorter side holds less than the smallest resolution a recipe may ask for."""
HEAD_BYTES = 16
"""How much of a file `sniff` wants to see."""

IMAGE_EXTENSIONS = frozenset({
    "apng", "avif", "bmp", "dib", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl", "mpo", "pbm",
    "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp",
})  # fmt: skip
"""What calls itself an image counts as seen, also when its format is not among those decoded."""

QUARANTINE_REASONS: Mapping[str, str] = MappingProxyType({
    "undecodable": "not a JPEG, PNG, GIF, WebP, BMP or TIFF image, or a damaged one",
    "truncated": "the file ends before its picture does",
    "too_large": f"more than {MAX_PIXELS / 1e6:.0f} million pixels, a side of more than {MAX_SIDE_PX}, or a file "
    "of more than 256 MiB",
    "too_small": f"a side shorter than {MIN_SIDE_PX} pixels",
    "unlabelled": "neither its folder nor its name says what it shows",
    "unknown_label": "its label is not one of the classes",
    "conflicting_label": "the same photo has two labels",
    "unreadable": "the file could not be read at all",
    "bridge": "a near-duplicate of photos on both sides of the split",
    "forgotten": "a person had it removed",
})  # fmt: skip
"""The closed list of reasons, each with its meaning for people."""

THUMBNAIL_PX = 64
"""The side of the squares that statistics and likenesses are of."""

_MID_GREY = (128, 128, 128)
_LINES = 64
_CHUNK = 64  # thumbnails in the processor's cache: half the time
_CAPTURE_TIME = "%Y:%m:%d %H:%M:%S"
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SOUND_MODES = {"YCbCr": "RGB", "Gray": "L"}
"""Pillow's modes by simplejpeg's names of a JPEG's colours."""
_warning_filters = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to pixels before the network; travels with the weights into the ONNX graph."""

    resolution_px: int
    """Photos are squeezed to a square of this side: bilinear with antialiasing, no cropping, nothing is lost."""
    channel_means: tuple[float, float, float]
    """Red, green, blue of the train side, 0 to 1."""
    channel_deviations: tuple[float, float, float]
    labels: tuple[str, ...] = LABELS


@dataclass(frozen=True, kw_only=True)
class DecodedPhoto:
    """A photo's pixels and what its header said."""

    pixels: Pixels
    """As a person sees it: upright, so H and W may be the header's the other way round."""
    format: str
    """JPEG, PNG, GIF, WEBP, BMP or TIFF."""
    mode: str
    """Pillow's name of the colours as stored: RGB, L, P, CMYK, RGBA, I;16, ..."""
    capture_time: datetime | None
    """EXIF's DateTimeOriginal, by the camera's clock: it names no time zone. None where EXIF does not say."""

    @property
    def width_px(self) -> int:
        """Of the upright picture."""
        return int(self.pixels.shape[1])

    @property
    def height_px(self) -> int:
        """Of the upright picture."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, kw_only=True)
class PhotoStatistics:
    """What photos add to the statistics of their side: float64, a row a photo."""

    channel_means: npt.NDArray[np.float64]
    """[N, 3]: red, green, blue; 0 to 1."""
    channel_squares: npt.NDArray[np.float64]
    """[N, 3]: means of the squares, 0 to 1. Means and squares of many photos give their common deviation."""
    brightness: npt.NDArray[np.float64]
    """[N]: mean luminance (Rec. 601), 0 to 1."""
    sharpness: npt.NDArray[np.float64]
    """[N]: standard deviation of the luminance's Laplacian, 0 (flat) to 4; real photos lie near 0.2."""


class UnreadablePhoto(PermanentError):
    """A photo without pixels for us: `reason` is one of QUARANTINE_REASONS, the message one line for people."""

    def __init__(self, reason: str, message: str) -> None:
        if reason not in QUARANTINE_REASONS:
            raise AssertionError(f"{reason!r} is not in QUARANTINE_REASONS")
        super().__init__(reason, message)  # both, or it could not be pickled on its way back from a worker
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


def sniff(head: bytes, key: str) -> bool:
    """Whether an object is seen (an image by its extension or its first HEAD_BYTES) or ignored."""
    _, dot, extension = key.rpartition("/")[2].rpartition(".")
    return bool(dot and extension.lower() in IMAGE_EXTENSIONS) or _find_plugin(head) is not None


def decode(data: bytes) -> Pixels:
    """A photo's pixels, upright, RGB, transparency over mid-grey, the first frame of several.

    Colour profiles are not applied. Raises UnreadablePhoto, and nothing else, whatever the bytes are.
    """
    return decode_photo(data).pixels


def decode_photo(data: bytes) -> DecodedPhoto:
    """`decode` with the header's facts beside the pixels. Raises UnreadablePhoto."""
    plugin = _find_plugin(data)
    if plugin is None:
        starts = f"it starts with {data[:8]!r}" if data else "the file is empty"
        raise UnreadablePhoto("undecodable", f"no image of a known format (JPEG, PNG, GIF, WebP, BMP, TIFF): {starts}")
    sound = _decode_sound_jpeg(data) if plugin is JpegImagePlugin.JpegImageFile else None
    if sound is not None and b"Exif" not in data:
        return DecodedPhoto(pixels=sound[0], format="JPEG", mode=sound[1], capture_time=None)
    try:
        with _quiet_pillow():
            image = plugin(io.BytesIO(data))
        _check_size(*image.size)
        mode = image.mode
        pixels = _decode_by_pillow(image) if sound is None else sound[0]
        orientation, capture_time = _read_exif(image)
        pixels = _upright(pixels, orientation)
    except UnreadablePhoto:
        raise
    except Exception as error:  # hostile bytes make Pillow raise anything, MemoryError and KeyError too
        raise _unreadable(plugin.format or "", data, error) from error
    return DecodedPhoto(pixels=pixels, format=plugin.format or "", mode=mode, capture_time=capture_time)


def thumbnail(pixels: Pixels) -> Pixels:
    """Pixels [H, W, 3] as uint8 [64, 64, 3]: what a photo's statistics and likeness are of."""
    return resize(pixels, THUMBNAIL_PX)


def luminance(thumbnails: Thumbnails) -> Luminance:
    """uint8 [N, 64, 64] by Rec. 601, in Pillow's rounding."""
    lines = Image.fromarray(np.ascontiguousarray(thumbnails).reshape(-1, THUMBNAIL_PX, 3))
    return np.asarray(lines.convert("L")).reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX)


def measure(thumbnails: Thumbnails, light: Luminance | None = None) -> PhotoStatistics:
    """Statistics of uint8 [N, 64, 64, 3]; `light` is their luminance, if it is known. The same on every machine."""
    light = luminance(thumbnails) if light is None else light
    chunks = [slice(start, start + _CHUNK) for start in range(0, max(len(thumbnails), 1), _CHUNK)]
    measured = [_measure(thumbnails[chunk], light[chunk]) for chunk in chunks]
    return PhotoStatistics(**{
        field.name: np.concatenate([getattr(part, field.name) for part in measured])
        for field in dataclasses.fields(PhotoStatistics)
    })  # fmt: skip


def _measure(thumbnails: Thumbnails, light: Luminance) -> PhotoStatistics:
    """By sums of whole numbers that floats hold exactly: of 64 squares in float32, of all in float64."""
    num_pixels = THUMBNAIL_PX**2
    levels = thumbnails.reshape(len(thumbnails), THUMBNAIL_PX, 3 * THUMBNAIL_PX).astype(np.float32)
    return PhotoStatistics(
        channel_means=_channel_sums(levels) / (num_pixels * 255),
        channel_squares=_channel_sums(levels * levels) / (num_pixels * 255**2),
        brightness=light.reshape(len(light), num_pixels).sum(axis=1, dtype=np.int64) / (num_pixels * 255),
        sharpness=_laplacian_deviations(light.astype(np.int16)) / 255,
    )


def _channel_sums(lines: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """[N, 3] of [N, 64, 64 * 3]; down first, by a product, since short rows of three add slowly."""
    columns = np.ones((1, THUMBNAIL_PX), np.float32) @ lines
    sums: npt.NDArray[np.float64] = columns.reshape(len(lines), THUMBNAIL_PX, 3).sum(axis=1, dtype=np.float64)
    return sums


def _laplacian_deviations(light: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """[N] of levels 0 to 255 [N, H, W]; float64 holds each sum exactly."""
    neighbours = light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:]
    laplacian = (4 * light[:, 1:-1, 1:-1] - neighbours).reshape(len(light), (THUMBNAIL_PX - 2) ** 2).astype(np.float64)
    count, total = laplacian.shape[1], laplacian.sum(axis=1)
    squares = np.einsum("ij,ij->i", laplacian, laplacian)
    deviations: npt.NDArray[np.float64] = np.sqrt(count * squares - total**2) / count
    return deviations


def _find_plugin(head: bytes) -> type[ImageFile.ImageFile] | None:
    """Pillow's reader for these first bytes, from a short list of formats.

    Not Image.open: it tries 40 formats (one starts Ghostscript), and its own bomb check may warn or raise before ours.
    A JPEG of several pictures (MPO) is read as its first.
    """
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if head.startswith(b"BM") and head[6:10] == bytes(4):  # "BM" alone also starts texts
        return BmpImagePlugin.BmpImageFile
    return next((plugin for magic, plugin in _PLUGINS.items() if head.startswith(magic)), None)


_PLUGINS: Mapping[bytes, type[ImageFile.ImageFile]] = MappingProxyType({
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"GIF87a": GifImagePlugin.GifImageFile,
    b"GIF89a": GifImagePlugin.GifImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"II+\0": TiffImagePlugin.TiffImageFile,
    b"MM\0+": TiffImagePlugin.TiffImageFile,
})  # fmt: skip


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings on damaged metadata (EXIF, APNG): a good photo is no worse for it, nobody can act.

    Python's filters belong to the whole process, so only one thread at a time may change them; headers are read in
    here, pixels decoded outside (save TIFF's).
    """
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_size(width_px: int, height_px: int) -> None:
    """Refuse by the header alone, before memory for the pixels is taken."""
    if width_px * height_px > MAX_PIXELS:
        raise UnreadablePhoto(
            "too_large", f"{width_px} x {height_px} px are more than {MAX_PIXELS / 1e6:.0f} million pixels"
        )
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise UnreadablePhoto("too_large", f"{width_px} x {height_px} px: no side may have more than {MAX_SIDE_PX} px")
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise UnreadablePhoto("too_small", f"{width_px} x {height_px} px: each side must have {MIN_SIDE_PX} px or more")


def _decode_by_pillow(image: ImageFile.ImageFile) -> Pixels:
    with _quiet_pillow() if image.format == "TIFF" else contextlib.nullcontext():  # reads more of its header only now
        image.load()
    return np.array(_to_rgb(image))


def _decode_sound_jpeg(data: bytes) -> tuple[Pixels, str] | None:
    """Pillow's pixels and mode by the same libjpeg-turbo in 0.6 of the time; None where there is any doubt.

    Then Pillow is asked, so that what is odd or refused is so by one decoder's word.
    """
    import simplejpeg  # a GPU machine that only trains has none

    try:
        height_px, width_px, colours, _ = simplejpeg.decode_jpeg_header(data, strict=True)
        _check_size(width_px, height_px)
        if colours in _SOUND_MODES:
            return simplejpeg.decode_jpeg(data, "RGB", strict=True), _SOUND_MODES[colours]
    except (ValueError, UnreadablePhoto):
        pass
    return None


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    transposition = _TRANSPOSITIONS.get(orientation)
    return pixels if transposition is None else np.array(Image.fromarray(pixels).transpose(transposition))


def _read_exif(image: Image.Image) -> tuple[int, datetime | None]:
    """Orientation, 1 to 8, and capture time; 1 and None where nothing says so. Pillow has turned a TIFF already."""
    if not ("exif" in image.info or "Raw profile type exif" in image.info or image.format == "TIFF"):
        return 1, None
    try:
        with _quiet_pillow():
            exif = image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    except Exception:  # noqa: BLE001  damaged metadata raises anything, and must not cost us a good photo
        return 1, None
    is_orientation = isinstance(orientation, int) and image.format != "TIFF"
    return orientation if is_orientation else 1, _parse_time(taken)


def _parse_time(text: object) -> datetime | None:
    """What EXIF wrote, as `2019:07:21 10:03:05`; None for blanks, zeros and what is no time."""
    try:
        return datetime.strptime(str(text).strip("\0 "), _CAPTURE_TIME)  # noqa: DTZ007  a camera knows no time zone
    except ValueError:
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes to RGB; Pillow takes all CMYK JPEGs as Adobe writes them, inverted, like browsers do."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow knows no shorter way
    canvas = Image.new("RGB", image.size, _MID_GREY)
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _to_8_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Grey levels of 16 or 32 bits, whole or floating: full scale is 1 (floating), 255, 65535 or their own maximum.

    Some lines at a time: as float64 all of them would be eight times as large.
    """
    parts = [values[top : top + _LINES] for top in range(0, len(values), _LINES)]
    highest = max(float(_levels(part).max()) for part in parts)
    if values.dtype == np.uint16:
        full_scales = [65535]
    else:
        full_scales = [255, 65535] if np.issubdtype(values.dtype, np.integer) else [1, 255, 65535]
    full_scale = next((scale for scale in full_scales if highest <= scale), highest)
    return np.concatenate([np.rint(_levels(part) * (255 / full_scale)).astype(np.uint8) for part in parts])


def _levels(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """What is not a number, or below 0, is 0."""
    with np.errstate(invalid="ignore"):
        levels = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.maximum(levels, 0, out=levels)


def _unreadable(file_format: str, data: bytes, error: Exception) -> UnreadablePhoto:
    """Which reason Pillow's failure stands for, and its words in one line without addresses of objects."""
    if isinstance(error, Image.DecompressionBombError):
        return UnreadablePhoto("too_large", f"a frame or tile of the {file_format} has far too many pixels")
    words = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(f"{type(error).__name__}: {error}".split()))[:160]
    if "truncated" in words.lower() or _ends_early(file_format, data):
        return UnreadablePhoto("truncated", f"the {file_format} ends before its picture does, after {len(data)} bytes")
    return UnreadablePhoto("undecodable", f"damaged {file_format}: {words}")


def _ends_early(file_format: str, data: bytes) -> bool:
    """Whether the format's own end is missing."""
    if file_format == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}
    return file_format in endings and endings[file_format] not in data[-64:]
