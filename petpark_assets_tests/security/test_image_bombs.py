"""Claims that a photo can cost only so much memory, whatever it says it is."""

import io
import json
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

CHILD = """
import json, pathlib, re, sys, warnings
from petpark_assets.domain.images import UnreadablePhoto, decode
warnings.simplefilter("error")
def peak_mb(): return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
before, answers = peak_mb(), {}
for path in sys.argv[1:]:
    try:
        answers[pathlib.Path(path).name] = list(decode(pathlib.Path(path).read_bytes()).shape)
    except UnreadablePhoto as error:
        answers[pathlib.Path(path).name] = error.reason
print(json.dumps({"answers": answers, "grown_mb": peak_mb() - before}))
"""


def chunk(kind, data):
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width_px, height_px, *others, rows=0, colours=(8, 2, 3)):
    """A PNG of one colour, with other chunks before its pixels; colours are bits, PNG's type, and bytes a pixel."""
    bits, kind, size_bytes = colours
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, bits, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes((size_bytes * width_px + 1) * rows), 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + body + chunk(b"IEND", b"")


def saved(picture, file_format, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def bombs():
    """Small files that say that they are large, by name."""
    packed = zlib.compress(bytes(150_000_000), 1)
    small = Image.new("RGB", (64, 64), (200, 30, 30))
    yield "a-huge-png", png(30_000, 30_000, rows=1)
    yield "a-long-text", png(64, 64, chunk(b"zTXt", b"Comment\0\0" + packed), rows=64)
    yield "a-large-profile", png(64, 64, chunk(b"iCCP", b"icc\0\0" + packed), rows=64)
    gif = bytearray(saved(small, "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "a-huge-gif", bytes(gif)
    frames = [Image.new("L", (1_000, 1_000), number) for number in range(40)]
    yield "a-long-gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    jpeg = bytearray(saved(small, "JPEG"))
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = struct.pack(">HH", 65_500, 65_500)
    yield "a-huge-jpeg", bytes(jpeg)
    bmp = bytearray(saved(small, "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    yield "a-huge-bmp", bytes(bmp)
    tiff = bytearray(saved(small, "TIFF"))
    for tag in (256, 257):  # width and height, each a number of 64
        place = tiff.index(struct.pack("<HHII", tag, 4, 1, 64))
        tiff[place + 8 : place + 12] = struct.pack("<I", 65_000)
    yield "a-huge-tiff", bytes(tiff)


def ask(folder, files):
    """What a fresh process answers, and by how much it grew."""
    for name, data in files:
        (folder / name).write_bytes(data)
    paths = sorted(str(path) for path in folder.iterdir())
    done = subprocess.run([sys.executable, "-c", CHILD, *paths], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_small_files_that_unpack_to_gigabytes_cost_next_to_nothing(tmp_path):
    """Each refused by its header, or answered by its first frame: together less than 100 MB."""
    files = list(bombs())
    assert max(len(data) for _, data in files) < 2_000_000
    found = ask(tmp_path, files)
    answers = found["answers"]
    assert {answers[name] for name in answers if name.startswith("a-huge")} == {"too_large"}
    assert answers["a-long-gif"] == [1_000, 1_000, 3]
    for name in ("a-long-text", "a-large-profile"):
        assert answers[name] in ([64, 64, 3], "undecodable")
    assert found["grown_mb"] < 100


@pytest.mark.long
@pytest.mark.parametrize("colours", [(8, 2, 3), (16, 0, 2), (8, 6, 4)], ids=["RGB", "grey of 16 bits", "RGBA"])
def test_the_largest_photo_that_is_read_costs_less_than_a_gigabyte(tmp_path, colours):
    """67 million pixels, from a file of 200 kB: what ingestion must have room for, a worker."""
    found = ask(tmp_path, [("largest", png(8_192, 8_192, rows=8_192, colours=colours))])
    assert found["answers"]["largest"] == [8_192, 8_192, 3]
    assert 200 < found["grown_mb"] < 1_000  # its pixels alone are 201 MB: the measure does see them
