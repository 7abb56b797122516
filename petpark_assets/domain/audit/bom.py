"""A model's bill of materials: CycloneDX 1.6 with its model card, data and libraries.

Written to the public schema (https://cyclonedx.org/docs/1.6/json/). No clock is in it, and its serial number follows
from the model's own digests: the same model has the same bill.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from petpark_assets.domain.audit.trail import Trail
from petpark_assets.domain.home import MODEL_NAME

_NAMESPACE = uuid.UUID("6f1d2a3e-7c5b-4f0e-9a57-2f6f3f0c9b11")
"""Of our own, for uuid5."""
_TOLD = (
    "attempt", "dataset_version", "recipe", "seed", "code_version", "device", "verdict", "overridden_by",
    "overridden_because", "package",
)  # fmt: skip
"""Of a model's document, as properties of its component."""


def bill(trail: Trail, document: Mapping[str, Any]) -> dict[str, Any]:
    """The bill of one model, from its records and models.describe."""
    data = f"dataset-{trail.dataset_version}"
    libraries = [_library(name, version) for name, version in (document["libraries"] or {}).items()]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, document['package'] or trail.attempt)}",
        "version": 1,
        "metadata": {"component": _model(trail, document, data)},
        "components": [_dataset(trail, document, data), *libraries],
        "dependencies": [
            {"ref": "model", "dependsOn": [data, *(library["bom-ref"] for library in libraries)]},
        ],
    }


def _model(trail: Trail, document: Mapping[str, Any], data: str) -> dict[str, Any]:
    sums = trail.content("onnx_package").get("files", {})
    files = {name: sums[name] for name in ("model.onnx", "model.int8.onnx") if name in sums}
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": MODEL_NAME,
        "version": str(document["model_version"] or trail.attempt),
        "description": "Says whether a photo shows a cat or a dog.",
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "image-classification",
                "architectureFamily": "convolutional neural network",
                "modelArchitecture": str((document["parameters"] or {}).get("architecture", "unknown")),
                "datasets": [{"ref": data}],
                "inputs": [{"format": "uint8 RGB photo of any size"}],
                "outputs": [{"format": "probabilities of cat and dog"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": _metrics(document["metrics"] or {})},
        },
        "components": [
            {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}]}
            for name, sha256 in files.items()
        ],
        "properties": [
            {"name": f"petpark:{name}", "value": str(document[name])} for name in _TOLD if document[name] is not None
        ],
    }


def _metrics(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [{"type": name, "value": str(metrics[name])} for name in ("accuracy", "roc_auc") if name in metrics]
    for label, found in metrics.get("by_class", {}).items():
        rows += [{"type": name, "value": str(found[name]), "slice": label} for name in ("precision", "recall")]
    for part in metrics.get("slices", ()):
        rows.append({"type": "accuracy", "value": str(part["accuracy"]), "slice": f"{part['measure']} {part['name']}"})
    return rows


def _dataset(trail: Trail, document: Mapping[str, Any], reference: str) -> dict[str, Any]:
    manifest = document["data"]["manifest"]
    return {
        "type": "data",
        "bom-ref": reference,
        "name": "labelled photos of cats and dogs",
        "version": trail.dataset_version,
        "hashes": [{"alg": "SHA-256", "content": manifest}],
        "data": [{"type": "dataset", "name": f"manifest of {trail.dataset_version}"}],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
