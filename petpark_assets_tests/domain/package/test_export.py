"""What is shipped must answer like what was examined; the same weights must give the same file."""

import dataclasses
import re
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from petpark_assets.domain.errors import ModelRejected
from petpark_assets.domain.package.export import check_bytes, check_parity, export_onnx
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.recipes import ARCHITECTURES, Hyperparameters
from petpark_assets_tests.domain.package import toys

if TYPE_CHECKING:
    import torch

BRIGHTNESS = (0, 40, 80, 100, 160, 190, 220, 255)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.uint8)
PHOTOS = {f"{brightness:064d}": toys.photo(brightness) for brightness in BRIGHTNESS}


@pytest.fixture(scope="module")
def predictor(onnx_model: bytes) -> Predictor:
    """Answers with the toy classifier's ONNX file."""
    return Predictor(onnx_model, num_threads=1)


def _network(classifier: "torch.nn.Module"):
    import torch

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return classifier(torch.from_numpy(np.array(images)))[:, 1].numpy()

    return predict


def _noise(num_images: int, height_px: int, width_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_images, height_px, width_px, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 24, 24), (2, 500, 375), (1, 17, 3000)])
def test_photos_of_any_size_and_number_are_answered_like_the_network_does(shape, predictor, classifier):
    """The preprocessing is inside the graph: whoever has the file needs nothing else."""
    images = _noise(*shape)
    assert predictor.probabilities(images)[:, 1] == pytest.approx(_network(classifier)(images), abs=1e-5)


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[] if name in {"petnet", "mobilenet_v3_small"} else pytest.mark.long)
        for name in ARCHITECTURES
    ],
)
def test_every_architecture_answers_alike_as_onnx(architecture):
    """What a recipe may name must be shippable: an operation that ONNX lacks would show after hours of training."""
    import torch

    from petpark_assets.domain.model.network import Classifier, build_network

    torch.manual_seed(0)
    network = build_network(Hyperparameters(architecture=architecture, width=8))
    preprocessing = dataclasses.replace(toys.PREPROCESSING, resolution_px=64)
    classifier = Classifier(network, preprocessing).eval()
    images = _noise(3, 70, 90)
    answers = Predictor(export_onnx(classifier, preprocessing), num_threads=1).probabilities(images)[:, 1]
    assert answers == pytest.approx(_network(classifier)(images), abs=1e-4)


def test_the_file_declares_what_it_takes_and_gives(onnx_model):
    """A service in another language is written against these names and types."""
    import onnx

    model = onnx.load_from_string(onnx_model)
    onnx.checker.check_model(model, full_check=True)
    (image,), (answer,) = model.graph.input, model.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type, dims) == (
        "image", onnx.TensorProto.UINT8, ["batch", "height", "width", 3],
    )  # fmt: skip
    dims = [dim.dim_param or dim.dim_value for dim in answer.type.tensor_type.shape.dim]
    assert (answer.name, answer.type.tensor_type.elem_type, dims) == (
        "probabilities", onnx.TensorProto.FLOAT, ["batch", 2],
    )  # fmt: skip
    assert [opset.version for opset in model.opset_import if not opset.domain] == [20]


def test_the_same_weights_give_the_same_bytes_without_paths_of_this_machine(onnx_model, classifier):
    """The exporter writes stack traces with install paths: a package made elsewhere would have another digest."""
    assert export_onnx(classifier, toys.PREPROCESSING) == onnx_model
    assert not re.search(rb"\.py|site-packages|" + re.escape(sys.prefix.encode()), onnx_model)


def test_the_file_carries_its_preprocessing_and_labels(predictor):
    """A model.onnx downloaded singly still says what its outputs mean."""
    assert predictor.preprocessing == toys.PREPROCESSING


def test_equal_labels_pass_and_the_largest_difference_is_recorded(predictor, classifier):
    """The report was about the network; parity is what makes it true of the file."""
    found = check_parity(predictor, _network(classifier), _noise(70, 24, 24))
    assert found["num_images"] == 70
    assert 0 <= found["largest_probability_difference"] < 1e-5


def test_one_other_label_rejects_the_model(predictor, classifier):
    """A single photo that the shipped file answers differently means the wrong file."""
    network = _network(classifier)

    def flips_one(images: np.ndarray) -> np.ndarray:
        answers = network(images).copy()
        answers[0] = 1 - answers[0]
        return answers

    with pytest.raises(ModelRejected, match="different labels to 1 of 8 test photos"):
        check_parity(predictor, flips_one, _noise(8, 24, 24))


@pytest.mark.parametrize(("distance", "passes"), [(9e-6, True), (2e-5, False)])
def test_only_a_photo_within_1e_5_of_a_half_may_fall_to_either_side(distance, passes, predictor, classifier):
    """Rounding may turn a true tie, and nothing more than a tie."""
    images = _noise(1, 24, 24)
    is_dog = _network(classifier)(images)[0] > 0.5
    other_side = np.array([0.5 - distance if is_dog else 0.5 + distance])
    if passes:
        assert check_parity(predictor, lambda _images: other_side, images)["num_undecided"] == 1
    else:
        with pytest.raises(ModelRejected):
            check_parity(predictor, lambda _images: other_side, images)


def read_photos(sha256s):
    """As the store does, in an order of its own."""
    assert list(sha256s) == list(PHOTOS)
    return reversed(PHOTOS.items())


def test_answers_from_the_photos_own_bytes_confirm_the_report(predictor):
    """Decoding and resizing are part of what is shipped: the exam is taken again the way a visitor will."""
    found = check_bytes(predictor, list(PHOTOS), LABELS, read_photos, reported_accuracy=1.0)
    assert found == {"num_images": 8, "reported_accuracy": 1.0, "accuracy_from_bytes": 1.0}


@pytest.mark.parametrize(("reported", "passes"), [(7 / 8, True), (6 / 8, False)])
def test_one_photo_may_differ_from_the_report_on_a_small_test_side(reported, passes, predictor):
    """0.2 points are less than one photo of 8; two photos are a different model."""
    if passes:
        assert check_bytes(predictor, list(PHOTOS), LABELS, read_photos, reported)["accuracy_from_bytes"] == 1
    else:
        with pytest.raises(ModelRejected, match=r"accuracy 1\.0000, the report says 0\.7500"):
            check_bytes(predictor, list(PHOTOS), LABELS, read_photos, reported)


def test_photos_that_show_something_else_reject_the_model(predictor):
    """The originals are read by their own names: swapped bytes must not pass as an exam."""
    swapped = dict(zip(PHOTOS, reversed(PHOTOS.values()), strict=True))
    with pytest.raises(ModelRejected, match=r"accuracy 0\.0000"):
        check_bytes(predictor, list(PHOTOS), LABELS, lambda _: swapped.items(), reported_accuracy=1.0)


def test_the_real_classifier_is_exported_whole():
    """The toy shows the rules; this is the network that is shipped, with its own preprocessing and temperature."""
    import torch

    from petpark_assets.domain.model import network
    from petpark_assets.domain.recipes import Hyperparameters

    torch.manual_seed(0)
    built = network.build_network(Hyperparameters(width=8))
    torch.nn.init.normal_(built.head.bias)  # no two classes alike, or a lost temperature would not show
    classifier = network.Classifier(built, toys.PREPROCESSING, temperature=0.5).eval()
    shipped = Predictor(export_onnx(classifier, toys.PREPROCESSING))
    for shape in ((1, 24, 24), (2, 120, 90)):
        assert shipped.probabilities(_noise(*shape))[:, 1] == pytest.approx(
            _network(classifier)(_noise(*shape)), abs=1e-5
        )
