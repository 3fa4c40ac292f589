"""What PRN is trained on beside good pictures, whose features are cached: anomalies.

The backbone is frozen, but an anomaly is new each time and goes through it. Section 4.1's batch is
one half normal, one quarter extended and one quarter simulated anomalies (of these half
heterologous, half homologous); without seen defects simulated ones take the extended ones' place.

Not in the paper: of the extended anomalies a share is the seen defects as they are, in their own
picture. A training of a few hundred steps learns from these soonest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from calibration.anomalies import AnomalyGenerator, Kind, SeenDefect
from calibration.backbones import Network
from calibration.prn.fusion import Maps
from calibration.scorers import Labelled
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray, MaskArray


@dataclass(frozen=True, slots=True)
class Shares:
    """Parts of a batch."""

    batch: int
    """Pictures; a multiple of 4 gives the paper's shares."""
    unchanged: float
    """Share of the extended anomalies that are seen defects as they are; 0 is the paper's."""

    @property
    def normal(self) -> int:
        """One half."""
        return max(1, self.batch // 2)

    @property
    def extended(self) -> int:
        """Half of the rest."""
        return (self.batch - self.normal) // 2

    @property
    def simulated(self) -> int:
        """What is left."""
        return self.batch - self.normal - self.extended


@dataclass(frozen=True, slots=True)
class Shown:
    """One anomaly of a batch."""

    image: ImageArray
    """(H, W, 3) RGB."""
    mask: MaskArray
    """(H, W), 255 where defective."""
    region: MaskArray | None
    """(H, W), non-zero where the picture is inspected; None: everywhere."""


@dataclass(frozen=True, slots=True)
class Anomalies:
    """Where the anomalous half of a batch comes from."""

    generator: AnomalyGenerator
    """Of all good pictures."""
    kinds: tuple[Kind, ...]
    """Those that may come, at least one; a row of table 5."""
    shares: Shares
    """Of a batch."""

    def draw(self, step: int, rng: np.random.Generator) -> list[Shown]:
        """The anomalies of batch `step`."""
        first = step * self.shares.batch
        count = self.shares.extended + self.shares.simulated
        return [self._one(first + place, place, rng) for place in range(count)]

    def _one(self, index: int, place: int, rng: np.random.Generator) -> Shown:
        kind = self.kind_of(index, place)
        seen = self.generator.seen
        if kind is Kind.EXTENDED and rng.random() < self.shares.unchanged:
            defect = seen[int(rng.integers(len(seen)))]
            return Shown(defect.image, defect.mask, defect.region)
        sample = self.generator.sample(index, kind)
        regions = self.generator.regions
        return Shown(sample.image, sample.mask, None if regions is None else regions[sample.good])

    def kind_of(self, index: int, place: int) -> Kind:
        """The kind at a place of a batch, where `index` counts on over all batches."""
        simulated = [kind for kind in self.kinds if kind is not Kind.EXTENDED]
        can_extend = Kind.EXTENDED in self.kinds and len(self.generator.seen) > 0
        if can_extend and (place < self.shares.extended or not simulated):
            return Kind.EXTENDED
        batch = index // self.shares.batch
        return simulated[(batch + place) % len(simulated)]


class Frozen:
    """The backbone on the device that is trained on."""

    def __init__(self, network: Network, device: str) -> None:
        self.network = network
        self.device = device
        self._mean = torch.tensor(network.mean)[None, :, None, None]
        self._std = torch.tensor(network.std)[None, :, None, None]

    @torch.no_grad()
    def stages(self, images: Sequence[ImageArray]) -> Maps:
        """(H, W, 3) uint8 RGB each, to three maps (B, C, h, w)."""
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)
        x = ((x - self._mean) / self._std).to(self.device, memory_format=torch.channels_last)
        stages: Maps = self.network(x)
        return stages


def seen_defects(seen: Sequence[Labelled]) -> list[SeenDefect]:
    """Those whose mask marks something within the model's input, and where it is inspected."""
    found = []
    for one in seen:
        mask, region = one.mask, one.region
        if mask is not None and region is not None:
            mask = np.where(region > 0, mask, 0).astype(np.uint8)
        if mask is not None and mask.any():
            found.append(SeenDefect(one.image, mask, one.name, region))
    return found


def kinds_named(text: str) -> tuple[Kind, ...]:
    """The kinds of a list with commas between.

    Raises:
        ConfigError: empty, or no such kind.
    """
    known = {kind.value: kind for kind in Kind}
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(known):
        raise ConfigError(f"kinds is a list of {', '.join(known)}, with commas, not {text!r}")
    return tuple(kind for name, kind in known.items() if name in names)
