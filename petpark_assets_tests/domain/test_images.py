"""Claims about the one decoder: every kind of photo is seen alike, and no bytes can do more harm than be refused."""

import io
import math
import pickle
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain import images
from petpark_assets.domain.errors import PermanentError
from petpark_assets.domain.images import UnreadablePhoto, decode, decode_photo, measure, resize, sniff, thumbnail

RED, GREEN, BLUE, GREY = (230, 20, 20), (20, 200, 30), (30, 40, 220), (128, 128, 128)


def encoded(picture, file_format, **options):
    """The bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def quarters(width_px=64, height_px=48):
    """Red and green above, blue and grey below: no two orientations look alike."""
    picture = Image.new("RGB", (width_px, height_px), GREY)
    picture.paste(RED, (0, 0, width_px // 2, height_px // 2))
    picture.paste(GREEN, (width_px // 2, 0, width_px, height_px // 2))
    picture.paste(BLUE, (0, height_px // 2, width_px // 2, height_px))
    return picture


def with_orientation(value):
    """EXIF that says how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def noise(*shape, high=256, dtype=np.uint8):
    """Whole numbers of no pattern."""
    return np.random.default_rng(0).integers(0, high, size=shape).astype(dtype)


def reason_of(data):
    """Why these bytes are refused; the refusal must be one line that never changes."""
    with pytest.raises(UnreadablePhoto) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)  # would change from run to run, and the manifest's digest with it
    return caught.value.reason


def png_header(width_px, height_px):
    """A PNG that claims a size and ends where its pixels should begin."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + checksum + bytes(4) + b"IDAT"


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_lossless_photos_come_out_as_they_went_in(file_format):
    """The decoder must not change a pixel that no format changed."""
    photo = decode_photo(encoded(quarters(), file_format))
    assert np.array_equal(photo.pixels, np.asarray(quarters()))
    assert photo.pixels.dtype == np.uint8
    assert (photo.format, photo.mode, photo.width_px, photo.height_px) == (file_format, "RGB", 64, 48)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF", "MPO"])
def test_lossy_photos_come_out_nearly_as_they_went_in(file_format):
    """Colours in the wrong order would still look like pixels."""
    several = {"save_all": True, "append_images": [quarters().rotate(180)]} if file_format == "MPO" else {}
    difference = decode(encoded(quarters(), file_format, **several)).astype(int) - np.asarray(quarters())
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photos_are_turned_as_their_exif_says_once(orientation, file_format):
    """A phone stores most photos lying on their side; Pillow turns a TIFF by itself, and twice would be wrong again."""
    upright = np.asarray(quarters())
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = with_orientation(orientation)
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif)
    pixels = decode(data)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("exif", [
    b"", b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40,
])  # fmt: skip
def test_a_damaged_exif_costs_no_good_photo(exif):
    """Cameras and editors write broken metadata; its pixels are as good as any (warnings would fail this test)."""
    assert decode(encoded(quarters(), "JPEG", exif=exif)).shape == (48, 64, 3)
    assert decode(encoded(quarters(), "WEBP", exif=exif or b"x")).shape == (48, 64, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_capture_time_is_what_the_camera_wrote(file_format):
    """Drift by season or by camera is looked for by it; a clock that was never set must not become a date."""
    written = {"2019:07:21 10:03:05": datetime(2019, 7, 21, 10, 3, 5), "0000:00:00 00:00:00": None, "": None}  # noqa: DTZ001
    for text, expected in written.items():
        exif = with_orientation(1)
        exif.get_ifd(0x8769)[0x9003] = text
        exif[0x8769] = dict(exif.get_ifd(0x8769))
        assert decode_photo(encoded(quarters(), file_format, exif=exif)).capture_time == expected
    assert decode_photo(encoded(quarters(), file_format)).capture_time is None


def test_an_orientation_that_does_not_exist_is_no_orientation():
    """EXIF knows 1 to 8 only."""
    assert decode(encoded(quarters(), "JPEG", exif=with_orientation(9))).shape == (48, 64, 3)


def grey_levels():
    """Black to white from left to right."""
    return np.tile(np.linspace(0, 255, 64).astype(np.uint8), (32, 1))


@pytest.mark.parametrize(("stored", "file_format"), [
    (Image.fromarray(grey_levels()), "PNG"),
    (Image.fromarray(grey_levels()), "JPEG"),
    (Image.fromarray(grey_levels().astype(np.uint16) * 257), "PNG"),
    (Image.fromarray(grey_levels().astype(np.uint16) * 257), "TIFF"),
    (Image.fromarray(grey_levels().astype(np.int32)), "TIFF"),
    (Image.fromarray(grey_levels().astype(np.int32) * 257), "TIFF"),
    (Image.fromarray(grey_levels().astype(np.float32) / 255), "TIFF"),
    (Image.fromarray(grey_levels().astype(np.float32)), "TIFF"),
    (Image.fromarray(grey_levels().astype(np.float32) * 1e30), "TIFF"),
    (Image.fromarray(grey_levels()).convert("P"), "PNG"),
    (Image.fromarray(grey_levels()).convert("P"), "GIF"),
], ids=lambda value: getattr(value, "mode", value))  # fmt: skip
def test_grey_of_any_depth_is_the_same_grey(stored, file_format):
    """A 16-bit photo cut off at 255 would be white, and a floating one black."""
    pixels = decode(encoded(stored, file_format))
    assert np.abs(pixels.astype(int) - grey_levels()[:, :, None]).max() <= 2


def test_a_photo_of_two_tones_is_black_and_white():
    """Mode 1 holds 0 and 1 in files; pixels are 0 and 255."""
    assert set(np.unique(decode(encoded(quarters().convert("1"), "PNG")))) == {0, 255}


def test_numbers_that_are_none_become_black():
    """A floating TIFF may hold NaN and infinities; they must not turn into noise or warnings."""
    levels = np.full((32, 32), 0.5, np.float32)
    levels[0, :4] = [np.nan, np.inf, -np.inf, -3]
    levels.view(np.uint32)[1, 0] = 0x7F800001  # a signalling NaN
    pixels = decode(encoded(Image.fromarray(levels), "TIFF"))
    assert pixels[0, :4].max() == 0
    assert pixels[1, 0].max() == 0
    assert pixels[5:].min() == 128


def test_cmyk_has_its_colours():
    """Adobe writes CMYK inverted, and every reader expects it so, marker or not: otherwise a photo is its negative."""
    data = encoded(quarters().convert("CMYK"), "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    for photo in (data, data[:start] + data[start + 16 :]):  # the marker is 16 bytes long
        assert decode_photo(photo).mode == "CMYK"
        assert np.abs(decode(photo).astype(int) - np.asarray(quarters())).mean() < 6


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "La", "RGBA", "RGBa", "PA"]
)
def test_every_mode_pillow_has_becomes_rgb(mode):
    """A mode nobody thought of would stop an ingestion at its one photo in a million."""
    by_way_of = {"La": "LA", "PA": "P"}.get(mode, "RGBA")
    picture = quarters().convert(by_way_of).convert(mode)
    rgb = images._to_rgb(picture)
    assert rgb.mode == "RGB"
    assert rgb.size == (64, 48)


def see_through(mode):
    """Left half opaque red (or its grey), right half fully transparent white."""
    picture = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    picture.paste((230, 20, 20, 255), (0, 0, 20, 20))
    return picture.convert(mode)


@pytest.mark.parametrize(("mode", "file_format"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "GIF")])
def test_what_is_transparent_is_mid_grey(mode, file_format):
    """The colour under transparency is an accident of the editor: it must not reach the network."""
    pixels = decode(encoded(see_through(mode), file_format))
    opaque = np.asarray(see_through(mode).convert("RGB"))[5, 5]
    assert np.abs(pixels[:, :20].astype(int) - opaque).max() <= 2
    assert (pixels[:, 20:] == 128).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_mid_grey_too(mode):
    """PNG can name one colour as transparent instead of an alpha channel."""
    picture = Image.new("RGB", (40, 20), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 20, 20))
    picture = picture.quantize(2) if mode == "P" else picture.convert(mode)
    key = picture.getpixel((30, 5))
    pixels = decode(encoded(picture, "PNG", transparency=key))
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 128).all()


def test_half_transparent_is_half_way_to_mid_grey():
    """Compositing, not cutting out."""
    pixels = decode(encoded(Image.new("RGBA", (20, 20), (255, 0, 128, 128)), "PNG"))
    assert np.abs(pixels[3, 3].astype(int) - [192, 64, 128]).max() <= 1


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_the_photo(file_format):
    """An animated GIF is accepted by its first frame."""
    data = encoded(quarters(), file_format, save_all=True, append_images=[Image.new("RGB", (64, 48), BLUE)] * 2)
    assert np.abs(decode(data).astype(int) - np.asarray(quarters())).mean() < 4


def test_a_bomb_is_refused_from_its_header():
    """20,000 x 20,000 px would take 1.2 GB; nothing but the header may be read (here there is nothing else)."""
    assert reason_of(png_header(20_000, 20_000)) == "too_large"


def test_a_strip_without_end_is_refused_from_its_header():
    """Few pixels, and memory by its length once it is squeezed: 2.5 kB for each row."""
    assert reason_of(png_header(16, 65_536)) == reason_of(png_header(65_536, 16)) == "too_large"
    assert reason_of(png_header(16, 65_535)) == "truncated"


@pytest.mark.parametrize("width_px", [8_193, 10_000, 12_000, 65_535])
def test_pillows_own_bomb_warnings_never_come_through(width_px):
    """Pillow warns above 89 million pixels and raises above 179: ours is one refusal for all (warnings fail tests)."""
    assert reason_of(png_header(width_px, 8_192)) == "too_large"
    gif = bytearray(encoded(quarters(), "GIF"))
    gif[6:10] = struct.pack("<HH", width_px, 8_192)
    assert reason_of(bytes(gif)) == "too_large"


def test_the_largest_photo_allowed_is_not_refused_for_its_size():
    """The limit itself is allowed: here only the pixels are missing."""
    assert reason_of(png_header(8_192, 8_192)) == "truncated"


def test_a_photo_smaller_than_every_recipe_is_refused():
    """A 1 px tracking picture must not be blown up to a cat."""
    assert reason_of(encoded(Image.new("RGB", (15, 400)), "PNG")) == "too_small"
    assert decode(encoded(Image.new("RGB", (16, 400)), "PNG")).shape == (400, 16, 3)


@pytest.mark.parametrize("data", [
    b"", b"\xff", b"This was meant to be a photo.\n", b"BM is how this text starts", b"<svg/>",
    b"%!PS-Adobe-3.0 EPSF-3.0", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"P6 20 20 255 " + bytes(1200),
], ids=repr)  # fmt: skip
def test_what_is_no_photo_is_undecodable(data):
    """A text named .jpg is common; PostScript must never reach Ghostscript."""
    assert reason_of(data) == "undecodable"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("kept_share", [0.1, 0.5, 0.95])
def test_a_photo_cut_short_is_truncated(file_format, kept_share):
    """An upload that broke off is the commonest damage, and mended by sending it again: it has its own reason."""
    data = encoded(Image.fromarray(noise(64, 64, 3)), file_format)
    assert reason_of(data[: int(len(data) * kept_share)]) == "truncated"


def test_a_refusal_survives_the_way_back_from_a_worker():
    """Ray and process pools pickle exceptions; one with two arguments is easily lost there."""
    error = pickle.loads(pickle.dumps(UnreadablePhoto("truncated", "cut short")))  # noqa: S301  our own bytes
    assert (error.reason, str(error)) == ("truncated", "cut short")
    assert isinstance(error, PermanentError)


def test_a_reason_that_is_not_on_the_list_is_a_bug():
    """The list is closed: reports and checks count by it."""
    with pytest.raises(AssertionError):
        UnreadablePhoto("ugly", "not a reason")


def seeds():
    """One photo of each kind that a lake of phones and editors holds."""
    picture = Image.fromarray(noise(30, 40, 3)).resize((60, 45))
    clear = picture.copy()
    clear.putalpha(picture.convert("L"))
    frames = {"save_all": True, "append_images": [picture.rotate(9)]}
    exif = with_orientation(6)
    exif[0x011A] = 72.0
    return {
        "jpeg": encoded(picture, "JPEG", exif=exif),
        "progressive": encoded(picture, "JPEG", progressive=True),
        "cmyk": encoded(picture.convert("CMYK"), "JPEG"),
        "png": encoded(picture, "PNG", exif=exif),
        "palette": encoded(picture.quantize(16), "PNG", transparency=3),
        "apng": encoded(clear, "PNG", **frames),
        "gif": encoded(picture, "GIF", **frames),
        "webp": encoded(picture, "WEBP", exif=exif, **frames),
        "lossless": encoded(clear, "WEBP", lossless=True),
        "bmp": encoded(picture, "BMP"),
        "tiff": encoded(picture, "TIFF", exif=exif),
        "float": encoded(Image.fromarray(np.random.default_rng(0).random((20, 20), np.float32)), "TIFF"),
    }


def mutated(data, rng):
    """Some bytes changed (often the header's), cut off, put in or left out."""
    place = rng.randrange(min(len(data), rng.choice([64, 400, 10**9])))
    kind = rng.randrange(4)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + rng.randbytes(rng.randrange(1, 40)) + data[place:]
    if kind == 2:
        return data[:place] + data[place + rng.randrange(1, 40) :]
    return data[:place] + rng.randbytes(rng.choice([1, 2, 4])) + data[place + 4 :]


@pytest.mark.parametrize("kind", seeds())
def test_no_mutation_raises_anything_but_unreadable(kind, capfd):
    """Whoever can put a file into the lake must not be able to stop an ingestion, nor print into its output."""
    rng = random.Random(kind)  # noqa: S311  no secret: the same mutations every time
    data = seeds()[kind]
    outcomes = {decode(data).shape}
    for _ in range(100):
        try:
            outcomes.add(decode(mutated(data, rng)).shape)
        except UnreadablePhoto as error:
            outcomes.add(error.reason)
    assert outcomes & {"truncated", "undecodable"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [
    {}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_blocks": 2}, {"quality": 5},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_faster_decoder_of_sound_jpegs_gives_pillows_pixels(mode, options, monkeypatch):
    """Where it is installed and where it is not, a photo must be the same photo; and what is unsound is Pillow's."""
    rng = random.Random(repr(options))  # noqa: S311  no secret: the same mutations every time
    data = encoded(Image.fromarray(noise(90, 70, 3)).resize((131, 87)).convert(mode), "JPEG", **options)
    files = [data, *(mutated(data, rng) for _ in range(60))]
    outcomes = [outcome_of(file) for file in files]
    assert images._decode_sound_jpeg(data) is not None
    monkeypatch.setattr(images, "_decode_sound_jpeg", lambda _data: None)
    assert outcomes == [outcome_of(file) for file in files]


def outcome_of(data):
    """All that decoding tells."""
    try:
        photo = decode_photo(data)
    except UnreadablePhoto as error:
        return error.reason, str(error)
    return photo.format, photo.mode, photo.pixels.shape, photo.pixels.tobytes()


def test_many_threads_decode_the_same_pixels():
    """The service and ingestion decode on threads, and Pillow's warnings are silenced for the whole process."""
    data = list(seeds().values()) * 8
    expected = [decode(item) for item in data]
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(*pair) for pair in zip(pool.map(decode, data), expected, strict=True))


def test_statistics_are_those_of_the_pixels():
    """feature_scaling is built on these numbers alone; here they are known by arithmetic."""
    half = np.zeros((128, 128, 3), np.uint8)
    half[:, 64:] = (255, 51, 0)
    statistics = measure(np.stack([thumbnail(half), thumbnail(np.full_like(half, 255))]))
    assert statistics.channel_means[0] == pytest.approx((0.5, 0.1, 0), abs=1e-3)
    assert statistics.channel_squares[0] == pytest.approx((0.5, 0.02, 0), abs=5e-3)  # the edge is blurred
    assert statistics.brightness == pytest.approx([0.5 * (0.299 + 0.587 * 0.2), 1], abs=2e-3)


def test_a_flat_photo_has_no_sharpness_and_a_blurred_one_less():
    """Sharpness must rise with detail, or the camera's drift out of focus could not be seen."""
    sharp = noise(64, 64, 3)
    blurred = resize(resize(sharp, 16), 64)
    statistics = measure(np.stack([np.full((64, 64, 3), 77, np.uint8), blurred, sharp]))
    assert statistics.sharpness[0] == 0
    assert statistics.brightness[0] == pytest.approx(77 / 255)
    assert statistics.sharpness[2] > 3 * statistics.sharpness[1] > 0


def test_statistics_hardly_depend_on_the_photos_size():
    """They are measured on one fixed size, so that lakes of mixed sizes can be compared."""
    soft = Image.fromarray(noise(16, 16, 3))
    sizes = [resize(np.asarray(soft.resize((900, 900))), side_px) for side_px in (150, 800)]
    statistics = measure(np.stack([thumbnail(pixels) for pixels in sizes]))
    assert statistics.channel_means[0] == pytest.approx(statistics.channel_means[1], abs=0.01)
    assert math.isclose(*statistics.sharpness, rel_tol=0.25)


def test_statistics_do_not_depend_on_the_photos_measured_together():
    """Workers measure what happens to be in their shard; the manifest must not show it."""
    thumbnails = noise(150, 64, 64, 3)
    together = measure(thumbnails)
    for name, values in vars(together).items():
        alone = [getattr(measure(one[None]), name)[0] for one in thumbnails]
        assert np.array_equal(values, alone)


@pytest.mark.parametrize(("head", "key", "is_seen"), [
    (b"", "cat/a.jpg", True), (b"hello", "cat/A.JPEG", True), (b"", "x.heic", True),
    (b"\xff\xd8\xff\xe0", "cat/0001", True), (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "cat/noname.bin", True),
    (b"label,key\n", "labels.csv", False), (b"", "README.txt", False), (b"", "cat.jpg/readme", False),
    (b"BM is how this text starts", "notes.txt", False), (b"", "cat/jpg", False), (b"", "", False),
])  # fmt: skip
def test_images_are_seen_by_extension_or_first_bytes(head, key, is_seen):
    """What is named like a photo must be accounted for, and a labels.csv must not be called a broken one."""
    assert sniff(head[: images.HEAD_BYTES], key) is is_seen


@pytest.mark.photos
def test_real_photos_are_all_decoded(photos):
    """The park's own photos: every format quirk of theirs is in here."""
    for path in [path for label in ("cat", "dog") for path in sorted((photos / label).glob("*.jpg"))[:100]]:
        assert decode(path.read_bytes()).shape[2] == 3
