"""A home to be backed up, and a place for its backups. Not here: claims about them."""

import shutil

import pytest

from petpark_assets.domain.files import LocalStore
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.workflow import ingestion
from petpark_assets_tests import releases

SIDE_PX = 16


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A lake of 20 drawn photos and two broken ones, and a home with two versions of it; no model, which takes time."""
    folder = tmp_path_factory.mktemp("made")
    draw_lake(folder / "lake", num_images=20, num_broken=2)
    home = at(folder / "home")
    for _ in range(2):
        version = ingestion.new_dataset_version(home, str(folder / "lake"), SIDE_PX).dataset_version
        ingestion.split(home, version)
        (folder / "lake/cat/00000.jpg").unlink(missing_ok=True)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of both."""
    shutil.copytree(made, tmp_path / "park")
    releases.move(tmp_path / "park")
    return tmp_path / "park"


@pytest.fixture
def home(folder):
    """The home of that copy."""
    return at(folder / "home")


@pytest.fixture
def place(tmp_path):
    """Where backups go."""
    return LocalStore(tmp_path / "place")


def at(root):
    """A home in a folder."""
    return open_home(root, actor="Kim")
