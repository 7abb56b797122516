"""The nouns of the platform, in the order of the flow. Read this file first.

A record says what exists: one frozen dataclass for each asset of one dataset version, with the digests of its
parents, so that registry -> package -> report -> model -> splits -> lake can be followed from the files alone.
Everything here is content: digested, free of clocks, hosts and run ids, equal whenever the same work is done again.
What differs from run to run (when, who, where, how long) stands beside it as circumstances (files.write_record).

No logic, no reading, no writing: files.py digests and stores records. All shares are 0 to 1, all digests are
lower-case hexadecimal sha256. A field named like an asset holds that parent record's digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

LABELS = ("cat", "dog")
"""The classes, in the order of the network's outputs: index 0 is cat, index 1 is dog."""

LATER: Mapping[str, Any] = {"is_later": True}
"""Metadata of a field that records of before do not have. At its default it is no part of the content (files.py), so
that their digests, which their children hold, stay what they were."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What every record has: the asset it belongs to and the dataset version (`v0001`) it is about."""

    asset: ClassVar[str]
    dataset_version: str


@dataclass(frozen=True, kw_only=True)
class AttemptRecord(Record):
    """A record of one attempt: the same dataset version can have several models."""

    attempt: str
    """16 hexadecimal digits of the sha256 of (version, recipe, configuration, seed, code version)."""


@dataclass(frozen=True, kw_only=True)
class RawImages(Record):
    """The photos of one version of the lake: an immutable manifest with one row for each object seen."""

    asset: ClassVar[str] = "raw_images"
    manifest: str
    """sha256 of the manifest's Parquet bytes: the version's digest."""
    previous_manifest: str | None
    """The manifest this version was compared with; None for the first."""
    images: Mapping[str, int]
    """seen, accepted, duplicate, quarantined, ignored; seen = accepted + duplicate + quarantined."""
    accepted_by_label: Mapping[str, int]
    quarantined_by_reason: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TrainSplit(Record):
    """The side the network learns from (80 %), the validation part included."""

    asset: ClassVar[str] = "train_split"
    raw_images: str
    members: str
    """sha256 of the sorted lines `sha256 label`, one a photo."""
    images_by_label: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TestSplit(Record):
    """The side no training ever sees (20 %)."""

    asset: ClassVar[str] = "test_split"
    raw_images: str
    members: str
    images_by_label: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class FeatureScaling(AttemptRecord):
    """Image statistics of the train side alone, and the augmentation policy.

    Means and deviations travel with the weights and in the ONNX graph; all of it is in the package's lineage by digest.

    Of an attempt, since the policy is code: a version's splits outlive the code that made them, a policy does not.
    """

    asset: ClassVar[str] = "feature_scaling"
    train_split: str
    channel_means: tuple[float, float, float]
    """Red, green, blue; 0 to 1."""
    channel_deviations: tuple[float, float, float]
    brightness: Mapping[str, float]
    """Quantiles over photos of the mean luminance, 0 to 1: p05, p50, p95."""
    sharpness: Mapping[str, float]
    """Quantiles over photos of the deviation of the luminance's Laplacian: p05, p50, p95."""
    augmentation: Mapping[str, str]
    """The policy in words, by name of each step; strengths are hyperparameters."""


@dataclass(frozen=True, kw_only=True)
class HyperparameterSearch(AttemptRecord):
    """What was tried, what won on validation, and what that gained over the recipe's defaults."""

    asset: ClassVar[str] = "hyperparameter_search"
    train_split: str
    feature_scaling: str
    recipe: str
    configuration: Mapping[str, Any]
    """The resolved recipe: everything the attempt was told."""
    seed: int
    code_version: str
    algorithm: str
    space: Mapping[str, Any]
    trials: tuple[Mapping[str, Any], ...]
    """Each: number, hyperparameters, validation_accuracy, schedule_share reached (1 = not stopped early), and curve:
    epoch, train_loss, validation_loss and validation_accuracy of each epoch (older records have none)."""
    best_hyperparameters: Mapping[str, Any]
    default_validation_accuracy: float | None
    """Of the recipe's defaults, on the trials' schedule; None without a search."""
    best_validation_accuracy: float | None
    num_validation_images: int


@dataclass(frozen=True, kw_only=True)
class TrainedCnn(AttemptRecord):
    """The network's weights: the best epoch by the validation part of the train side."""

    asset: ClassVar[str] = "trained_cnn"
    train_split: str
    feature_scaling: str
    hyperparameter_search: str
    hyperparameters: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    seed: int
    device: str
    """Device class that the bits depend on: processor capability and thread count, or the GPU's model."""
    num_parameters: int
    epochs: tuple[Mapping[str, float], ...]
    """The learning curve: number, train_loss, validation_loss, validation_accuracy, learning_rate."""
    best_epoch: int
    validation_accuracy: float
    temperature: float = field(default=1.0, metadata=LATER)
    """What divides the logits of each look: chosen on the validation part, and part of the weights' file."""
    validation_nll_before: float | None = field(default=None, metadata=LATER)
    """Mean negative log-likelihood of the validation photos, nats, at temperature 1; None where nothing was fitted."""
    validation_nll_after: float | None = field(default=None, metadata=LATER)
    """The same at the temperature."""
    unknown_below: float | None = field(default=None, metadata=LATER)
    """An answer of lower probability counts as unknown; chosen on the validation part. None: no answer does."""
    weights: str
    """sha256 of weights.safetensors."""
    forgotten: tuple[str, ...] = ()
    """sha256s of the photos of the train side that it was trained without, since they were forgotten before."""
    environment: Mapping[str, str] = field(default_factory=dict, metadata=LATER)
    """All that the bits depend on beside what the training was told: device, versions, whether it was compiled. Empty
    in records from before it was noted."""
    pretrained: str | None = field(default=None, metadata=LATER)
    """sha256 of the weights that training started from; None: random ones."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(AttemptRecord):
    """The exam on the test side, and the verdict that packaging and registration read again."""

    asset: ClassVar[str] = "evaluation_report"
    trained_cnn: str
    test_split: str
    is_accepted: bool
    verdict: str
    """One line: why it was accepted or rejected."""
    targets: Mapping[str, float]
    """What the gate asked for: accuracy, precision, recall (the last two of each class)."""
    default_targets: Mapping[str, float]
    """What it asks where no recipe or configuration says otherwise."""
    metrics: Mapping[str, Any]
    """accuracy, intervals, by class precision, recall and counts, confusion, calibration, slices (metrics.evaluate)."""
    files: Mapping[str, str]
    """sha256 by file name: report.html, report.json, predictions.parquet."""
    forgotten: tuple[str, ...] = ()
    """sha256s of the photos of the test side that were not in the exam, since they were forgotten before."""
    comparison: Mapping[str, Any] | None = field(default=None, metadata=LATER)
    """With the champion of that moment, on the same photos (comparison.compare); None: there was no champion."""


@dataclass(frozen=True, kw_only=True)
class GateOverride(AttemptRecord):
    """A person's word that lets one rejected model through the gate: exactly these bytes, and no others."""

    asset: ClassVar[str] = "gate_override"
    trained_cnn: str
    evaluation_report: str
    """The report whose verdict is no."""
    weights: str
    """sha256 of weights.safetensors."""
    verdict: str
    """What it is let through in spite of."""
    by: str
    because: str


@dataclass(frozen=True, kw_only=True)
class OnnxPackage(AttemptRecord):
    """The folder that is deployed: model.onnx with everything needed to use and to trace it."""

    asset: ClassVar[str] = "onnx_package"
    trained_cnn: str
    evaluation_report: str
    parity: Mapping[str, Any]
    """What packaging proved: same labels as the network, largest difference, accuracy from the photos' bytes."""
    files: Mapping[str, str]
    """sha256 by file name, SHA256SUMS included."""
    gate_override: str | None = field(default=None, metadata=LATER)
    """Whose word let a rejected model come here; None for an accepted one."""


@dataclass(frozen=True, kw_only=True)
class RegisteredModel(AttemptRecord):
    """One immutable version in the registry."""

    asset: ClassVar[str] = "registered_model"
    onnx_package: str
    evaluation_report: str
    gate_override: str | None = field(default=None, metadata=LATER)
    """As in its package."""
    model_name: str
    model_version: int
