"""A registered version trained once more from its record alone: the same data, hyperparameters and seed, no search.

On the device class that it was trained on, by the same code, the weights must come out bit for bit. On another, where
processors round otherwise, its metrics must come near: trainings part at their first rounding, and end as far from
each other as two seeds do.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.attempts import Attempt, code_version, find_attempt
from petpark_assets.domain.files import has_record, read_record, sha256
from petpark_assets.domain.home import Home
from petpark_assets.domain.records import EvaluationReport, HyperparameterSearch, TrainedCnn
from petpark_assets.domain.workflow.sides import Side
from petpark_assets.domain.workflow.testing import open_test_side, reported_accuracy
from petpark_assets.domain.workflow.training import read_weights, training_data

if TYPE_CHECKING:
    from petpark_assets.domain.model.train import Epoch, Fitted

ALLOWED_DEVIATIONS = 4
"""Standard deviations of a difference of two accuracies, as if of other photos: 0.015 for 4,000 photos at 0.97."""


def replay(home: Home, model: str, *, on_epoch: "Callable[[Epoch], None]" = lambda _epoch: None) -> dict[str, Any]:
    """Train a registered version again, and compare.

    A replay that was killed goes on after its last epoch. The test side is opened, and that noted, only where the bits
    differ: the same weights have the same metrics. Other weights are noted by their own sha256, and count as a model
    that was evaluated.

    Args:
        home: that holds the version's data.
        model: number or alias.
        on_epoch: is told of each epoch.

    Returns:
        `version`, `dataset_version`, `attempt`; `weights` and `replayed_weights`: sha256s; `is_same_bits`,
        `is_same_device_class`, `is_same_code`, `is_same_data`, `is_same_start`; `start` and `replayed_start`: sha256s
        of the weights that training started from, None for random ones; `registered_on` and `replayed_on`; `metrics`:
        None for the same bits, otherwise rows of `name`, `registered`, `replayed`, `difference`, `allowed`;
        `is_reproduced`, and `verdict`, one line.

    Raises:
        NotFound: there is no such version, or its record, data or weights are gone.
        CorruptData: one of them was changed.
    """
    from petpark_assets.domain.model.calibration import save_calibrated
    from petpark_assets.domain.model.train import fit
    from petpark_assets.domain.model.weights import load_classifier
    from petpark_assets.domain.recipes import Hyperparameters

    known = home.registry.show(model)
    attempt = find_attempt(home.store, known.tags["dataset_version"], known.tags["attempt"])
    record = read_record(home.store, TrainedCnn, attempt.dataset_version, attempt.id)
    registered, hyperparameters = read_weights(home, record), Hyperparameters(**record.hyperparameters)
    preprocessing = load_classifier(registered).preprocessing
    data, forgotten = training_data(home, attempt)
    folder = home.cache / "replay" / attempt.id
    fitted = fit(
        data, preprocessing, hyperparameters, seed=record.seed,
        checkpoint=folder / "checkpoint.safetensors", on_epoch=on_epoch,
    )  # fmt: skip
    file, _ = save_calibrated(
        fitted.weights, hyperparameters, preprocessing, data, answered_accuracy=attempt.recipe.answered_accuracy
    )
    is_same_bits = _tensors(registered) == _tensors(file)
    metrics = None if is_same_bits else _compare(home, attempt, record, fitted, file)
    shutil.rmtree(folder, ignore_errors=True)
    found = {
        "version": known.version,
        "dataset_version": attempt.dataset_version,
        "attempt": attempt.id,
        "weights": record.weights,
        "replayed_weights": sha256(file),
        "is_same_bits": is_same_bits,
        "is_same_device_class": _is_same_class(record, fitted),
        "is_same_code": attempt.code_version == code_version(),
        "is_same_data": forgotten == record.forgotten,
        "is_same_start": fitted.pretrained == record.pretrained,
        "start": record.pretrained,
        "replayed_start": fitted.pretrained,
        "is_deterministic": hyperparameters.is_deterministic or fitted.device.startswith("cpu"),
        "registered_on": dict(record.environment) or {"device": record.device},
        "replayed_on": dict(fitted.environment),
        "metrics": metrics,
    }
    is_reproduced, verdict = judge(found)
    return {**found, "is_reproduced": is_reproduced, "verdict": verdict}


def judge(found: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a replay confirms the registered version, and why in one line."""
    if found["is_same_bits"]:
        return True, "the same weights, bit for bit"
    rows = [row for row in found["metrics"] if row["allowed"] is not None]
    shown = ", ".join(f"{row['name']} by {row['difference']:+.4f} (allowed {row['allowed']:.4f})" for row in rows)
    apart = f"other weights, which differ in {shown}"
    reasons = {
        "is_same_data": "photos were forgotten since",
        "is_same_start": "it starts from other weights: put the file of sha256 {start} back",
        "is_same_code": "the code is another",
        "is_same_device_class": "the device class is another",
        "is_deterministic": "it was trained with determinism switched off",
    }
    known = [reason.format_map(found) for name, reason in reasons.items() if not found[name]]
    if not known:
        return False, f"{apart}, although data, start, code and device class are the same"
    is_near = all(abs(row["difference"]) <= row["allowed"] for row in rows)
    may_differ = not found["is_same_device_class"] or not found["is_deterministic"]
    return is_near and may_differ and found["is_same_start"], f"{apart}: {' and '.join(known)}"


def _tensors(file: bytes) -> dict[str, tuple[Any, ...]]:
    """What a file of weights holds, to be compared bit for bit; its notes may have got fields since."""
    import safetensors.torch

    tensors = safetensors.torch.load(file).items()
    return {name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in tensors}


def _is_same_class(record: TrainedCnn, fitted: "Fitted") -> bool:
    """Records from before versions were noted have the device alone, which says too little: no other class is shown."""
    if not record.environment:
        return record.device == fitted.device
    return dict(record.environment) == dict(fitted.environment)


def _compare(home: Home, attempt: Attempt, record: TrainedCnn, fitted: "Fitted", file: bytes) -> list[dict[str, Any]]:
    """Metrics of the registered and the replayed weights, a row each."""
    best, registered = fitted.epochs[fitted.best_epoch - 1], record.epochs[record.best_epoch - 1]
    search = read_record(home.store, HyperparameterSearch, attempt.dataset_version, attempt.id)
    num_validated = search.num_validation_images
    rows = [
        _row("validation_accuracy", registered["validation_accuracy"], best.validation_accuracy, num_validated),
        _row("validation_loss", registered["validation_loss"], best.validation_loss),
        _row("train_loss", registered["train_loss"], best.train_loss),
    ]
    if has_record(home.store, EvaluationReport, attempt.dataset_version, attempt.id):
        side = open_test_side(home, attempt, record, purpose="replay", replayed_weights=sha256(file))
        report = read_record(home.store, EvaluationReport, attempt.dataset_version, attempt.id)
        registered_accuracy, num_tested = reported_accuracy(home, report, side), len(side.labels)
        rows.append(_row("test_accuracy", registered_accuracy, _accuracy(file, side), num_tested))
    return rows


def _row(name: str, registered: float, replayed: float, num_photos: int | None = None) -> dict[str, Any]:
    allowed = None if num_photos is None else allowed_difference(registered, num_photos)
    difference = replayed - registered
    return {
        "name": name, "registered": registered, "replayed": replayed, "difference": difference, "allowed": allowed,
    }  # fmt: skip


def allowed_difference(accuracy: float, num_photos: int) -> float:
    """How far an accuracy over so many photos may lie from another's without showing a worse model."""
    smoothed = (accuracy * num_photos + 1) / (num_photos + 2)  # 1.0 of ten photos is not certainty (Laplace)
    return ALLOWED_DEVIATIONS * math.sqrt(2 * smoothed * (1 - smoothed) / num_photos)


def _accuracy(file: bytes, side: Side) -> float:
    from petpark_assets.domain.model.prediction import predict
    from petpark_assets.domain.model.weights import load_classifier
    from petpark_assets.domain.report.metrics import THRESHOLD

    return float(((predict(load_classifier(file), side.images) >= THRESHOLD) == side.labels).mean())
