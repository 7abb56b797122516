"""A task for tests of training: noise with a coloured square in it, and hyperparameters that learn it in a second."""

import numpy as np

from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.model.train import Fitted, TrainingData
from petpark_assets.domain.model.weights import save_weights
from petpark_assets.domain.recipes import Hyperparameters

SIDE_PX = 16
PREPROCESSING = Preprocessing(
    resolution_px=SIDE_PX, channel_means=(0.5, 0.5, 0.5), channel_deviations=(0.25, 0.25, 0.25)
)
TINY = Hyperparameters(width=8, epochs=3, batch_size=16, ema_decay=0.8, crop_scale_min=0.8, first_resolution_share=1.0)


def draw_data(count: int = 96) -> TrainingData:
    """Noise with a square somewhere: reddish for label 0, bluish for label 1."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.uint8)
    images = random.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = random.integers(0, SIDE_PX - 10, 2)
        image[top : top + 10, left : left + 10] = (40, 60, 220) if label else (220, 60, 40)
    return TrainingData(images=images, labels=labels, validation=np.arange(count) % 6 < 2)


def weights_bytes(fitted: Fitted) -> bytes:
    """Weights as they are stored: equal only when every bit is."""
    return save_weights(fitted.weights, TINY, PREPROCESSING)
