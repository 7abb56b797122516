"""The networks by name, and the classifier around them: a photo's pixels in, probabilities out.

The classifier is what is trained, examined and exported, so that all three see a photo in the same way.
Not here: learning (train.py), the statistics used for scaling (features.py), ONNX (package/export.py).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from petpark_assets.domain import recipes
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.recipes import Hyperparameters


class Classifier(nn.Module):
    """A network with its preprocessing inside: uint8 [N, H, W, 3] of any size to probabilities [N, classes].

    The second look: a cat seen in a mirror is a cat, so the answer is the mean over the photo and its mirror image.
    The temperature divides the logits of each look (calibration.py); 1 leaves them as the network gave them.
    """

    means: Tensor
    deviations: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.temperature = temperature
        # Of levels 0 to 255. Not in the state: they travel as the preprocessing record.
        for name, shares in (
            ("means", preprocessing.channel_means),
            ("deviations", preprocessing.channel_deviations),
        ):
            self.register_buffer(name, 255 * torch.tensor(shares).view(1, 3, 1, 1), persistent=False)

    def forward(self, photos: Tensor) -> Tensor:
        """Probabilities, float32 [N, classes], each row adding to 1, of photos uint8 [N, H, W, 3]."""
        probabilities: Tensor = (self.looks(photos) / self.temperature).softmax(dim=2).mean(dim=0)
        return probabilities

    def looks(self, photos: Tensor) -> Tensor:
        """Logits, float32 [2, N, classes], of photos uint8 [N, H, W, 3] and of their mirror images."""
        inputs = self.prepare(photos)
        logits: Tensor = self.network(torch.cat((inputs, inputs.flip(3)))).float()
        return logits.view(2, -1, logits.shape[1])

    def prepare(self, photos: Tensor) -> Tensor:
        """The network's inputs, float32 [N, 3, R, R], of photos uint8 [N, H, W, 3].

        Resizing is in the graph for every size: at R by R it changes no bit, and the exported graph has no branch.
        """
        side = self.preprocessing.resolution_px
        levels = photos.permute(0, 3, 1, 2).float()
        return self.scale(
            functional.interpolate(levels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        )

    def scale(self, levels: Tensor) -> Tensor:
        """Levels 0 to 255 [N, 3, H, W] to mean 0 and deviation 1 by channel, as over the train side."""
        return (levels - self.means) / self.deviations


class PetNet(nn.Module):
    """A small residual network for CPUs: three stages of `width`, 2 and 4 times `width` channels.

    Its cost is in 3x3 convolutions of 64 to 256 channels on maps of 6x6 and larger, where a CPU core reaches most
    of its float32 peak. Measured on two AVX-512 cores, batches of 64: 64 channels at 16x16 run at 300 GFLOP/s,
    but 512 channels at 2x2, as ResNet-18's last stage has for a photo of 64 px, at 80.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, width // 2, stride=2),
            nn.ReLU(inplace=True),
            _convolution(width // 2, width, stride=2),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(
            ResidualBlock(width, width),
            ResidualBlock(width, width),
            ResidualBlock(width, 2 * width, stride=2),
            ResidualBlock(2 * width, 2 * width),
            ResidualBlock(2 * width, 4 * width, stride=2),
            ResidualBlock(4 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, classes] of inputs [N, 3, R, R]; any R from 16."""
        logits: Tensor = self.head(self.stages(self.stem(inputs)).mean(dim=(2, 3)))
        return logits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the shortcut averages before it strides, so it sees every pixel."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(num_inputs, num_outputs, stride=stride)
        self.second = _convolution(num_outputs, num_outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_inputs != num_outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True), _convolution(num_inputs, num_outputs, size=1)
            )
        # Each block starts as its shortcut: the deeper half of the network then learns from the first step.
        scale = self.second[1].weight
        assert isinstance(scale, Tensor)
        nn.init.zeros_(scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride], rounded up."""
        hidden = functional.relu(self.first(inputs), inplace=True)
        return functional.relu(self.second(hidden) + self.shortcut(inputs), inplace=True)


def _convolution(num_inputs: int, num_outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution and the normalisation of its outputs over the batch."""
    convolution = nn.Conv2d(num_inputs, num_outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(num_outputs))


def _torchvision(name: str) -> Callable[[int, int], nn.Module]:
    def build(_width: int, num_classes: int) -> nn.Module:
        import torchvision  # half a second, which petnet need not wait for

        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
        return network

    return build


ARCHITECTURES: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {name: PetNet if name == "petnet" else _torchvision(name) for name in recipes.ARCHITECTURES}
)
"""By name: what builds the network from (width, number of classes). All start from random weights."""


def build_network(hyperparameters: Hyperparameters, *, num_classes: int = 2) -> nn.Module:
    """A network with random weights (torch's generator): [N, 3, R, R] to logits [N, num_classes].

    Raises:
        InvalidInput: there is no architecture of that name.
    """
    name = hyperparameters.architecture
    if name not in ARCHITECTURES:
        raise InvalidInput(f"there is no architecture {name!r}: choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](hyperparameters.width, num_classes)
