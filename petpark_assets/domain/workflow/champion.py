"""The champion's answers about a test side, for the report that compares a new model with it.

Its registered package answers, every photo anew: that is what would be replaced. The registry is asked once, so the
same state of a home gives the same comparison.
Not here: what the comparison says (report/comparison.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from petpark_assets.domain.errors import CorruptData, TransientError
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import ingest
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.registry.versions import CHAMPION
from petpark_assets.domain.workflow.sides import Side, note_opening, open_side, read_manifest

if TYPE_CHECKING:
    from petpark_assets.domain.report.comparison import Champion
    from petpark_assets.domain.report.slices import Slice

BATCH_SIZE = 256


def compare(
    home: Home,
    dataset_version: str,
    side: Side,
    probabilities: npt.NDArray[np.floating[Any]],
    slices: "Sequence[Slice]",
) -> dict[str, Any] | None:
    """A model's answers about an opened test side beside the champion's (comparison.compare); None without a champion.

    Args:
        home: whose registry names the champion.
        dataset_version: of the test side.
        side: the test side.
        probabilities: float [N] of dog that the model gave its photos.
        slices: of its photos.

    Raises:
        CorruptData: the champion's package was changed, or the champion learned from one of the photos.
        TransientError: a photo was forgotten meanwhile.
    """
    from petpark_assets.domain.report import comparison

    found = next((known for known in home.registry.list_versions() if CHAMPION in known.aliases), None)
    if found is None:
        return None
    lineage = {name: found.tags[name] for name in ("trained_cnn", "dataset_version", "attempt")}
    champion = comparison.Champion(model_version=found.version, package=found.package, **lineage)
    answers = _answers(home, dataset_version, side, champion)
    return comparison.compare(side.labels, probabilities, answers, slices, champion)


def _answers(home: Home, dataset_version: str, side: Side, champion: "Champion") -> npt.NDArray[np.float32]:
    """The probability of dog, float32 [N], by the champion's package, at its own resolution."""
    folder = home.registry.fetch(champion.model_version, home.cache / "models")
    predictor = Predictor.open(folder)
    _require_unlearned(folder, side.sha256s, champion)
    model = {"attempt": champion.attempt, "trained_cnn": champion.trained_cnn}
    note_opening(home, dataset_version, model, purpose="comparison")
    resolution_px = predictor.preprocessing.resolution_px
    manifest = read_manifest(home, dataset_version)
    examined = manifest.filter(pc.equal(manifest["split"], "test"))
    ingest.ensure_pixels(home.store, home.originals, home.pixels, examined, resolution_px)
    theirs = open_side(home, dataset_version, "test", resolution_px)
    if theirs.sha256s != side.sha256s:
        raise TransientError("a photo of the test side was forgotten during the exam: run it again")
    starts = range(0, len(theirs.images), BATCH_SIZE)
    answers = [predictor.probabilities(np.asarray(theirs.images[start : start + BATCH_SIZE])) for start in starts]
    return np.concatenate(answers)[:, 1]


def _require_unlearned(folder: Path, sha256s: Sequence[str], champion: "Champion") -> None:
    """Sides are for ever, so the champion cannot have learned from a test photo; its package's own list must say so."""
    manifest = pq.read_table(folder / "data_manifest.parquet")
    learned = manifest.filter(pc.equal(manifest["split"], "train"))["sha256"]
    found = learned.filter(pc.is_in(learned, pa.array(sha256s, pa.string())))
    if len(found):
        raise CorruptData(
            f"the champion (version {champion.model_version}) learned from {len(found)} photos of this test side, "
            f"the first is {found[0].as_py()[:12]}…: sides were mixed, as petpark lake verify shows"
        )
