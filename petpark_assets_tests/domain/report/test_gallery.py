"""The gallery shows the network's surest mistakes; often it is the label that is wrong."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.report.gallery import THUMBNAIL_PX, data_uri, most_wrong, thumbnail

SHA256S = ["a", "b", "c", "d", "e", "f"]
LABELS = np.array([0, 0, 0, 1, 1, 1], dtype=np.uint8)
PROBABILITIES = np.array([0.9, 0.9, 0.6, 0.4, 0.01, 0.5])


def test_surest_mistakes_first_false_cats_before_false_dogs():
    """Equal mistakes stand in the order of their sha256, so that the list is the same every time."""
    wrong = most_wrong(SHA256S, LABELS, PROBABILITIES)
    assert [(photo.sha256, photo.label, photo.predicted) for photo in wrong] == [
        ("e", "dog", "cat"), ("d", "dog", "cat"), ("a", "cat", "dog"), ("b", "cat", "dog"), ("c", "cat", "dog"),
    ]  # fmt: skip


def test_num_limits_each_kind():
    """A network that errs one way only must not push the other way's mistakes out of sight."""
    assert [photo.sha256 for photo in most_wrong(SHA256S, LABELS, PROBABILITIES, 1)] == ["e", "a"]


@pytest.mark.parametrize("shape", [(300, 600, 3), (600, 300, 3)])
def test_thumbnail_keeps_proportions(shape):
    """A squeezed animal is harder to recognise, and a full photo would make the page heavy."""
    image = Image.open(io.BytesIO(thumbnail(np.zeros(shape, dtype=np.uint8))))
    assert image.format == "JPEG"
    assert image.size == (shape[1] * THUMBNAIL_PX // 600, shape[0] * THUMBNAIL_PX // 600)


def test_data_uri_holds_the_very_bytes():
    """The page asks nothing of a network or a disk: the photo itself is in it."""
    photo = thumbnail(np.zeros((8, 8, 3), dtype=np.uint8))
    head, _, content = data_uri(photo).partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(content) == photo


def test_what_a_browser_may_run_is_no_photo():
    """An SVG can hold a script: only JPEG and PNG enter the page."""
    with pytest.raises(InvalidInput, match="give a JPEG or a PNG"):
        data_uri(b"<svg onload='alert(1)'/>")
