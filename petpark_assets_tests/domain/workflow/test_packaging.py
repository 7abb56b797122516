"""What packaging proves of a model, and whether int8 is shipped: the validation part says so, and nothing else."""

import io
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.model.weights import save_weights
from petpark_assets.domain.package import export, int8
from petpark_assets.domain.recipes import RECIPES
from petpark_assets.domain.workflow import packaging, testing, training
from petpark_assets.domain.workflow.sides import Side

SIDE_PX, NUM_PHOTOS = 16, 40
PREPROCESSING = Preprocessing(
    resolution_px=SIDE_PX, channel_means=(0.5, 0.5, 0.5), channel_deviations=(0.25, 0.25, 0.25)
)
LABELS = (np.arange(NUM_PHOTOS) % 2).astype(np.uint8)


def _model(bright: str = "dog") -> bytes:
    """Probabilities by the mean level: above 127 it is a dog, or a cat."""
    weights = np.array([[-1, 1]] if bright == "dog" else [[1, -1]], dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["shifted"]),
        helper.make_node("Unsqueeze", ["shifted", "last"], ["column"]),
        helper.make_node("MatMul", ["column", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "middle": np.float32(127), "last": np.array([1]), "weights": weights}
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"preprocessing": canonical_json(PREPROCESSING).decode()})
    return model.SerializeToString()


def _side(name: str) -> Side:
    """Dark cats and bright dogs, no two photos alike."""
    levels = np.where(LABELS == 1, 200, 40) + np.arange(NUM_PHOTOS) // 2
    images = np.tile(levels.astype(np.uint8)[:, None, None, None], (1, SIDE_PX, SIDE_PX, 3))
    sha256s = tuple(f"{name}-{number:03}" for number in range(NUM_PHOTOS))
    return Side(sha256s=sha256s, labels=LABELS, images=images, groups=sha256s, forgotten={})


TRAIN, TEST = _side("train"), _side("test")


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_the_network_is_compared_with_its_file_on_the_cpu(monkeypatch):
    """On a GPU its sums round otherwise, and a photo near a half would refuse a package whose file is right.

    The GPU is made up: whatever were asked of it would fail.
    """
    told = RECIPES["demo"].hyperparameters
    weights = save_weights(build_network(told).state_dict(), told, PREPROCESSING)
    monkeypatch.setattr(testing, "read_weights", lambda *_: weights)
    monkeypatch.setattr(export, "check_parity", lambda _predictor, predict, images: predict(images))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert packaging._prove_same_tensors(None, None, None, TEST).shape == (NUM_PHOTOS,)


@pytest.fixture
def quantise(monkeypatch):
    """Packaging's decision, with a given model for what the quantiser makes; and the photos that this was shown."""
    shown = []
    monkeypatch.setattr(training, "open_side", lambda *_arguments: TRAIN)

    def decide(rounded: bytes, originals: Side = TEST):
        monkeypatch.setattr(int8, "quantise", lambda _model, photos: shown.append(photos) or rounded)
        photos = dict(zip(TEST.sha256s, map(_png, originals.images), strict=True))
        home = SimpleNamespace(originals=SimpleNamespace(read_all=lambda _: photos.items()))
        attempt = SimpleNamespace(dataset_version="v0001", recipe=RECIPES["demo"])
        own_bytes = {"reported_accuracy": 1.0, "accuracy_from_bytes": 1.0}
        return packaging._quantise(home, attempt, _model(), TEST, own_bytes)

    decide.shown = shown
    return decide


def test_an_int8_model_that_answers_as_well_is_shipped_with_its_proofs(quantise):
    """On the validation part, on the exam's tensors and from the photos' own bytes."""
    model, found = quantise(_model())
    assert model == _model()
    assert found.pop("is_kept")
    assert {name: part["num_images"] for name, part in found.items()} == {
        "validation": NUM_PHOTOS // 10, "same_tensors": NUM_PHOTOS, "own_bytes": NUM_PHOTOS,
    }  # fmt: skip


def test_ranges_come_from_learnt_photos_alone(quantise):
    """A photo that judges the rounding must have had no part in it."""
    quantise(_model())
    (photos,) = quantise.shown
    assert len(photos) == NUM_PHOTOS - NUM_PHOTOS // 10
    judging = {image.tobytes() for image in TRAIN.images} - {image.tobytes() for image in photos}
    assert len(judging) == NUM_PHOTOS // 10


def test_one_that_loses_on_the_validation_part_is_left_out_and_never_sees_the_exam(quantise):
    """The test side chooses nothing."""
    model, found = quantise(_model(bright="cat"))
    assert model is None
    assert set(found) == {"is_kept", "validation"}
    assert found["validation"]["accuracy_int8"] == 0


def test_one_that_loses_on_the_test_side_is_left_out_and_what_it_lost_is_recorded(quantise):
    """The validation part is small: one network gained there and lost half a point in the exam."""
    turned = Side(TEST.sha256s, TEST.labels, TEST.images[::-1], TEST.groups, {})
    model, found = quantise(_model(), originals=turned)
    assert model is None
    assert not found.pop("is_kept")
    assert {name: part["accuracy_int8"] for name, part in found.items()} == {
        "validation": 1, "same_tensors": 1, "own_bytes": 0,
    }  # fmt: skip
