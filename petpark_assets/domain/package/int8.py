"""The same network with whole numbers of 8 bits: smaller, and faster on processors that multiply four at once (VNNI).

The convolutions and what lies between them are quantised, weights by output channel; preprocessing, the last layer
and the probabilities stay floating point. Ranges of activations are those of some learnt photos; whether what is lost
is little enough is asked of the validation part, and where it is, of the test side, which can only refuse it. Two
networks of the recipe `laptop` lost 0.1 points or less, a third 0.5: on 1,600 photos of validation it had gained 0.25.
They answered twice as fast; networks that are no plain convolutions (mobilenet, efficientnet) gain nothing. How much a
model gains is measured when it is packaged, and noted beside the record.

Not here: the floating point file (export.py), answering with either (predictor.py).
"""

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.images import Pixels
from petpark_assets.domain.package.predictor import Predictor

if TYPE_CHECKING:
    import onnx

LOSS_MAX = 0.002
"""Share of accuracy that int8 may lose; of fewer than 500 photos that is not even one."""
NUM_RANGE_PHOTOS = 256
"""Learnt photos that give the activations' ranges."""
BATCH_SIZE = 32
NUM_PAIRS = 31
QUANTISED = ("Conv", "Relu", "Clip", "Add", "AveragePool", "MaxPool")
LAST_LAYER = frozenset({"Gemm", "MatMul"})


def quantise(onnx_model: bytes, photos: Pixels) -> bytes:
    """A model of export.export_onnx with 8 bit convolutions; the same model and photos give the same bytes.

    Args:
        onnx_model: the floating point file.
        photos: uint8 [N, R, R, 3], learnt ones: no photo that judges anything may be among them.

    Returns:
        An ONNX file of the same input, output and noted preprocessing.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(quantization.CalibrationDataReader):  # type: ignore[misc]
        """The photos, a batch at a time, until there are no more."""

        def __init__(self) -> None:
            self._batches = iter([{"image": photos[at : at + BATCH_SIZE]} for at in range(0, len(photos), BATCH_SIZE)])

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self._batches, None)

    original = onnx.load_from_string(onnx_model)
    with tempfile.TemporaryDirectory() as scratch, _quiet_quantiser():
        exact, folded, quantised = (Path(scratch, f"{name}.onnx") for name in ("exact", "folded", "quantised"))
        exact.write_bytes(onnx_model)
        quant_pre_process(exact, folded, skip_symbolic_shape=True)  # takes batch norms into the convolutions
        quantization.quantize_static(
            folded,
            quantised,
            Batches(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # 7 bits for weights: without VNNI sums of products would overflow; costs nothing here
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_answering_nodes(onnx.load(folded)),
        )
        model = onnx.load(quantised)
    _clear_history(model, original)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _answering_nodes(model: "onnx.ModelProto") -> list[str]:
    """The nodes from the last layer's logits to the probabilities, which stay floating point."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found, waiting = [], [output.name for output in model.graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            found.append(node.name)
            waiting += [] if node.op_type in LAST_LAYER else list(node.input)
    return found


def _clear_history(model: "onnx.ModelProto", original: "onnx.ModelProto") -> None:
    """Leave of what the tools noted only what the floating point file says: its preprocessing and operators."""
    for part in ("metadata_props", "opset_import"):
        model.ClearField(part)
        getattr(model, part).extend(getattr(original, part))
    model.producer_name, model.producer_version = original.producer_name, original.producer_version


@contextlib.contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """The quantiser tells the root logger about every tensor that it leaves alone."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)


def accuracy(
    predictor: Predictor, images: Pixels, labels: npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64]
) -> float:
    """The share, 0 to 1, of the chosen photos that are answered rightly.

    Args:
        predictor: of either file.
        images: uint8 [N, R, R, 3]; may be a memory map: only a batch is read at a time.
        labels: uint8 [N], indices into records.LABELS.
        chosen: indices of the photos that count.
    """
    batches = [chosen[start : start + BATCH_SIZE] for start in range(0, len(chosen), BATCH_SIZE)]
    answers = [predictor.probabilities(images[batch]).argmax(axis=1) for batch in batches]
    return float((np.concatenate(answers) == labels[chosen]).mean())


def compare(accuracy_float32: float, accuracy_int8: float, num_images: int) -> dict[str, Any]:
    """Both accuracies over the same photos, and `is_close`: int8 loses at most 0.2 points."""
    rounding = 1e-9  # shares are not exact
    return {
        "num_images": num_images,
        "accuracy_float32": accuracy_float32,
        "accuracy_int8": accuracy_int8,
        "is_close": accuracy_float32 - accuracy_int8 <= LOSS_MAX + rounding,
    }


def speed_up(float32_model: bytes, int8_model: bytes, photo: Pixels) -> float:
    """How many times as fast int8 answers one photo uint8 [R, R, 3] on one core: the median of interleaved pairs."""
    models = [Predictor(model, num_threads=1) for model in (float32_model, int8_model)]
    seconds = np.array([[_seconds(model, photo) for model in models] for _ in range(NUM_PAIRS)])
    return round(float(np.median(seconds[:, 0] / seconds[:, 1])), 2)


def _seconds(predictor: Predictor, photo: Pixels) -> float:
    started = time.perf_counter()
    predictor.probabilities(photo[np.newaxis])
    return time.perf_counter() - started
