"""A classifier of a few weights, the records of a model that never was, and its package: for tests of these rooms."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from petpark_assets.domain.files import digest, sha256
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.package.contents import Lineage, build_files
from petpark_assets.domain.records import (
    EvaluationReport,
    FeatureScaling,
    HyperparameterSearch,
    RawImages,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)

VERSION, ATTEMPT = "v0001", "0123456789abcdef"
PREPROCESSING = Preprocessing(resolution_px=24, channel_means=(0.5, 0.4, 0.3), channel_deviations=(0.25, 0.25, 0.2))
REPORT_FILES = {"report.html": b"<p>97 of 100</p>", "report.json": b"{}"}


def photo(brightness: int, *, width_px: int = 40, height_px: int = 30, file_format: str = "PNG") -> bytes:
    """A photo whose left half has this brightness: the toy classifier calls a bright one a dog."""
    pixels = np.full((height_px, width_px, 3), 100, dtype=np.uint8)
    pixels[:, : width_px // 2] = brightness
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def manifest() -> pa.Table:
    """Two photos on each side and one quarantined."""
    return pa.table(
        {
            "key": ["cat/1.png", "dog/1.png", "cat/2.png", "dog/2.png", "broken.jpg"],
            "sha256": ["d" * 64, "a" * 64, "c" * 64, "b" * 64, "e" * 64],
            "label": ["cat", "dog", "cat", "dog", None],
            "split": ["train", "train", "test", "test", None],
        }
    )


def lineage(*, accuracy: float = 0.97, is_accepted: bool = True, seed: int = 0) -> Lineage:
    """A model and all its parents, linked by their digests."""
    raw = RawImages(
        dataset_version=VERSION,
        manifest="0" * 64,
        previous_manifest=None,
        images={"seen": 5, "accepted": 4, "duplicate": 0, "quarantined": 1, "ignored": 0},
        accepted_by_label={"cat": 2, "dog": 2},
        quarantined_by_reason={"undecodable": 1},
    )
    sides = {"dataset_version": VERSION, "raw_images": digest(raw), "images_by_label": {"cat": 1, "dog": 1}}
    train, test = TrainSplit(members="1" * 64, **sides), TestSplit(members="2" * 64, **sides)
    scaling = FeatureScaling(
        attempt=ATTEMPT,
        dataset_version=VERSION,
        train_split=digest(train),
        channel_means=PREPROCESSING.channel_means,
        channel_deviations=PREPROCESSING.channel_deviations,
        brightness={},
        sharpness={},
        augmentation={},
    )
    made = {"dataset_version": VERSION, "attempt": ATTEMPT}
    parents = {"train_split": digest(train), "feature_scaling": digest(scaling)}
    search = HyperparameterSearch(
        **made,
        **parents,
        recipe="demo",
        configuration={},
        seed=seed,
        code_version="3" * 64,
        algorithm="none",
        space={},
        trials=(),
        best_hyperparameters={},
        default_validation_accuracy=None,
        best_validation_accuracy=None,
        num_validation_images=0,
    )
    model = TrainedCnn(
        **made,
        **parents,
        hyperparameter_search=digest(search),
        hyperparameters={},
        preprocessing={},
        seed=seed,
        device="cpu",
        num_parameters=8,
        epochs=(),
        best_epoch=1,
        validation_accuracy=0.9,
        weights="4" * 64,
    )
    report = EvaluationReport(
        **made,
        trained_cnn=digest(model),
        test_split=digest(test),
        is_accepted=is_accepted,
        verdict="accuracy 0.9700 reaches 0.9" if is_accepted else "accuracy 0.5 is below 0.9",
        targets={},
        default_targets={},
        metrics={"accuracy": accuracy},
        files={name: sha256(data) for name, data in REPORT_FILES.items()},
    )
    return Lineage(
        raw_images=raw, train_split=train, test_split=test, feature_scaling=scaling,
        hyperparameter_search=search, trained_cnn=model, evaluation_report=report,
    )  # fmt: skip


def package_files(
    *, onnx_model: bytes = b"weights", int8_model: bytes | None = None, accuracy: float = 0.97, seed: int = 0
) -> dict[str, bytes]:
    """The files of a package; another seed makes another package."""
    return build_files(
        onnx_model=onnx_model,
        int8_model=int8_model,
        preprocessing=PREPROCESSING,
        lineage=lineage(accuracy=accuracy, seed=seed),
        manifest=manifest(),
        report_files=REPORT_FILES,
        parity={"num_images": 2},
    )


def write_package(folder: Path, files: dict[str, bytes]) -> Path:
    """The files as a folder."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
