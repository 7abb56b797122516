"""Answers about photos: a photo's bytes in, a label and its probability out. What the command line and the service use.

onnxruntime, numpy and the one decoder, nothing heavier: no torch, ray, dagster, mlflow, pyarrow or onnx.
Not here: which registered version to ask (registry/).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from petpark_assets.domain import images
from petpark_assets.domain.errors import InvalidInput, NotFound
from petpark_assets.domain.images import Pixels, Preprocessing
from petpark_assets.domain.package import contents

if TYPE_CHECKING:
    import onnxruntime as ort

LARGE_PX = 4_000_000
"""Photos of more pixels are reduced by Pillow, as at ingestion, before the graph makes them floating point:
64 million pixels would take 2 GB there."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says about one photo."""

    label: str
    """The more probable class; given also when the answer counts as unknown."""
    probability: float
    """Of the label: 0.5 to 1."""
    probability_dog: float
    is_unknown: bool
    """The probability is below the package's threshold; never, when it has none."""


class Predictor:
    """One model, loaded once; may be asked from many threads."""

    def __init__(
        self, onnx_model: bytes, *, unknown_below: float | None = None, num_threads: int | None = None
    ) -> None:
        """Load a model made by export.export_onnx.

        Args:
            onnx_model: the file's bytes; they carry labels and preprocessing.
            unknown_below: an answer of lower probability counts as unknown; None for never.
            num_threads: for one photo; None for all processors.
        """
        self._session = start_session(onnx_model, num_threads)
        properties = self._session.get_modelmeta().custom_metadata_map
        self.preprocessing = Preprocessing(**_as_tuples(json.loads(properties["preprocessing"])))
        self._unknown_below = unknown_below

    @classmethod
    def open(cls, folder: Path, *, variant: str = "float32", num_threads: int | None = None) -> Self:
        """Load the package in a folder, after checking every file of it.

        Args:
            folder: the package.
            variant: `float32`, the model that was examined, or `int8`, its faster twin.
            num_threads: for one photo; None for all processors.

        Raises:
            NotFound: there is no package, or it does not have that variant.
            CorruptData: a file was changed, is missing or is one too many.
            InvalidInput: the package is of a later format than this code knows.
        """
        contents.verify_folder(folder)
        package_format = json.loads((folder / contents.IDENTITY).read_bytes())["format"]
        if package_format > contents.FORMAT:
            raise InvalidInput(
                f"the package in {folder} has format {package_format}: this code reads {contents.FORMAT}"
            )
        variants = contents.find_variants(folder)
        if variant not in variants:
            raise NotFound(f"the package in {folder} has no variant {variant!r}: it has {', '.join(variants)}")
        labels = json.loads((folder / contents.LABELS_FILE).read_bytes())
        onnx_model = (folder / contents.MODELS[variant]).read_bytes()
        return cls(onnx_model, unknown_below=labels["unknown_below"], num_threads=num_threads)

    def classify(self, data: bytes) -> Answer:
        """Answer about one photo from its file's bytes. Raises images.UnreadablePhoto."""
        pixels = images.decode(data)
        if pixels.shape[0] * pixels.shape[1] > LARGE_PX:
            pixels = images.resize(pixels, self.preprocessing.resolution_px)
        return self._answer(self.probabilities(pixels[np.newaxis])[0])

    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """float32 [N, 2], in the order of the labels, of photos of one size: uint8 [N, H, W, 3]."""
        return run_session(self._session, pixels)

    def _answer(self, probabilities: npt.NDArray[np.float32]) -> Answer:
        dog = self.preprocessing.labels.index("dog")
        best = dog if probabilities[dog] >= 0.5 else 1 - dog  # the exam's rule, where a tie is a dog
        probability = float(probabilities[best])
        return Answer(
            label=self.preprocessing.labels[best],
            probability=probability,
            probability_dog=float(probabilities[dog]),
            is_unknown=self._unknown_below is not None and probability < self._unknown_below,
        )


def start_session(onnx_model: bytes, num_threads: int | None = None) -> "ort.InferenceSession":
    """Load a model on the CPU, so that the same photo gets the same answer again."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # a plan of memory is kept for every size of photo: they come in all sizes
    options.log_severity_level = 3  # errors: it warns about machines without a GPU
    return ort.InferenceSession(onnx_model, options, providers=["CPUExecutionProvider"])


def run_session(session: "ort.InferenceSession", pixels: Pixels) -> npt.NDArray[np.float32]:
    """Probabilities of a batch; see Predictor.probabilities."""
    answers = session.run(["probabilities"], {"image": np.ascontiguousarray(pixels)})
    return np.asarray(answers[0], dtype=np.float32)


def _as_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
