"""Claims about signatures: the same everywhere, small, and what they foresee of crops and mirrors is so."""

import hashlib

import numpy as np
import pytest

from petpark_assets.domain.lake import signatures as room
from petpark_assets.domain.lake.candidates import VIEWS
from petpark_assets.domain.lake.likeness import COMPARED
from petpark_assets.domain.lake.signatures import SIGNATURE_BYTES, View, perceptual_hashes, seen, signatures, spectra
from petpark_assets_tests.benchmarks.alterations import SIX, as_jpeg, brightened, cropped, mirrored
from petpark_assets_tests.domain.lake.likenesses import drawings, luminance_of, signatures_of


def cosines(first, second):
    """Of the angles between spectra, row by row."""
    product = (first * second).sum(axis=1)
    return product / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))


def different_bits(first, second):
    """Between two perceptual hashes."""
    one, other = perceptual_hashes(np.stack([first, second]))
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_a_signature_does_not_depend_on_its_neighbours():
    """A photo is inspected in whatever shard it falls into; its signature is in the manifest, which is digested."""
    luminance = luminance_of(drawings(20))
    together = signatures(np.concatenate([luminance] * 30))
    alone = np.concatenate([signatures(one[None]) for one in luminance])
    assert together.shape == (600, SIGNATURE_BYTES)
    assert np.array_equal(together, np.concatenate([alone] * 30))


def test_the_numbers_behind_signatures_are_the_same_on_every_machine():
    """Groups of versions made here must be found again there: neither a cosine's last digit nor BLAS may decide."""
    numbers = [room._tones(), room._basis(), room._weights()]
    numbers += [room.view_map(view, is_faded=is_faded) for view in VIEWS for is_faded in (False, True)]
    digest = hashlib.sha256(b"".join(part.tobytes() for part in numbers)).hexdigest()
    assert digest == "5c8a4424f6576d3f2338f4f2a9bb19f71f683644e395e8799d82eebb3eea80b8"


def test_sums_are_exact_in_their_floats():
    """Else threads and processors would add them in other orders to other numbers: the worst photos, checked whole."""
    black, white = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    stripes, checks = black.copy(), black.copy()
    stripes[:, ::2], checks[::2, ::2] = 255, 255
    for luminance in (black, white, stripes, checks):
        tones, basis = room._tones()[luminance].astype(np.int64), room._basis().astype(np.int64)
        assert np.abs(tones).sum(axis=1).max() * np.abs(basis).max() < 2**24
        exact = basis @ tones @ basis.T
        vertical, horizontal = room.orders()
        amplitudes = room._transform(luminance[None])[0]
        scales = np.where(vertical == 0, 1, 2**0.5) * np.where(horizontal == 0, 1, 2**0.5) / (512 * 64) ** 2
        assert np.array_equal(amplitudes, exact[vertical, horizontal] * scales)


def test_mirroring_a_photo_turns_signs_and_nothing_else():
    """Mirrored copies are found without storing a second signature; that rests on this."""
    photos = drawings(20)
    mirror = spectra(signatures_of([mirrored(photo) for photo in photos]))
    foreseen = spectra(signatures_of(photos)) * room.mirror_signs()
    assert np.abs(mirror - foreseen).max() <= 1
    assert cosines(mirror, foreseen).min() > 0.9999


@pytest.mark.parametrize("view", [View(0.03, 0.03, 0.03, 0.03), View(left=0.03), View(bottom=0.045)])
def test_crops_are_foreseen_from_the_whole_photo(view):
    """Cropped copies are found by what the whole photo's signature says of its crops: nearer than the whole is."""
    photos = drawings(20)
    crops = [cropped(photo, view.left, view.top, view.right, view.bottom) for photo in photos]
    whole, crop = spectra(signatures_of(photos)), seen(spectra(signatures_of(crops)), View(), COMPARED, is_faded=True)
    foreseen = cosines(seen(whole, view, COMPARED, is_faded=True), crop)
    assert foreseen.min() > 0.9
    unforeseen = cosines(seen(whole, View(), COMPARED, is_faded=True), crop)
    assert (foreseen > unforeseen).mean() >= 0.95
    assert (1 - foreseen).mean() < (1 - unforeseen).mean() / 2


def test_brightening_and_encoding_hardly_change_a_signature():
    """They are the commonest copies; if they moved a signature far, distinct photos would have to be let in."""
    photos = drawings(20)
    whole = spectra(signatures_of(photos))
    for copies in ([as_jpeg(photo, 40) for photo in photos], [brightened(photo) for photo in photos]):
        assert cosines(whole, spectra(signatures_of(copies))).min() > 0.95


def test_a_perceptual_hash_is_near_that_of_copies_and_far_from_that_of_others():
    """People look photos up by it, and other tools compare it: 16 digits, a few bits apart for the same picture."""
    photos = drawings(20)
    whole, copies = signatures_of(photos), signatures_of([SIX["JPEG quality 40"](photo) for photo in photos])
    assert all(len(one) == 16 for one in perceptual_hashes(whole))
    assert max(different_bits(*pair) for pair in zip(whole, copies, strict=True)) <= 4
    others = [different_bits(whole[i], whole[j]) for i in range(20) for j in range(i)]
    assert np.mean(others) > 16


@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_a_flat_photo_has_a_level_and_no_likeness(level):
    """A black frame has no detail to know it by; noise made loud would make it like anything."""
    (found,) = signatures(np.full((1, 64, 64), level, np.uint8))
    assert found[-1] == level
    assert not found[:-1].any()
    noise = np.random.default_rng(level).integers(0, 2, (1, 64, 64), np.uint8)
    assert not signatures(np.uint8(max(level, 1)) - noise)[0, :-1].any()
    assert perceptual_hashes(found[None]) == ["0" * 16]


def test_no_photos_have_no_signatures_and_other_shapes_are_refused():
    """A shard may hold nothing that can be decoded; thumbnails of another size would give other signatures."""
    assert signatures(np.empty((0, 64, 64), np.uint8)).shape == (0, SIGNATURE_BYTES)
    for wrong in (np.zeros((2, 32, 32), np.uint8), np.zeros((2, 64, 64), np.float32)):
        with pytest.raises(AssertionError, match="expected uint8"):
            signatures(wrong)
