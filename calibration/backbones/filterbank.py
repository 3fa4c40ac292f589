"""A fixed bank of filters as a backbone: no training, no download, nobody's data.

A stop-gap so that a first calibration works anywhere; a trained network is clearly better. Each of
three octaves gives, per opponent-colour channel (Geusebroek et al. 2001), the local energy of
Gabor pairs in eight orientations (Jain & Farrokhnia 1991) and the local mean. A constant channel
stands for the noise floor: without it the cosine of ProtoAD's equation 3 would make the faint
grain of a smooth patch as important as a scratch. Square roots at the end keep strong edges from
outweighing all else. Weights and roots were chosen on the rendered demonstration product alone.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

ORIENTATIONS = 8
WAVELENGTH = 4.0
"""Pixels of the octave's own grid."""
KERNEL = 9
NOISE_FLOOR = 0.35
MEAN_WEIGHT = 0.25
OPPONENT = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))


def gabor_pairs() -> torch.Tensor:
    """(2 * ORIENTATIONS, 1, KERNEL, KERNEL): even and odd filters, free of mean, unit energy."""
    reach = KERNEL // 2
    y, x = torch.meshgrid(
        torch.arange(-reach, reach + 1.0), torch.arange(-reach, reach + 1.0), indexing="ij"
    )
    envelope = torch.exp(-(x**2 + y**2) / (2 * (WAVELENGTH / 2) ** 2))
    filters = []
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / WAVELENGTH
        for wave in (torch.cos(phase), torch.sin(phase)):
            kernel = wave * envelope
            kernel = kernel - envelope * kernel.sum() / envelope.sum()
            filters.append(kernel / kernel.norm())
    return torch.stack(filters)[:, None]


class FilterBank(nn.Module):
    """Gabor energies and means of three octaves at strides 4, 8 and 16."""

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    opponent: torch.Tensor
    filters: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        per_octave = 3 * ORIENTATIONS + 3 + 1
        self.channels: tuple[int, ...] = (per_octave,) * 3
        self.strides = (4, 8, 16)
        self.register_buffer("opponent", torch.tensor(OPPONENT)[:, :, None, None])
        self.register_buffer("filters", gabor_pairs().repeat(3, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, 3, H, W), normalised, to three maps of stride 4, 8 and 16."""
        colours = functional.conv2d(x, self.opponent)  # (B, 3, H, W)
        half = functional.avg_pool2d(colours, 2)
        quarter = functional.avg_pool2d(half, 2)
        return self._octave(colours), self._octave(half), self._octave(quarter)

    def _octave(self, colours: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, 28, H/4, W/4)."""
        padded = functional.pad(colours, (KERNEL // 2,) * 4, mode="replicate")
        waves = functional.conv2d(padded, self.filters, groups=3)  # (B, 48, H, W)
        squares = functional.avg_pool2d(waves * waves, 4)  # (B, 48, H/4, W/4)
        batch, _, height, width = squares.shape
        energies = squares.reshape(batch, 3 * ORIENTATIONS, 2, height, width).sum(dim=2)
        amplitudes = torch.sqrt(energies + 1e-6)  # (B, 24, H/4, W/4)
        means = functional.avg_pool2d(colours, 4) * MEAN_WEIGHT  # (B, 3, H/4, W/4)
        floor = torch.full_like(means[:, :1], NOISE_FLOOR * math.sqrt(ORIENTATIONS))
        octave = torch.cat([amplitudes, means, floor], dim=1)  # (B, 28, H/4, W/4)
        return torch.sign(octave) * torch.sqrt(octave.abs())
