"""The pictures of a search, each a function from records.HyperparameterSearch's fields to a matplotlib figure.

canvas.to_png turns a figure into bytes. Not here: the validation accuracy of each trial as points (figures.trials).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from petpark_assets.domain.report.canvas import CAT, INK, MUTED, PAPER, WIDTH_IN, name_axes, new_figure, style

Trial = Mapping[str, Any]
COLOURS = "cividis_r"
"""Dark is good; made to be read with every kind of colour vision, and in grey."""
ACCURACY = "validation_accuracy"
TICKS = 5


@style()
def parallel_coordinates(trials: Sequence[Trial], space: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A line for each trial through its hyperparameters to its validation accuracy; the defaults' is dashed."""
    scored = sorted((trial for trial in trials if trial[ACCURACY] is not None), key=lambda trial: trial[ACCURACY])
    figure = new_figure(width_in=max(WIDTH_IN, 1.5 * (len(space) + 1) + 1), height_in=3.2)
    axes = figure.add_subplot()
    colours, scale = _colours(scored)
    columns = [*(_column(name, space[name], scored) for name in space), _accuracy_column(scored)]
    for row, trial in enumerate(scored):
        heights = [column[row] for column, _ in columns]
        is_default = trial["number"] == 1
        colour = CAT if is_default else colours(scale(trial[ACCURACY]))
        axes.plot(
            heights, linestyle="--" if is_default else "-", color=colour,
            linewidth=1.8 if is_default else 1.3, label="recipe's defaults" if is_default else None,
        )  # fmt: skip
    for place, (_, ticks) in enumerate(columns):
        _upright(axes, place, ticks)
    names = [name.replace("_", " ") for name in (*space, ACCURACY)]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.35, len(names) - 0.55)
    axes.set_ylim(-0.05, 1.05)
    if any(trial["number"] == 1 for trial in scored):
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12))
    name_axes(axes, "Trials through the space", "", "")
    return figure


@style()
def learning_curves(trials: Sequence[Trial]) -> Figure:
    """Validation accuracy and loss of every trial by epoch; a line that ends early was stopped, or failed."""
    figure = new_figure(width_in=1.75 * WIDTH_IN, height_in=3.2)
    left, right = figure.subplots(1, 2)
    colours, scale = _colours([trial for trial in trials if trial[ACCURACY] is not None])
    for trial in trials:
        curve = trial.get("curve") or []
        is_default = trial["number"] == 1
        for axes, name in ((left, ACCURACY), (right, "validation_loss")):
            axes.plot(
                [point["epoch"] for point in curve], [point[name] for point in curve], marker="o", markersize=2.5,
                linestyle="--" if is_default else "-", zorder=3 if is_default else 2,
                color=CAT if is_default else colours(scale(trial[ACCURACY] or 0.0)),
                label="recipe's defaults" if is_default else None,
            )  # fmt: skip
    for axes, name in ((left, "validation accuracy"), (right, "validation loss")):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        name_axes(axes, name.capitalize(), "epoch", name)
    if any(trial["number"] == 1 for trial in trials):
        left.legend(loc="lower right")
    figure.colorbar(ScalarMappable(scale, colours), ax=right, label="last validation accuracy")
    return figure


def _colours(scored: Sequence[Trial]) -> tuple[Colormap, Normalize]:
    accuracies = [trial[ACCURACY] for trial in scored] or [0.0]
    low, high = min(accuracies), max(accuracies)
    return colormaps[COLOURS], Normalize(low, high if high > low else low + 1e-6)


def _column(name: str, dimension: Mapping[str, Any], scored: Sequence[Trial]) -> tuple[list[float], dict[float, str]]:
    """Heights 0 to 1 of the trials on a hyperparameter's scale, and its ticks; the defaults may lie off the space."""
    seen = [trial["hyperparameters"][name] for trial in scored]
    if "values" in dimension:
        values = list(dict.fromkeys([*dimension["values"], *seen]))
        places = {value: place / max(1, len(values) - 1) for place, value in enumerate(values)}
        return [places[value] for value in seen], {height: str(value) for value, height in places.items()}
    return _scaled(seen, min([dimension["low"], *seen]), max([dimension["high"], *seen]), is_log=dimension["log"])


def _accuracy_column(scored: Sequence[Trial]) -> tuple[list[float], dict[float, str]]:
    accuracies = [trial[ACCURACY] for trial in scored]
    return _scaled(accuracies, min(accuracies, default=0), max(accuracies, default=1), is_log=False)


def _scaled(values: Sequence[float], low: float, high: float, *, is_log: bool) -> tuple[list[float], dict[float, str]]:
    of = math.log if is_log else float
    span = (of(high) - of(low)) or 1.0
    heights = [(of(value) - of(low)) / span for value in values]
    shares = np.linspace(0, 1, TICKS)
    labels = [of(low) + share * span for share in shares]
    return heights, {
        float(share): f"{math.exp(label) if is_log else label:.3g}" for share, label in zip(shares, labels, strict=True)
    }


def _upright(axes: Axes, place: int, ticks: Mapping[float, str]) -> None:
    """A scale of its own for one hyperparameter."""
    axes.axvline(place, color=MUTED, linewidth=1, zorder=1)
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5, "alpha": 0.75}
    for height, label in ticks.items():
        axes.text(place + 0.03, height, label, fontsize=8, color=INK, va="center", bbox=box)
