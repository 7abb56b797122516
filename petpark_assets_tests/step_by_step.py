"""A home built by the domain's own functions, without Dagster: what its runs are compared with."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.home import Home
from petpark_assets.domain.workflow import ingestion, packaging, registration, testing, training


def ingest(home: Home, lake: str, resolution_px: int) -> str:
    """The next version of a lake, and its sides; its name."""
    version = ingestion.new_dataset_version(home, lake, resolution_px).dataset_version
    ingestion.raw_images(home, version, resolution_px)
    ingestion.split(home, version)
    return version


def build(home: Home, attempt: Attempt, running_ray: Callable[[], AbstractContextManager[object]]) -> None:
    """From a version's sides to a registered model."""
    training.feature_scaling(home, attempt)
    training.hyperparameter_search(home, attempt, running_ray=running_ray)
    training.trained_cnn(home, attempt)
    testing.evaluation_report(home, attempt)
    packaging.onnx_package(home, attempt)
    registration.registered_model(home, attempt)
