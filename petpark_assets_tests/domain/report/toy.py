"""A small attempt with everything a report is made from: records that belong together, and a fairly good network."""

from typing import Any

import numpy as np

from petpark_assets.domain.files import digest, sha256
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import (
    FeatureScaling,
    HyperparameterSearch,
    RawImages,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)
from petpark_assets.domain.report.comparison import Champion, compare, judged
from petpark_assets.domain.report.gallery import most_wrong
from petpark_assets.domain.report.metrics import evaluate
from petpark_assets.domain.report.page import ReportContext
from petpark_assets.domain.report.slices import cut

VERSION, ATTEMPT = "v0001", "0123456789abcdef"
NUM_TEST_IMAGES = 400


def answers(num_images: int = NUM_TEST_IMAGES, *, skill: float = 3.2) -> tuple[list[str], Any, Any]:
    """sha256s, labels and probabilities of dog of a network that is right more often the higher its skill."""
    labels = (np.arange(num_images) % 2).astype(np.uint8)
    logits = np.random.default_rng(0).normal(size=num_images) * 2 + (labels * 2.0 - 1) * skill
    return [sha256(b"%d" % i) for i in range(num_images)], labels, (1 / (1 + np.exp(-logits))).astype(np.float32)


def raw_images() -> RawImages:
    """A version with quarantined files of three reasons."""
    return RawImages(
        dataset_version=VERSION,
        manifest=sha256(b"manifest"),
        previous_manifest=None,
        images={"seen": 2014, "accepted": 2000, "duplicate": 3, "quarantined": 11, "ignored": 1},
        accepted_by_label={"cat": 1000, "dog": 1000},
        quarantined_by_reason={"undecodable": 6, "truncated": 4, "too_large": 1},
    )


def hyperparameter_search(train: TrainSplit, scaling: FeatureScaling, **fields: Any) -> HyperparameterSearch:
    """Eight trials, the first the recipe's defaults, one stopped early, one that failed."""
    accuracies = [0.86, 0.85, 0.8812, 0.87, None, 0.79, 0.875, 0.8688]
    trials = tuple(
        {
            "number": number,
            "hyperparameters": {"learning_rate": 0.01 + 0.00123 * number, "label_smoothing": 0.1},
            "validation_accuracy": accuracy,
            "schedule_share": 1 / 3 if number == 6 else 0.0 if accuracy is None else 1.0,
        }
        | ({"error": "out of memory"} if accuracy is None else {})
        for number, accuracy in enumerate(accuracies, start=1)
    )
    space = {"learning_rate": {"low": 0.005, "high": 0.02, "log": True}, "label_smoothing": {"values": [0.05, 0.1]}}
    given: dict[str, Any] = {"algorithm": "tpe", "space": space, "trials": trials, "num_validation_images": 160}
    given |= {"configuration": {}, "default_validation_accuracy": 0.86, "best_validation_accuracy": 0.8812}
    return HyperparameterSearch(
        dataset_version=VERSION, attempt=ATTEMPT, train_split=digest(train), feature_scaling=digest(scaling),
        recipe="laptop", seed=0, code_version="5f2c1e9a0b7d",
        best_hyperparameters={"learning_rate": 0.01246}, **(given | fields),
    )  # fmt: skip


def trained_cnn(train: TrainSplit, scaling: FeatureScaling, search: HyperparameterSearch) -> TrainedCnn:
    """Twenty-four epochs that went well."""
    epochs = tuple(
        {
            "number": number,
            "train_loss": 0.2 + 0.7 * 0.93**number,
            "validation_loss": 0.22 + 0.7 * 0.93**number + 0.02 * np.sin(number).item(),
            "validation_accuracy": 0.95 - 0.4 * 0.85**number,
            "learning_rate": 0.01,
        }
        for number in range(1, 25)
    )
    return TrainedCnn(
        dataset_version=VERSION, attempt=ATTEMPT, train_split=digest(train), feature_scaling=digest(scaling),
        hyperparameter_search=digest(search), seed=0, device="cpu AVX512_BF16, 2 threads", num_parameters=2_790_000,
        hyperparameters={"architecture": "petnet", "width": 32, "epochs": 24, "learning_rate": 0.01246},
        preprocessing={
            "resolution_px": 96, "labels": ["cat", "dog"],
            "channel_means": [0.48, 0.45, 0.41], "channel_deviations": [0.26, 0.25, 0.26],
        },
        epochs=epochs, best_epoch=22, validation_accuracy=0.9412, weights=sha256(b"weights"),
    )  # fmt: skip


def measured(num_images: int = NUM_TEST_IMAGES) -> dict[str, Any]:
    """What ingestion measured of the photos of a test side."""
    random = np.random.default_rng(1)
    sizes = random.choice([500 * 375, 320 * 240, 1024 * 768, 640 * 480], num_images).astype(float)
    return {"brightness": random.beta(4, 4, num_images), "sharpness": random.gamma(2, 0.04, num_images), "size": sizes}


CHAMPION = Champion(
    model_version=3, package=sha256(b"champion"), trained_cnn=sha256(b"its network"), dataset_version="v0001",
    attempt="fedcba9876543210",
)  # fmt: skip


def context(
    targets: Targets | None = None,
    *,
    skill: float = 3.2,
    champion_skill: float | None = None,
    num_images: int = NUM_TEST_IMAGES,
    unknown_below: float | None = None,
    **search_fields: Any,
) -> ReportContext:
    """A report's context; with the skill given the network gets about 0.95 of its test side right."""
    raw = raw_images()
    train = TrainSplit(
        dataset_version=VERSION, raw_images=digest(raw), members=sha256(b"train"),
        images_by_label={"cat": 800, "dog": 800},
    )  # fmt: skip
    test = TestSplit(
        dataset_version=VERSION, raw_images=digest(raw), members=sha256(b"test"),
        images_by_label={"cat": num_images // 2, "dog": num_images // 2},
    )  # fmt: skip
    scaling = FeatureScaling(
        attempt=ATTEMPT,
        dataset_version=VERSION, train_split=digest(train), channel_means=(0.48, 0.45, 0.41),
        channel_deviations=(0.26, 0.25, 0.26), brightness={"p05": 0.2, "p50": 0.45, "p95": 0.7},
        sharpness={"p05": 0.02, "p50": 0.08, "p95": 0.2},
        augmentation={"flip": "half of the photos, left to right", "crop": "part of the area, resized back"},
    )  # fmt: skip
    search = hyperparameter_search(train, scaling, **search_fields)
    sha256s, labels, probabilities = answers(num_images, skill=skill)
    asked = targets or Targets(accuracy=0.94, precision=0.92, recall=0.92)
    slices = cut(labels, measured(num_images))
    evaluation = evaluate(labels, probabilities, asked, unknown_below=unknown_below, slices=slices)
    if champion_skill is not None:
        theirs = answers(num_images, skill=champion_skill)[2]
        evaluation = judged(evaluation, compare(labels, probabilities, theirs, slices, CHAMPION))
    return ReportContext(
        raw_images=raw, train_split=train, test_split=test, feature_scaling=scaling, hyperparameter_search=search,
        trained_cnn=trained_cnn(train, scaling, search), evaluation=evaluation,
        targets=asked, most_wrong=tuple(most_wrong(sha256s, labels, probabilities)),
    )  # fmt: skip
