"""MPFNet's features: whole maps of normal parts, fused with a picture's over two scales.

Shao et al., section III.1. Prototypes are whole feature maps of stages 2 and 3, found by k-means
(Lloyd 1982) among those of good pictures. The fusion block (equation 1) adds to each scale the
other one: downwards by a depth-wise separable convolution of stride 2, kernel 3 and padding 1,
upwards by bilinear upsampling and a 1x1 convolution. The same is done with what the prototypes
give, and both are concatenated. Each position is then the mean of its 3 x 3 neighbours (equation
3).

The paper leaves two things open:

- How prototypes enter. `none` leaves them out, which makes MPFNet what it builds on without them
  (SimpleNet, Liu et al., CVPR 2023). It is the default because, as far as it was measured here, it
  found more than `residual` in the same time of training: prototypes double the channels, and so
  the cost of a step. `residual` is the absolute difference to the nearest prototype, element by
  element, as in PRN (Zhang et al., CVPR 2023, section 3.2) and in MemSeg's difference information
  (Yang et al. 2023), which MPFNet cites for prototypes; `prototype` is the nearest prototype
  itself, the text's literal reading.
- How the block's weights come about; no optimiser is named for them. They are fixed here: binomial
  kernels and orthonormal 1x1 convolutions drawn from the seed, times a weight. The block is linear
  and a linear adapter follows the concatenation of both scales, so that learned 1x1 convolutions
  could express nothing that the adapter can't; a weight of 0 leaves the block out and that to it.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from calibration.prototypes import NearestMap, cluster_rows

Fusion = Literal["residual", "prototype", "none"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
Pair = tuple[torch.Tensor, torch.Tensor]
"""Maps of stages 2 and 3, (B, C2, h, w) and (B, C3, h / 2, w / 2)."""


class MultiScaleFusion(nn.Module):
    """Equation 1 for two scales, with fixed weights."""

    kernels: torch.Tensor
    mixing: torch.Tensor

    def __init__(self, channels: tuple[int, int], seed: int, weight: float = 1.0) -> None:
        """Takes the channels of stages 2 and 3, and how much of the other scale is added."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        wide, narrow = max(channels), min(channels)
        random = torch.randn((wide, narrow), generator=generator, dtype=torch.float64)
        orthonormal = weight * torch.linalg.qr(random).Q.float()
        mixing = orthonormal if channels[1] >= channels[0] else orthonormal.T  # (C3, C2)
        binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = (binomial[:, None] * binomial)[None, None]  # (1, 1, 3, 3)
        self.register_buffer("kernels", kernel.repeat(channels[0], 1, 1, 1))
        self.register_buffer("mixing", mixing[:, :, None, None].contiguous())
        self.register_buffer("unmixing", mixing.T[:, :, None, None].contiguous())

    def forward(self, maps: Pair) -> Pair:
        """Each scale plus the other one."""
        two, three = maps
        down = functional.conv2d(two, self.kernels, stride=2, padding=1, groups=two.shape[1])
        up = functional.conv2d(three, self.get_buffer("unmixing"))  # before upsampling: the same
        up = functional.interpolate(up, size=two.shape[-2:], mode="bilinear", align_corners=False)
        return two + up, three + functional.conv2d(down, self.mixing)


class PrototypeFusion(nn.Module):
    """Maps of stages 2 and 3 to MPFNet's local features, each scale at its own resolution."""

    def __init__(
        self,
        fusion: Fusion,
        channels: tuple[int, int],
        prototypes: Pair | None,
        seed: int,
        weight: float = 1.0,
    ) -> None:
        """Takes prototypes of both scales, (K, C, h, w); None for `none`.

        `weight` is that of the other scale in equation 1.
        """
        super().__init__()
        self.fusion = fusion
        copies = 1 if prototypes is None else 2
        self.widths = (copies * channels[0], copies * channels[1])
        """Channels of what comes out."""
        self.count = 0 if prototypes is None else len(prototypes[0])
        """Prototypes of each scale."""
        self.blend = MultiScaleFusion(channels, seed, weight) if weight else nn.Identity()
        maps = () if prototypes is None else prototypes
        self.nearest = nn.ModuleList(NearestMap(one) for one in maps)

    def forward(self, maps: Pair) -> Pair:
        """(B, C2, h, w) and (B, C3, h / 2, w / 2) to the same with twice the channels."""
        fused = self.blend(maps)
        if self.nearest:
            found = (near(one) for near, one in zip(self.nearest, maps, strict=True))
            if self.fusion == "residual":
                found = (torch.abs(one - other) for one, other in zip(maps, found, strict=True))
            normal = self.blend(tuple(found))
            fused = tuple(torch.cat(both, dim=1) for both in zip(fused, normal, strict=True))
        return _averaged(fused[0]), _averaged(fused[1])


def side_by_side(maps: Pair) -> torch.Tensor:
    """Equation 4: both scales at the finer resolution, (B, C, h, w)."""
    two, three = maps
    size = two.shape[-2:]
    return torch.cat(
        [two, functional.interpolate(three, size=size, mode="bilinear", align_corners=False)], dim=1
    )


def _averaged(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def prototypes_of(maps: npt.NDArray[np.float16], count: int, seed: int) -> torch.Tensor:
    """(K, C, h, w) means of k-means clusters among (N, C, h, w) maps; no more than maps."""
    found = cluster_rows(maps.reshape(len(maps), -1), min(count, len(maps)), seed)
    return torch.from_numpy(found).reshape(-1, *maps.shape[1:])
