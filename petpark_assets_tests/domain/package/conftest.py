"""One export for all tests of this room: it costs seconds."""

from typing import TYPE_CHECKING

import pytest

from petpark_assets_tests.domain.package import toys

if TYPE_CHECKING:
    import torch


@pytest.fixture(scope="session")
def classifier() -> "torch.nn.Module":
    """Preprocessing, a network with batch norm, a flipped second look and softmax: all that the real one has."""
    import torch
    from torch.nn import functional

    class ToyClassifier(torch.nn.Module):
        """Dog if the left half is brighter than the right, or else the whole is bright."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.network = torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
                torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2),
            )  # fmt: skip
            convolution, last = self.network[0], self.network[5]
            with torch.no_grad():
                convolution.weight.abs_()
                last.weight[1], last.weight[0] = 1.0, -1.0
                last.bias[1], last.bias[0] = -2.0, 2.0

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            side = toys.PREPROCESSING.resolution_px
            pixels = functional.interpolate(
                image.permute(0, 3, 1, 2).float(), size=(side, side), mode="bilinear", antialias=True
            )
            mean, deviation = (
                torch.tensor(values).view(1, 3, 1, 1)
                for values in (toys.PREPROCESSING.channel_means, toys.PREPROCESSING.channel_deviations)
            )
            scaled = (pixels / 255 - mean) / deviation
            looks = (torch.softmax(self.network(look), 1) for look in (scaled, scaled.flip(3)))
            return sum(looks) / 2

    return ToyClassifier().eval()


@pytest.fixture(scope="session")
def onnx_model(classifier: "torch.nn.Module") -> bytes:
    """The toy classifier as ONNX."""
    from petpark_assets.domain.package.export import export_onnx

    return export_onnx(classifier, toys.PREPROCESSING)
