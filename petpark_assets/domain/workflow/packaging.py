"""Model packaging: the network as ONNX with its preprocessing inside, proved against the network and from bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from petpark_assets.domain.attempts import Attempt, require_same_code
from petpark_assets.domain.errors import PermanentError
from petpark_assets.domain.files import (
    digest,
    folder_key,
    get_verified,
    has_record,
    put,
    read_circumstances,
    read_record,
    write_record,
)
from petpark_assets.domain.home import Home
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.package import contents
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.records import OnnxPackage, TrainedCnn
from petpark_assets.domain.workflow import gate
from petpark_assets.domain.workflow.sides import Side, read_manifest
from petpark_assets.domain.workflow.testing import (
    open_network,
    open_test_side,
    read_report_file,
    reported_accuracy,
)
from petpark_assets.domain.workflow.training import read_weights, training_data

SPEED_UP = "int8_speed_up"
"""Among a package's circumstances: how many times as fast the 8 bit variant answered where it was packaged."""


def onnx_package(home: Home, attempt: Attempt) -> OnnxPackage:
    """Package a model that passes the gate. Raises ModelRejected on any other, whatever let the run come here."""
    version = attempt.dataset_version
    lineage = gate.pass_gate(home, version, attempt.id)
    if has_record(home.store, OnnxPackage, version, attempt.id):
        return gate.read_package_record(home, lineage)
    from petpark_assets.domain.model.weights import load_classifier
    from petpark_assets.domain.package import export, int8

    require_same_code(attempt)
    with home.noting() as circumstances:
        model, report = lineage.trained_cnn, lineage.evaluation_report
        preprocessing = Preprocessing(**model.preprocessing)
        onnx_model = export.export_onnx(load_classifier(read_weights(home, model)), preprocessing)
        predictor = Predictor(onnx_model)
        side = open_test_side(home, attempt, model, purpose="packaging")
        accuracy = reported_accuracy(home, report, side)
        parity = {
            "same_tensors": _prove_same_tensors(home, model, predictor, side),
            "own_bytes": export.check_bytes(predictor, side.sha256s, side.labels, home.originals.read_all, accuracy),
        }
        int8_model, parity["int8"] = _quantise(home, attempt, onnx_model, side, parity["own_bytes"])
        files = contents.build_files(
            onnx_model=onnx_model,
            int8_model=int8_model,
            preprocessing=preprocessing,
            lineage=lineage,
            manifest=read_manifest(home, version),
            report_files={name: read_report_file(home, report, name) for name in contents.REPORTS},
            parity=parity,
        )
        record = OnnxPackage(
            dataset_version=version,
            attempt=attempt.id,
            trained_cnn=digest(model),
            evaluation_report=digest(report),
            gate_override=lineage.digests().get("gate_override"),
            parity=parity,
            files={name: put(home.store, f"{_folder(attempt)}/{name}", data) for name, data in files.items()},
        )
        # The event first: a crash between the two leaves it twice, never missing.
        subject = {"dataset_version": version, "attempt": attempt.id, "onnx_package": digest(record)}
        home.ledger.append("package_made", {**subject, "evaluation_report": record.evaluation_report})
        noted = {SPEED_UP: int8.speed_up(onnx_model, int8_model, side.images[0])} if int8_model else {}
        write_record(home.store, record, {**circumstances(), **noted})
    return record


def int8_speed_up(home: Home, attempt: Attempt) -> dict[str, float]:
    """By its name, where there is an 8 bit variant; else nothing."""
    noted = read_circumstances(home.store, OnnxPackage, attempt.dataset_version, attempt.id)
    return {SPEED_UP: noted[SPEED_UP]} if SPEED_UP in noted else {}


def _prove_same_tensors(home: Home, model: TrainedCnn, predictor: Predictor, side: Side) -> dict[str, Any]:
    """Both on the CPU, where the package answers: a GPU rounds sums otherwise, which is no difference of the files."""
    from petpark_assets.domain.package import export

    return export.check_parity(predictor, open_network(home, model, device="cpu"), side.images)


def _quantise(
    home: Home, attempt: Attempt, onnx_model: bytes, side: Side, own_bytes: Mapping[str, Any]
) -> tuple[bytes | None, dict[str, Any]]:
    """The model with 8 bit convolutions, None where it is not close enough, and what was found about it.

    The validation part chooses it. The exam can only take it away again, as it can the whole model: a package must not
    promise what its own report denies.
    """
    from petpark_assets.domain.package import export, int8

    train, _ = training_data(home, attempt)
    validated, learnt = np.flatnonzero(train.validation), np.flatnonzero(~train.validation)
    quantised = int8.quantise(onnx_model, train.images[learnt[: int8.NUM_RANGE_PHOTOS]])
    small = Predictor(quantised)
    before, after = (
        int8.accuracy(answering, train.images, train.labels, validated) for answering in (Predictor(onnx_model), small)
    )
    found = {"validation": int8.compare(before, after, len(validated))}
    is_kept = found["validation"]["is_close"]
    if is_kept:
        whole = np.arange(len(side.labels))
        tensors = int8.accuracy(small, side.images, side.labels, whole)
        found["same_tensors"] = int8.compare(own_bytes["reported_accuracy"], tensors, len(whole))
        from_bytes = export.accuracy_from_bytes(small, side.sha256s, side.labels, home.originals.read_all)
        found["own_bytes"] = int8.compare(own_bytes["accuracy_from_bytes"], from_bytes, len(whole))
        is_kept = all(part["is_close"] for part in found.values())
    return quantised if is_kept else None, {"is_kept": is_kept, **found}


def package_folder(home: Home, attempt: Attempt) -> Path:
    """The package's folder on this machine with all its files, not yet verified. Raises NotFound."""
    folder = home.store.local_path(f"{_folder(attempt)}/{contents.SUMS}").parent
    for key in home.store.list_keys(_folder(attempt)):
        home.store.local_path(key)
    return folder


def find_damage(home: Home, attempt: Attempt) -> str | None:
    """What is wrong with a stored package, in one line; None when it is whole and each model in it can be opened."""
    try:
        record = read_record(home.store, OnnxPackage, attempt.dataset_version, attempt.id)
        for name, sha256 in record.files.items():
            get_verified(home.store, f"{_folder(attempt)}/{name}", sha256)
        folder = package_folder(home, attempt)
        for variant in contents.find_variants(folder):
            Predictor.open(folder, variant=variant)
    except PermanentError as error:
        return str(error)
    return None


def _folder(attempt: Attempt) -> str:
    return folder_key("onnx_package", attempt.dataset_version, attempt.id)
