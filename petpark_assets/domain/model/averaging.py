"""The moving average of a network's weights over the steps of its training: what is validated, kept and served."""

import copy

import torch
from torch import Tensor

from petpark_assets.domain.model.network import Classifier


class Average:
    """The exponential moving average of a classifier's network: weights and batch statistics."""

    def __init__(self, classifier: Classifier, decay: float) -> None:
        self.decay = decay
        self.classifier = copy.deepcopy(classifier).eval().requires_grad_(requires_grad=False)
        averaged, latest = self.classifier.network.state_dict(), classifier.network.state_dict()
        # Views: they follow every step.
        moving = [name for name, value in latest.items() if value.is_floating_point()]
        counting = [name for name in latest if name not in moving]
        self.averaged, self.latest = [averaged[name] for name in moving], [latest[name] for name in moving]
        self.counts = [(averaged[name], latest[name]) for name in counting]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, from 1; early steps count more, or the random start would linger."""
        decay = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(self.averaged, self.latest, 1 - decay)
        for averaged, latest in self.counts:
            averaged.copy_(latest)

    def weights(self) -> dict[str, Tensor]:
        """A copy on the CPU of the averaged network's state."""
        state = self.classifier.network.state_dict()
        return {
            name: value.to("cpu", copy=True, memory_format=torch.contiguous_format) for name, value in state.items()
        }
