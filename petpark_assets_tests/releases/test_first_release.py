"""Claims about a home of 2026-11-22 (README.md): today's code reads all of it, proves it, and goes on with it."""

import shutil
from itertools import islice

import dagster as dg
import pytest

from petpark_assets.domain import files
from petpark_assets.domain.attempts import find_attempt, new_attempt
from petpark_assets.domain.audit import bundle, models, pages, photos, proof, timeline, trail
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake import corrections, tombstones
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import RECIPES, override
from petpark_assets.domain.records import AttemptRecord
from petpark_assets.domain.workflow import (
    forgetting,
    ingestion,
    packaging,
    registration,
    summary,
    testing,
    training,
    verification,
)
from petpark_assets.resources.environments import enter_home
from petpark_assets_tests import releases

ACCEPTED, REJECTED = ("v0001", "1edf1bcc76b40f03"), ("v0002", "a71dea2c77784709")
LEDGER_HEAD = "d1be02061a62a4b249936a8e0a13a837f8001d431288db65a273ee36f272d791"
PACKAGE = "aa43509680b93d8ca1c01587647d872ff45e21b37615f0af63d6c8c1d1fb2c7c"
"""As the code of then printed them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the home and its lake; tests add to it, in their order here."""
    return releases.unpack(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def home(folder):
    """That home, opened by today's code."""
    return open_home(folder / "home", actor="Kim")


def test_the_whole_chain_is_proved(home):
    """An auditor asks in ten years: ledger, records, files and registry are what they were, by today's rules."""
    document = proof.verify(home)
    assert document["offending"] == []
    assert (document["num_records"], document["num_registered"]) == (16, 1)
    *_, last = islice(home.ledger.events(), 22)
    assert last.digest == LEDGER_HEAD


def test_all_versions_of_the_lake_are_proved(home):
    """Manifests, signatures, originals and pixels of then hold by the checks of now."""
    document = verification.verify_versions(home)
    assert document["offending"] == []
    assert (document["num_versions"], document["num_photos"]) == (2, 20)


@pytest.mark.parametrize(("version", "attempt"), [ACCEPTED, REJECTED])
def test_every_record_is_read_with_the_digest_it_had(home, version, attempt):
    """A record's fields may grow; what was written keeps its digest, or nothing could be compared any more."""
    written = trail.read_trail(home.store, version, attempt).documents
    kinds = [kind for kind in summary.FLOW if kind.asset in written]
    assert len(kinds) == (9 if attempt == ACCEPTED[1] else 7)
    for kind in kinds:
        record = files.read_record(home.store, kind, version, attempt if issubclass(kind, AttemptRecord) else None)
        assert files.digest(record) == written[kind.asset].digest
    assert find_attempt(home.store, version, attempt).recipe.resolution_px == 32


def test_what_people_did_is_still_known(home):
    """Corrections and tombstones bind every later version."""
    (correction,) = corrections.read_corrections(home.store)
    assert (correction.label, correction.by) == ("dog", "olga")
    (forgotten,) = tombstones.forgotten(home.store)
    assert tombstones.read(home.store, forgotten).keys == ("dog/00005.jpg",)
    assert forgetting.forget(home, forgotten, "asked again")["is_new"] is False


def test_the_model_is_listed_downloaded_and_answers(home, folder, tmp_path):
    """What a park has deployed must be had again, bit for bit."""
    (version,) = registration.describe_models(home)
    assert (version["version"], version["aliases"]) == (1, ["candidate", "champion"])
    home.registry.download("champion", tmp_path / "model")
    assert files.sha256_file(tmp_path / "model/SHA256SUMS") == PACKAGE
    (answer,) = registration.classify(home, [folder / "lake/dog/00001.jpg"], "champion")
    assert (answer["label"], answer["probability"]) == ("dog", pytest.approx(0.58, abs=0.01))


def test_the_auditors_questions_are_answered(home, tmp_path):
    """About a model, a photo, a version, a moment, and all at once in a bundle."""
    assert models.describe_model(home, "champion")["attempt"] == ACCEPTED[1]
    assert [row["attempt"] for row in models.rejected(home)["rejected"]] == [REJECTED[1]]
    assert photos.describe_photo(home, "cat/00000.jpg")["dataset_versions"]
    assert timeline.describe_dataset(home, "v0001")["dataset_version"] == "v0001"
    assert timeline.at(home, "2026-11-23T00:00")["champion"]
    pages.write_index(home, tmp_path / "index.html")
    bundle.write_bundle(home, "champion", tmp_path / "bundle.zip")
    assert testing.draw_page(home, find_attempt(home.store, *ACCEPTED)).is_file()


def test_its_runs_are_seen_in_dagster(folder):
    """Dagster's databases of then open in the Dagster of now; otherwise a migration must be told of."""
    enter_home(folder / "home")
    with dg.DagsterInstance.get() as instance:
        assert sorted(run.job_name for run in instance.get_runs()) == ["build", "build", *["new_dataset_version"] * 2]
        event = instance.get_latest_materialization_event(dg.AssetKey("registered_model"))
    assert event.asset_materialization.tags["dagster/data_version"]


@pytest.mark.long
def test_a_further_photo_is_built(home, folder, tmp_path):
    """The home is no museum: the next version keeps the old sides, and its model meets the old champion."""
    draw_lake(tmp_path / "more", num_images=22, num_broken=0)
    for key in ("cat/00020.jpg", "dog/00021.jpg"):
        shutil.copy(tmp_path / "more" / key, folder / "lake" / key)
    told = {"search": {"algorithm": "none"}, "hyperparameters": {"epochs": 1, "width": 4}, "resolution_px": 32}
    recipe = override(RECIPES["demo"], {**told, "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0}})
    version = ingestion.new_dataset_version(home, str(folder / "lake"), 32).dataset_version
    assert version == "v0003"
    ingestion.raw_images(home, version, 32)
    ingestion.split(home, version)
    attempt = new_attempt(version, recipe)
    training.feature_scaling(home, attempt)
    training.hyperparameter_search(home, attempt, running_ray=None)
    training.trained_cnn(home, attempt)
    assert testing.evaluation_report(home, attempt).comparison["champion"]["model_version"] == 1
    packaging.onnx_package(home, attempt)
    assert registration.registered_model(home, attempt).model_version == 2
    assert proof.verify(home)["offending"] == []
    assert verification.verify_versions(home)["offending"] == []
