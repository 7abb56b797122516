"""A small home of drawn records: two dataset versions, three models, one of them rejected, one promoted by a person.

Records, manifests, ledger and registry are real and linked by their digests; only photos and networks never were.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from petpark_assets.domain import splits
from petpark_assets.domain.files import digest, folder_key, put, read_record, sha256, write_record
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake import catalogue
from petpark_assets.domain.package import contents
from petpark_assets.domain.recipes import RECIPES
from petpark_assets.domain.records import (
    EvaluationReport,
    FeatureScaling,
    HyperparameterSearch,
    OnnxPackage,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)
from petpark_assets.domain.report.predictions import predictions_parquet
from petpark_assets.domain.workflow import gate, registration, testing
from petpark_assets_tests.domain.package.toys import PREPROCESSING

NUM_PHOTOS = 40
FIRST, REJECTED, SECOND = "1111111111111111", "2222222222222222", "3333333333333333"
"""Attempts: the first model, of v0001; a rejected one and a better one, of v0002."""


def photo(number: int) -> dict[str, Any]:
    """An accepted photo: every fifth is on the test side."""
    label = "cat" if number % 2 else "dog"
    name = sha256(photo_bytes(number))
    return {
        "key": f"{label}/{number:03}.jpg", "sha256": name, "size_bytes": 9, "label": label, "group": name,
        "split": "test" if number % 5 == 0 else "train", "state": "accepted", "first_version": "v0001",
    }  # fmt: skip


def photo_bytes(number: int) -> bytes:
    """What would be in a photo's file."""
    return f"photo {number}".encode()


def build(root: Path, **engines: Any) -> Home:
    """The whole home, in a folder or with other engines, as open_home takes them."""
    home = open_home(root, actor="mia", **engines)
    first = [photo(number) for number in range(NUM_PHOTOS)]
    relabelled = {**first[1], "label": "dog"}
    second = [first[0], relabelled, *first[3:], *(photo(number) for number in range(NUM_PHOTOS, NUM_PHOTOS + 4))]
    add_version(home, "v0001", first)
    add_model(home, "v0001", FIRST, accuracy=0.75)
    add_version(home, "v0002", second)
    add_model(home, "v0002", REJECTED, accuracy=0.5, is_accepted=False, seed=1)
    add_model(home, "v0002", SECOND, accuracy=0.875, seed=2, learning_rate=0.02)
    registration.promote(home, "2", by="olga", because="version 1 is wrong about <my> dog")
    return home


def add_version(home: Home, version: str, rows: list[dict[str, Any]]) -> None:
    """A dataset version of these rows with both its sides."""
    known = catalogue.list_versions(home.store)
    previous = catalogue.manifest_sha256(home.store, known[-1]) if known else None
    table = catalogue.build_table(rows, num_ignored=0, previous_manifest=previous)
    with home.noting() as circumstances:
        record = catalogue.raw_images(table, version, catalogue.write_manifest(home.store, version, table) or "")
        home.ledger.append("dataset_version_made", vars(record))
        write_record(home.store, record, {"lake": "/lake", "labels": ["folder"], **circumstances()})
        for side in (splits.train_split_record(record, table), splits.test_split_record(record, table)):
            write_record(home.store, side, circumstances())


def add_model(
    home: Home,
    version: str,
    attempt: str,
    *,
    accuracy: float,
    is_accepted: bool = True,
    seed: int = 0,
    learning_rate: float = 0.01,
) -> None:
    """A model of a version, examined; where it is accepted, packaged and registered too."""
    of = {"dataset_version": version, "attempt": attempt}
    train, test = (read_record(home.store, kind, version) for kind in (TrainSplit, TestSplit))
    with home.noting() as circumstances:

        def write(record: Any, event: str | None = None, **told: Any) -> str:
            if event is not None:
                home.ledger.append(event, {**of, record.asset: digest(record), **told})
            return write_record(home.store, record, circumstances())

        scaling = write(
            FeatureScaling(
                **of, train_split=digest(train), channel_means=(0.5, 0.4, 0.3), channel_deviations=(0.2, 0.2, 0.2),
                brightness={}, sharpness={}, augmentation={"flip": "half of the photos"},
            )
        )  # fmt: skip
        parents = {"train_split": digest(train), "feature_scaling": scaling}
        told = {"learning_rate": learning_rate, "architecture": "petnet"}
        search = write(
            HyperparameterSearch(
                **of, **parents, recipe="demo", configuration={"seed": seed}, seed=seed, code_version="c" * 64,
                algorithm="none", space={}, trials=(), best_hyperparameters=told, default_validation_accuracy=None,
                best_validation_accuracy=None, num_validation_images=0,
            ),
            "search_done", seed=seed, code_version="c" * 64,
        )  # fmt: skip
        weights = f"weights {attempt}".encode()
        key = f"{folder_key('trained_cnn', version, attempt)}/weights-{sha256(weights)[:12]}.safetensors"
        model = write(
            TrainedCnn(
                **of, **parents, hyperparameter_search=search, hyperparameters=told, preprocessing=vars(PREPROCESSING),
                seed=seed, device="cpu", num_parameters=8, epochs=(), best_epoch=1, validation_accuracy=accuracy,
                weights=put(home.store, key, weights),
            ),
            "model_trained", libraries={"torch": "2.13.0"},
        )  # fmt: skip
        files = {
            "predictions.parquet": _answers(home, version, accuracy),
            "report.html": f"<p>{accuracy}</p>".encode(), "report.json": b"{}",
        }  # fmt: skip
        folder = folder_key("evaluation_report", version, attempt)
        report = EvaluationReport(
            **of, trained_cnn=model, test_split=digest(test), is_accepted=is_accepted,
            verdict="accepted: every target is reached" if is_accepted else "rejected: accuracy 0.5 is below 0.7",
            targets={"accuracy": 0.7}, default_targets={}, metrics=_metrics(accuracy),
            files={name: put(home.store, f"{folder}/{sha256(data)[:12]}-{name}", data) for name, data in files.items()},
        )  # fmt: skip
        home.ledger.append(
            "verdict",
            {**of, "is_accepted": is_accepted, "verdict": report.verdict, "evaluation_report": digest(report)},
        )
        write(report)
        if is_accepted:
            register(home, version, attempt)


def _answers(home: Home, version: str, accuracy: float) -> bytes:
    rows = splits.members(catalogue.read_manifest(home.store, version), "test").to_pylist()
    labels = np.array([row["label"] == "dog" for row in rows]).astype(np.uint8)
    is_wrong = np.arange(len(rows)) >= round(accuracy * len(rows))
    return predictions_parquet([row["sha256"] for row in rows], labels, np.where(is_wrong, 1 - labels, labels) * 0.8)


def _metrics(accuracy: float) -> dict[str, Any]:
    of_class = {"num_images": 4, "precision": accuracy, "recall": accuracy}
    part = {"measure": "class", "name": "cat", "num_images": 4, "accuracy": accuracy}
    whole = {"num_images": 8, "accuracy": accuracy, "precision": accuracy, "recall": accuracy, "roc_auc": accuracy}
    return {**whole, "by_class": {"cat": of_class, "dog": of_class}, "slices": [part]}


def register(home: Home, version: str, attempt: str) -> None:
    """Package and registration: the registry is the real one."""
    named = SimpleNamespace(dataset_version=version, id=attempt, recipe=RECIPES["demo"])
    lineage = gate.pass_gate(home, version, attempt)
    report = lineage.evaluation_report
    files = contents.build_files(
        onnx_model=f"model {attempt}".encode(),
        preprocessing=PREPROCESSING,
        lineage=lineage,
        manifest=catalogue.read_manifest(home.store, version),
        report_files={name: testing.read_report_file(home, report, name) for name in contents.REPORTS},
        parity={},
    )
    folder = folder_key("onnx_package", version, attempt)
    record = OnnxPackage(
        dataset_version=version,
        attempt=attempt,
        trained_cnn=digest(lineage.trained_cnn),
        evaluation_report=digest(report),
        gate_override=lineage.digests().get("gate_override"),
        parity={},
        files={name: put(home.store, f"{folder}/{name}", data) for name, data in files.items()},
    )
    subject = {"dataset_version": version, "attempt": attempt, "onnx_package": digest(record)}
    home.ledger.append("package_made", {**subject, "evaluation_report": record.evaluation_report})
    with home.noting() as circumstances:
        write_record(home.store, record, circumstances())
    registration.registered_model(home, named)


def let_through(home: Home, folder: Path, because: str) -> Home:
    """A copy of a drawn home in which olga let the rejected model through, and it was packaged and registered."""
    shutil.copytree(home.root, folder / "home")
    opened = open_home(folder / "home", actor="eve")
    gate.let_through(opened, "v0002", REJECTED, by="olga", because=because)
    register(opened, "v0002", REJECTED)
    return opened
