"""One drawn home for all tests of this room, since MLflow's tables take seconds; who changes it has a copy."""

import shutil
from pathlib import Path

import pytest

from petpark_assets.domain.home import Home, open_home
from petpark_assets_tests.domain.audit import drawn_home


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Home:
    """To be read only."""
    return drawn_home.build(tmp_path_factory.mktemp("audit") / "home")


@pytest.fixture
def copy(home, tmp_path) -> Home:
    """A copy to spoil."""
    shutil.copytree(home.root, tmp_path / "home")
    return open_home(tmp_path / "home", actor="eve")


@pytest.fixture
def attempt_file(copy):
    """The path of a record of an attempt, by asset and attempt."""

    def find(asset: str, attempt: str) -> Path:
        return next((copy.root / "store" / asset).glob(f"*/{attempt}.json"))

    return find
