"""An open request becomes one run of the job `retrain`, told exactly what was asked, whatever is killed meanwhile."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from petpark_assets.assets.versions import ATTEMPT_TAG, DATASET_VERSIONS
from petpark_assets.definitions import build_defs
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.files import digest
from petpark_assets.domain.home import open_home
from petpark_assets.domain.recipes import RECIPES
from petpark_assets.domain.workflow import retraining
from petpark_assets.resources.environments import Environment
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.s3 import S3Connection
from petpark_assets.sensors import rejected_models as room
from petpark_assets.sensors.rejected_models import REQUEST_TAG, rejected_models
from petpark_assets_tests.domain.workflow.test_retraining import examine

DEMO = RECIPES["demo"]
WIDER = new_attempt("v0001", retraining.widened(DEMO))


class House:
    """A home with one version and an instance; its ticks."""

    def __init__(self, folder: Path) -> None:
        self.home = open_home(folder / "home", actor="tester")
        self.opening = PetparkHome(root=str(self.home.root), actor="tester", s3=S3Connection())
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(folder))
        self.instance.add_dynamic_partitions(str(DATASET_VERSIONS.name), ["v0001"])
        environment = Environment(name="ci", home=self.home.root, actor="tester", photos=None, ray_address=None)
        self.definitions = build_defs(environment)

    def reject(self, recipe=DEMO) -> None:
        """An exam that was failed, and the request that it files."""
        examine(self.home, new_attempt("v0001", recipe))
        retraining.file_request(self.home, new_attempt("v0001", recipe))

    def tick(self) -> list[dg.RunRequest] | str:
        """What the sensor asks for, or why for nothing."""
        told = {"instance": self.instance, "definitions": self.definitions, "resources": {"home": self.opening}}
        with (
            dg.build_sensor_context(**told) as context,
            dg.partition_loading_context(dynamic_partitions_store=self.instance),
        ):
            data = rejected_models.evaluate_tick(context)
        return list(data.run_requests or []) or str(data.skip_message)

    def begin(self, request: dg.RunRequest) -> None:
        """What the daemon makes of a request."""
        self.instance.create_run_for_job(dg.job(name="retrain")(lambda: None), tags=dict(request.tags))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """One version, nothing examined."""
    for module in (room, retraining):
        monkeypatch.setattr(module, "list_versions", lambda _store: ["v0001"])
    return House(tmp_path)


def test_a_request_becomes_a_run_that_is_told_what_was_asked(house: House):
    """By the run's config alone the same recipe comes out, and so the same attempt as the tag says."""
    house.reject()
    (request,) = house.tick()
    (filed,) = retraining.read_requests(house.home.store, "v0001")
    config = request.run_config["resources"]["recipe"]["config"]
    assert request.run_key == request.tags[REQUEST_TAG] == filed.digest
    assert (request.partition_key, request.tags[ATTEMPT_TAG]) == ("v0001", WIDER.id)
    assert digest(RunRecipe(**config).resolve()) == digest(WIDER.recipe)
    job = house.definitions.resolve_job_def("retrain")
    assert dg.validate_run_config(job, request.run_config)
    events = [event.event for event in house.home.ledger.events()]
    assert events == ["retrain_requested", "retraining_started"]


def test_a_request_is_carried_out_once(house: House):
    """Also when its run fails: it is the ledger that counts, not success."""
    house.reject()
    (request,) = house.tick()
    house.begin(request)
    assert house.tick() == "no request of v0001 waits"


def test_a_tick_that_was_killed_before_its_run_is_made_good(house: House):
    """The start was noted and the daemon never heard of it: asked for again, under the same key, counted once."""
    house.reject()
    (lost,) = house.tick()
    (again,) = house.tick()
    assert again == lost
    assert [event.event for event in house.home.ledger.events()].count("retraining_started") == 1


def test_rejections_without_end_cost_two_runs(house: House, monkeypatch: pytest.MonkeyPatch):
    """Every retraining is rejected, a year long: the sensor stops by itself and says what to do."""
    monkeypatch.setattr(retraining, "COOL_DOWN", timedelta())
    recipe, runs = DEMO, 0
    for _ in range(10):
        house.reject(recipe)
        asked = house.tick()
        if isinstance(asked, list):
            runs += 1
            house.begin(asked[0])
            recipe = retraining.widened(recipe)
    assert runs == retraining.BUDGET
    assert house.tick() == "no request of v0001 waits"


def test_it_is_off_until_a_person_switches_it_on(house: House):
    """It spends hours of computing by itself."""
    assert rejected_models in house.definitions.sensors
    assert rejected_models.default_status == dg.DefaultSensorStatus.STOPPED


def test_without_a_rejection_nothing_happens(house: House):
    """The tick says so."""
    assert house.tick() == "no request of v0001 waits"
