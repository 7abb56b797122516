"""The package as a folder: what is in it, the sums that seal it, and their check.

    model.onnx             a uint8 photo of any size in, probabilities out
    model.int8.onnx        the same with 8 bit convolutions; only where it loses next to nothing
    labels.json            the classes in the order of the outputs, and when an answer counts as unknown
    preprocessing.json     what the model does to a photo before the network
    report.html .json      the exam on the test side, without photos
    data_manifest.parquet  sha256, label and side of every photo of the dataset version
    package.json           which version, attempt, recipe and code made it, all its parents' digests, what was proved
    SHA256SUMS             of all the others, for `sha256sum -c`; its own sha256 is the package's digest

There is no clock, host or photo in a package: the same work gives the same bytes, and a forgotten photo does not
live on here. Not here: making the models (export.py, int8.py), answering with it (predictor.py).
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.errors import CorruptData, ModelRejected, NotFound
from petpark_assets.domain.files import canonical_json, digest, sha256, sha256_file
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.records import (
    EvaluationReport,
    FeatureScaling,
    GateOverride,
    HyperparameterSearch,
    RawImages,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)

if TYPE_CHECKING:
    import pyarrow as pa

SUMS = "SHA256SUMS"
MODEL = "model.onnx"
MODELS = {"float32": MODEL, "int8": "model.int8.onnx"}
"""The file of each variant; every package has the first."""
LABELS_FILE = "labels.json"
IDENTITY = "package.json"
REPORTS = ("report.html", "report.json")
FORMAT = 1
"""Of the folder; a reader that meets a higher one must refuse it. Another variant of the model is no other format:
who does not know its file answers rightly without it."""

_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*)\n")  # no name that leads out of the folder


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A model and all it was made from. Construction follows every link.

    Raises CorruptData when a record does not belong to its parent, ModelRejected when the verdict is no and nobody let
    the model through.
    """

    raw_images: RawImages
    train_split: TrainSplit
    test_split: TestSplit
    feature_scaling: FeatureScaling
    hyperparameter_search: HyperparameterSearch
    trained_cnn: TrainedCnn
    evaluation_report: EvaluationReport
    gate_override: GateOverride | None = None

    def __post_init__(self) -> None:
        digests = self.digests()
        for child in digests:
            for parent, recorded in vars(getattr(self, child)).items():
                if parent in digests and recorded != digests[parent]:
                    raise CorruptData(
                        f"the record of {child} was made from {parent} {recorded[:12]}…, but that record's digest is "
                        f"{digests[parent][:12]}…: one of the two was changed, or they are of different runs"
                    )
        if not self.evaluation_report.is_accepted and self.gate_override is None:
            raise ModelRejected(f"the model is not packaged: {self.evaluation_report.verdict}")

    def digests(self) -> dict[str, str]:
        """Every record's digest by the name of its asset."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: digest(record) for name, record in known.items() if record is not None}


def build_files(
    *,
    onnx_model: bytes,
    int8_model: bytes | None = None,
    preprocessing: Preprocessing,
    lineage: Lineage,
    manifest: "pa.Table",
    report_files: Mapping[str, bytes],
    parity: Mapping[str, Any],
) -> dict[str, bytes]:
    """All files of a package by name, SHA256SUMS last.

    Args:
        onnx_model: from export.export_onnx.
        int8_model: from int8.quantise; None where it was not close enough.
        preprocessing: what the graph does to a photo first.
        lineage: the accepted model's records.
        manifest: the dataset version's, with at least sha256, label and split.
        report_files: report.html and report.json as the report's record names them; others are left out.
        parity: what export.check_parity and export.check_bytes proved, and what was found about int8.

    Raises:
        CorruptData: a report's bytes are not those that its record names.
    """
    files = {
        MODEL: onnx_model,
        **({} if int8_model is None else {MODELS["int8"]: int8_model}),
        LABELS_FILE: canonical_json(
            {"labels": preprocessing.labels, "unknown_below": lineage.trained_cnn.unknown_below}
        ),
        "preprocessing.json": canonical_json(preprocessing),
        "data_manifest.parquet": _data_manifest(manifest),
        IDENTITY: canonical_json(_identity(lineage, parity)),
        **{name: _report(name, report_files[name], lineage.evaluation_report) for name in REPORTS},
    }
    return {**files, SUMS: write_sums(files)}


def _identity(lineage: Lineage, parity: Mapping[str, Any]) -> dict[str, Any]:
    search, report, override = lineage.hyperparameter_search, lineage.evaluation_report, lineage.gate_override
    let_through = {"overridden_by": override.by, "overridden_because": override.because} if override else {}
    return {
        "format": FORMAT,
        "dataset_version": report.dataset_version,
        "attempt": report.attempt,
        "recipe": search.recipe,
        "seed": search.seed,
        "code_version": search.code_version,
        "accuracy": report.metrics["accuracy"],
        "verdict": report.verdict,
        **let_through,
        "parity": parity,
        "parents": lineage.digests(),
    }


def _report(name: str, data: bytes, record: EvaluationReport) -> bytes:
    if sha256(data) != record.files[name]:
        raise CorruptData(f"{name} of attempt {record.attempt} was changed after the verdict: it is not packaged")
    return data


def _data_manifest(manifest: "pa.Table") -> bytes:
    """The photos of both sides, sorted, in Parquet with every choice fixed: the same rows give the same bytes."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    members = manifest.select(["sha256", "label", "split"])
    members = members.filter(pc.is_valid(members["split"])).sort_by("sha256").combine_chunks()
    file = io.BytesIO()
    pq.write_table(members.replace_schema_metadata(None), file, compression="zstd", store_schema=False)
    return file.getvalue()


def write_sums(files: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS of some files, in the format of `sha256sum -c`."""
    return "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()


def read_sums(data: bytes, where: str) -> dict[str, str]:
    """sha256 by file name. Raises CorruptData when it is not a sums file; `where` names it."""
    lines = data.decode(errors="replace").splitlines(keepends=True)
    found = [_SUM_LINE.fullmatch(line) for line in lines]
    if not found or not all(found):
        raise CorruptData(f"{where} is not a list of sums: get the package again with `petpark registry download`")
    return {match[2]: match[1] for match in found if match}


def find_variants(folder: Path) -> list[str]:
    """The variants of the model that a package has: `float32`, and `int8` where that was close enough."""
    return [variant for variant, name in MODELS.items() if (folder / name).is_file()]


def verify_folder(folder: Path) -> str:
    """Check every file of a package against its sums and return the package's digest.

    Raises:
        NotFound: there is no such folder, or it holds no package.
        CorruptData: a file was changed, is missing or is one too many; the message names it.
    """
    if not (folder / SUMS).is_file():
        raise NotFound(f"{folder} holds no package: there is no {SUMS} in it")
    listed = (folder / SUMS).read_bytes()
    sums = read_sums(listed, str(folder / SUMS))
    present = {path.name for path in folder.iterdir()} - {SUMS}
    for name in sorted(sums.keys() | present):
        if name not in sums:
            raise CorruptData(f"{name} in {folder} is not part of the package: {SUMS} does not list it")
        if not (folder / name).is_file():
            raise CorruptData(f"{name} is missing from the package in {folder}")
        if sha256_file(folder / name) != sums[name]:
            raise CorruptData(f"{name} in {folder} was changed: its sha256 is not the one in {SUMS}")
    return sha256(listed)
