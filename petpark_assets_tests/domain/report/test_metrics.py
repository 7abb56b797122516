"""The exam's numbers decide whether a model is deployed: they are checked by hand and against other libraries."""

import json
import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.report.intervals import f1_interval, wilson_interval
from petpark_assets.domain.report.metrics import MAX_CURVE_POINTS, evaluate
from petpark_assets_tests.domain.report import toy

NO_TARGETS = Targets(accuracy=0, precision=0, recall=0)
LABELS = np.array([0, 0, 0, 0, 1, 1], dtype=np.uint8)
PROBABILITIES = np.array([0.1, 0.2, 0.3, 0.9, 0.5, 0.4])


def evaluated(labels=LABELS, probabilities=PROBABILITIES, targets=NO_TARGETS):
    """The exam from plain lists."""
    return evaluate(np.array(labels, dtype=np.uint8), np.array(probabilities), targets)


def test_six_photos_counted_by_hand():
    """Rows are the truth and columns the answer: swapped, precision and recall would change places unseen."""
    metrics = evaluated().metrics
    assert metrics["confusion"] == [[3, 1], [1, 1]]
    assert metrics["accuracy"] == 4 / 6
    cat, dog = metrics["by_class"]["cat"], metrics["by_class"]["dog"]
    assert (cat["precision"], cat["recall"], cat["f1"]) == (3 / 4, 3 / 4, 3 / 4)
    assert (dog["precision"], dog["recall"], dog["f1"]) == (1 / 2, 1 / 2, 1 / 2)
    counts = ("true_positives", "false_positives", "true_negatives", "false_negatives", "num_images")
    assert [cat[name] for name in counts] == [3, 1, 1, 1, 4]
    assert [dog[name] for name in counts] == [1, 1, 3, 1, 2]
    assert (metrics["precision"], metrics["recall"]) == ((3 / 4 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2)
    assert metrics["roc_auc"] == 6 / 8  # of 8 pairs of a cat and a dog, the dog ranks higher in 6


def test_exactly_a_half_is_a_dog():
    """The service applies the same rule; a tie that falls elsewhere there would break parity."""
    assert evaluated([0, 1], [0.49999, 0.5]).metrics["confusion"] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("num_successes", "num_trials"), [(0, 1), (1, 1), (0, 50), (387, 400), (3999, 4000), (7, 13)])
def test_wilson_interval_is_that_of_scipy(num_successes, num_trials):
    """An auditor can repeat the interval with another program."""
    other = binomtest(num_successes, num_trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(num_successes, num_trials) == pytest.approx((other.low, other.high), abs=1e-12)


def test_nothing_tried_means_nothing_known():
    """A class that is never predicted has a precision that could be anything, not a NaN."""
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_f1_interval_holds_f1_and_shrinks_with_more_photos():
    """An interval that misses its own estimate or ignores the sample's size would mislead."""
    few, many = f1_interval(9, 1, 2), f1_interval(900, 100, 200)
    f1 = 18 / 21
    assert few[0] < many[0] < f1 < many[1] < few[1]


def test_every_interval_holds_its_number():
    """What is printed side by side must belong together."""
    metrics = evaluated(*toy.answers()[1:]).metrics
    assert metrics["accuracy_interval"][0] < metrics["accuracy"] < metrics["accuracy_interval"][1]
    for numbers in metrics["by_class"].values():
        for name in ("precision", "recall", "f1"):
            low, high = numbers[f"{name}_interval"]
            assert low < numbers[name] < high


def test_targets_met_exactly_are_met():
    """Point estimates decide, and 'at least' includes the target itself."""
    labels, probabilities = [0] * 50 + [1] * 50, [0.1] * 48 + [0.9] * 2 + [0.9] * 49 + [0.1]
    evaluation = evaluated(labels, probabilities, Targets(accuracy=0.97, precision=49 / 51, recall=0.96))
    assert evaluation.is_accepted
    assert evaluation.verdict.startswith("accepted: ")


def test_verdict_names_each_missed_target_and_no_other():
    """The one line is what a person reads when a build stops."""
    evaluation = evaluated(targets=Targets(accuracy=0.6, precision=0.7, recall=0.4))
    assert not evaluation.is_accepted
    assert evaluation.verdict == "rejected: precision of dog 0.5000 is below its target 0.7"


def test_one_weak_class_is_enough_to_reject():
    """A high accuracy can hide a class that is mostly missed: the gate asks precision and recall of each."""
    labels, probabilities = [0] * 990 + [1] * 10, [0.1] * 996 + [0.9] * 4
    evaluation = evaluated(labels, probabilities, Targets(accuracy=0.97, precision=0.5, recall=0.5))
    assert evaluation.metrics["accuracy"] == 0.994
    assert evaluation.verdict == "rejected: recall of dog 0.4000 is below its target 0.5"


def test_a_near_miss_is_not_rounded_into_the_target():
    """'0.9700 is below its target 0.97' would read like a mistake of ours."""
    num_images = 40_000
    labels = np.arange(num_images) % 2
    probabilities = labels.astype(float)
    probabilities[:1201] = 1 - probabilities[:1201]
    evaluation = evaluated(labels, probabilities, Targets(accuracy=0.97, precision=0, recall=0))
    assert evaluation.verdict == "rejected: accuracy 0.969975 is below its target 0.97"


@pytest.mark.parametrize(
    "probabilities",
    [[0.1, 0.2, 0.9, 0.8], [0.9, 0.8, 0.1, 0.2], [0.5] * 4, [0.2] * 4, [0.0, 1.0, 0.0, 1.0], [0, 0, 1, 1]],
    ids=["right", "wrong", "all dog", "all cat", "sure and wrong", "sure and right"],
)
def test_no_nan_and_no_warning_whatever_the_answers(probabilities):
    """Records are canonical JSON, which has no NaN: a useless network must still get its report."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = evaluated([0, 0, 1, 1], probabilities).metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "the test side is empty"),
        ([1, 1], [0.5, 0.6], "all of dog"),
        ([0, 1], [0.5], r"labels \(2,\) and probabilities \(1,\)"),
        ([0, 1], [0.5, np.nan], "1 of 2 probabilities are not from 0 to 1"),
        ([0, 1], [0.5, 1.5], "1 of 2 probabilities are not from 0 to 1"),
        ([0, 2], [0.5, 0.5], r"labels hold \[2\]"),
    ],
)
def test_what_cannot_be_examined_is_refused_in_one_line(labels, probabilities, message):
    """A number made from such input would look like a result."""
    with pytest.raises(InvalidInput, match=message) as refused:
        evaluated(labels, probabilities)
    assert "\n" not in str(refused.value)


def test_the_order_of_photos_changes_no_bin_and_no_curve():
    """Equal probabilities must share a bin; cut by place, the report would depend on the listing."""
    _, labels, probabilities = toy.answers()
    rounded = probabilities.round(1)
    shuffled = np.random.default_rng(1).permutation(len(labels))
    one, other = evaluated(labels, rounded).metrics, evaluated(labels[shuffled], rounded[shuffled]).metrics
    for name in ("roc_curve", "pr_curve", "histogram"):
        assert one[name] == other[name]
    assert [row["num_images"] for row in one["calibration"]["bins"]] == [
        row["num_images"] for row in other["calibration"]["bins"]
    ]


def test_reliability_table_is_that_of_scikit_learn():
    """Our bins add counts and intervals to scikit-learn's; the shares must be its own."""
    _, labels, probabilities = toy.answers(402)  # no photo lies upon an edge: 401 and 15 share no factor
    bins = evaluated(labels, probabilities).metrics["calibration"]["bins"]
    shares, means = calibration_curve(labels, probabilities.astype(float), n_bins=15, strategy="quantile")
    assert [row["share_of_dogs"] for row in bins] == pytest.approx(shares.tolist(), abs=1e-6)
    assert [row["mean_probability"] for row in bins] == pytest.approx(means.tolist(), abs=1e-6)
    assert sum(row["num_images"] for row in bins) == len(labels)
    assert {row["num_images"] for row in bins} <= {26, 27}  # of equal mass


def test_calibration_error_finds_overconfidence():
    """A network that says 0.99 and is right seven times in ten is 0.29 away from its word."""
    labels = [1] * 70 + [0] * 30
    error = evaluated(labels, [0.99] * 100).metrics["calibration"]["expected_calibration_error"]
    assert error == pytest.approx(0.29)


def test_curves_are_thin_and_keep_both_ends():
    """100,000 points would make the page and the record heavy; without its ends a curve's area is another."""
    _, labels, probabilities = toy.answers(20_000, skill=1.0)
    metrics = evaluated(labels, probabilities).metrics
    roc, pr = metrics["roc_curve"], metrics["pr_curve"]
    assert len(roc["true_positive_rate"]) == len(roc["false_positive_rate"]) == MAX_CURVE_POINTS
    assert (roc["false_positive_rate"][0], roc["true_positive_rate"][-1]) == (0.0, 1.0)
    assert (pr["recall"][0], pr["recall"][-1]) == (1.0, 0.0)
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(metrics["roc_auc"], abs=2e-3)


def test_histogram_counts_every_photo():
    """A photo with probability exactly 0 or 1 must not fall off the edge."""
    counts = evaluated([0, 0, 1, 1], [0.0, 1.0, 1.0, 0.31]).metrics["histogram"]["num_images"]
    assert (sum(counts["cat"]), sum(counts["dog"])) == (2, 2)


def test_abstention_counts_only_what_is_answered_and_changes_nothing_else():
    """Accuracy stays without abstention, or a model could raise it by saying nothing."""
    plain = evaluated().metrics
    metrics = evaluate(LABELS, PROBABILITIES, NO_TARGETS, unknown_below=0.7).metrics
    assert metrics["abstention"] == {
        "unknown_below": 0.7, "num_answered": 4, "coverage": 4 / 6, "accuracy": 3 / 4,
        "accuracy_interval": list(wilson_interval(3, 4)),
    }  # fmt: skip
    assert plain["abstention"] is None
    assert {**metrics, "abstention": None} == plain


def test_a_threshold_that_leaves_nothing_answered_is_told():
    """No photo answered has no accuracy, and canonical JSON has no NaN."""
    abstention = evaluate(LABELS, PROBABILITIES, NO_TARGETS, unknown_below=0.95).metrics["abstention"]
    assert (abstention["coverage"], abstention["accuracy"]) == (0, None)
