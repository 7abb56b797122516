"""What the network answered for every photo of the test side, as a Parquet file and back.

Not here: what the answers are worth (metrics.py).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from petpark_assets.domain import files
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.records import LABELS
from petpark_assets.domain.report.metrics import THRESHOLD

SCHEMA = pa.schema([
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("label", pa.string(), nullable=False),
    pa.field("predicted", pa.string(), nullable=False),
    pa.field("probability", pa.float64(), nullable=False),
])  # fmt: skip
"""One row a photo, sorted by sha256; label is the truth, probability that of dog (0 to 1)."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The columns of the file as the other functions of testing take them."""

    sha256s: tuple[str, ...]
    labels: npt.NDArray[np.uint8]
    """[N]: 0 cat, 1 dog."""
    probabilities: npt.NDArray[np.float64]
    """[N]: of dog."""


def predictions_parquet(
    sha256s: Sequence[str], labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.floating[Any]]
) -> bytes:
    """The answers as Parquet: the same answers give the same bytes, whatever their order.

    Args:
        sha256s: [N], of the photos, none twice.
        labels: uint8 [N], the truth: 0 cat, 1 dog.
        probabilities: float [N] of dog; kept as float64, so that nothing is lost.

    Raises:
        InvalidInput: the three have different lengths, or a photo is there twice.
    """
    if not len(sha256s) == len(labels) == len(probabilities) or len(set(sha256s)) != len(sha256s):
        raise InvalidInput(
            f"{len(sha256s)} photos ({len(set(sha256s))} different), {len(labels)} labels and "
            f"{len(probabilities)} probabilities: each photo needs one of each"
        )
    names = np.array(LABELS)
    columns = [
        list(sha256s), names[labels], names[(probabilities >= THRESHOLD).astype(int)], probabilities.astype(np.float64),
    ]  # fmt: skip
    table = pa.table(columns, schema=SCHEMA).sort_by("sha256").combine_chunks()
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_predictions(data: bytes) -> Predictions:
    """The file's columns, sorted by sha256."""
    table = pq.read_table(files.arrow_reader(data), schema=SCHEMA)
    labels = np.array([LABELS.index(label) for label in table["label"].to_pylist()], dtype=np.uint8)
    return Predictions(
        sha256s=tuple(table["sha256"].to_pylist()), labels=labels, probabilities=table["probability"].to_numpy()
    )
