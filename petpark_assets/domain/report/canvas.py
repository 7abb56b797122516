"""How every picture is drawn, so that they look alike and the same numbers give the same bytes.

One palette, one size of letters, PNG for the Dagster UI and SVG for the page. What is drawn stands in figures.py.
Importing this loads matplotlib: import it, and figures.py, where a picture is drawn.
"""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

PAPER, INK, MUTED, GRID = "#ffffff", "#1b1f24", "#59636e", "#dbe0e5"
CAT, DOG = "#d55e00", "#0072b2"
"""Vermilion and blue of M. Okabe and K. Ito's palette: told apart with every kind of colour vision, and in grey."""

CSS_VARIABLES = {PAPER: "--paper", INK: "--ink", MUTED: "--muted", GRID: "--grid", CAT: "--cat", DOG: "--dog"}
"""What the page calls each colour; its style sheet gives them other values in the dark."""

WIDTH_IN, HEIGHT_IN = 4.4, 3.3
"""Small, so that the letters stay readable when a phone squeezes the picture to 350 px."""
PNG_DPI = 110
NUM_PNG_COLOURS = 64

SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9.5,
    "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": True, "legend.facecolor": PAPER, "legend.edgecolor": "none", "legend.framealpha": 0.85,
    "legend.fancybox": False, "legend.fontsize": 8.5, "lines.linewidth": 1.6, "figure.facecolor": PAPER,
    "axes.facecolor": "none", "svg.fonttype": "none",
}  # fmt: skip


@contextmanager
def style(**extra: str) -> Iterator[None]:
    """Our settings upon matplotlib's own defaults, whatever the reader's matplotlibrc says; taken back after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS | extra)
        yield


def new_figure(*, width_in: float = WIDTH_IN, height_in: float = HEIGHT_IN) -> Figure:
    """An empty figure that no global list remembers."""
    return Figure(figsize=(width_in, height_in), dpi=PNG_DPI, layout="constrained")


def name_axes(axes: Axes, title: str, horizontal: str, vertical: str) -> None:
    """Every picture says what it shows and what each direction means."""
    axes.set_title(title)
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)


def to_png(figure: Figure) -> bytes:
    """The picture as a PNG on white, readable upon a light and a dark page.

    With a palette of 64 colours: a third of the bytes, as Dagster keeps it in its database with every materialization.
    """
    drawn, buffer = io.BytesIO(), io.BytesIO()
    with style():
        figure.savefig(drawn, format="png")
    pixels = Image.open(drawn).convert("RGB")
    pixels.quantize(NUM_PNG_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """The picture as SVG to be put into a page, in the page's own colours and letters.

    `name` keeps its identifiers apart from those of other pictures in the page; `alt` is read out aloud.
    """
    buffer = io.StringIO()
    with style(**{"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _embedded(buffer.getvalue(), alt)


def _embedded(svg: str, alt: str) -> str:
    """Only the <svg> element, scaling with the page, with colours as CSS variables and no identifier used twice."""
    svg = svg[svg.index("<svg ") :].strip()
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*pt" height="[^"]*pt"', r"\1", svg, count=1, flags=re.DOTALL)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)  # the page has its own
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to groups; every picture names them alike
    for colour, variable in CSS_VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    svg = re.sub(r"'DejaVu Sans', ?sans-serif", "inherit", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)
