"""The 8 bit variant: the same photo in, nearly the same answer out, and nothing that judges it may have made it."""

import numpy as np
import onnx
import pytest

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.package.int8 import accuracy, compare, quantise
from petpark_assets.domain.package.predictor import Predictor

SIDE_PX = 16
PREPROCESSING = Preprocessing(
    resolution_px=SIDE_PX, channel_means=(0.5, 0.4, 0.3), channel_deviations=(0.25, 0.25, 0.2)
)
PHOTOS = np.random.default_rng(0).integers(0, 256, (48, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def float32() -> bytes:
    """The network that is shipped, small, with batch statistics and blocks that do something."""
    import torch

    from petpark_assets.domain.model.network import Classifier, build_network
    from petpark_assets.domain.package.export import export_onnx
    from petpark_assets.domain.recipes import Hyperparameters

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(Hyperparameters(width=8))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.0)
        classifier = Classifier(network, PREPROCESSING, temperature=1.5)
        with torch.no_grad():
            network.train()(classifier.prepare(torch.from_numpy(PHOTOS)))
    return export_onnx(classifier, PREPROCESSING)


@pytest.fixture(scope="module")
def int8(float32: bytes) -> bytes:
    """The same network, quantised."""
    return quantise(float32, PHOTOS)


def test_the_same_model_and_photos_give_the_same_bytes_without_paths(float32, int8):
    """A package's digest is made of them; a temporary folder's name would make twins."""
    assert quantise(float32, PHOTOS) == int8
    assert b"/tmp" not in int8


def test_answers_are_nearly_those_of_floating_point(float32, int8):
    """Rounding to 8 bits moves a probability by a point or two, also of photos of other sizes."""
    exact, rounded = Predictor(float32, num_threads=1), Predictor(int8, num_threads=1)
    for photos in (PHOTOS, PHOTOS.repeat(2, axis=1).repeat(3, axis=2)):
        difference = np.abs(exact.probabilities(photos) - rounded.probabilities(photos))
        assert 0 < difference.max() < 0.1
        assert difference.mean() < 0.02


def test_the_convolutions_are_quantised_and_the_probabilities_are_not(int8):
    """Floating point left between convolutions would eat the gain; a rounded probability would be no calibrated one."""
    nodes = onnx.load_from_string(int8).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) > 10
    assert {makers[node.input[index]] for node in convolutions for index in (0, 1)} == {"DequantizeLinear"}
    assert makers["probabilities"] != "DequantizeLinear"
    (last,) = (node for node in nodes if node.op_type == "Gemm")
    consumers = {node.op_type for node in nodes if last.output[0] in node.input}
    assert "QuantizeLinear" not in consumers


def test_the_file_is_smaller_and_says_what_it_does_to_a_photo(float32, int8):
    """Whoever downloads this file alone needs preprocessing and labels too."""
    assert len(int8) < 0.6 * len(float32)  # a quarter, where weights outweigh names
    assert Predictor(int8).preprocessing == PREPROCESSING


def test_accuracy_is_of_the_chosen_photos_alone(float32):
    """Learnt photos among those that judge would praise the rounding."""
    predictor = Predictor(float32, num_threads=1)
    labels = predictor.probabilities(PHOTOS).argmax(axis=1).astype(np.uint8)
    labels[:12] = 1 - labels[:12]
    assert accuracy(predictor, PHOTOS, labels, np.arange(12, 48)) == 1
    assert accuracy(predictor, PHOTOS, labels, np.arange(24)) == 0.5


@pytest.mark.parametrize(
    ("num_images", "num_lost", "is_close"),
    [(2000, 4, True), (2000, 5, False), (500, 1, True), (32, 1, False), (32, 0, True), (100, -7, True)],
)
def test_at_most_two_thousandths_may_be_lost(num_images, num_lost, is_close):
    """One of 32 photos is three points: too many to ship. What is gained by chance is no reason to refuse."""
    found = compare(0.9, 0.9 - num_lost / num_images, num_images)
    assert found["is_close"] is is_close
