"""Pictures stand in the Dagster UI and in the page: small, the same bytes each time, and not hiding a trial."""

import io
import re

import matplotlib as mpl
import pytest
from PIL import Image

from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.report import canvas, figures
from petpark_assets_tests.domain.report import toy

CONTEXT = toy.context()
METRICS = CONTEXT.evaluation.metrics
SEARCH, NETWORK = CONTEXT.hyperparameter_search, CONTEXT.trained_cnn
MAX_PNG_BYTES = 25_000

DRAWN = {
    "confusion_matrix": lambda: figures.confusion_matrix(METRICS),
    "gate": lambda: figures.gate(METRICS, Targets()),
    "roc_and_precision_recall": lambda: figures.roc_and_precision_recall(METRICS),
    "calibration": lambda: figures.calibration(METRICS),
    "scores": lambda: figures.scores(METRICS),
    "learning_curve": lambda: figures.learning_curve(NETWORK.epochs, NETWORK.best_epoch),
    "trials": lambda: figures.trials(SEARCH.trials, SEARCH.num_validation_images),
}


@pytest.mark.parametrize("name", DRAWN)
def test_png_is_small_enough_for_dagsters_metadata(name):
    """Metadata beyond about 50 KB slows the UI; two pictures of 25 KB are the most an asset shows."""
    png = canvas.to_png(DRAWN[name]())
    assert len(png) < MAX_PNG_BYTES
    image = Image.open(io.BytesIO(png))
    assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)  # on white, also upon a dark page
    assert image.width >= 400
    assert "Software" not in image.info


@pytest.mark.parametrize("name", DRAWN)
def test_svg_takes_its_colours_from_the_page(name):
    """A colour left as it is would be dark on dark; the title and every axis must have their words as text."""
    svg = canvas.to_svg(DRAWN[name](), name, 'a "picture" <b>')
    assert not re.search(r"(fill|stroke): #", svg)
    assert svg.count("var(--ink)") >= 3
    assert 'aria-label="a &quot;picture&quot; &lt;b&gt;"' in svg
    assert "<text" in svg
    assert "<metadata" not in svg  # where matplotlib would write the date


def test_a_readers_matplotlibrc_changes_nothing_and_is_left_alone():
    """Personal settings of whoever builds must not change a digest, nor may ours leak into their plots."""
    plain = canvas.to_svg(DRAWN["gate"](), "gate", "")
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "font.size": 30}):
        assert canvas.to_svg(DRAWN["gate"](), "gate", "") == plain
        assert mpl.rcParams["font.size"] == 30


def test_every_axis_has_a_name():
    """A picture is read without us beside it."""
    for name, draw in DRAWN.items():
        for axes in draw().axes:
            is_shared = name == "learning_curve" and axes.get_title(loc="left")
            assert axes.get_xlabel() or is_shared or name == "confusion_matrix", name
            assert axes.get_ylabel() or name in {"confusion_matrix", "gate"}, name


def test_trials_without_an_answer_are_left_out_and_the_rest_drawn():
    """A trial that failed has no accuracy; it must neither stop the report nor appear as zero."""
    axes = figures.trials(SEARCH.trials, SEARCH.num_validation_images).axes[0]
    numbers = [number for container in axes.containers for number in container.lines[0].get_xdata()]
    assert sorted(numbers) == [1, 2, 3, 4, 6, 7, 8]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "recipe's defaults", "trial", "trial, not finished",
    ]  # fmt: skip


def test_no_search_gives_an_empty_picture():
    """Values given by hand have no trials."""
    assert canvas.to_png(figures.trials((), 100)).startswith(b"\x89PNG")
