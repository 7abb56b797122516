"""The whole flow on a tiny lake, twice: as plain Python, then as Dagster runs, to the same digests."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import dagster as dg
import numpy as np
import pytest

from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.definitions import build_defs
from petpark_assets.domain import files
from petpark_assets.domain.attempts import Attempt, new_attempt
from petpark_assets.domain.errors import CorruptData, ModelRejected
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import override
from petpark_assets.domain.records import (
    AttemptRecord,
    EvaluationReport,
    HyperparameterSearch,
    OnnxPackage,
    RegisteredModel,
    TrainedCnn,
)
from petpark_assets.domain.report.gain import search_gain
from petpark_assets.domain.workflow import (
    champion,
    ingestion,
    packaging,
    registration,
    retraining,
    sides,
    summary,
    testing,
    training,
)
from petpark_assets.resources.environments import Environment
from petpark_assets.resources.login import APPROVER, ROLE_TAG, USER_TAG
from petpark_assets.resources.ray_cluster import started
from petpark_assets.resources.recipe import RunRecipe, as_run_config
from petpark_assets_tests import step_by_step
from petpark_assets_tests.assets import displayed

TINY = {
    "recipe": "demo",
    "search": {"num_trials": 2, "trial_epochs": 1},
    "hyperparameters": {"epochs": 2, "width": 4},
    "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
}
"""Two trials and two epochs: what is learned does not matter here, that it is the same does."""
HOPELESS = {
    **TINY,
    "search": {"algorithm": "none", "num_trials": 1, "trial_epochs": 1},
    "targets": {"accuracy": 1.0, "precision": 1.0, "recall": 1.0},
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty drawn photos and the eight broken ones."""
    folder = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(folder, num_images=60)
    return folder


@pytest.fixture(scope="module")
def plain_home(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home built step by step, without Dagster."""
    home = open_home(tmp_path_factory.mktemp("plain") / "home", actor="tester")
    recipe = _recipe(TINY)
    version = step_by_step.ingest(home, str(lake), recipe.resolution_px)
    step_by_step.build(home, new_attempt(version, recipe), started)
    return home


class House:
    """A home with a Dagster instance of its own, and its two jobs."""

    def __init__(self, root: Path, lake: Path) -> None:
        environment = Environment(name="ci", home=root, actor="tester", photos=None, ray_address=None)
        self.home = open_home(root, actor="tester")
        artifacts = root.parent / f"{root.name}-dagster"  # without it, a temporary folder that nobody closes
        artifacts.mkdir(parents=True, exist_ok=True)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(artifacts))
        self.definitions = build_defs(environment)
        self.lake = lake
        self.first: dg.ExecuteInProcessResult
        """The build of TINY."""

    def ingest(self) -> dg.ExecuteInProcessResult:
        """Run the job that looks at the lake."""
        config = {"ops": {"look_at_the_lake": {"config": {"lake": str(self.lake)}}}}
        return self._run("new_dataset_version", run_config={**config, **_run_config(TINY)})

    def build(self, told: dict, *, only: list[str] | None = None, version: str = "v0001") -> dg.ExecuteInProcessResult:
        """Materialize a version, or a part of it."""
        selection = [dg.AssetKey(name) for name in only] if only else None
        return self._run("build", run_config=_run_config(told), partition_key=version, asset_selection=selection)

    def train_again(self, told: dict) -> dg.ExecuteInProcessResult:
        """The job of the sensor `rejected_models`."""
        return self._run("retrain", run_config=_run_config(told), partition_key="v0001")

    def _run(self, job: str, **execution) -> dg.ExecuteInProcessResult:
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, raise_on_error=False, **execution)


@pytest.fixture(scope="module")
def house(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A home built by the two jobs, as from the UI."""
    house = House(tmp_path_factory.mktemp("dagster") / "home", lake)
    assert house.ingest().success
    house.first = house.build(TINY)
    assert house.first.success
    return house


def _recipe(told: dict):
    return RunRecipe(**told).resolve()


def _run_config(told: dict) -> dict:
    return {"resources": {"recipe": {"config": told}}}


def _digests(home: Home, attempt: Attempt) -> dict[str, str]:
    return {
        kind.asset: files.digest(
            files.read_record(
                home.store, kind, attempt.dataset_version, attempt.id if issubclass(kind, AttemptRecord) else None
            )
        )
        for kind in summary.FLOW
    }


@pytest.mark.slow
def test_both_ways_give_the_same_digests(plain_home: Home, house: House):
    """Dagster decides when work is done, never what comes of it: an auditor can repeat a run without it."""
    attempt = new_attempt("v0001", _recipe(TINY))
    assert _digests(plain_home, attempt) == _digests(house.home, attempt)


def test_data_versions_are_the_records_digests(house: House):
    """What the UI shows as an asset's data version is what the files prove."""
    attempt = new_attempt("v0001", _recipe(TINY))
    for asset, digest in _digests(house.home, attempt).items():
        event = house.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event.asset_materialization.partition == "v0001"
        assert event.asset_materialization.tags["dagster/data_version"] == digest


def test_the_run_carries_its_attempt(house: House):
    """From a run in the UI one finds the records, and the other way round."""
    attempt = new_attempt("v0001", _recipe(TINY))
    runs = house.instance.get_runs(dg.RunsFilter(tags={ATTEMPT_TAG: attempt.id}))
    noted = files.read_circumstances(house.home.store, RegisteredModel, "v0001", attempt.id)
    assert noted["run_id"] in {run.run_id for run in runs}


def _shown(house: House, kind: type[AttemptRecord]):
    """What the UI shows of an asset of the first build, and its record."""
    (made,) = house.first.asset_materializations_for_node(kind.asset)
    return made.metadata, files.read_record(house.home.store, kind, "v0001", made.metadata["attempt"].value)


def _are_pictures(shown, *names: str) -> bool:
    """Whether they are, and each another."""
    return len({displayed.picture(shown[name]).tobytes() for name in names}) == len(names)


def test_the_ui_shows_what_a_search_tried_and_gained(house: House):
    """Its page is where a person sees whether the search was worth its hours, and what to search next."""
    shown, record = _shown(house, HyperparameterSearch)
    assert displayed.rows(shown["space"]) == [
        {"hyperparameter": "learning_rate", "tried": "0.02 to 0.08", "drawn": "evenly by its logarithm"}
    ]
    assert displayed.rows(shown["trials"]) == [
        {
            "number": str(number),
            "is_default": str(number == 1),
            "validation_accuracy": f"{trial['validation_accuracy']:.4g}",
            "schedule_share": "1",
            "learning_rate": f"{trial['hyperparameters']['learning_rate']:.4g}",
        }
        for number, trial in zip((1, 2), record.trials, strict=True)
    ]
    assert _are_pictures(shown, "parallel_coordinates", "learning_curves")
    assert shown["best_hyperparameters"].value == record.best_hyperparameters
    assert shown["gain_on_validation"].value == search_gain(record)["sentence"]
    assert shown["gain_on_validation"].value.startswith("The search gained ")


def test_the_ui_shows_how_the_network_learned(house: House):
    """A curve that still rises at its end asks for more epochs, and one that has turned for fewer."""
    shown, record = _shown(house, TrainedCnn)
    assert _are_pictures(shown, "learning_curve")
    for name in ("validation_accuracy", "best_epoch", "temperature", "unknown_below", "num_parameters", "device"):
        assert shown[name].value == getattr(record, name)
    for name in ("hyperparameters", "environment"):
        assert shown[name].value == getattr(record, name)


def test_the_ui_shows_the_exam(house: House):
    """Whoever approves a model looks at these; a lake of sixty photos has no slice of 200 to be looked at."""
    shown, record = _shown(house, EvaluationReport)
    assert _are_pictures(shown, "confusion", "curves", "calibration")
    assert displayed.rows(shown["targets"]) == [
        {"measure": name, "asked": "0", "by default": default}
        for name, default in (("accuracy", "0.97"), ("precision", "0.95"), ("recall", "0.95"))
    ]
    assert shown["slices"].value == "none"
    assert shown["is_accepted"].value is True
    assert shown["verdict"].value == record.verdict
    assert shown["accuracy"].value == record.metrics["accuracy"]
    assert shown["coverage"].value == record.metrics["abstention"]["coverage"]
    assert shown["champion"].value == "There was no champion to compare with."
    assert Path(shown["report_file"].value).is_file()


def test_a_run_s_log_has_one_line_for_each_epoch(house: House):
    """Of hours of training it is the only sign of life in the UI, and shows early that a run is lost."""
    lines = [entry.user_message for entry in house.instance.all_logs(house.first.run_id) if not entry.is_dagster_event]
    expected = [
        f"trial {trial['number']}, epoch {point['epoch']}: training loss {point['train_loss']:.4f}, "
        f"validation loss {point['validation_loss']:.4f}, validation accuracy {point['validation_accuracy']:.4f}"
        for trial in _shown(house, HyperparameterSearch)[1].trials
        for point in trial["curve"]
    ]
    assert [line for line in lines if re.match(r"trial \d+, epoch", line)] == expected
    learned = [
        f"epoch {epoch['number']} of 2: training loss {epoch['train_loss']:.4f}, "
        f"validation accuracy {epoch['validation_accuracy']:.4f}"
        for epoch in _shown(house, TrainedCnn)[1].epochs
    ]
    assert [line.rpartition(", ")[0] for line in lines if line.startswith("epoch ")] == learned
    assert (len(expected), len(learned)) == (2, 2)


def test_the_registered_version_leads_to_every_parent(house: House):
    """Registry -> package -> report -> model -> splits -> lake, from the registry's tags alone."""
    attempt = new_attempt("v0001", _recipe(TINY))
    tags = registration.describe_model(house.home, "champion")
    digests = _digests(house.home, attempt)
    for asset in ("raw_images", "train_split", "test_split", "trained_cnn", "evaluation_report", "onnx_package"):
        assert tags[asset] == digests[asset]


def test_the_champion_answers_about_photos(house: House, lake: Path):
    """What was registered can be asked; a broken photo is a row with an error, not the end of the others."""
    good = min((lake / "cat").glob("*"))
    answers = registration.classify(house.home, [good, lake / "README.txt"], "champion")
    assert answers[0]["label"] in {"cat", "dog"}
    assert answers[0]["error"] is None
    assert answers[1]["label"] is None
    assert "README.txt" in answers[1]["path"]
    assert answers[1]["error"]


def test_the_registry_is_read_from_the_terminal(house: House, tmp_path: Path):
    """List, history, and a download of one file: what a person needs to deploy a version and to ask who made it so."""

    def petpark(*words: str):
        command = [sys.executable, "-m", "petpark_assets.cli", "registry", *words, "--json"]
        command += ["--home", str(house.home.root)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    (version,) = petpark("list")
    assert (version["version"], version["aliases"]) == (1, ["candidate", "champion"])
    assert petpark("show", "champion")["accuracy"] == version["accuracy"]
    assert [event["event"] for event in petpark("history")] == ["model_registered", "alias_moved", "alias_moved"]
    petpark("download", "v1", "--to", str(tmp_path), "--file", "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_second_run_on_an_unchanged_lake_makes_nothing(house: House):
    """The same lake is the same version: no number is spent, and the run says so."""
    result = house.ingest()
    assert result.output_for_node("look_at_the_lake") == ("v0001", False)


def test_materializing_again_does_no_work_and_changes_nothing(house: House):
    """A finished attempt is shown again: re-execution in the UI is safe."""
    attempt = new_attempt("v0001", _recipe(TINY))
    before = _digests(house.home, attempt)
    result = house.build(TINY, only=["trained_cnn", "evaluation_report"])
    assert result.success
    assert _digests(house.home, attempt) == before


def test_the_int8_model_is_shipped_as_the_record_says(house: House):
    """Chosen on the validation part; its speed is noted beside the record, where no digest sees it."""
    attempt = new_attempt("v0001", _recipe(TINY))
    record = files.read_record(house.home.store, OnnxPackage, "v0001", attempt.id)
    noted = files.read_circumstances(house.home.store, OnnxPackage, "v0001", attempt.id)
    is_kept = record.parity["int8"]["is_kept"]
    assert is_kept == ("model.int8.onnx" in record.files) == ("int8_speed_up" in noted)
    assert record.parity["int8"]["validation"]["num_images"] > 0


def test_a_rejected_model_is_neither_packaged_nor_registered(house: House):
    """The gate is a blocking check: what comes after it is skipped, and the check's line says why."""
    result = house.build(HOPELESS)
    rejected = new_attempt("v0001", _recipe(HOPELESS))
    assert not result.success
    (verdict,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "model_satisfies"]
    assert not verdict.passed
    assert verdict.description.startswith("rejected: accuracy")
    assert files.has_record(house.home.store, EvaluationReport, "v0001", rejected.id)
    assert not files.has_record(house.home.store, OnnxPackage, "v0001", rejected.id)


def _openings(home: Home) -> list[tuple[str, str]]:
    """Who was looked at on a test side, and for what, in the ledger's order."""
    subjects = [event.subject for event in home.ledger.events() if event.event == "test_side_opened"]
    return [(subject["attempt"], subject["purpose"]) for subject in subjects]


def test_a_later_model_is_compared_with_the_champion_on_the_same_photos(plain_home: Home):
    """At the champion's own resolution, once, and both openings of the test side are in the ledger."""
    reigning = registration.describe_model(plain_home, "champion")
    told = override(_recipe(TINY), {"resolution_px": 40, "seed": 1, "search": {"algorithm": "none"}})
    attempt = new_attempt("v0001", told)
    ingestion.raw_images(plain_home, "v0001", 40)
    training.feature_scaling(plain_home, attempt)
    training.hyperparameter_search(plain_home, attempt, running_ray=started)
    training.trained_cnn(plain_home, attempt)
    record = testing.evaluation_report(plain_home, attempt)
    found = {**record.comparison, "champion": dict(record.comparison["champion"])}
    assert found["champion"].pop("model_version") == 1
    assert {name: reigning[name] for name in found["champion"]}.items() == found["champion"].items()
    assert found["champion_accuracy"] == reigning["accuracy"]
    assert found["num_images"] == record.metrics["num_images"] == 12
    alone = found["num_better"] - found["num_worse"]
    assert alone / 12 == pytest.approx(found["accuracy"] - found["champion_accuracy"])
    openings = _openings(plain_home)
    assert openings[-2:] == [(attempt.id, "evaluation"), (reigning["attempt"], "comparison")]
    assert testing.evaluation_report(plain_home, attempt) == record
    assert _openings(plain_home) == openings
    noted = files.read_circumstances(plain_home.store, EvaluationReport, "v0001", attempt.id)
    assert noted["num_models_evaluated"] == 2
    page = " ".join(testing.draw_page(plain_home, attempt).read_text().split())
    assert "So far 2 models have been evaluated on these test photos" in page


def test_an_exam_that_was_stopped_is_made_again_whoever_reigns_by_then(plain_home: Home, monkeypatch):
    """Its files were stored and its record was not: another report must not meet them as a conflict."""
    attempt = new_attempt("v0001", override(_recipe(TINY), {"seed": 2, "search": {"algorithm": "none"}}))
    training.feature_scaling(plain_home, attempt)
    training.hyperparameter_search(plain_home, attempt, running_ray=started)
    training.trained_cnn(plain_home, attempt)
    with monkeypatch.context() as stopped:
        stopped.setattr(testing, "write_record", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            testing.evaluation_report(plain_home, attempt)
    monkeypatch.setattr(champion, "compare", Mock(return_value=None))
    record = testing.evaluation_report(plain_home, attempt)
    assert record.comparison is None
    for name in record.files:
        assert testing.read_report_file(plain_home, record, name)


def test_the_first_model_has_no_champion_to_be_compared_with(plain_home: Home):
    """It says so, instead of looking as if it had won."""
    first = new_attempt("v0001", _recipe(TINY))
    assert files.read_record(plain_home.store, EvaluationReport, "v0001", first.id).comparison is None
    assert "There was no champion to compare with." in testing.draw_page(plain_home, first).read_text()


def test_a_champion_that_learned_from_the_test_side_is_no_judge(plain_home: Home):
    """Sides are for ever, so it cannot be; if they were ever mixed, the comparison must not hide it."""
    learned = sides.open_side(plain_home, "v0001", "train", 48)
    with pytest.raises(CorruptData, match="champion \\(version 1\\) learned from 48 photos of this test side"):
        champion.compare(plain_home, "v0001", learned, np.zeros(48), [])


def test_a_run_past_the_gate_is_refused_by_the_verdict_itself(house: House):
    """A run of part of the graph passes by the check: packaging reads the verdict again and refuses."""
    rejected = new_attempt("v0001", _recipe(HOPELESS))
    result = house.build({"attempt": rejected.id}, only=["onnx_package", "registered_model"])
    assert not result.success
    with pytest.raises(ModelRejected, match="rejected: accuracy"):
        packaging.onnx_package(house.home, rejected)


def test_a_changed_package_is_named_by_its_check(house: House):
    """One flipped byte in a stored package: the check fails with the file's name, and so does whoever opens it."""
    attempt = new_attempt("v0001", _recipe(TINY))
    stored = packaging.package_folder(house.home, attempt) / "model.onnx"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        result = house.build({"attempt": attempt.id}, only=["onnx_package"])
        (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "package_is_whole"]
        assert not check.passed
        assert "model.onnx" in check.description
    finally:
        stored.write_bytes(whole)
    assert packaging.find_damage(house.home, attempt) is None


def test_part_of_the_graph_needs_its_attempt_named_when_there_are_several(house: House):
    """Nothing is resolved by "latest"."""
    another = new_attempt("v0001", override(_recipe(TINY), {"seed": 4, "search": {"algorithm": "none"}}))
    training.feature_scaling(house.home, another)
    training.hyperparameter_search(house.home, another, running_ray=started)
    result = house.build({}, only=["trained_cnn"])
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "has several attempts: name one of" in failure.step_failure_data.error.to_string()


def test_a_rejected_model_is_trained_again_as_its_request_says(house: House):
    """The exam files it with the verdict; its run is told all by its config; rejected again, it asks once more."""
    house.build(HOPELESS)
    rejected = new_attempt("v0001", _recipe(HOPELESS))
    (filed,) = retraining.read_requests(house.home.store, "v0001")
    report = files.read_record(house.home.store, EvaluationReport, "v0001", rejected.id)
    assert (filed.request.attempt, filed.request.cause) == (rejected.id, report.verdict)
    wider = retraining.requested_recipe(filed.request)
    assert not house.train_again(as_run_config(wider)).success
    again = new_attempt("v0001", wider)
    searched = files.read_record(house.home.store, HyperparameterSearch, "v0001", again.id)
    assert (len(searched.trials), set(searched.space)) == (2, {"learning_rate", "weight_decay"})
    assert {one.request.attempt for one in retraining.read_requests(house.home.store, "v0001")} == {
        rejected.id,
        again.id,
    }


def test_an_accepted_model_that_is_not_clearly_better_waits_for_a_person(plain_home: Home):
    """Who answers today is replaced by evidence or by somebody with a name, and the ledger says by which."""
    told = override(_recipe(TINY), {"seed": 3, "search": {"algorithm": "none"}})
    attempt = new_attempt("v0001", told)
    training.feature_scaling(plain_home, attempt)
    training.hyperparameter_search(plain_home, attempt, running_ray=started)
    training.trained_cnn(plain_home, attempt)
    record = testing.evaluation_report(plain_home, attempt)
    assert record.is_accepted
    assert record.comparison["p_better"] > 0.05
    packaging.onnx_package(plain_home, attempt)
    version = registration.registered_model(plain_home, attempt).model_version
    assert (plain_home.registry.resolve("champion"), plain_home.registry.resolve("candidate")) == (1, version)
    assert registration.succession(plain_home, version).startswith(
        "it is the newest version, and waits for a person: Not significantly better or worse than the champion"
    )
    registration.promote(plain_home, "candidate", by="ada", because="it is half the size")
    assert plain_home.registry.resolve("champion") == version


ROLES = {"otto": "operator"}
"""Of people who are no approvers."""


def _decide(house: House, job: str, user: str | None = None, **told: str) -> dg.ExecuteInProcessResult:
    """A person's decision, as from the UI; `user` is who logged in."""
    (op,) = house.definitions.resolve_job_def(job).graph.node_names()
    tags = {} if user is None else {USER_TAG: user, ROLE_TAG: ROLES.get(user, APPROVER)}
    return house._run(job, run_config={"ops": {op: {"config": told}}}, tags=tags)


@pytest.fixture(scope="module")
def let_through(house: House) -> dg.ExecuteInProcessResult:
    """The build of a rejected model that olga let through."""
    house.build(HOPELESS)
    rejected = new_attempt("v0001", _recipe(HOPELESS))
    assert _decide(house, "override_gate", "olga", attempt=rejected.id, because="the park opens on Monday").success
    assert not summary.is_finished(house.home, rejected)
    return house.build(HOPELESS)


def test_a_rejected_model_that_a_person_lets_through_goes_on_and_says_so(house: House, let_through):
    """The gate's check opens for this attempt alone, and each asset, the page and the summary show by whom and why."""
    rejected = new_attempt("v0001", _recipe(HOPELESS))
    (event,) = [event for event in house.home.ledger.events() if event.event == "gate_overridden"]
    assert (event.actor, event.subject["by"], event.subject["attempt"]) == ("olga", "olga", rejected.id)
    assert let_through.success
    (verdict,) = [c for c in let_through.get_asset_check_evaluations() if c.check_name == "model_satisfies"]
    assert verdict.passed
    assert verdict.description.endswith("; let through by olga: the park opens on Monday")
    for asset in ("evaluation_report", "onnx_package", "registered_model"):
        (made,) = let_through.asset_materializations_for_node(asset)
        assert made.metadata["override"].value.startswith("rejected, and let through by olga on ")
    version = files.read_record(house.home.store, RegisteredModel, "v0001", rejected.id).model_version
    assert house.home.registry.show(version).aliases == ("candidate",)
    page = " ".join(testing.draw_page(house.home, rejected).read_text().split())
    assert "This model was rejected, and let through by olga" in page
    document = summary.summarize(house.home, "lake", rejected, is_new=False)
    assert (document["is_accepted"], document["overridden_by"]) == (False, "olga")


@pytest.mark.usefixtures("let_through")
def test_a_person_promotes_from_the_ui_in_their_own_name(house: House):
    """Whoever logged in decides, if they are an approver; where nobody logs in, who says so, or the service's actor."""
    told = {"model": "candidate", "because": "it is the best"}
    assert not _decide(house, "promote_model", "olga", **told, by="mia").success
    assert not _decide(house, "promote_model", "otto", **told).success
    assert house.home.registry.resolve("champion") == 1
    decisions = (("candidate", "olga", {}, "olga"), ("v1", None, {"by": "mia"}, "mia"), ("2", None, {}, "tester"))
    for model, user, by, who in decisions:
        assert _decide(house, "promote_model", user, model=model, because="it is the best", **by).success
        *_, move = (event for event in house.home.ledger.events() if event.event == "alias_moved")
        assert (move.actor, move.subject["by"]) == (user or "tester", who)
    records = house.instance.fetch_observations(dg.AssetKey("registered_model"), limit=1).records
    assert records[0].asset_observation.metadata["by"].value == "tester"
