"""A search that gained nothing must say so, and a gain within the noise must not be sold as one."""

import dataclasses

import pytest

from petpark_assets.domain.report.gain import search_gain, standard_error
from petpark_assets_tests.domain.report import toy

SEARCH = toy.context().hyperparameter_search


def gain(**fields):
    """What the toy search gained, with some fields set otherwise."""
    return search_gain(dataclasses.replace(SEARCH, **fields))


def test_standard_error_of_a_share():
    """0.9 counted on 100 photos is uncertain by 0.03."""
    assert standard_error(0.9, 100) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("num_validation_images", "words"),
    [(160, "may well be noise"), (800, "less than twice that"), (16_000, "more than twice that")],
)
def test_a_gain_is_held_against_its_standard_error(num_validation_images, words):
    """0.0212 more on 160 photos is noise; the same on 16,000 is not."""
    result = gain(num_validation_images=num_validation_images)
    assert result["gain"] == pytest.approx(0.0212)
    assert "gained 0.0212 over the recipe's defaults" in result["sentence"]
    assert words in result["sentence"]


def test_nothing_gained_is_said():
    """The search's cost is judged by its gain, also when that is nothing."""
    result = gain(best_validation_accuracy=0.86)
    assert result["gain"] == 0
    assert "The search gained nothing over the recipe's defaults" in result["sentence"]


def test_no_search_made_is_said():
    """Values given by hand are no search that found nothing."""
    result = gain(algorithm="none", trials=(), default_validation_accuracy=None, best_validation_accuracy=None)
    assert (result["gain"], result["num_trials"]) == (None, 0)
    assert result["sentence"].startswith("No search was made")
