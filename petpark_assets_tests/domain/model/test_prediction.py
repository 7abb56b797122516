"""Claims about answers to many photos."""

import numpy as np
import torch

from petpark_assets.domain.model.prediction import predict
from petpark_assets.domain.model.weights import load_classifier
from petpark_assets_tests.domain.model.squares import weights_bytes


def test_predictions_do_not_depend_on_the_batches(data, fitted):
    """Batch statistics of training must not leak into answers."""
    classifier = load_classifier(weights_bytes(fitted))
    whole = predict(classifier, data.images, device="cpu")
    parts = predict(classifier, data.images, batch_size=7, device="cpu")
    assert whole.dtype == np.float32
    assert whole.shape == (96,)
    assert np.allclose(whole, parts, atol=1e-6)


def test_answers_are_asked_for_repeatably_and_without_tf32(data, fitted, monkeypatch):
    """The report's digest follows from them; on a GPU cuDNN would choose another sum tomorrow. There is none here."""
    classifier, seen = load_classifier(weights_bytes(fitted)), []
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False)
    monkeypatch.setattr(cudnn, "allow_tf32", True)
    classifier.register_forward_hook(lambda *_: seen.append((cudnn.deterministic, cudnn.allow_tf32)))
    predict(classifier, data.images, device="cpu")
    assert seen == [(True, False)]
    assert (cudnn.deterministic, cudnn.allow_tf32) == (False, True)
