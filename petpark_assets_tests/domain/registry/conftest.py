"""One MLflow database for all tests of this room, since its tables take seconds; every test has its own model in it."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from petpark_assets.domain.ledger import FileLedger
from petpark_assets.domain.registry.versions import Registry
from petpark_assets_tests.domain.package import toys


def by_accuracy(found, champion) -> tuple[bool, str]:
    """A judge: who is better is better by far."""
    if champion is None:
        return True, "there was no champion"
    return found.accuracy > champion.accuracy, f"{found.accuracy} against {champion.accuracy}"


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory) -> Path:
    """Where the shared database and all stored packages are."""
    return tmp_path_factory.mktemp("registry") / "mlflow"


@pytest.fixture
def ledger(tmp_path) -> FileLedger:
    """The real ledger, empty."""
    return FileLedger(tmp_path / "ledger.jsonl", "tester")


@pytest.fixture
def registry(mlflow_folder, ledger, request) -> Registry:
    """A model without versions."""
    return Registry(mlflow_folder, request.node.name[:150], record_event=ledger.append)


@pytest.fixture
def new_package(tmp_path) -> Callable[..., Path]:
    """Makes packages: each call another one, of the accuracy given."""
    seeds = itertools.count()

    def make(accuracy: float = 0.97) -> Path:
        seed = next(seeds)
        return toys.write_package(tmp_path / f"package-{seed}", toys.package_files(accuracy=accuracy, seed=seed))

    return make


@pytest.fixture
def add(registry, new_package) -> Callable[[float], int]:
    """Registers a new package of an accuracy, as a build does, and lets the rule decide about its aliases."""

    def register(accuracy: float) -> int:
        version = registry.register(new_package(accuracy), tags={"onnx_package": "9" * 64, "run_id": "run-1"})
        registry.settle_aliases(version, by_accuracy)
        return version

    return register
