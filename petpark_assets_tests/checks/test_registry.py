"""Claims about the check of a registered version: it downloads the version, and says what keeps it from being whole."""

from pathlib import Path
from urllib.request import url2pathname

import pytest

from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.files import write_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.catalogue import manifest_key
from petpark_assets.domain.records import RegisteredModel
from petpark_assets_tests.assets import toy_house
from petpark_assets_tests.checks.doctored import RECIPE
from petpark_assets_tests.checks.verdicts import verdict
from petpark_assets_tests.domain.package import toys

CHECK = "version_can_be_downloaded"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a toy package in its registry, which is the real one: MLflow's tables take seconds."""
    folder = tmp_path_factory.mktemp("registered")
    home = open_home(folder / "home", actor="tester")
    home.store.write_new(manifest_key("v0001"), b"")
    attempt = new_attempt("v0001", RECIPE)
    toy_house.begin(home, attempt)
    package = toys.write_package(folder / "package", toys.package_files(accuracy=0.97, seed=0))
    version = home.registry.register(package, tags={"onnx_package": "9" * 64, "run_id": "none"})
    record = RegisteredModel(
        dataset_version="v0001", attempt=attempt.id, onnx_package="9" * 64, evaluation_report="8" * 64,
        gate_override=None, model_name=home.registry.model_name, model_version=version,
    )  # fmt: skip
    write_record(home.store, record, {})
    return home


def test_a_version_that_comes_whole_passes(home):
    """Else each refusal below could be that of any version."""
    found = verdict(home, CHECK)
    assert (found.passed, found.description) == (True, "downloaded and verified")


def test_a_version_with_a_changed_file_fails_naming_the_file(home):
    """One flipped bit where MLflow keeps it; whoever deploys would else be the first to notice."""
    location = home.registry._store._location(home.registry.show(1))
    stored = Path(url2pathname(location.removeprefix("file://"))) / "model.onnx"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        found = verdict(home, CHECK)
    finally:
        stored.write_bytes(whole)
    assert not found.passed
    assert "model.onnx" in found.description


def test_a_version_without_its_record_fails(home):
    """What nothing leads to cannot be downloaded by who follows the records."""
    (name,) = home.store.list_keys("registered_model")
    whole = home.store.read(name)
    home.store.delete(name)
    try:
        found = verdict(home, CHECK)
    finally:
        home.store.write_new(name, whole)
    assert not found.passed
