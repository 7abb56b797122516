"""The lineage of one model as a picture: its own records as boxes that open them, its parents' digests as lines.

An SVG that stands within a page, 388 units wide so that a phone shows it at its size; looks are the page's
(audit.css). Not here: the page (pages.py).
"""

from markupsafe import Markup, escape

from petpark_assets.domain.audit.trail import Trail

WIDTH, BOX_WIDTH, BOX_HEIGHT, ROW_HEIGHT, TOP = 388, 164, 44, 66, 8
_LEFT, _MIDDLE, _RIGHT = 106, 194, 282
PLACES = {
    "raw_images": (_MIDDLE, 0),
    "train_split": (_LEFT, 1),
    "test_split": (_RIGHT, 1),
    "feature_scaling": (_LEFT, 2),
    "hyperparameter_search": (_LEFT, 3),
    "trained_cnn": (_LEFT, 4),
    "evaluation_report": (_RIGHT, 5),
    "gate_override": (_LEFT, 5),
    "onnx_package": (_LEFT, 6),
    "registered_model": (_RIGHT, 7),
}
"""Of each asset: the middle of its box, and its row from the top."""


def draw(trail: Trail) -> Markup:
    """The picture of the records that there are."""
    shown = [asset for asset in PLACES if asset in trail.documents]
    height = TOP * 2 + max((PLACES[asset][1] for asset in shown), default=0) * ROW_HEIGHT + BOX_HEIGHT
    lines = [_line(trail, parent, child) for child in shown for parent in trail.documents[child].parents]
    boxes = [_box(trail, asset) for asset in shown]
    start = Markup('<svg class="lineage" viewBox="0 0 {} {}" role="group" aria-label="{}">').format(
        WIDTH, height, f"Lineage of attempt {trail.attempt}: each box is a link to its record"
    )
    return start + Markup().join(lines) + Markup().join(boxes) + Markup("</svg>")


def _top(asset: str) -> int:
    return TOP + PLACES[asset][1] * ROW_HEIGHT


def _line(trail: Trail, parent: str, child: str) -> Markup:
    """From a parent to what was made of it; broken where the parent that is there is another."""
    there = trail.documents.get(parent)
    is_held = there is not None and there.digest == trail.documents[child].parents[parent]
    (x0, row0), (x1, row1) = PLACES[parent], PLACES[child]
    y0, y1 = _top(parent) + BOX_HEIGHT, _top(child)
    if row0 == row1:  # beside each other: from edge to edge
        path = f"M{x0 - BOX_WIDTH / 2:g},{y0 - BOX_HEIGHT / 2:g} H{x1 + BOX_WIDTH / 2:g}"
    elif x0 == x1 and row1 - row0 > 1:  # around the boxes between, on the outer side
        out = -1 if x0 == _LEFT else 1
        edge = x0 + out * BOX_WIDTH / 2
        bulge = edge + out * (6 * (row1 - row0) + 2)
        middle = BOX_HEIGHT / 2
        path = f"M{edge:g},{y0 - middle:g} C{bulge:g},{y0:g} {bulge:g},{y1:g} {edge:g},{y1 + middle:g}"
    else:
        bend = (y1 - y0) * 0.6
        path = f"M{x0},{y0} C{x0},{y0 + bend:g} {x1},{y1 - bend:g} {x1},{y1}"
    return Markup('<path class="{}" d="{}"/>').format("held" if is_held else "broken", path)


def _box(trail: Trail, asset: str) -> Markup:
    document = trail.documents[asset]
    x, y = PLACES[asset][0] - BOX_WIDTH / 2, _top(asset)
    note = document.digest[:12] if document.is_whole else "changed since it was written"
    name, note = asset.replace("_", " "), escape(note)
    kind, middle = "whole" if document.is_whole else "changed", PLACES[asset][0]
    return Markup(  # noqa: S704  names and numbers of our own, and an escaped note; format() would cost ten times as much
        f'<a href="#{asset}" aria-label="{name}, digest {note}: open its record">'
        f'<rect class="{kind}" x="{x:g}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>'
        f'<text x="{middle}" y="{y + 18}">{name}</text>'
        f'<text class="digest" x="{middle}" y="{y + 34}">{note}</text></a>'
    )
