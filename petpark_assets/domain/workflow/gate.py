"""The gate: whether a model may go on, asked anew at every step, for exactly the bytes that were examined.

    packaging      the records belong together, the ledger announced this very verdict, and the weights and the
                   report's files are the bytes that were examined
    registration   the same; and the package is the one that the ledger says was made of them, byte for byte
    promotion      the same; and what lies in the registry under that number is that package, byte for byte
    download       the ledger registered this very package under that number; its files have its sums (registry/)

A rejected model passes only by a person's word (`let_through`), which is bound to the same digests, written to the
ledger, and carried by the package and the registered version.
What it cannot see: somebody who rewrites the ledger too (audit/proof.py does, as far as its witnesses reach), and
photos that were changed after the exam (workflow/verification.py).
Not here: the verdict itself (report/metrics.py, report/comparison.py).
"""

import tempfile
from pathlib import Path
from typing import Any

from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput
from petpark_assets.domain.files import digest, folder_key, get_verified, has_record, read_record, write_record
from petpark_assets.domain.home import Home
from petpark_assets.domain.package.contents import SUMS, Lineage
from petpark_assets.domain.records import (
    EvaluationReport,
    FeatureScaling,
    GateOverride,
    HyperparameterSearch,
    OnnxPackage,
    RawImages,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)
from petpark_assets.domain.registry.decisions import require_signed
from petpark_assets.domain.registry.mlflow_store import RegisteredVersion
from petpark_assets.domain.workflow.testing import read_report_file
from petpark_assets.domain.workflow.training import read_weights


def pass_gate(home: Home, dataset_version: str, attempt: str) -> Lineage:
    """Every record that a package follows from, of a model that may be packaged.

    Raises:
        ModelRejected: the verdict is no, and nobody let the model through.
        CorruptData: two records do not belong together, or something is not as it was examined; it is named.
        NotFound: a record or file is gone.
    """
    report = read_record(home.store, EvaluationReport, dataset_version, attempt)
    lineage = Lineage(
        raw_images=read_record(home.store, RawImages, dataset_version),
        train_split=read_record(home.store, TrainSplit, dataset_version),
        test_split=read_record(home.store, TestSplit, dataset_version),
        feature_scaling=read_record(home.store, FeatureScaling, dataset_version, attempt),
        hyperparameter_search=read_record(home.store, HyperparameterSearch, dataset_version, attempt),
        trained_cnn=read_record(home.store, TrainedCnn, dataset_version, attempt),
        evaluation_report=report,
        gate_override=read_override(home, report),
    )
    _require_examined(home, lineage.trained_cnn, report)
    return lineage


def find_package(home: Home, lineage: Lineage) -> OnnxPackage:
    """The package of a model that passed the gate: made of exactly these records, and whole in the store.

    Raises NotFound, CorruptData naming what is not as it was.
    """
    report = lineage.evaluation_report
    package = read_package_record(home, lineage)
    for name, sha256 in package.files.items():
        get_verified(home.store, f"{folder_key(package.asset, report.dataset_version, report.attempt)}/{name}", sha256)
    return package


def read_package_record(home: Home, lineage: Lineage) -> OnnxPackage:
    """Its record alone, where its files are looked at by a check of their own. Raises NotFound, CorruptData."""
    report, digests = lineage.evaluation_report, lineage.digests()
    package = read_record(home.store, OnnxPackage, report.dataset_version, report.attempt)
    for parent in ("trained_cnn", "evaluation_report", "gate_override"):
        if getattr(package, parent) != digests.get(parent):
            raise CorruptData(
                f"the package of attempt {report.attempt} was made from another {parent} than the one that is stored: "
                "it goes no further"
            )
    _require_announced(home, "package_made", report.attempt, onnx_package=digest(package))
    return package


def require_registered(home: Home, found: RegisteredVersion) -> Lineage:
    """That a registered version is, byte for byte, the package of a model that passed the gate; its records.

    Raises ModelRejected, NotFound, CorruptData naming what is not as it was registered.
    """
    lineage = pass_gate(home, found.tags["dataset_version"], found.tags["attempt"])
    package = find_package(home, lineage)
    registered = {"version": found.version, "package": package.files[SUMS]}
    _require_announced(home, "model_registered", package.attempt, **registered)
    told = {"package": package.files[SUMS], "onnx_package": digest(package), **lineage.digests()}
    for name, expected in told.items():
        if found.tags.get(name, expected) != expected:
            raise CorruptData(
                f"version {found.version} is tagged with {name} {found.tags[name][:12]}…, recorded is "
                f"{expected[:12]}…: its tags were changed in the registry"
            )
    with tempfile.TemporaryDirectory() as folder:
        home.registry.fetch(found.version, Path(folder))
    return lineage


def require_same_package(home: Home, found: RegisteredVersion) -> None:
    """That the ledger registered this very package under this number. Raises CorruptData; reads no file."""
    _require_announced(home, "model_registered", found.tags["attempt"], version=found.version, package=found.package)


def let_through(home: Home, dataset_version: str, attempt: str, *, by: str, because: str) -> GateOverride:
    """Let a rejected model through the gate by a person's word; the same word again changes nothing.

    Raises:
        InvalidInput: without a name or a reason; or the model was accepted.
        NotFound: it was not examined.
        CorruptData: what is stored is not what was examined.
        Conflict: somebody let it through before.
    """
    by, because = require_signed(by, because, what="an override of the gate")
    report = read_record(home.store, EvaluationReport, dataset_version, attempt)
    model = read_record(home.store, TrainedCnn, dataset_version, attempt)
    if report.is_accepted:
        raise InvalidInput(f"attempt {attempt} was accepted: there is nothing to override, it is registered as it is")
    _require_examined(home, model, report)
    override = GateOverride(
        dataset_version=dataset_version, attempt=attempt, trained_cnn=digest(model), evaluation_report=digest(report),
        weights=model.weights, verdict=report.verdict, by=by, because=because,
    )  # fmt: skip
    before = read_override(home, report)
    if before not in (None, override):
        raise Conflict(f"attempt {attempt} was let through before, by {before.by}: {before.because}")
    if before is None:
        with home.noting() as circumstances:
            # The event first: a crash between the two leaves it twice, never missing.
            home.ledger.append("gate_overridden", {**vars(override), override.asset: digest(override)})
            write_record(home.store, override, circumstances())
    return override


def describe(override: GateOverride) -> dict[str, Any]:
    """An override as a JSON document, with what is to be done next."""
    told = {**vars(override), override.asset: digest(override)}
    with_attempt = f"of {override.dataset_version} with attempt {override.attempt} in the run's config"
    assets = "evaluation_report, onnx_package and registered_model"
    return {**told, "next": f"petpark build with the same recipe, or in the UI materialize {assets} {with_attempt}"}


def read_override(home: Home, report: EvaluationReport) -> GateOverride | None:
    """By whose word exactly this report's model goes on; None where nobody let it through. Raises CorruptData."""
    if not has_record(home.store, GateOverride, report.dataset_version, report.attempt):
        return None
    override = read_record(home.store, GateOverride, report.dataset_version, report.attempt)
    if override.evaluation_report != digest(report):
        raise CorruptData(f"attempt {report.attempt} was let through with another report than the one that is stored")
    _require_announced(home, "gate_overridden", report.attempt, gate_override=digest(override))
    return override


def _require_examined(home: Home, model: TrainedCnn, report: EvaluationReport) -> None:
    """The ledger holds this very verdict, about this very model, and all their bytes are there as they were."""
    _require_announced(home, "verdict", report.attempt, evaluation_report=digest(report))
    if report.trained_cnn != digest(model):
        raise CorruptData(f"the report of attempt {report.attempt} is about another model than the one that is stored")
    read_weights(home, model)
    for name in report.files:
        read_report_file(home, report, name)


def _require_announced(home: Home, event: str, attempt: str, **expected: Any) -> None:
    """The last such event about an attempt, which counts, must say the same as what is stored."""
    told = [
        known.subject
        for known in home.ledger.events()
        if known.event == event and known.subject.get("attempt") == attempt
    ]
    said = told[-1] if told else {}
    for name, value in expected.items():
        if said.get(name) != value:
            raise CorruptData(
                f"the ledger's {event} of attempt {attempt} says {name} {_short(said.get(name))}, stored is "
                f"{_short(value)}: it was changed or swapped since, and goes no further"
            )


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) else "nothing" if value is None else str(value)
