"""The pictures of training and testing, each a function from numbers to a matplotlib figure.

canvas.to_png and canvas.to_svg turn a figure into bytes. What the numbers are: metrics.evaluate for the exam,
records.TrainedCnn.epochs for the learning curve, records.HyperparameterSearch.trials for the search.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.report.canvas import CAT, DOG, INK, MUTED, PAPER, WIDTH_IN, name_axes, new_figure, style
from petpark_assets.domain.report.gain import standard_error
from petpark_assets.domain.report.metrics import gated

Metrics = Mapping[str, Any]
COLOURS = dict(zip(LABELS, (CAT, DOG), strict=True))
MANY_EPOCHS = 30


@style()
def confusion_matrix(metrics: Metrics) -> Figure:
    """Counts of photos by true and predicted class, shaded by the share of the true class."""
    counts = np.array(metrics["confusion"])
    figure = new_figure(height_in=3.0)
    axes = figure.add_subplot()
    for row, column in np.ndindex(counts.shape):
        share = counts[row, column] / max(counts[row].sum(), 1)
        colour = DOG if row == column else CAT
        axes.fill_between([column - 0.48, column + 0.48], row - 0.48, row + 0.48, color=colour, alpha=0.1 + 0.5 * share)
        axes.text(column, row, f"{counts[row, column]:,}\n{share:.4f}", ha="center", va="center", fontsize=12)
    axes.set_xticks(range(len(LABELS)), [f"called {label}" for label in LABELS])
    axes.set_yticks(range(len(LABELS)), [f"true {label}" for label in LABELS], rotation=90, va="center")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    name_axes(axes, "Confusion matrix", "", "")
    return figure


@style()
def gate(metrics: Metrics, targets: Targets) -> Figure:
    """The numbers that decide, each with its 95 % interval and the target it must reach."""
    figure = new_figure(height_in=2.5)
    axes = figure.add_subplot()
    rows = gated(metrics, targets)
    for place, (_, value, (low, high), target) in enumerate(rows):
        axes.plot([low, high], [place, place], color=MUTED, linewidth=3.5, solid_capstyle="butt", alpha=0.55)
        axes.plot(value, place, "o", color=INK, markersize=5.5)
        axes.plot([target, target], [place - 0.36, place + 0.36], color=DOG if value >= target else CAT, linewidth=2.6)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    name_axes(axes, "Received ● against target |", "share", "")
    return figure


@style()
def roc(metrics: Metrics) -> Figure:
    """Share of dogs found against share of cats called dogs, over all thresholds."""
    figure = new_figure()
    _roc(figure.add_subplot(), metrics)
    return figure


@style()
def precision_recall(metrics: Metrics) -> Figure:
    """Precision against recall of dogs, over all thresholds."""
    figure = new_figure()
    _precision_recall(figure.add_subplot(), metrics)
    return figure


@style()
def roc_and_precision_recall(metrics: Metrics) -> Figure:
    """Both curves beside each other, for the Dagster UI."""
    figure = new_figure(width_in=1.75 * WIDTH_IN, height_in=3.2)
    left, right = figure.subplots(1, 2)
    _roc(left, metrics)
    _precision_recall(right, metrics)
    return figure


def _roc(axes: Axes, metrics: Metrics) -> None:
    curve = metrics["roc_curve"]
    axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1, label="guessing")
    axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=DOG, label="this model")
    cats, dogs = (metrics["by_class"][label] for label in LABELS)
    axes.plot(1 - cats["recall"], dogs["recall"], "o", color=INK, label=f"threshold {metrics['threshold']}")
    axes.legend(loc="lower right")
    name_axes(axes, f"ROC curve, area {metrics['roc_auc']:.4f}", "share of cats called dog", "share of dogs found")


def _precision_recall(axes: Axes, metrics: Metrics) -> None:
    curve, dogs = metrics["pr_curve"], metrics["by_class"]["dog"]
    prevalence = dogs["num_images"] / metrics["num_images"]
    axes.axhline(prevalence, linestyle="--", color=MUTED, linewidth=1, label="guessing")
    axes.plot(curve["recall"], curve["precision"], color=DOG, label="this model")
    axes.plot(dogs["recall"], dogs["precision"], "o", color=INK, label=f"threshold {metrics['threshold']}")
    axes.legend(loc="center left")
    title = f"Precision and recall, mean {metrics['average_precision']:.4f}"
    name_axes(axes, title, "recall of dog", "precision of dog")


@style()
def calibration(metrics: Metrics) -> Figure:
    """Whether of the photos called a dog with 0.8, eight in ten are dogs."""
    bins = metrics["calibration"]["bins"]
    predicted, observed, low, high = (
        np.array([row[name] for row in bins])
        for name in ("mean_probability", "share_of_dogs", "share_low", "share_high")
    )
    figure = new_figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1, label="keeps its word")
    axes.errorbar(
        predicted, observed, yerr=(observed - low, high - observed), fmt="o-", color=DOG, markersize=4, linewidth=1.2,
        elinewidth=1, label="this model, 95 % interval",
    )  # fmt: skip
    axes.legend(loc="upper left")
    error = metrics["calibration"]["expected_calibration_error"]
    name_axes(axes, f"Calibration, mean error {error:.4f}", "predicted probability of dog", "share of dogs")
    return figure


@style()
def scores(metrics: Metrics) -> Figure:
    """How many photos of each class got which probability of dog."""
    histogram = metrics["histogram"]
    figure = new_figure()
    axes = figure.add_subplot()
    for label, line in zip(LABELS, ("-", "--"), strict=True):
        counts = histogram["num_images"][label]
        axes.stairs(counts, histogram["edges"], color=COLOURS[label], fill=True, alpha=0.25)
        axes.stairs(
            counts, histogram["edges"], color=COLOURS[label], linewidth=1.6, linestyle=line, label=f"true {label}"
        )
    axes.axvline(metrics["threshold"], color=INK, linewidth=1, label=f"threshold {metrics['threshold']}")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper center", ncols=1)
    name_axes(axes, "Probabilities given", "probability of dog", "photos (logarithmic)")
    return figure


@style()
def learning_curve(epochs: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Loss and accuracy by epoch; the best epoch on validation, whose weights are kept, is marked."""
    numbers = [row["number"] for row in epochs]
    figure = new_figure(height_in=4.0)
    losses, accuracies = figure.subplots(2, 1, sharex=True)
    marker = "o" if len(epochs) <= MANY_EPOCHS else ""
    for name, colour, line in (("train_loss", CAT, "--"), ("validation_loss", DOG, "-")):
        values = [row[name] for row in epochs]
        losses.plot(numbers, values, line, marker=marker, markersize=3.5, color=colour, label=name.replace("_", " "))
    accuracy = [row["validation_accuracy"] for row in epochs]
    accuracies.plot(numbers, accuracy, marker=marker, markersize=3.5, color=DOG)
    for axes in (losses, accuracies):
        axes.axvline(best_epoch, color=INK, linewidth=1, linestyle=":", label=f"best epoch {best_epoch}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    losses.legend(loc="best")
    name_axes(losses, "Learning curve", "", "loss")
    name_axes(accuracies, "", "epoch", "validation accuracy")
    return figure


@style()
def trials(trials: Sequence[Mapping[str, Any]], num_validation_images: int) -> Figure:
    """Validation accuracy of every trial of a search, with its standard error; the first are the recipe's defaults."""
    figure = new_figure()
    axes = figure.add_subplot()
    scored = [row for row in trials if row["validation_accuracy"] is not None]
    others = [row for row in scored if row is not trials[0]]
    for rows, name, colour, marker, filling in (
        ([row for row in scored if row is trials[0]], "recipe's defaults", CAT, "s", CAT),
        ([row for row in others if row["schedule_share"] >= 1], "trial", DOG, "o", DOG),
        ([row for row in others if row["schedule_share"] < 1], "trial, not finished", DOG, "o", PAPER),
    ):
        if rows:
            accuracies = [row["validation_accuracy"] for row in rows]
            axes.errorbar(
                [row["number"] for row in rows], accuracies, fmt=marker, color=colour, markerfacecolor=filling,
                yerr=[standard_error(accuracy, num_validation_images) for accuracy in accuracies],
                markersize=6, elinewidth=1, label=name,
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.1, y=0.25)
    if scored:
        axes.legend(loc="best")
    name_axes(axes, "Trials, with standard error", "trial", "validation accuracy")
    return figure
