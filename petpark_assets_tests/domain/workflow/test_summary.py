"""Claims about when a build has nothing left to do: a kill at any moment must leave the rest to the same command."""

from pathlib import Path

import pytest

from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.files import write_record
from petpark_assets.domain.home import Home, open_home, page_path
from petpark_assets.domain.recipes import RECIPES, override
from petpark_assets.domain.records import GateOverride
from petpark_assets.domain.workflow import retraining
from petpark_assets.domain.workflow.summary import is_finished
from petpark_assets_tests.domain.workflow.test_retraining import examine

ATTEMPT = new_attempt("v0001", RECIPES["demo"])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """One without anything in it."""
    return open_home(tmp_path, actor="tester")


def draw_page(home, attempt=ATTEMPT):
    """Whatever stands on it."""
    page_path(home, attempt).parent.mkdir(parents=True)
    page_path(home, attempt).write_text("a page")


def test_a_rejected_model_is_finished_with_its_request_and_its_page(home: Home):
    """Both follow the verdict: called finished without them, they would never come."""
    assert not is_finished(home, ATTEMPT)
    examine(home, ATTEMPT)
    assert not is_finished(home, ATTEMPT)
    retraining.file_request(home, ATTEMPT)
    assert not is_finished(home, ATTEMPT)
    draw_page(home)
    assert is_finished(home, ATTEMPT)


def test_a_page_without_the_request_is_not_the_end(home: Home):
    """Forgetting a photo draws pages too."""
    examine(home, ATTEMPT)
    draw_page(home)
    assert not is_finished(home, ATTEMPT)


def test_no_request_is_waited_for_that_the_budget_forbids(home: Home):
    """Or every build of that version would go through all its steps again."""
    for seed in range(1, 1 + retraining.BUDGET):
        other = new_attempt("v0001", override(RECIPES["demo"], {"seed": seed}))
        examine(home, other)
        retraining.file_request(home, other)
    examine(home, ATTEMPT)
    draw_page(home)
    assert is_finished(home, ATTEMPT)


def test_a_model_that_was_let_through_goes_on(home: Home):
    """Until it is registered."""
    examine(home, ATTEMPT)
    retraining.file_request(home, ATTEMPT)
    draw_page(home)
    word = GateOverride(
        dataset_version="v0001", attempt=ATTEMPT.id, trained_cnn="", evaluation_report="", weights="", verdict="",
        by="olga", because="the park opens",
    )  # fmt: skip
    write_record(home.store, word, {})
    assert not is_finished(home, ATTEMPT)
