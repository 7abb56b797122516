"""How long one photo takes from its bytes to its label, on one core, and what our own code adds to that.

    PETPARK_PHOTOS=~/photos python -m petpark_assets_tests.benchmarks.inference

The bare loop decodes by simplejpeg and runs an onnxruntime session of defaults: no check of the file, no other
format, no answer made. Each photo is asked of both in turn, first the one, then the other; a round is all photos,
and its ratios are of the medians and of the 99th percentiles. The network is that of the recipe `laptop` with random
weights, which cost what learnt ones do. A minute on an idle core, part of it before the clock starts.
Not here: whether int8 answers as well (packaging asks the validation part of each model).
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petpark_assets.domain import images
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.package import int8
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.recipes import RECIPES
from petpark_assets_tests.benchmarks.laptop import describe_run

RESULT = Path(__file__).parent / "results" / "inference.json"
COMMAND = "python -m petpark_assets_tests.benchmarks.inference"
NUM_PHOTOS, NUM_ROUNDS = 500, 5
ALLOWED_RATIO = 1.2

Ask = Callable[[bytes], str]
"""From a file's bytes to the label."""


def main() -> None:
    """Measure on one core, and write the result."""
    folder = Path(os.environ.get("PETPARK_PHOTOS") or sys.exit("set PETPARK_PHOTOS to a folder of real photos"))
    paths = sorted(folder.glob("*/*.jpg"))
    photos = [path.read_bytes() for path in paths[:: len(paths) // NUM_PHOTOS][:NUM_PHOTOS]]
    side_px = RECIPES["laptop"].resolution_px
    pixels = np.stack([images.resize(images.decode(photo), side_px) for photo in photos])
    exact = random_model(side_px)
    rounded = int8.quantise(exact, pixels)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asked = {"petpark": ask_predictor(exact), "bare": ask_bare(exact), "petpark_int8": ask_predictor(rounded)}
    measure_round(asked, photos[:20])  # the first answers load what is needed
    rounds = [measure_round(asked, photos) for _ in range(NUM_ROUNDS)]
    result = {
        **describe_run(COMMAND),
        "n": {"photos": len(photos), "rounds": NUM_ROUNDS},
        "resolution_px": side_px,
        "cores": 1,
        **summary(rounds),
        "int8_speed_up_of_the_network": int8.speed_up(exact, rounded, pixels[0]),
        "model_bytes": {"float32": len(exact), "int8": len(rounded)},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(RESULT.read_text())  # noqa: T201 - its answer


def random_model(side_px: int) -> bytes:
    """The network of the recipe `laptop` as it is packaged, with weights that nobody has trained."""
    import torch

    from petpark_assets.domain.model.network import Classifier, build_network
    from petpark_assets.domain.package.export import export_onnx

    torch.manual_seed(0)
    preprocessing = Preprocessing(
        resolution_px=side_px, channel_means=(0.5, 0.5, 0.5), channel_deviations=(0.25, 0.25, 0.25)
    )
    network = build_network(RECIPES["laptop"].hyperparameters).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)  # else each block is its shortcut, and could be left out
    with torch.no_grad():
        network(torch.randn(64, 3, side_px, side_px))  # batch statistics as training leaves them
    return export_onnx(Classifier(network, preprocessing), preprocessing)


def ask_predictor(model: bytes) -> Ask:
    """As the service asks."""
    predictor = Predictor(model, num_threads=1)
    return lambda data: predictor.classify(data).label


def ask_bare(model: bytes) -> Ask:
    """What anybody would write in five lines."""
    import onnxruntime
    import simplejpeg

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def ask(data: bytes) -> str:
        (probabilities,) = session.run(None, {"image": simplejpeg.decode_jpeg(data, "RGB")[np.newaxis]})
        return ("cat", "dog")[int(probabilities[0].argmax())]

    return ask


def measure_round(asked: Mapping[str, Ask], photos: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Milliseconds by contender, one a photo; who is first changes from photo to photo."""
    taken: dict[str, list[float]] = {name: [] for name in asked}
    labels: dict[str, list[str]] = {name: [] for name in asked}
    for number, photo in enumerate(photos):
        for name in list(asked)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            label = asked[name](photo)
            taken[name].append(1000 * (time.perf_counter() - started))
            labels[name].append(label)
    assert labels["petpark"] == labels["bare"], "the two do not do the same work"
    return {name: np.array(times) for name, times in taken.items()}


def summary(rounds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Medians over rounds of each percentile, and of its ratios."""
    found: dict[str, Any] = {}
    for percentile in (50, 99):
        of = {name: [float(np.percentile(times[name], percentile)) for times in rounds] for name in rounds[0]}
        ratios = [ours / bare for ours, bare in zip(of["petpark"], of["bare"], strict=True)]
        gains = [ours / small for ours, small in zip(of["petpark"], of["petpark_int8"], strict=True)]
        found[f"p{percentile}_ms"] = {name: round(statistics.median(values), 3) for name, values in of.items()}
        found[f"p{percentile}_ratio_to_bare"] = _median(ratios) | {"allowed": ALLOWED_RATIO}
        found[f"p{percentile}_int8_speed_up"] = _median(gains)
    return found


def _median(values: Sequence[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(values), 3), "values": [round(value, 3) for value in values]}


if __name__ == "__main__":
    main()
