"""Running averages of weights: what a training judges and keeps (Polyak & Juditsky, 1992).

The weights of single steps swing; their averages don't, and unlike a falling learning rate they
need not know when the training will end. Here they are exponential.
"""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

DECAY = 0.99
"""Of the averages; smaller in the first steps, while the weights still move far."""


Network = TypeVar("Network", bound=nn.Module)


class Averaged(nn.Module, Generic[Network]):
    """A network and the running averages of its weights and statistics."""

    network: Network
    average: Network
    updates: torch.Tensor

    def __init__(self, network: Network) -> None:
        """Takes the network that is trained."""
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, *inputs: Any) -> torch.Tensor:
        """What the network that learns gives, or, in evaluation mode, the averages."""
        used = self.network if self.training else self.average
        out: torch.Tensor = used(*inputs)
        return out

    def train(self, mode: bool = True) -> Averaged[Network]:
        """As `nn.Module.train`; the averages stay in evaluation mode."""
        super().train(mode)
        self.average.eval()
        return self

    @torch.no_grad()
    def update(self) -> None:
        """Moves the averages towards the network as it is now."""
        done = int(self.updates)
        step = 1 - min(DECAY, (1 + done) / (10 + done))
        learned = self.network.state_dict()
        for name, tensor in self.average.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(learned[name], step)
        self.updates += 1
