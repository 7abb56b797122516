"""Claims about the pictures of a search: every trial is in them, and odd searches are drawn too."""

import pytest

from petpark_assets.domain.report import search_pictures
from petpark_assets.domain.report.canvas import to_png

SPACE = {
    "learning_rate": {"low": 0.01, "high": 0.1, "log": True},
    "label_smoothing": {"values": [0.05, 0.1]},
    "width": {"low": 8, "high": 16, "log": False},
}


def trial(number, learning_rate, label_smoothing, *, accuracy, epochs=3):
    """A trial that got better evenly."""
    curve = [
        {"epoch": e, "train_loss": 1 / e, "validation_loss": 1.2 / e, "validation_accuracy": accuracy * e / epochs}
        for e in range(1, epochs + 1)
    ]
    values = {"learning_rate": learning_rate, "label_smoothing": label_smoothing, "width": 8, "epochs": 3}
    return {
        "number": number,
        "hyperparameters": values,
        "validation_accuracy": accuracy or None,
        "schedule_share": epochs / 3,
        "curve": curve,
    }


TRIALS = [
    trial(1, 0.2, 0.3, accuracy=0.8),
    trial(2, 0.01, 0.05, accuracy=0.9),
    trial(3, 0.1, 0.1, accuracy=0.7, epochs=1),
]
"""The defaults, the first, lie off the space; the last was stopped early."""
FAILED = trial(4, 0.05, 0.1, accuracy=0.0, epochs=0)


def test_every_trial_is_a_line_through_its_values_and_the_defaults_stand_out():
    """Which values go with a good trial is what the picture is for."""
    (axes,) = search_pictures.parallel_coordinates([*TRIALS, FAILED], SPACE).axes
    drawn = {tuple(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) == 4}
    assert len(drawn) == 3
    (defaults,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(defaults.get_ydata()) == pytest.approx([1, 1, 0, 0.5])  # 0.2 and 0.3 are the largest of all
    assert (0, 0, 0, 1) in {tuple(round(height, 6) for height in line) for line in drawn}
    assert {text.get_text() for text in axes.texts} >= {"0.01", "0.2", "0.05", "0.1", "0.3", "8", "16", "0.7", "0.9"}


def test_every_curve_is_drawn_as_far_as_it_went():
    """A line that ends early shows what was stopped."""
    left, right, _bar = search_pictures.learning_curves([*TRIALS, FAILED]).axes
    for axes in (left, right):
        assert sorted(len(line.get_xdata()) for line in axes.lines) == [0, 1, 3, 3]


@pytest.mark.parametrize(
    "trials", [[], TRIALS[:1], [FAILED], [{k: v for k, v in t.items() if k != "curve"} for t in TRIALS]]
)
def test_searches_without_trials_or_curves_are_drawn_too(trials):
    """A search by no algorithm has no trials, and records of before have no curves."""
    for figure in (search_pictures.parallel_coordinates(trials, SPACE), search_pictures.learning_curves(trials)):
        assert to_png(figure).startswith(b"\x89PNG")
