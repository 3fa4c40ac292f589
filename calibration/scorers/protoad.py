"""ProtoAD: prototypes of normal patches as the kernels of a 1x1 convolution (Huang et al.).

Section 3.1: stages 1 to 3, the deeper two bilinearly upsampled to the first, concatenated,
L2-normalised. Section 3.2: FINCH below 10,000 clusters, cluster means as prototypes; for equation
3 to be a cosine they are L2-normalised again. Section 3.3: 1x1 convolution, channel maximum, one
minus. Section 4.2: the map is bilinearly upsampled to the input's size and smoothed with a
Gaussian of sigma 4 pixels; equation 4's maximum is taken of that smoothed map.

Two heads compute the paper's function:

- `PublishedHead`, the paper's order: upsample the features, then convolve at the finest grid.
- `RewrittenHead`: a 1x1 convolution and bilinear upsampling are both linear and act on different
  axes, so they commute. Each stage is convolved at its own resolution with its slice of the
  prototypes, and the K-channel results are upsampled and added; the patch's norm does not depend
  on k, so it divides after the maximum. About 4 times fewer multiplications.

Two compare fewer channels, see `calibration.projected`: `projected` finds nearly the same as the
paper's, 1.1 to 1.7 times faster than `rewritten`; `compact` is another function, made after it for
slow machines.
`coverage` adds to the clusters' means the patches that they cover worst.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from time import monotonic

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from calibration.backbones import Backbone
from calibration.features import sample_patches
from calibration.finch import Partition, coarser, finch, normalised
from calibration.projected import (
    EPSILON,
    Floats,
    ProjectedHead,
    Projection,
    Stages,
    deviations,
    every_eighth,
    every_fourth,
    learn_projection,
    neighbourhoods,
    worst_covered,
)
from calibration.scorers import Fitted, Material, Option, Report
from inspectd.core.errors import ConfigError

PATCH_BYTES = 2_600 * 2**20
"""Memory for the patches and for what clustering them takes: calibration stays below 4 GiB."""
MAX_PATCHES = 1_000_000
"""More patches take longer and, from a few hundred thousand on, change little."""
HEADS = ("projected", "rewritten", "published", "compact")
CHANNELS = 128
"""Directions that projected and compact heads keep: about 98 % of what good patches are made of."""
COMPACT_COVERAGE = 2_000
AUTOMATIC = -1
SIGMA = 4.0
"""Section 4.2."""
HIGHEST = 2.0
"""Of a score: one minus a cosine."""
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
    """`rewritten` or `published`: the paper's function; `projected`: on fewer channels; `compact`:
    another one, coarser and fastest."""
    channels: int = CHANNELS
    """Directions that `projected` and `compact` keep."""
    coverage: int = AUTOMATIC
    """Patches added to the prototypes, the worst covered ones; the paper adds none. -1: none, or
    `COMPACT_COVERAGE` for the compact head."""
    name: str = field(default="protoad", init=False)
    is_trained: bool = field(default=False, init=False)
    seen_limit: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ConfigError(f"no head is called {self.head!r}; known: {', '.join(HEADS)}")
        if self.coverage < AUTOMATIC:
            raise ConfigError(f"coverage is a number of patches, not {self.coverage}")

    @property
    def is_compact(self) -> bool:
        """Whether patches are neighbourhoods on the coarser grid."""
        return self.head == "compact"

    def options(self) -> dict[str, Option]:
        """The settings that reproduce a fit."""
        return {
            "max_prototypes": self.max_prototypes,
            "partition": self.partition,
            "max_patches": self.max_patches,
            "head": self.head,
            "channels": self.channels,
            "coverage": self.coverage,
        }

    def faster(self) -> tuple[ProtoAD, ...]:
        """Forms of itself that take less time, the most exact first; see `calibration.budget`."""
        few, coarser = min(self.channels, CHANNELS // 2), min(self.partition, 0) - 1
        projected = replace(self, head="projected")
        compact = replace(self, head="compact", coverage=COMPACT_COVERAGE)
        bare = replace(compact, coverage=0)
        forms = [compact, bare, replace(bare, channels=few, partition=coarser)]
        if not self.is_compact:
            slim = replace(projected, channels=few)
            forms = [projected, slim, replace(projected, partition=coarser), *forms]
        same = {str(self)}
        return tuple(form for form in forms if str(form) not in same)

    def __str__(self) -> str:
        words = [f"{self.name} {self.head}"]
        if self.head in ("projected", "compact"):
            words.append(f"{self.channels} channels")
        if self.partition:
            words.append(f"partition {self.partition}")
        if self.is_compact:
            words.append(f"coverage {self._coverage:,}")
        return ", ".join(words)

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        """Learns prototypes from good pictures; see `Scorer.fit`.

        Raises:
            ConfigError: no such partition.
        """
        started = monotonic()
        channels = backbone.network.channels
        patches = sample_patches(
            material.good,
            backbone,
            neighbourhoods if self.is_compact else patch_features,
            limit=self.max_patches or default_max_patches(sum(channels)),
            seed=seed,
            report=lambda done, total: report("extracting features", done, total),
            regions=material.regions,
            sigma=SIGMA,
        )
        facts = {"patches": f"{len(patches):,} of {sum(channels)} channels"}
        projection = self._projection(patches)
        if projection is not None:
            patches = projection(patches)
            facts["projection"] = f"{patches.shape[1]} channels, {projection.kept:.1%} kept"
        prototypes = self._prototypes(patches, seed, report, facts)
        facts["head"] = self.head
        facts["fitted in"] = f"{monotonic() - started:.0f} s"
        return Fitted(
            self._head(prototypes, channels, projection), facts, sigma=SIGMA, highest=HIGHEST
        )

    def _projection(self, patches: Floats) -> Projection | None:
        """None for the heads that compare all channels."""
        if self.is_compact:
            return learn_projection(patches, self.channels, deviations(patches))
        return learn_projection(patches, self.channels) if self.head == "projected" else None

    def _prototypes(
        self, patches: Floats, seed: int, report: Report, facts: dict[str, str]
    ) -> Floats:
        """(K, C) of length 1: means of clusters, and patches that these don't cover."""
        partitions = finch(
            patches,
            fewer_than=self.max_prototypes,
            seed=seed,
            report=lambda done, total: report(f"clustering {total:,} points", done, total),
        )
        means = normalised(choose_partition(partitions, self.partition, seed).means)
        facts["FINCH partitions"] = ", ".join(f"{len(p.means):,}" for p in partitions)
        extra = worst_covered(patches, means, self._coverage)
        facts["prototypes"] = f"{len(means) + len(extra):,}"
        if len(extra):
            facts["of these for coverage"] = f"{len(extra):,}"
        return np.concatenate([means, extra])

    @property
    def _coverage(self) -> int:
        if self.coverage != AUTOMATIC:
            return self.coverage
        return COMPACT_COVERAGE if self.is_compact else 0

    def _head(
        self, prototypes: Floats, channels: tuple[int, ...], projection: Projection | None
    ) -> nn.Module:
        if projection is not None:
            grid = every_eighth if self.is_compact else every_fourth
            return ProjectedHead(projection, prototypes, channels, grid, TILE)
        kernels = torch.from_numpy(prototypes)
        if self.head == "published":
            return PublishedHead(kernels)
        return RewrittenHead(kernels, channels, TILE)


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


def patch_features(stages: Stages) -> torch.Tensor:
    """Three maps of stride 4, 8, 16 to (B, C1 + C2 + C3, H/4, W/4), L2-normalised per position."""
    return functional.normalize(_concatenated(stages), dim=1, eps=EPSILON)


def _concatenated(stages: Stages) -> torch.Tensor:
    return torch.cat(every_fourth(stages), dim=1)


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
    products = [
        functional.conv2d(stage, kernel) for stage, kernel in zip(stages, kernels, strict=True)
    ]
    return reduce(torch.add, every_fourth(products)).amax(dim=1, keepdim=True)
