"""A rejected model is trained again a known number of times, with a wider search, and never in a loop."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from petpark_assets.domain.attempts import Attempt, new_attempt
from petpark_assets.domain.files import digest, write_record
from petpark_assets.domain.home import Home, open_home
from petpark_assets.domain.model.space import check_space
from petpark_assets.domain.recipes import RECIPES, Choices, Recipe, override
from petpark_assets.domain.records import EvaluationReport, GateOverride
from petpark_assets.domain.workflow import retraining
from petpark_assets.domain.workflow.retraining import BUDGET, COOL_DOWN, Filed, RetrainRequest, next_request, widened
from petpark_assets_tests.domain.audit.drawn_home import add_version, photo

NOW = datetime(2026, 3, 3, 10, tzinfo=UTC)
DEMO = RECIPES["demo"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Empty."""
    return open_home(tmp_path / "home", actor="tester")


def examine(home: Home, attempt: Attempt, *, is_accepted: bool = False) -> None:
    """Write an exam's record."""
    record = EvaluationReport(
        dataset_version=attempt.dataset_version,
        attempt=attempt.id,
        trained_cnn="1" * 64,
        test_split="2" * 64,
        is_accepted=is_accepted,
        verdict="accepted" if is_accepted else "rejected: accuracy 0.8000 is below 0.85",
        targets={},
        default_targets={},
        metrics={},
        files={},
    )
    write_record(home.store, record, {})


def filed(number: int) -> Filed:
    """The request of a version's n-th rejected attempt, filed n hours ago."""
    request = RetrainRequest(
        dataset_version="v0001", attempt=f"{number:016}", evaluation_report="3" * 64, cause="rejected", configuration={}
    )
    return Filed(request=request, when=(NOW - timedelta(hours=number)).isoformat())


def ask(requests, starts, *, has_accepted=False, now=NOW):
    """The decision about v0001."""
    return next_request("v0001", requests, starts, has_accepted=has_accepted, now=now)


# ---- what is asked for


@pytest.mark.parametrize("name", RECIPES)
def test_a_wider_search_tries_more_of_more(name: str):
    """Twice the trials, of a space that has the old one in it; and of nothing that cannot be trained."""
    recipe, wider = RECIPES[name], widened(RECIPES[name])
    assert wider.search.num_trials == 2 * recipe.search.num_trials
    assert wider.search.space.keys() == recipe.search.space.keys() | {"weight_decay"}
    old, new = recipe.search.space["learning_rate"], wider.search.space["learning_rate"]
    assert new.low < old.low < old.high < new.high
    check_space(widened(wider))
    assert override(wider, {"search": vars(recipe.search)}) == recipe


def test_a_search_that_was_none_becomes_one():
    """A recipe set by hand was rejected: the next attempt looks for itself."""
    by_hand = override(DEMO, {"search": {"algorithm": "none", "space": {}}})
    assert widened(by_hand).search.algorithm == "tpe"
    check_space(widened(by_hand))


@pytest.mark.parametrize("algorithm", ["grid", "none", "random"])
def test_a_population_is_widened_as_one(algorithm: str):
    """Population-based training goes on from random values: TPE would be refused, and with it the exam's own step."""
    space = {"learning_rate": Choices(values=(0.001, 0.01))}
    recipe = override(DEMO, {"search": {"algorithm": algorithm, "space": space, "scheduler": "pbt"}})
    assert widened(recipe).search.algorithm == "random"
    check_space(widened(recipe))


def test_a_request_has_its_cause_and_leads_to_the_rejection(home: Home):
    """In the store and in the ledger; asked again it is the same one."""
    attempt = new_attempt("v0001", DEMO)
    examine(home, attempt)
    said = retraining.file_request(home, attempt)
    assert said == retraining.file_request(home, attempt) == "asked for, with 8 trials over learning_rate, weight_decay"
    (one,) = retraining.read_requests(home.store, "v0001")
    assert one.request.cause == "rejected: accuracy 0.8000 is below 0.85"
    assert digest(retraining.requested_recipe(one.request)) == digest(widened(DEMO))
    (event,) = home.ledger.events()
    assert (event.event, event.subject["retrain_request"]) == ("retrain_requested", one.digest)


def test_an_accepted_model_asks_for_nothing(home: Home):
    """Nor does the ledger hear of it."""
    attempt = new_attempt("v0001", DEMO)
    examine(home, attempt, is_accepted=True)
    assert retraining.file_request(home, attempt) == "none: the model was accepted"
    assert retraining.read_requests(home.store, "v0001") == []


def test_rejections_without_end_make_requests_with_an_end(home: Home):
    """Each retraining may be rejected in turn: the chain stops at the budget, and says what to do."""
    recipe: Recipe = DEMO
    for _ in range(BUDGET):
        attempt = new_attempt("v0001", recipe)
        examine(home, attempt)
        assert retraining.file_request(home, attempt).startswith("asked for")
        recipe = widened(recipe)
    last = new_attempt("v0001", recipe)
    examine(home, last)
    assert retraining.file_request(home, last) == (
        "none: v0001 has its 2 requests already; change the recipe or the lake"
    )


# ---- what is carried out


def test_the_oldest_request_is_carried_out_first():
    """Whatever the order of the files."""
    one, why = ask([filed(1), filed(3), filed(2)], {})
    assert one == filed(3)
    assert why == "v0001 is trained again: rejected"


def test_the_next_waits_until_the_last_has_cooled_down():
    """A person who reads the alert comes first."""
    starts = {filed(3).digest: NOW}
    for passed, is_ready in ((timedelta(), False), (COOL_DOWN - timedelta(seconds=1), False), (COOL_DOWN, True)):
        one, why = ask([filed(3), filed(2)], starts, now=NOW + passed)
        assert (one == filed(2)) is is_ready, why
    assert ask([filed(3), filed(2)], starts)[1] == (
        "v0001 is trained again from 2026-03-04 10:00 UTC on, if no person comes first"
    )


def test_nothing_is_trained_again_where_a_person_let_the_model_through(home: Home):
    """The park has its model: four times the trials would be spent on a question that was answered."""
    attempt = new_attempt("v0001", DEMO)
    examine(home, attempt)
    retraining.file_request(home, attempt)
    add_version(home, "v0001", [photo(number) for number in range(20)])
    assert retraining.decide(home)[0] is not None
    word = GateOverride(
        dataset_version="v0001", attempt=attempt.id, trained_cnn="1" * 64, evaluation_report="3" * 64, weights="4" * 64,
        verdict="rejected", by="Ann", because="the camera is new",
    )  # fmt: skip
    write_record(home.store, word, {})
    assert retraining.decide(home) == (None, "v0001 has an accepted model by now")


def test_the_budget_holds_whatever_was_filed():
    """Two rejections in the same second may both have been filed as the last."""
    starts = {filed(number).digest: NOW - 10 * COOL_DOWN for number in range(BUDGET)}
    one, why = ask([filed(number) for number in range(BUDGET + 1)], starts)
    assert one is None
    assert why == "v0001 was trained again 2 times, as often as it may: change the recipe or the lake"


def test_nothing_is_trained_once_a_model_was_accepted():
    """A person was faster."""
    assert ask([filed(1)], {}, has_accepted=True) == (None, "v0001 has an accepted model by now")


def test_nothing_waits_where_all_were_begun():
    """A request is carried out once, whatever comes of it."""
    assert ask([filed(1)], {filed(1).digest: NOW}) == (None, "no request of v0001 waits")
