"""MPFNet's learned part, as it is trained on rows and as it is exported in one piece.

From the fused maps to the leaky ReLU all is linear: scaling, adapter, first layer and, once it is
trained, batch norm. So the exported head has one 1x1 convolution per scale, at that scale's own
resolution because upsampling commutes with it, the leaky ReLU and a second 1x1 convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from calibration.fusion import PrototypeFusion

Floats = npt.NDArray[np.float32]
Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

SLOPE = 0.2
"""Of the leaky ReLU where it is negative (section III.3)."""
LEAST = 1e-3
"""Deviations below this share of the largest one are taken for it."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """From fused features to those that are adapted: ``(row - mean) * gain``."""

    mean: Floats
    """(C,)."""
    gain: Floats
    """(C,)."""

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)


def unit_scaling(rows: Floats) -> Scaling:
    """Gives each channel of (N, C) good rows mean 0 and deviation 1."""
    deviation = rows.std(axis=0)
    return Scaling(rows.mean(axis=0), 1 / np.maximum(deviation, LEAST * deviation.max()))


def common_scaling(rows: Floats) -> Scaling:
    """Divides all channels of (N, C) good rows by one number, so that their mean deviation is 1."""
    gain = np.full(rows.shape[1], 1 / rows.std(axis=0).mean(), np.float32)
    return Scaling(rows.mean(axis=0), gain)


def no_scaling(rows: Floats) -> Scaling:
    """Leaves (N, C) features as they are."""
    return Scaling(np.zeros(rows.shape[1], np.float32), np.ones(rows.shape[1], np.float32))


class Discriminating(nn.Module):
    """Adapter and discriminator on rows of features."""

    def __init__(self, channels: int) -> None:
        """Takes the channels of a row; the hidden layer has as many."""
        super().__init__()
        self.adapter = nn.Linear(channels, channels)
        self.first = nn.Linear(channels, channels)
        self.norm = nn.BatchNorm1d(channels)
        self.last = nn.Linear(channels, 1)
        for layer in (self.adapter, self.first, self.last):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def normality(self, adapted: torch.Tensor) -> torch.Tensor:
        """(N, D) adapted rows to D of equation 7, (N,): positive where normal."""
        hidden = functional.leaky_relu(self.norm(self.first(adapted)), SLOPE)
        normality: torch.Tensor = self.last(hidden)[:, 0]
        return normality

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, D) rows to the anomaly score of equation 9, (N,)."""
        return -self.normality(self.adapter(rows))


class MPFHead(nn.Module):
    """The whole of it, from the backbone's stages to patch scores."""

    def __init__(self, fusion: PrototypeFusion, scaling: Scaling, network: Discriminating) -> None:
        """Takes the trained parts, on the CPU, and folds what is linear."""
        super().__init__()
        self.fusion = fusion
        weight, bias = _folded(scaling, network)
        sizes = [fusion.widths[0], fusion.widths[1]]
        self.two, self.three = (
            nn.Parameter(part[:, :, None, None].contiguous(), requires_grad=False)
            for part in torch.split(weight, sizes, dim=1)
        )
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.last = nn.Parameter(
            -network.last.weight.detach()[:, :, None, None].clone(), requires_grad=False
        )
        self.offset = nn.Parameter(-network.last.bias.detach().clone(), requires_grad=False)

    def forward(self, stages: Stages) -> torch.Tensor:
        """Three maps to the anomaly score of each patch, (B, 1, H/8, W/8)."""
        two, three = self.fusion((stages[1], stages[2]))
        fine = functional.conv2d(two, self.two, self.bias)  # (B, D, H/8, W/8)
        coarse = functional.conv2d(three, self.three)  # (B, D, H/16, W/16)
        coarse = functional.interpolate(
            coarse, size=two.shape[-2:], mode="bilinear", align_corners=False
        )
        hidden = functional.leaky_relu(fine + coarse, SLOPE)
        return functional.conv2d(hidden, self.last, self.offset)


def _folded(scaling: Scaling, network: Discriminating) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight, (C, C), and bias, (C,), of all that lies before the leaky ReLU."""
    norm = network.norm
    if norm.running_mean is None or norm.running_var is None:
        raise AssertionError("batch norm keeps running statistics")
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # (D,)
    first, adapter = network.first.weight.double(), network.adapter.weight.double()
    weight = gain[:, None] * (first @ adapter) * torch.from_numpy(scaling.gain).double()
    inner = first @ network.adapter.bias.double() + network.first.bias.double()
    bias = gain * (inner - norm.running_mean.double()) + norm.bias.double()
    bias = bias - weight @ torch.from_numpy(scaling.mean).double()
    return weight.detach().float(), bias.detach().float()
