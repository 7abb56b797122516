"""From the trained network to ONNX, and the proof that what is shipped answers like what was examined.

Not here: the other files of the package (contents.py), answering (predictor.py).
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain import files
from petpark_assets.domain.errors import ModelRejected
from petpark_assets.domain.images import Pixels, Preprocessing
from petpark_assets.domain.package.predictor import Predictor

if TYPE_CHECKING:
    import onnx
    import torch

ReadOriginals = Callable[[Sequence[str]], Iterable[tuple[str, bytes]]]
"""Photos' own bytes, each once with its sha256, in any order."""

OPSET = 20
EVEN = 0.5
"""Above this probability of dog the label is dog."""
UNDECIDED = 1e-5
"""A photo whose probability is this near to EVEN may fall to either side when floating point rounds otherwise."""
BYTES_TOLERANCE = 0.002
"""Accuracy from the photos' own bytes may differ from the report's by this share, or by one photo."""
BATCH_SIZE = 64


def export_onnx(classifier: "torch.nn.Module", preprocessing: Preprocessing) -> bytes:
    """The classifier, preprocessing included, as the bytes of one ONNX file: the same weights give the same bytes.

    Args:
        classifier: maps uint8 [N, H, W, 3] of any size to float32 [N, 2]; is moved to the CPU and to evaluation.
        preprocessing: what it does to a photo first, noted in the file with the labels.

    Returns:
        A graph from `image` (uint8 [batch, height, width, 3]) to `probabilities` (float32 [batch, 2]).
    """
    import onnx
    import torch
    from torch.export import Dim

    sizes = {0: Dim("batch", min=1), 1: Dim("height", min=16, max=8192), 2: Dim("width", min=16, max=8192)}
    example = torch.zeros((2, 160, 200, 3), dtype=torch.uint8)
    with _quiet_exporter():
        program = torch.onnx.export(
            classifier.cpu().eval(),
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=["probabilities"],
            opset_version=OPSET,
            dynamic_shapes=(sizes,),
            verbose=False,
        )
    assert program is not None  # it is None only for the exporter that dynamo replaced
    model = _without_traces(program.model_proto)
    onnx.helper.set_model_props(model, {"preprocessing": files.canonical_json(preprocessing).decode()})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter logs what it does not need (torchvision's own operators) as warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _without_traces(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Clear what holds install paths and stack traces: it differs from machine to machine and says nothing."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def check_parity(
    predictor: Predictor, predict: Callable[[Pixels], npt.NDArray[np.float32]], test_images: Pixels
) -> dict[str, Any]:
    """Prove that the ONNX file gives the network's labels on the same tensors.

    Args:
        predictor: of the ONNX file.
        predict: the trained network: uint8 [n, R, R, 3] to the probabilities of dog, [n].
        test_images: uint8 [N, R, R, 3], the whole test side.

    Returns:
        num_images, num_undecided and largest_probability_difference.

    Raises:
        ModelRejected: a label differs (save within 1e-5 of a half).
    """
    starts = range(0, len(test_images), BATCH_SIZE)
    batches = [np.asarray(test_images[start : start + BATCH_SIZE]) for start in starts]
    network = np.concatenate([np.asarray(predict(batch), dtype=np.float64) for batch in batches])
    shipped = np.concatenate([predictor.probabilities(batch)[:, 1].astype(np.float64) for batch in batches])
    is_undecided = np.abs(network - EVEN) < UNDECIDED
    differs = ((network > EVEN) != (shipped > EVEN)) & ~is_undecided
    difference = float(np.abs(network - shipped).max())
    if differs.any() or not np.isfinite(difference):
        raise ModelRejected(
            f"the ONNX file and the trained network give different labels to {int(differs.sum())} of "
            f"{len(network)} test photos (largest difference of a probability {difference:.3g}): it is not packaged"
        )
    return {
        "num_images": len(network),
        "num_undecided": int(is_undecided.sum()),
        "largest_probability_difference": float(f"{difference:.2g}"),
    }


def check_bytes(
    predictor: Predictor,
    sha256s: Sequence[str],
    labels: npt.NDArray[np.uint8],
    read_originals: ReadOriginals,
    reported_accuracy: float,
) -> dict[str, Any]:
    """Prove that the package answers the photos' own bytes as well as the report says.

    Args:
        predictor: of the ONNX file.
        sha256s: the whole test side, without the photos that were forgotten.
        labels: uint8 [N], indices into records.LABELS.
        read_originals: reads the photos.
        reported_accuracy: the report's over just these photos, 0 to 1.

    Returns:
        num_images, reported_accuracy and accuracy_from_bytes.

    Raises:
        ModelRejected: the two differ by more than 0.2 percentage points and by more than one photo.
    """
    accuracy = accuracy_from_bytes(predictor, sha256s, labels, read_originals)
    tolerance = max(BYTES_TOLERANCE, 1 / len(sha256s))
    if abs(accuracy - reported_accuracy) > tolerance + 1e-9:  # sums of decimal shares are not exact
        raise ModelRejected(
            f"from the photos' own bytes the package reaches accuracy {accuracy:.4f}, the report says "
            f"{reported_accuracy:.4f}: more than {tolerance:.4f} apart, so it is not packaged"
        )
    return {
        "num_images": len(sha256s),
        "reported_accuracy": reported_accuracy,
        "accuracy_from_bytes": accuracy,
    }


def accuracy_from_bytes(
    predictor: Predictor,
    sha256s: Sequence[str],
    labels: npt.NDArray[np.uint8],
    read_originals: ReadOriginals,
) -> float:
    """The share of photos, 0 to 1, that are answered rightly from their own bytes; see check_bytes."""
    names = predictor.preprocessing.labels
    expected = {sha256: names[label] for sha256, label in zip(sha256s, labels, strict=True)}
    answers = ((predictor.classify(data).label, expected[sha256]) for sha256, data in read_originals(sha256s))
    return sum(bool(answer == label) for answer, label in answers) / len(sha256s)
