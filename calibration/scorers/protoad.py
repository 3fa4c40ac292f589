"""ProtoAD: prototypes of normal patches as the kernels of a 1x1 convolution (Huang et al.).

Section 3.1: stages 1 to 3, the deeper two bilinearly upsampled to the first, concatenated,
L2-normalised. Section 3.2: FINCH below 10,000 clusters, cluster means as prototypes; for equation
3 to be a cosine they are L2-normalised again. Section 3.3: 1x1 convolution, channel maximum, one
minus. Section 4.2: the map is bilinearly upsampled to the input's size and smoothed with a
Gaussian of sigma 4 pixels; equation 4's maximum is taken of that smoothed map.

Two heads compute the same function:

- `PublishedHead`, the paper's order: upsample the features, then convolve at the finest grid.
- `RewrittenHead`: a 1x1 convolution and bilinear upsampling are both linear and act on different
  axes, so they commute. Each stage is convolved at its own resolution with its slice of the
  prototypes, and the K-channel results are upsampled and added; the patch's norm does not depend
  on k, so it divides after the maximum. About 4 times fewer multiplications.

The paper scores on the first stage's grid, a patch every 4 pixels. `grid=8` averages that stage to
the second one's grid, a patch every 8 pixels: a quarter of the patches to cluster and to score. It
is not the paper's network, so it is an option and not the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from time import monotonic

import torch
from torch import nn
from torch.nn import functional

from calibration.backbones import Backbone
from calibration.features import sample_patches
from calibration.finch import Partition, coarser, finch, normalised
from calibration.scorers import Fitted, Option, Report
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray

Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
EPSILON = 1e-12
PATCH_BYTES = 2_600 * 2**20
"""Memory for the patches and for what clustering them takes: calibration stays below 4 GiB."""
MAX_PATCHES = 1_000_000
"""More patches take longer and, from a few hundred thousand on, change little."""
HEADS = ("rewritten", "published")
GRIDS = (4, 8)
TILE = 256
"""Prototypes per tile of the rewritten head: 256 maps of 56 x 56 float32 are 3 MiB."""


@dataclass(frozen=True, slots=True)
class ProtoAD:
    """The scorer: see the module. A head that doesn't exist is a `ConfigError`."""

    max_prototypes: int = 10_000
    """FINCH stops at the first partition with fewer clusters (section 3.2)."""
    partition: int = 0
    """0 takes the stopping rule's; -1, -2 ... coarser ones; 1, 2 ... count from the finest."""
    max_patches: int = 0
    """Patches clustered; 0 takes what fits into memory."""
    head: str = "rewritten"
    """`rewritten` or `published`: the same function."""
    grid: int = 4
    """Pixels of the input from patch to patch: 4 as in the paper, or 8."""
    name: str = field(default="protoad", init=False)

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ConfigError(f"no head is called {self.head!r}; known: {', '.join(HEADS)}")
        if self.grid not in GRIDS:
            raise ConfigError(f"the grid is 4 or 8 pixels, not {self.grid}")

    def options(self) -> dict[str, Option]:
        """The settings that reproduce a fit."""
        return {
            "max_prototypes": self.max_prototypes,
            "partition": self.partition,
            "max_patches": self.max_patches,
            "head": self.head,
            "grid": self.grid,
        }

    def fit(
        self, images: Sequence[ImageArray], backbone: Backbone, seed: int, report: Report
    ) -> Fitted:
        """Learns prototypes from good pictures; see `Scorer.fit`.

        Raises:
            ConfigError: no such partition.
        """
        started = monotonic()
        channels = backbone.network.channels
        patches = sample_patches(
            images,
            backbone,
            lambda stages: patch_features(on_grid(stages, self.grid)),
            limit=self.max_patches or default_max_patches(sum(channels)),
            seed=seed,
            report=lambda done, total: report("extracting features", done, total),
        )
        partitions = finch(
            patches,
            fewer_than=self.max_prototypes,
            seed=seed,
            report=lambda done, total: report(f"clustering {total:,} points", done, total),
        )
        chosen = choose_partition(partitions, self.partition, seed)
        facts = {
            "patches": f"{len(patches):,} of {sum(channels)} channels",
            "FINCH partitions": ", ".join(f"{len(p.means):,}" for p in partitions),
            "prototypes": f"{len(chosen.means):,}",
            "head": f"{self.head}, a patch every {self.grid} pixels",
            "fitted in": f"{monotonic() - started:.0f} s",
        }
        return Fitted(self._head(chosen, channels), facts)

    def _head(self, chosen: Partition, channels: tuple[int, ...]) -> nn.Module:
        prototypes = torch.from_numpy(normalised(chosen.means))
        if self.head == "published":
            return OnGrid(PublishedHead(prototypes), self.grid)
        return OnGrid(RewrittenHead(prototypes, channels, TILE), self.grid)


def default_max_patches(channels: int) -> int:
    """Patches of so many float32 channels that fit, twice, into `PATCH_BYTES`."""
    return min(MAX_PATCHES, PATCH_BYTES // (2 * 4 * channels))


def choose_partition(partitions: list[Partition], which: int, seed: int) -> Partition:
    """The stopping rule's partition (0), the n-th finest (n > 0) or one n levels coarser (n < 0).

    Raises:
        ConfigError: the hierarchy has no such level.
    """
    if which > len(partitions):
        sizes = ", ".join(str(len(p.means)) for p in partitions)
        raise ConfigError(f"FINCH gave {len(partitions)} partitions ({sizes}), not {which}")
    if which > 0:
        return partitions[which - 1]
    chosen = partitions[-1]
    for _ in range(-which):
        above = coarser(chosen, seed=seed)
        if above is None:
            raise ConfigError(f"there is no partition {-which} levels above the stopping rule's")
        chosen = above
    return chosen


def on_grid(stages: Stages, grid: int) -> Stages:
    """Maps of stride 4, 8, 16; with a grid of 8 the first is averaged to stride 8."""
    if grid == 4:
        return stages
    return functional.avg_pool2d(stages[0], 2), stages[1], stages[2]


def patch_features(stages: Stages) -> torch.Tensor:
    """Three maps of stride 4, 8, 16 to (B, C1 + C2 + C3, H/4, W/4), L2-normalised per position."""
    return functional.normalize(_concatenated(stages), dim=1, eps=EPSILON)


def _concatenated(stages: Stages) -> torch.Tensor:
    finest = stages[0].shape[-2:]
    return torch.cat([stages[0], *(_upsampled(stage, finest) for stage in stages[1:])], dim=1)


def _upsampled(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    if x.shape[-2:] == size:
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class OnGrid(nn.Module):
    """A head on the paper's grid or on the coarser one."""

    def __init__(self, head: nn.Module, grid: int) -> None:
        super().__init__()
        self.head = head
        self.grid = grid

    def forward(self, stages: Stages) -> torch.Tensor:
        """Three maps to the anomaly score of each patch, (B, 1, H/grid, W/grid)."""
        patches: torch.Tensor = self.head(on_grid(stages, self.grid))
        return patches


class PublishedHead(nn.Module):
    """Equation 3 in the order of the paper's figure 3."""

    def __init__(self, prototypes: torch.Tensor) -> None:
        """Takes (K, C) prototypes of length 1."""
        super().__init__()
        self.kernels = nn.Parameter(prototypes[:, :, None, None].clone(), requires_grad=False)

    def forward(self, stages: Stages) -> torch.Tensor:
        """Three maps to the anomaly score of each patch, (B, 1, H/4, W/4)."""
        cosines = functional.conv2d(patch_features(stages), self.kernels)  # (B, K, H/4, W/4)
        return 1 - cosines.amax(dim=1, keepdim=True)


class RewrittenHead(nn.Module):
    """The same function with the convolution moved in front of the upsampling, tiled over K.

    A tile of prototypes goes through convolution, upsampling, sum and maximum before the next one
    starts, so that the K-channel map stays in the cache and never exists as a whole.
    """

    def __init__(self, prototypes: torch.Tensor, channels: tuple[int, ...], tile: int) -> None:
        """Takes (K, C) prototypes of length 1, the stages' channels, and prototypes per tile."""
        super().__init__()
        kernels = prototypes[:, :, None, None]  # (K, C, 1, 1)
        self.tiles = nn.ModuleList(
            nn.ParameterList(
                nn.Parameter(part.contiguous(), requires_grad=False)
                for part in torch.split(chunk, list(channels), dim=1)
            )
            for chunk in torch.split(kernels, tile)
        )

    def forward(self, stages: Stages) -> torch.Tensor:
        """Three maps to the anomaly score of each patch, (B, 1, H/4, W/4)."""
        length: torch.Tensor = torch.linalg.vector_norm(_concatenated(stages), dim=1, keepdim=True)
        highest = (_tile_maximum(stages, list(kernels.parameters())) for kernels in self.tiles)
        nearest: torch.Tensor = reduce(torch.maximum, highest)  # (B, 1, H/4, W/4)
        return 1 - nearest / length.clamp_min(EPSILON)


def _tile_maximum(stages: Stages, kernels: list[nn.Parameter]) -> torch.Tensor:
    """Highest dot product with this tile's prototypes, (B, 1, H/4, W/4)."""
    finest = stages[0].shape[-2:]
    products = functional.conv2d(stages[0], kernels[0])  # (B, tile, H/4, W/4)
    for stage, kernel in zip(stages[1:], kernels[1:], strict=True):
        products = products + _upsampled(functional.conv2d(stage, kernel), finest)
    return products.amax(dim=1, keepdim=True)
