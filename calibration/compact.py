"""A head for slow machines: a quarter of the patches, few channels, prototypes that reach the edge.

It is ProtoAD with four changes, none of which is in the paper:

- a patch every 8 pixels instead of every 4, each stage averaged over 3 x 3 positions first (as
  PatchCore does, Roth et al., CVPR 2022, section 3.1), so that a patch sees its neighbours;
- each channel divided by its standard deviation over the good patches, so that channels with large
  activations don't decide alone;
- the channels projected on their leading directions (of the normalised patches' second moments,
  not centred: what a cosine keeps), which makes the comparison with K prototypes that much cheaper;
- to the means of the clusters are added the good patches that these cover worst (farthest point
  first), because means shrink away from the edge of what is normal.

Scaling, normalising and projecting are one 1x1 convolution here: the patch's length divides out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from calibration.finch import normalised

Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Floats = npt.NDArray[np.float32]

EPSILON = 1e-12
BLOCK = 4_096
"""Patches compared at a time."""


@dataclass(frozen=True, slots=True)
class Projection:
    """From all channels to a few, linear: `rows @ matrix`."""

    matrix: Floats
    """(C, D)."""
    kept: float
    """Share of the patches' squared length that D directions keep."""

    def __call__(self, patches: Floats) -> Floats:
        """(N, C) patches to (N, D) of length 1."""
        found = np.empty((len(patches), self.matrix.shape[1]), np.float32)
        for start in range(0, len(patches), BLOCK):
            found[start : start + BLOCK] = normalised(patches[start : start + BLOCK] @ self.matrix)
        return found


def learn_projection(patches: Floats, channels: int) -> Projection:
    """Scale and leading directions of (N, C) good patches; at most C of them."""
    deviation = patches.std(axis=0)
    scale = 1 / np.maximum(deviation, EPSILON + 1e-3 * deviation.max())
    moment = np.zeros((patches.shape[1],) * 2, np.float64)  # (C, C)
    for start in range(0, len(patches), BLOCK):
        unit = normalised(patches[start : start + BLOCK] * scale)
        moment += unit.T @ unit
    values, vectors = np.linalg.eigh(moment)
    leading = vectors[:, ::-1][:, :channels]  # (C, D)
    kept = values[::-1][:channels].sum() / max(values.sum(), EPSILON)
    matrix = (scale[:, None] * leading).astype(np.float32)
    return Projection(np.ascontiguousarray(matrix), float(kept))


def worst_covered(points: Floats, prototypes: Floats, count: int) -> Floats:
    """Up to `count` of the (N, C) unit points, each the farthest from all prototypes before it."""
    nearest = np.concatenate(
        [
            (points[start : start + BLOCK] @ prototypes.T).max(axis=1)
            for start in range(0, len(points), BLOCK)
        ]
    )  # (N,) cosines
    found: list[int] = []
    while len(found) < count:
        farthest = int(nearest.argmin())
        if nearest[farthest] > 1 - 1e-6:
            break
        found.append(farthest)
        np.maximum(nearest, points @ points[farthest], out=nearest)
    return points[found]


def neighbourhoods(stages: Stages) -> torch.Tensor:
    """Stages of stride 4, 8 and 16 to (B, C1 + C2 + C3, H/8, W/8), each averaged over 3 x 3."""
    first = functional.avg_pool2d(stages[0], 2)
    averaged = [
        functional.avg_pool2d(stage, 3, stride=1, padding=1, count_include_pad=False)
        for stage in (first, *stages[1:])
    ]
    size = averaged[0].shape[-2:]
    same = [
        stage
        if stage.shape[-2:] == size
        else functional.interpolate(stage, size=size, mode="bilinear", align_corners=False)
        for stage in averaged
    ]
    return torch.cat(same, dim=1)


class CompactHead(nn.Module):
    """One minus the highest cosine with a prototype, in the projected space."""

    def __init__(self, projection: Projection, prototypes: Floats, tile: int) -> None:
        """Takes (K, D) prototypes of length 1 and how many of them are compared at a time."""
        super().__init__()
        matrix = torch.from_numpy(np.ascontiguousarray(projection.matrix.T))  # (D, C)
        self.projection = nn.Parameter(matrix[:, :, None, None], requires_grad=False)
        kernels = torch.from_numpy(prototypes)[:, :, None, None]  # (K, D, 1, 1)
        self.tiles = nn.ParameterList(
            nn.Parameter(part.contiguous(), requires_grad=False)
            for part in torch.split(kernels, tile)
        )

    def forward(self, stages: Stages) -> torch.Tensor:
        """Three maps to the anomaly score of each patch, (B, 1, H/8, W/8)."""
        patches = functional.conv2d(neighbourhoods(stages), self.projection)  # (B, D, H/8, W/8)
        unit = functional.normalize(patches, dim=1, eps=EPSILON)
        highest = (functional.conv2d(unit, tile).amax(dim=1, keepdim=True) for tile in self.tiles)
        nearest: torch.Tensor = reduce(torch.maximum, highest)  # (B, 1, H/8, W/8)
        return 1 - nearest
