"""PRN (Zhang et al., CVPR 2023), figure 3, below the frozen stages 1 to 3 of the backbone.

Each stage and its residual to the nearest prototype (section 3.1) go through a fusion block of
their own (3.2) and are concatenated; three layers of attention (3.3) and one more fusion block
give the skip connections of a U-Net. Each module can be left out, as in table 4: without
prototypes a skip connection has c channels instead of 2c, without fusion a scale sees itself only.

`PRN` is what is trained; `Head` is what is exported: the prototypes, PRN, and a sigmoid.

Batch normalisation of the concatenated maps is ours: residuals are several times smaller than
features, and a short training would have to learn that first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import nn

from calibration.prn.attention import MultiSizeAttention
from calibration.prn.decoder import Bottom, Decoder
from calibration.prn.fusion import Fusion, Maps
from calibration.prn.norm import Norm
from calibration.prototypes import Prototypes
from inspectd.core.errors import ConfigError

LAYERS = 3
"""Section 3.3: N."""


@dataclass(frozen=True, slots=True)
class Modules:
    """Which modules there are; a row of table 4."""

    prototypes: bool = True
    """MP, section 3.1."""
    fusion: bool = True
    """MF, section 3.2."""
    attention: bool = True
    """MSA, section 3.3."""


def modules_named(text: str) -> Modules:
    """The modules of a list with commas between; `none` has none.

    Raises:
        ConfigError: empty, or no such module.
    """
    known = [one.name for one in fields(Modules)]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (names != ["none"] and set(names) - set(known)):
        raise ConfigError(
            f"modules is a list of {', '.join(known)}, with commas, or none; not {text!r}"
        )
    return Modules(*(name in names for name in known))


class PRN(nn.Module):
    """What is trained: stages and residuals to logits."""

    def __init__(
        self, channels: Sequence[int], sizes: Sequence[tuple[int, int]], modules: Modules
    ) -> None:
        """Takes channels and (H, W) of the three stages."""
        super().__init__()
        skips = [2 * c if modules.prototypes else c for c in channels]
        self.fuse_features = _fusion(channels, sizes, modules)
        self.fuse_residuals = _fusion(channels, sizes, modules) if modules.prototypes else None
        self.norms = nn.ModuleList(Norm(c) for c in skips)
        self.attention = nn.ModuleList(
            _layers(c, size) if modules.attention else nn.Identity()
            for c, size in zip(skips, sizes, strict=True)
        )
        self.fuse_skips = _fusion(skips, sizes, modules)
        self.bottom = Bottom(channels[-1])
        outputs = [max(1, c // 2) for c in channels]
        self.decoder = Decoder(2 * channels[-1], skips, outputs, sizes)

    def forward(self, stages: Maps, residuals: Maps) -> torch.Tensor:
        """Three maps of stride 4, 8 and 16, and as many residuals, to logits (B, 1, H/2, W/2).

        Without prototypes `residuals` is not looked at.
        """
        maps = [
            norm(x) for norm, x in zip(self.norms, self._joined(stages, residuals), strict=True)
        ]
        maps = [layers(x) for layers, x in zip(self.attention, maps, strict=True)]
        out: torch.Tensor = self.decoder(self.bottom(stages[-1]), self.fuse_skips(maps))
        return out

    def _joined(self, stages: Maps, residuals: Maps) -> Maps:
        """C*: fused features, and with prototypes the fused residuals; (B, 2c, H, W) each."""
        features: Maps = self.fuse_features(stages)
        if self.fuse_residuals is None:
            return features
        fused = self.fuse_residuals(residuals)
        return [torch.cat(pair, dim=1) for pair in zip(features, fused, strict=True)]


class Head(nn.Module):
    """What is exported: three stages to the probability that a pixel is anomalous."""

    def __init__(self, prototypes: Sequence[Prototypes], network: PRN) -> None:
        """Takes the prototypes of each stage, finest first, or none where PRN does without."""
        super().__init__()
        self.prototypes = nn.ModuleList(prototypes)
        self.network = network

    def forward(self, stages: Maps) -> torch.Tensor:
        """Three maps of stride 4, 8 and 16 to probabilities, (B, 1, H/2, W/2)."""
        return torch.sigmoid(self.network(stages, residuals_of(self.prototypes, stages)))


def residuals_of(prototypes: Sequence[nn.Module] | nn.ModuleList, stages: Maps) -> Maps:
    """Equation 1 at each scale; nothing without prototypes."""
    return [known(x) for known, x in zip(prototypes, stages, strict=False)]


def _fusion(
    channels: Sequence[int], sizes: Sequence[tuple[int, int]], modules: Modules
) -> nn.Module:
    return Fusion(channels, sizes) if modules.fusion else nn.Identity()


def _layers(channels: int, size: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(*(MultiSizeAttention(channels, size) for _ in range(LAYERS)))


def stage_sizes(size: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(H, W) of each stage for the (H, W) of the input."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
