"""The small lake that `petpark demo` and tests draw: cats and dogs as simple drawings, some files broken on purpose.

Every picture has its own random stream, so the first hundred are the same in a lake of any size. What tells the
classes apart is shape alone (ears, muzzle, whiskers, the head's form), and each trait lies now and then; colour,
light, pose, background, noise, size and aspect say nothing.
Not here: anything about real lakes (sources.py).
"""

import io
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from petpark_assets.domain.errors import Conflict
from petpark_assets.domain.files import named_disk_errors
from petpark_assets.domain.records import LABELS

Colour = tuple[int, int, int]
Point = tuple[float, float]

README = """A small lake of drawn cats and dogs, for trying things out.
Photos lie in cat/ and dog/; files named broken-* are broken on purpose. This file is no photo and is ignored.
"""

_CANVAS_PX = 256
_LYING_SHARE = 0.04
"""How often one trait is drawn as the other class has it."""
_INK = (25, 20, 20)
_PINK = (225, 130, 140)


def draw_lake(folder: Path, *, num_images: int = 400, num_broken: int = 8, seed: int = 0) -> None:
    """Draw a lake: `num_images` good pictures, half of them cats, `num_broken` broken files and a README.txt.

    The folder appears whole or not at all, the same for the same numbers. Raises Conflict when it holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists already: a lake is drawn once; remove it or name another folder")
    with named_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        try:
            for key, data in _files(num_images, num_broken, seed):
                path = unfinished / key
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            unfinished.chmod(0o755)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished)
            raise


def draw_one(rng: np.random.Generator, label: str) -> Image.Image:
    """One picture, RGB, 140 to 220 px a side: the label's animal somewhere on some background in some light."""
    width_px, height_px = (int(side) for side in rng.integers(140, 221, size=2))
    picture = _background(rng, width_px, height_px)
    animal = _animal(rng, label)
    side_px = int(min(width_px, height_px) * rng.uniform(0.95, 1.1))
    animal = animal.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR).resize((side_px, side_px))
    spare = np.array([width_px - side_px, height_px - side_px])
    left, top = (int(value) for value in spare * rng.uniform(0, 1, size=2))
    picture.paste(animal, (left, top), mask=animal)
    return _photographed(rng, picture)


def _files(num_images: int, num_broken: int, seed: int) -> Iterator[tuple[str, bytes]]:
    yield "README.txt", README.encode()
    yield from (_photo(seed, number) for number in range(num_images))
    kinds = tuple(BROKEN)
    for number in range(num_broken):
        kind = kinds[number % len(kinds)]
        folder, _, extension = BROKEN[kind].rpartition("*")
        yield f"{folder}broken-{number + 1}-{kind}{extension}", _broken(kind, seed, number)


def _photo(seed: int, number: int) -> tuple[str, bytes]:
    """Key and bytes of one good photo: even numbers are cats."""
    label = LABELS[number % 2]
    rng = np.random.default_rng([seed, number])
    picture = draw_one(rng, label)
    if _chance(rng, 0.05):
        return f"{label}/{number:05d}.png", _encoded(picture, "PNG")
    return f"{label}/{number:05d}.jpg", _encoded(picture, "JPEG", quality=int(rng.integers(60, 95)))


BROKEN: Mapping[str, str] = MappingProxyType({
    "text": "cat/*.jpg",
    "truncated": "dog/*.jpg",
    "empty": "cat/*.jpg",
    "unlabelled": "*.jpg",
    "duplicate": "dog/*.jpg",
    "bomb": "cat/*.png",
    "tiny": "dog/*.png",
    "unknown": "hamster/*.jpg",
})  # fmt: skip
"""What is broken on purpose, in this order, and where it lies: `cat/broken-1-text.jpg`."""


def _broken(kind: str, seed: int, number: int) -> bytes:
    """The bytes of a broken file."""
    good = _encoded(draw_one(np.random.default_rng([seed, number, 1]), "dog"), "JPEG", quality=80)
    return {
        "text": b"This was meant to be a photo.\n",
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "unlabelled": good,
        "duplicate": _photo(seed, 1)[1],
        "bomb": _png_of_header(20_000, 20_000),
        "tiny": _png_of_header(4, 4),
        "unknown": good,
    }[kind]


def _png_of_header(width_px: int, height_px: int) -> bytes:
    """A PNG that claims a size and holds one line of nothing."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(3 * width_px + 1))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _encoded(picture: Image.Image, file_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def _chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.uniform() < share)


def _background(rng: np.random.Generator, width_px: int, height_px: int) -> Image.Image:
    """Soft clouds of two colours with a few straight and round things in them."""
    first, second = _colour(rng), _colour(rng)
    clouds = rng.integers(0, 256, size=(int(rng.integers(2, 7)), int(rng.integers(2, 7))), dtype=np.uint8)
    mask = Image.fromarray(clouds).resize((width_px, height_px), Image.Resampling.BICUBIC)
    picture = Image.composite(Image.new("RGB", mask.size, first), Image.new("RGB", mask.size, second), mask)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 4))):
        left, top, width, height = rng.uniform(0, 1, size=4) * (width_px, height_px, width_px / 2, height_px / 2)
        shape = (draw.ellipse, draw.rectangle)[int(rng.integers(2))]
        shape((left, top, left + width, top + height), fill=_colour(rng))
    return picture


def _animal(rng: np.random.Generator, label: str) -> Image.Image:
    """Head and shoulders, RGBA, on a transparent square; each trait lies now and then."""
    other = LABELS[1 - LABELS.index(label)]
    traits = {name: other if _chance(rng, _LYING_SHARE) else label for name in ("ears", "head", "muzzle", "whiskers")}
    fur, eye = _fur(rng), _colour(rng)
    light, dark = _shade(fur, 1.35), _shade(fur, 0.6)
    layer = Image.new("RGBA", (_CANVAS_PX, _CANVAS_PX))
    draw = ImageDraw.Draw(layer)
    _ellipse(draw, (128, 262), (rng.uniform(50, 85), 75), fur)
    if traits["ears"] == "cat":
        _pricked_ears(rng, draw, fur, dark)
    head_size = (72, 60) if traits["head"] == "cat" else (58, 72)
    _ellipse(draw, (128, 130), (head_size[0] * rng.uniform(0.92, 1.08), head_size[1] * rng.uniform(0.92, 1.08)), fur)
    _markings(rng, draw, dark)
    if traits["ears"] == "dog":
        _hanging_ears(rng, draw, dark)
    turned_px = rng.uniform(-10, 10)  # the face looks left or right
    _face(rng, draw, turned_px, muzzle=traits["muzzle"], light=light, eye=eye)
    if traits["whiskers"] == "cat":
        _whiskers(rng, draw, turned_px)
    return layer


def _pricked_ears(rng: np.random.Generator, draw: ImageDraw.ImageDraw, fur: Colour, inner: Colour) -> None:
    tip_px, out_px = rng.uniform(28, 58), rng.uniform(46, 66)
    for side in (-1, 1):
        corners = ((128 + side * 66, 118.0), (128 + side * out_px, tip_px), (128 + side * 14, 84.0))
        centre = (128 + side * 48, 88.0)
        draw.polygon(corners, fill=fur)
        draw.polygon([_between(corner, centre, 0.45) for corner in corners], fill=inner)


def _hanging_ears(rng: np.random.Generator, draw: ImageDraw.ImageDraw, colour: Colour) -> None:
    out_px, length_px, width_px = rng.uniform(52, 66), rng.uniform(38, 58), rng.uniform(14, 24)
    for side in (-1, 1):
        _ellipse(draw, (128 + side * out_px, 96 + length_px * 0.7), (width_px, length_px), colour)


def _markings(rng: np.random.Generator, draw: ImageDraw.ImageDraw, colour: Colour) -> None:
    """Stripes or spots: either class has them."""
    if _chance(rng, 0.5):
        for offset in (-16, 0, 16):
            draw.line((128 + offset, 72, 128 + offset * 0.7, 98), fill=colour, width=6)
        return
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(90, 166), rng.uniform(85, 170)
        _ellipse(draw, (x, y), (rng.uniform(6, 20), rng.uniform(6, 20)), colour)


def _face(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, turned_px: float, *, muzzle: str, light: Colour, eye: Colour
) -> None:
    middle = 128 + turned_px
    if muzzle == "dog":
        _ellipse(draw, (middle, 162), (rng.uniform(26, 36), rng.uniform(24, 34)), light)
        _ellipse(draw, (middle, 150), (15, 10), _INK)
        if _chance(rng, 0.5):
            _ellipse(draw, (middle + rng.uniform(-6, 6), 188), (9, 16), _PINK)
    else:
        _ellipse(draw, (middle, 158), (rng.uniform(14, 22), 13), light)
        draw.polygon(((middle - 7, 148), (middle + 7, 148), (middle, 157)), fill=_PINK)
    spread_px, size_px = rng.uniform(22, 32), rng.uniform(7, 13)
    for side in (-1, 1):
        _ellipse(draw, (middle + side * spread_px, 118), (size_px, size_px), eye)
        _ellipse(draw, (middle + side * spread_px, 118), (size_px * 0.5, size_px * 0.8), _INK)


def _whiskers(rng: np.random.Generator, draw: ImageDraw.ImageDraw, turned_px: float) -> None:
    colour = (245, 245, 245) if _chance(rng, 0.5) else _INK
    for side in (-1, 1):
        for rise in (-14, 0, 14):
            start = (128 + turned_px + side * 18, 158 + rise * 0.3)
            draw.line((*start, 128 + side * 96, 156 + rise * 1.6), fill=colour, width=3)


def _photographed(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Mirrored or not, out of focus or not, in some light, with a sensor's noise."""
    if _chance(rng, 0.5):
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.0)))
    levels = np.asarray(picture, dtype=np.float32) * np.float32(rng.uniform(0.6, 1.2))
    levels += rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(rng.uniform(2, 9))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def _colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(level) for level in rng.integers(30, 226, size=3))
    return red, green, blue


def _fur(rng: np.random.Generator) -> Colour:
    """From black over browns, greys and reds to cream."""
    level, warmth = rng.uniform(40, 230), rng.uniform(0, 0.5)
    return int(level), int(level * (1 - warmth * 0.6)), int(level * (1 - warmth))


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(level * factor)) for level in colour)
    return red, green, blue


def _ellipse(draw: ImageDraw.ImageDraw, centre: Point, radii: Point, colour: Colour) -> None:
    (x, y), (rx, ry) = centre, radii
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
