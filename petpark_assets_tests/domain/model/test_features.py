"""Claims about feature scaling: the train side's numbers, all of them and no others."""

import numpy as np
import pyarrow as pa
import pytest

from petpark_assets.domain import files, splits
from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.images import measure
from petpark_assets.domain.lake.catalogue import SCHEMA
from petpark_assets.domain.model.features import AUGMENTATION, MIN_DEVIATION, feature_scaling, preprocessing
from petpark_assets.domain.recipes import Hyperparameters
from petpark_assets.domain.records import RawImages

ATTEMPT = "0123456789abcdef"
RAW = RawImages(
    dataset_version="v0003", manifest="0" * 64, previous_manifest=None, images={}, accepted_by_label={},
    quarantined_by_reason={},
)  # fmt: skip


def photo_row(number, split, pixels):
    """A manifest's row as ingestion writes it."""
    return {
        "key": f"cat/{number}.png", "sha256": f"{number:064d}", "label": "cat", "split": split, "state": "accepted",
        "size_bytes": 1, **{name: values[0] for name, values in vars(measure(pixels[None])).items()},
    }  # fmt: skip


def manifest_of(rows):
    """A manifest with the columns there really are."""
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def random_photos(num_photos, seed=0):
    """Photos of 64 px, where measuring resizes nothing, so that numbers can be compared with the pixels."""
    rng = np.random.default_rng(seed)
    return rng.integers(
        0, rng.integers(50, 256, size=(num_photos, 1, 1, 1)), size=(num_photos, 64, 64, 3), dtype=np.uint8
    )


def scaling_of(rows):
    """The record that follows from a manifest."""
    table = manifest_of(rows)
    return feature_scaling(splits.train_split_record(RAW, table), table, ATTEMPT)


def test_the_statistics_are_those_of_all_train_pixels():
    """The network divides by these numbers; here they are computed again from every pixel."""
    photos = random_photos(20)
    scaling = scaling_of([photo_row(n, "train", pixels) for n, pixels in enumerate(photos)])
    pixels = photos.reshape(-1, 3) / 255
    assert scaling.channel_means == pytest.approx(pixels.mean(axis=0), abs=1e-6)
    assert scaling.channel_deviations == pytest.approx(pixels.std(axis=0), abs=1e-6)
    assert scaling.brightness["p05"] < scaling.brightness["p50"] < scaling.brightness["p95"]
    assert scaling.brightness["p50"] == pytest.approx(np.median(measure(photos).brightness), abs=1e-6)
    assert set(scaling.sharpness) == {"p05", "p50", "p95"}


def test_the_test_side_leaves_no_trace():
    """Statistics that have seen the exam would flatter it: other test photos must give the same numbers."""
    train = [photo_row(n, "train", pixels) for n, pixels in enumerate(random_photos(6))]
    refused = {"key": "x.jpg", "size_bytes": 1, "state": "quarantined", "reason": "truncated"}
    dark, white = (
        scaling_of([*train, photo_row(99, "test", np.full((64, 64, 3), level, np.uint8)), refused])
        for level in (0, 255)
    )
    assert dark == white


def test_the_order_of_rows_does_not_change_a_digit():
    """Sums of floats depend on their order unless they are exact; the record's digest must not."""
    rows = [photo_row(n, "train", pixels) for n, pixels in enumerate(random_photos(30))]
    assert files.digest(scaling_of(rows)) == files.digest(scaling_of(rows[::-1]))


def test_a_manifest_that_is_not_the_recorded_one_is_refused():
    """A record that points to one train side and describes another would break the chain silently."""
    rows = [photo_row(n, "train", pixels) for n, pixels in enumerate(random_photos(3))]
    recorded = splits.train_split_record(RAW, manifest_of(rows))
    with pytest.raises(CorruptData, match="v0003"):
        feature_scaling(recorded, manifest_of(rows[:2]), ATTEMPT)


def test_photos_of_one_colour_do_not_divide_by_zero():
    """A lake of flat pictures must give a bad model, not NaN."""
    flat = np.full((64, 64, 3), 100, np.uint8)
    scaling = scaling_of([photo_row(n, "train", flat) for n in range(3)])
    assert scaling.channel_deviations == pytest.approx((MIN_DEVIATION,) * 3)


def test_the_record_leads_back_to_the_train_split():
    """The chain from a model to its lake goes through this digest."""
    table = manifest_of([photo_row(n, "train", pixels) for n, pixels in enumerate(random_photos(3))])
    split = splits.train_split_record(RAW, table)
    scaling = feature_scaling(split, table, ATTEMPT)
    assert scaling.train_split == files.digest(split)
    assert scaling.dataset_version == "v0003"
    assert scaling.augmentation == AUGMENTATION


def test_the_policys_strengths_are_hyperparameters_that_exist():
    """The words name hyperparameters; renamed there, they would point to nothing."""
    words = {word.strip(",;.") for line in AUGMENTATION.values() for word in line.split() if "_" in word}
    assert "crop_scale_min" in words
    assert all(hasattr(Hyperparameters(), word) for word in words)


def test_preprocessing_carries_the_statistics_at_the_recipes_resolution():
    """This is what travels into the ONNX graph."""
    scaling = scaling_of([photo_row(n, "train", pixels) for n, pixels in enumerate(random_photos(3))])
    result = preprocessing(scaling, 96)
    assert (result.resolution_px, result.labels) == (96, ("cat", "dog"))
    assert (result.channel_means, result.channel_deviations) == (scaling.channel_means, scaling.channel_deviations)
