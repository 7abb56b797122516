"""From a photo's bytes to pixels, in one way for everybody: the one decoder and the one preprocessing record.

Ingestion, training, evaluation, export and the service all use these; nothing here knows torch.
"""

from dataclasses import dataclass

from petpark_assets.domain.records import LABELS


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to pixels before the network; travels with the weights into the ONNX graph."""

    resolution_px: int
    """Photos are squeezed to a square of this side: bilinear with antialiasing, no cropping, nothing is lost."""
    channel_means: tuple[float, float, float]
    """Red, green, blue of the train side, 0 to 1."""
    channel_deviations: tuple[float, float, float]
    labels: tuple[str, ...] = LABELS
