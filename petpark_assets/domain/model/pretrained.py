"""A start from weights that something else was taught, in place of random ones; the head starts at random always.

Files of pickled tensors are read by torch's reader that runs no code (`weights_only`). Not here: the networks
(network.py), our own trained weights (weights.py).
"""

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import safetensors.torch
import torch
from torch import Tensor, nn

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.domain.files import sha256
from petpark_assets.domain.recipes import WEIGHTS_SUFFIXES, Hyperparameters

_NO_TENSORS = (
    safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError,
    AttributeError,
)  # fmt: skip
"""What a torn or hostile file makes its reader raise."""
_WRONG_HASH = "invalid hash value"
"""How torch begins to tell that a download is not what its name says; it keeps nothing of it."""


def load_start(network: nn.Module, hyperparameters: Hyperparameters) -> str | None:
    """Put the weights that the hyperparameters name into a network, save for its last linear layer.

    Returns:
        Their sha256: of the file, or of all tensors that torchvision gave; None where none are named.

    Raises:
        InvalidInput: there is no such file or name, it holds more than tensors, or those of another network.
        TransientError: torchvision's weights could not be downloaded, or arrived damaged.
    """
    if not hyperparameters.weights:
        return None
    is_file = hyperparameters.weights.endswith(WEIGHTS_SUFFIXES)
    state, digest = _read_file(Path(hyperparameters.weights)) if is_file else _download(hyperparameters)
    head = next(reversed([name for name, module in network.named_modules() if isinstance(module, nn.Linear)]))
    kept = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    own = {name: value for name, value in network.state_dict().items() if not name.startswith(f"{head}.")}
    shapes, expected = ({name: value.shape for name, value in given.items()} for given in (kept, own))
    different = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if different:
        raise InvalidInput(
            f"the weights {hyperparameters.weights!r} are not those of {hyperparameters.architecture}: "
            f"{len(different)} tensors differ, the first is {different[0]}"
        )
    network.load_state_dict(kept, strict=False)
    return digest


def _read_file(path: Path) -> tuple[Mapping[str, Tensor], str]:
    try:
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            state = safetensors.torch.load(data)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InvalidInput(f"weights is {str(path)!r}: it cannot be read ({error.strerror})") from error
    except _NO_TENSORS as error:
        reason = " ".join(str(error).split())[:120]
        raise InvalidInput(f"weights is {str(path)!r}: it is no file of tensors alone ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInput(f"weights is {str(path)!r}: it must hold tensors by name, and nothing else")
    return state, sha256(data)


def _download(hyperparameters: Hyperparameters) -> tuple[Mapping[str, Tensor], str]:
    import torchvision

    name, known = hyperparameters.architecture, torchvision.models.list_models()
    choices = torchvision.models.get_model_weights(name).__members__ if name in known else {}
    if hyperparameters.weights not in choices:
        raise InvalidInput(
            f"weights is {hyperparameters.weights!r}: it must be a file ({', '.join(WEIGHTS_SUFFIXES)})"
            + (f", or for {name} one of {', '.join(choices)}" if choices else f"; torchvision has none for {name}")
        )
    weights, folder = choices[hyperparameters.weights], os.path.join(torch.hub.get_dir(), "checkpoints")  # noqa: PTH118
    about = f"torchvision's weights {hyperparameters.weights} of {name}"
    try:
        # Only what is downloaded has its hash checked: a file that lies there already may be anybody's.
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise TransientError(
            f"{about} could not be downloaded ({error}): give a file of them (.pth), or put it into {folder}"
        ) from error
    except _NO_TENSORS as error:
        reason = " ".join(str(error).split())[:120]
        if reason.startswith(_WRONG_HASH):
            raise TransientError(f"{about} arrived damaged ({reason}): run the same command again") from error
        raise InvalidInput(f"{about} in {folder} are no file of tensors alone ({reason}): delete it there") from error
    found = hashlib.sha256()
    for key in sorted(state):
        found.update(key.encode() + state[key].contiguous().numpy().tobytes())
    return state, found.hexdigest()
