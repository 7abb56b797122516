"""What a build came to, in one document: what `petpark build`, `demo` and `lake ingest` print."""

from typing import Any

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.files import has_record, read_circumstances, read_record
from petpark_assets.domain.home import Home, page_path
from petpark_assets.domain.records import (
    AttemptRecord,
    EvaluationReport,
    FeatureScaling,
    GateOverride,
    HyperparameterSearch,
    OnnxPackage,
    RawImages,
    Record,
    RegisteredModel,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)
from petpark_assets.domain.registry import decisions
from petpark_assets.domain.workflow import retraining

FLOW: tuple[type[Record], ...] = (
    RawImages, TrainSplit, TestSplit, FeatureScaling,
    HyperparameterSearch, TrainedCnn, EvaluationReport, OnnxPackage, RegisteredModel,
)  # fmt: skip
"""The records of one version, in the order of the flow."""


def is_finished(home: Home, attempt: Attempt) -> bool:
    """Whether there is nothing left to do: the model is registered, or was rejected and nobody let it through.

    A kill after the verdict may leave a rejected one without its page, or the request to train again: then there is.
    """
    version = attempt.dataset_version
    if has_record(home.store, RegisteredModel, version, attempt.id):
        return True
    if not has_record(home.store, EvaluationReport, version, attempt.id):
        return False
    if has_record(home.store, GateOverride, version, attempt.id):
        return False
    if read_record(home.store, EvaluationReport, version, attempt.id).is_accepted:
        return False
    return page_path(home, attempt).is_file() and not retraining.is_owed(home, attempt)


def summarize(home: Home, lake_uri: str, attempt: Attempt, *, is_new: bool) -> dict[str, Any]:
    """The document of one attempt, as far as it has come; what there is not yet is None.

    Shares are 0 to 1; `precision` and `recall` are by class; `confusion` has a row a true class and a column a
    predicted one, in the order of records.LABELS; `seconds` are by asset, of the run that made each.
    """
    version = attempt.dataset_version
    photos = read_record(home.store, RawImages, version)
    page = page_path(home, attempt)
    return {
        "lake": lake_uri,
        "home": str(home.root),
        "dataset_version": version,
        "is_new": is_new,
        "images": dict(photos.images),
        "quarantined_by_reason": dict(photos.quarantined_by_reason),
        "resolution_px": attempt.recipe.resolution_px,
        "recipe": attempt.recipe.name,
        "attempt": attempt.id,
        **_sides(home, version),
        **_exam(home, attempt),
        **decisions.told(decisions.overrides(home.ledger.events()).get(attempt.id)),
        "model_version": _model_version(home, attempt),
        "report": str(page) if page.is_file() else None,
        "seconds": _seconds(home, attempt),
    }


def _sides(home: Home, version: str) -> dict[str, Any]:
    kinds: dict[str, type[TrainSplit | TestSplit]] = {"train_images": TrainSplit, "test_images": TestSplit}
    return {
        name: sum(read_record(home.store, kind, version).images_by_label.values())
        if has_record(home.store, kind, version)
        else None
        for name, kind in kinds.items()
    }


def _exam(home: Home, attempt: Attempt) -> dict[str, Any]:
    if not has_record(home.store, EvaluationReport, attempt.dataset_version, attempt.id):
        names = ("accuracy", "precision", "recall", "confusion", "is_accepted", "verdict", "targets")
        return dict.fromkeys(names)
    report = read_record(home.store, EvaluationReport, attempt.dataset_version, attempt.id)
    by_class = report.metrics["by_class"]
    return {
        "accuracy": report.metrics["accuracy"],
        "precision": {label: measured["precision"] for label, measured in by_class.items()},
        "recall": {label: measured["recall"] for label, measured in by_class.items()},
        "confusion": report.metrics["confusion"],
        "is_accepted": report.is_accepted,
        "verdict": report.verdict,
        "targets": dict(report.targets),
    }


def _model_version(home: Home, attempt: Attempt) -> int | None:
    if not has_record(home.store, RegisteredModel, attempt.dataset_version, attempt.id):
        return None
    return read_record(home.store, RegisteredModel, attempt.dataset_version, attempt.id).model_version


def _seconds(home: Home, attempt: Attempt) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for kind in FLOW:
        name = attempt.id if issubclass(kind, AttemptRecord) else None
        if has_record(home.store, kind, attempt.dataset_version, name):
            noted = read_circumstances(home.store, kind, attempt.dataset_version, name)
            seconds[kind.asset] = noted["seconds"]
    return seconds
