"""The toy task and one training on it, which several claims look at."""

import pytest

from petpark_assets.domain.model.train import Fitted, TrainingData, fit
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, draw_data


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Drawn once: no test changes it."""
    return draw_data()


@pytest.fixture(scope="module")
def fitted(data) -> Fitted:
    """One short training that several claims look at."""
    return fit(data, PREPROCESSING, TINY, seed=0, device="cpu")
