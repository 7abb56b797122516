"""Weights as bytes: one safetensors file that says what is needed to use it.

Not here: how weights are found (train.py), the file that is served (package/).
"""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from petpark_assets.domain.errors import CorruptData
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.network import Classifier, build_network
from petpark_assets.domain.recipes import Hyperparameters

METADATA_KEY = "petpark"
"""The one key in the file's metadata: safetensors writes several in an order that changes."""


def save_weights(
    weights: Mapping[str, Tensor], hyperparameters: Hyperparameters, preprocessing: Preprocessing
) -> bytes:
    """One safetensors file with what is needed to use the weights; the same weights give the same bytes."""
    about = canonical_json({"hyperparameters": hyperparameters, "preprocessing": preprocessing}).decode()
    return safetensors.torch.save(dict(weights), metadata={METADATA_KEY: about})


def load_classifier(data: bytes) -> Classifier:
    """The classifier of a file written by save_weights, on the CPU, ready to answer; no code in the file is run.

    Raises:
        CorruptData: it is no such file, or its weights do not fit the architecture it names.
    """
    about = read_metadata(data)
    hyperparameters = Hyperparameters(**about["hyperparameters"])
    fields = {name: _as_tuple(value) for name, value in about["preprocessing"].items()}
    preprocessing = Preprocessing(**fields)
    with torch.random.fork_rng(devices=[]):  # the random weights it starts with are replaced
        network = build_network(hyperparameters, num_classes=len(preprocessing.labels))
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptData(
            f"the weights are not those of {hyperparameters.architecture} with width {hyperparameters.width}: {reason}"
        ) from error
    return Classifier(network, preprocessing).eval()


def read_metadata(data: bytes) -> dict[str, Any]:
    """What was noted under METADATA_KEY in a safetensors file. Raises CorruptData.

    safetensors gives it for paths only; the header is 8 bytes of length, then JSON.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptData(f"{len(data)} bytes are no weights of ours: {error}") from error
    return about


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
