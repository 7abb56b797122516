"""A new model replaces what answers today: that it is no worse must be shown on the same photos, and part by part."""

import numpy as np
import pytest
from scipy.stats import binomtest

from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.report.comparison import compare, holm, is_clearly_better, judged, mcnemar, sentence
from petpark_assets.domain.report.metrics import evaluate
from petpark_assets.domain.report.slices import cut
from petpark_assets_tests.domain.report import toy

NO_TARGETS = Targets(accuracy=0, precision=0, recall=0)
NUM_IMAGES = 1200


@pytest.mark.parametrize(("num_worse", "num_better"), [(0, 0), (5, 0), (0, 5), (12, 3), (40, 40), (1300, 1200)])
def test_mcnemar_is_the_exact_binomial_of_scipy(num_worse, num_better):
    """An auditor can repeat the test with another program; also where a float's 2^-n would be 0."""
    num = num_worse + num_better
    other = binomtest(num_worse, num, alternative="greater").pvalue if num else 1.0
    assert mcnemar(num_worse, num_better) == pytest.approx(other, rel=1e-9)


def test_holm_is_computed_by_hand():
    """Of four: 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.9, each at least the one before it."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([]) == []


def test_holm_seldom_refuses_one_of_many_that_are_equal():
    """Eleven slices asked one by one at 0.05 would refuse 4 in 10 sound models."""
    p_values = np.random.default_rng(0).random((2000, 11))
    refused = np.mean([min(holm(list(row))) <= 0.05 for row in p_values])
    assert refused < 0.06
    assert np.mean(p_values.min(axis=1) <= 0.05) > 0.3


def examined(*, wrong, champion_wrong, brightness=None):
    """An exam and its comparison, from which photos each of the two gets wrong."""
    labels = (np.arange(NUM_IMAGES) % 2).astype(np.uint8)
    measured = toy.measured(NUM_IMAGES) | ({} if brightness is None else {"brightness": brightness})
    slices = cut(labels, measured)
    answers, theirs = (np.where(missed, 1 - labels, labels) * 0.8 + 0.1 for missed in (wrong, champion_wrong))
    found = evaluate(labels, answers, NO_TARGETS, slices=slices)
    return judged(found, compare(labels, answers, theirs, slices, toy.CHAMPION))


def test_a_model_that_is_better_on_the_whole_and_worse_in_the_dark_is_refused_by_that_name():
    """The park's camera looks at night too: a gain by day does not pay for it."""
    brightness = np.linspace(0, 1, NUM_IMAGES)
    place = np.arange(NUM_IMAGES)
    evaluation = examined(wrong=place < 40, champion_wrong=place >= NUM_IMAGES - 80, brightness=brightness)
    assert evaluation.comparison["p_better"] < 0.05
    assert not evaluation.is_accepted
    assert evaluation.verdict.startswith(
        "rejected: significantly worse than the champion (version 3) on brightness dark: accuracy 0.9000 against 1.0000"
    )
    assert "\n" not in evaluation.verdict
    worse = [f"{row['measure']} {row['name']}" for row in evaluation.comparison["slices"] if row["is_worse"]]
    assert worse == ["brightness dark"]


def test_equals_and_betters_pass():
    """The same model again, or one without any mistake, must not be stopped."""
    wrong = np.arange(NUM_IMAGES) % 50 == 0
    for mistakes in (wrong, np.zeros(NUM_IMAGES, bool)):
        evaluation = examined(wrong=mistakes, champion_wrong=wrong)
        assert evaluation.is_accepted
        assert evaluation.verdict.startswith("accepted: ")


def test_a_missed_target_and_a_worse_slice_are_told_in_one_line():
    """Who mends one must know of the other."""
    labels, wrong = np.arange(NUM_IMAGES) % 2, np.arange(NUM_IMAGES) < 100
    slices = cut(labels.astype(np.uint8), toy.measured(NUM_IMAGES))
    answers = np.where(wrong, 1 - labels, labels).astype(float)
    found = evaluate(labels, answers, Targets(accuracy=0.97, precision=0, recall=0), slices=slices)
    verdict = judged(found, compare(labels, answers, labels.astype(float), slices, toy.CHAMPION)).verdict
    assert verdict.startswith("rejected: accuracy 0.9167 is below its target 0.97; significantly worse than")
    assert verdict.count("rejected") == 1


def test_the_whole_is_told_in_one_sentence():
    """With numbers on both sides, and without any champion."""
    evaluation = examined(wrong=np.zeros(NUM_IMAGES, bool), champion_wrong=np.arange(NUM_IMAGES) < 20)
    assert sentence(evaluation.comparison).startswith("Significantly better than the champion on the same photos")
    assert "20 photos right by this model alone, 0 by the champion alone" in sentence(evaluation.comparison)
    assert sentence(None) == "There was no champion to compare with."


def test_only_who_is_clearly_better_succeeds_without_a_person():
    """Eleven photos against five may be chance; being clearly worse is no succession either."""
    place = np.arange(NUM_IMAGES)
    package = toy.CHAMPION.package
    for wrong, champion_wrong, is_better in ((0, 20, True), (5, 11, False), (20, 0, False)):
        found = examined(wrong=place < wrong, champion_wrong=place >= NUM_IMAGES - champion_wrong).comparison
        said, why = is_clearly_better(found, package)
        assert said is is_better, why
        assert why == sentence(found).removesuffix(".")


def test_a_comparison_with_another_champion_or_none_decides_nothing():
    """A person may have promoted another version between the exam and the registration."""
    place = np.arange(NUM_IMAGES)
    found = examined(wrong=place < 0, champion_wrong=place < 50).comparison
    said = (False, "its exam did not compare it with the champion of today")
    assert is_clearly_better(found, "another package") == is_clearly_better(None, toy.CHAMPION.package) == said
