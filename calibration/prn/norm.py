"""Batch normalisation that no convolution goes before."""

from __future__ import annotations

import torch
from torch import nn


class Norm(nn.BatchNorm2d):
    """As its base class; once learned it is exported as a product and a sum.

    The exporter folds a batch normalisation into the convolution before it. Where there is none,
    the operator would stay, which the contract of exported graphs excludes.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same."""
        if self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        gain = self.weight / torch.sqrt(self.running_var + self.eps)  # (C,)
        shift = self.bias - self.running_mean * gain
        return x * gain[:, None, None] + shift[:, None, None]
