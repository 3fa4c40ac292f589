"""Random tensors on one device, all from one seed."""

from __future__ import annotations

import math

import numpy as np
import torch


class Dice:
    """Draws tensors; the same seed on the same kind of device draws the same."""

    def __init__(self, device: str, *seed: int) -> None:
        """Takes the device and any number of whole numbers that make the seed."""
        state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self.device = device
        self.generator = torch.Generator(device).manual_seed(int(state) >> 1)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Evenly between two bounds."""
        values = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * values

    def log_uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Evenly on a logarithmic scale."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> torch.Tensor:
        """Of mean 0 and deviation 1."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def below(self, high: int, *shape: int) -> torch.Tensor:
        """Whole numbers from 0 to `high` - 1."""
        return torch.randint(high, shape, generator=self.generator, device=self.device)

    def sign(self, *shape: int) -> torch.Tensor:
        """-1 or 1."""
        return 2.0 * self.below(2, *shape) - 1

    def chance(self, share: float, *shape: int) -> torch.Tensor:
        """True for such a share."""
        return torch.rand(shape, generator=self.generator, device=self.device) < share

    def sometimes(self, share: float, values: torch.Tensor, otherwise: float) -> torch.Tensor:
        """(N, ...) values, for such a share of the rows; `otherwise` for the rest."""
        is_kept = self.chance(share, len(values)).reshape(-1, *[1] * (values.ndim - 1))
        return torch.where(is_kept, values, torch.full_like(values, otherwise))
