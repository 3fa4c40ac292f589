"""PRN, section 3.2: maps of three scales exchange what they hold (equation 2, figure 4).

Batch normalisation follows each transform, as in HRNet (Wang et al., 2020), which the section
builds on; the text doesn't say. The 1x1 convolution comes before the bilinear up-sampling, not
after: both are linear and act on different axes, so that the sum is the same for a quarter or a
sixteenth of the multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import nn
from torch.nn import functional

Maps = Sequence[torch.Tensor]
"""Three, finest first, (B, C, H, W) each."""


class Down(nn.Module):
    """r < j: a depth-wise separable convolution with stride 2^(j-r)."""

    def __init__(self, inputs: int, outputs: int, steps: int) -> None:
        """Takes j - r as `steps`."""
        super().__init__()
        stride = 2**steps
        self.depth = nn.Conv2d(
            inputs, inputs, stride + 1, stride, stride // 2, groups=inputs, bias=False
        )
        self.point = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up."""
        with torch.autocast(x.device.type, enabled=False):  # in bf16 a CPU is 5 times slower here
            deep = self.depth(x.to(torch.float32))
        out: torch.Tensor = self.norm(self.point(deep))
        return out


class Up(nn.Module):
    """r > j: a 1x1 convolution and a bilinear up-sampling."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        """Takes the (H, W) of the output."""
        super().__init__()
        self.point = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) to (B, outputs, H, W)."""
        return enlarged(self.norm(self.point(x)), self.size)


class Row(nn.Module):
    """One output of equation 2: the sum of the three transformed inputs."""

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, maps: Maps) -> torch.Tensor:
        """Three maps to one, (B, C, H, W)."""
        parts: list[torch.Tensor] = [f(x) for f, x in zip(self.transforms, maps, strict=True)]
        return reduce(torch.add, parts)


class Fusion(nn.Module):
    """A multi-scale fusion block: each output is the sum of all three transformed inputs."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[tuple[int, int]]) -> None:
        """Takes the channels and the (H, W) of the three scales."""
        super().__init__()
        self.rows = nn.ModuleList(
            Row([_transform(r, j, channels, sizes) for r in range(len(channels))])
            for j in range(len(channels))
        )

    def forward(self, maps: Maps) -> list[torch.Tensor]:
        """Three maps to three of the same shapes."""
        return [row(maps) for row in self.rows]


def _transform(
    r: int, j: int, channels: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> nn.Module:
    """f_rj: from scale r to scale j, finest 0."""
    if r == j:
        return nn.Identity()
    if r < j:
        return Down(channels[r], channels[j], j - r)
    return Up(channels[r], channels[j], sizes[j])


def enlarged(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, C, h, w) to (B, C, H, W), bilinear."""
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
