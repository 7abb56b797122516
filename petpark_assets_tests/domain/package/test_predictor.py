"""The one way a photo is answered, by people and by the service: light, verified, the same every time."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from petpark_assets.domain.errors import CorruptData, InvalidInput, NotFound
from petpark_assets.domain.files import canonical_json
from petpark_assets.domain.images import UnreadablePhoto
from petpark_assets.domain.package import predictor as room
from petpark_assets.domain.package.contents import SUMS, write_sums
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets_tests.domain.package import toys


@pytest.fixture(scope="module")
def folder(onnx_model, tmp_path_factory):
    """A package that answers."""
    files = toys.package_files(onnx_model=onnx_model)
    return toys.write_package(tmp_path_factory.mktemp("predictor") / "package", files)


def _copy(folder, to, **changed):
    """The package with some files' bytes changed and the sums made again."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS} | changed
    return toys.write_package(to, {**files, SUMS: write_sums(files)})


def test_a_photo_s_bytes_give_a_label_and_its_probability(folder):
    """The whole of what a user sees: bytes in, cat or dog out, and how sure."""
    predictor = Predictor.open(folder, num_threads=1)
    dark, bright = predictor.classify(toys.photo(0)), predictor.classify(toys.photo(255))
    assert (dark.label, bright.label) == ("cat", "dog")
    assert dark.probability == pytest.approx(1 - dark.probability_dog)
    assert bright.probability == bright.probability_dog > 0.5
    assert not dark.is_unknown


def test_exactly_a_half_is_a_dog(folder, monkeypatch):
    """The exam counts it so: a service that said cat would have another accuracy than the report promises."""
    predictor = Predictor.open(folder, num_threads=1)
    monkeypatch.setattr(predictor, "probabilities", lambda _pixels: np.full((1, 2), 0.5, dtype=np.float32))
    answer = predictor.classify(toys.photo(130))
    assert (answer.label, answer.probability, answer.probability_dog) == ("dog", 0.5, 0.5)


def test_the_same_photo_gets_the_same_answer_again(folder):
    """An audit replays old answers: they must come out to the last bit."""
    answers = {Predictor.open(folder, num_threads=1).classify(toys.photo(130)) for _ in range(3)}
    assert len(answers) == 1


def test_a_photo_far_larger_than_needed_is_answered_alike_without_floating_it_whole(folder, monkeypatch):
    """A phone's 50 megapixels would take 2 GB in the graph; the small copy must not change the answer."""
    predictor = Predictor.open(folder, num_threads=1)
    data = toys.photo(130, width_px=1200, height_px=900)
    whole = predictor.classify(data)
    monkeypatch.setattr(room, "LARGE_PX", 1_000_000)
    seen = []
    monkeypatch.setattr(
        predictor,
        "probabilities",
        lambda pixels: seen.append(pixels.shape) or Predictor.probabilities(predictor, pixels),
    )
    reduced = predictor.classify(data)
    assert seen == [(1, 24, 24, 3)]
    assert reduced.probability_dog == pytest.approx(whole.probability_dog, abs=0.01)


def test_an_answer_below_the_package_s_threshold_counts_as_unknown(folder, tmp_path):
    """The threshold travels with the model; the label is given all the same."""
    labels = canonical_json({"labels": ["cat", "dog"], "unknown_below": 0.9})
    predictor = Predictor.open(_copy(folder, tmp_path / "p", **{"labels.json": labels}))
    unsure, sure = predictor.classify(toys.photo(120)), predictor.classify(toys.photo(255))
    assert (unsure.label, unsure.is_unknown, sure.is_unknown) == ("cat", True, False)


def test_a_variant_is_answered_with_by_its_own_file(folder, onnx_model, tmp_path):
    """Who asks for the fast model must get it, and who asks for none the one that was examined."""
    import onnx

    other = onnx.load_from_string(onnx_model)
    turned = dataclasses.replace(toys.PREPROCESSING, labels=("dog", "cat"))
    onnx.helper.set_model_props(other, {"preprocessing": canonical_json(turned).decode()})
    both = _copy(folder, tmp_path / "both", **{"model.int8.onnx": other.SerializeToString()})
    assert Predictor.open(both).classify(toys.photo(255)).label == "dog"
    assert Predictor.open(both, variant="int8").classify(toys.photo(255)).label == "cat"


def test_a_variant_that_a_package_does_not_have_is_refused_with_those_it_has(folder):
    """Older packages, and those whose rounding lost too much, have one model."""
    with pytest.raises(NotFound, match="has no variant 'int8': it has float32"):
        Predictor.open(folder, variant="int8")


def test_what_is_no_photo_is_refused_with_its_reason(folder):
    """One bad file among many must say what is wrong with it."""
    with pytest.raises(UnreadablePhoto) as caught:
        Predictor.open(folder).classify(b"this is text")
    assert caught.value.reason == "undecodable"


def test_a_changed_package_is_not_loaded(folder, tmp_path):
    """A model that was swapped under the report must not answer."""
    changed = _copy(folder, tmp_path / "p")
    (changed / "model.onnx").write_bytes(b"another model")
    with pytest.raises(CorruptData, match=r"model\.onnx"):
        Predictor.open(changed)


def test_a_package_of_a_later_format_is_refused(folder, tmp_path):
    """Files of tomorrow must not be half understood today."""
    identity = json.loads((folder / "package.json").read_bytes()) | {"format": 99}
    later = _copy(folder, tmp_path / "p", **{"package.json": canonical_json(identity)})
    with pytest.raises(InvalidInput, match="format 99"):
        Predictor.open(later)


def test_no_package_is_not_found(tmp_path):
    """A mistyped path gets a line, not a traceback."""
    with pytest.raises(NotFound, match="holds no package"):
        Predictor.open(tmp_path)


def test_answering_loads_onnxruntime_numpy_and_the_decoder_alone(folder):
    """The service starts in a second with 120 MB because of this; one import of torch makes it ten and 700 MB."""
    script = f"""
import sys
before = set(sys.modules)  # what the environment itself starts with
import json
from pathlib import Path
from petpark_assets.domain.package.predictor import Predictor
data = bytes.fromhex({toys.photo(255, file_format="JPEG").hex()!r})
answer = Predictor.open(Path({str(folder)!r})).classify(data)
places = {{name: getattr(sys.modules[name], "__file__", None) or "" for name in set(sys.modules) - before}}
installed = {{name.partition(".")[0] for name, place in places.items() if "site-packages" in place}}
print(json.dumps([answer.label, sorted(installed)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["dog", ["PIL", "numpy", "onnxruntime", "simplejpeg"]]
    assert done.stderr == ""


def test_many_photos_of_one_size_can_be_asked_at_once(folder):
    """Parity and the service's batches use this; it must agree with single answers."""
    predictor = Predictor.open(folder, num_threads=1)
    pixels = np.stack([np.full((24, 24, 3), value, dtype=np.uint8) for value in (0, 90, 255)])
    together = predictor.probabilities(pixels)
    singly = np.concatenate([predictor.probabilities(pixels[index : index + 1]) for index in range(3)])
    assert together == pytest.approx(singly, abs=1e-6)
    assert together.shape == (3, 2)
    assert together.dtype == np.float32
