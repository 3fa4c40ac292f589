"""MPFNet: a discriminator between normal features and the same with noise (Shao et al.).

Features are those of `calibration.fusion`. Section III.2: one linear layer adapts them, Gaussian
noise of sigma 0.018 on adapted features makes anomalous ones (equation 6). Section III.3: linear,
batch norm, leaky ReLU 0.2, linear; truncated loss with 0.5 and -0.5 (equation 7); Adam with 1.5e-4
and 2e-4, weight decay 1e-5. Equations 9 to 11: the score is minus D, upsampled and smoothed with
sigma 4, the image's is the maximum.

Where this departs from the paper:

- The paper's 0.018 is meant for features of a scale that it doesn't state. ResNet-18's have a mean
  deviation of 0.113, so it is 0.16 of theirs. With scale `common` all features are divided by one
  number so that their mean deviation is 1, which changes what is learned in nothing but pace;
  `channel` gives each channel deviation 1, which is another method; `raw` leaves them as they come.
- Without prototypes, unless `fusion` asks for them: measured, they cost time and found less.
- The weights that are judged and exported are a running mean of those that are trained.
- A batch is rows of many pictures instead of whole ones of 4 (section V.1): the backbone's features
  are computed once, and rows of one picture resemble each other. There are 10 epochs at most, not
  200, but of many more steps each.
- Features have their mean subtracted, but for scale `raw`; the adapter's bias could do the same.

`calibration.discriminator` says how little of that is left to compute on the line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from calibration.averaging import Averaged
from calibration.backbones import Backbone
from calibration.discriminator import (
    Discriminating,
    MPFHead,
    Scaling,
    common_scaling,
    no_scaling,
    unit_scaling,
)
from calibration.features import HalfArray, cached_maps, half_array
from calibration.fusion import FUSIONS, Fusion, PrototypeFusion, prototypes_of, side_by_side
from calibration.judging import Judged, judged, smoothed
from calibration.material import pictures_of
from calibration.regions import Places, all_learned_places
from calibration.scorers import Fitted, Material, Option, Report
from calibration.trained import curves_of, facts_of, remarks_of
from calibration.training import Plan, train
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray, MapArray

Scale = Literal["common", "channel", "raw"]
SCALES: tuple[str, ...] = get_args(Scale)
NOISES: dict[Scale, float] = {"common": 0.16, "channel": 0.3, "raw": 0.018}
"""Deviation of the noise where none is asked for; the paper's is meant for features as they are."""
SCALINGS = {"common": common_scaling, "channel": unit_scaling, "raw": no_scaling}
Rows = npt.NDArray[np.float32]

SIGMA = 4.0
MARGIN = 0.5
"""``th``, and minus ``th-``, of equation 7."""
ADAPTER_RATE, DISCRIMINATOR_RATE = 1.5e-4, 2e-4
WEIGHT_DECAY = 1e-5
STATISTICS = 40_000
"""Rows, about, that deviations and directions are computed from."""
BLOCK = 16
"""Pictures whose features are fused at a time."""


@dataclass(frozen=True, slots=True)
class MPFNet:
    """The scorer: see the module. What can't be meant is a `ConfigError`."""

    fusion: Fusion = "none"
    """How prototypes enter: not at all, which found more; see `calibration.fusion`."""
    blend: float = 0.0
    """Weight of the other scale in equation 1; 0 leaves that to the adapter."""
    ratio: float = 0.12
    """Prototypes per good picture (section V.1: 12 %)."""
    max_prototypes: int = 32
    """At most; each is a whole map of both scales, and costs memory and time on the line."""
    scale: Scale = "common"
    """Of the features that are adapted: see the module."""
    noise: float = 0.0
    """Deviation of the noise on adapted features; 0 takes the scale's own; see `NOISES`."""
    epochs: int = 10
    """Times that as many rows are learned from as there are, at most."""
    batch: int = 512
    """Rows of a step."""
    patience: int = 8
    """Looks at the hold-out set without a better figure after which training ends."""
    name: str = field(default="mpfnet", init=False)
    is_trained: bool = field(default=True, init=False)
    seen_limit: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ConfigError(f"no fusion is called {self.fusion!r}; known: {', '.join(FUSIONS)}")
        if not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio is prototypes per good picture, above 0 to 1: {self.ratio}")
        if self.scale not in SCALES:
            raise ConfigError(f"no scale is called {self.scale!r}; known: {', '.join(SCALES)}")
        if self.noise < 0 or self.blend < 0:
            raise ConfigError(f"noise is a deviation and blend a weight, at least 0: {self}")
        for name in ("max_prototypes", "epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is 1 or more, not {getattr(self, name)}")

    def options(self) -> dict[str, Option]:
        """The settings that reproduce a fit."""
        return {
            "fusion": self.fusion,
            "blend": self.blend,
            "ratio": self.ratio,
            "max_prototypes": self.max_prototypes,
            "scale": self.scale,
            "noise": self.noise,
            "epochs": self.epochs,
            "batch": self.batch,
            "patience": self.patience,
        }

    def __str__(self) -> str:
        return self.name

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        """Learns to tell normal features from those with noise; see `Scorer.fit`.

        Raises:
            ConfigError: nothing to resume, or the training diverged.
        """
        started = monotonic()
        maps = _maps(material.good, backbone, material, report, "extracting features")
        fusion = self._fusion(maps, seed, report)
        places = _learned(maps, material)
        scaling = SCALINGS[self.scale](_some_rows(fusion, maps, places, seed))
        rows = _scaled(fusion, scaling, maps).reshape(-1, scaling.channels)  # (N * h * w, C)
        learned = _of_all(places, len(rows) // len(places))
        holdout = _holdout(fusion, scaling, backbone, material, report)
        del maps
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = Averaged(Discriminating(scaling.channels)).to(material.device)
        course = _Course(network, rows, learned, holdout, self.batch, self._sigma)
        plan = self._plan(len(learned))
        used = monotonic() - started
        outcome = train(course, plan, material, seed, report, used_s=used)
        facts = {
            "features": f"{len(learned):,} rows of {scaling.channels} channels, scale {self.scale}",
            "prototypes": f"{fusion.count} whole maps, fused as {self.fusion}"
            if fusion.count
            else "none",
            "noise": f"{self._sigma:g}",
            **facts_of(plan, outcome, material.device),
            "fitted in": f"{monotonic() - started:.0f} s",
        }
        return Fitted(
            MPFHead(fusion, scaling, network.cpu().average),
            facts,
            sigma=SIGMA,
            curves=curves_of(plan, outcome),
            remarks=remarks_of(plan, outcome),
        )

    @property
    def _sigma(self) -> float:
        """Of the noise."""
        return self.noise or NOISES[self.scale]

    def _fusion(self, maps: Sequence[HalfArray], seed: int, report: Report) -> PrototypeFusion:
        channels = (maps[0].shape[1], maps[1].shape[1])
        if self.fusion == "none":
            return PrototypeFusion(self.fusion, channels, None, seed, self.blend)
        count = min(self.max_prototypes, max(1, round(self.ratio * len(maps[0]))))
        found = []
        for index, one in enumerate(maps):
            found.append(prototypes_of(one, count, seed))
            report("clustering feature maps", index + 1, len(maps))
        two, three = found
        return PrototypeFusion(self.fusion, channels, (two, three), seed, self.blend)

    def _plan(self, rows: int) -> Plan:
        per_epoch = max(1, rows // self.batch)
        return Plan(
            epochs=self.epochs,
            steps_per_epoch=per_epoch,
            judged_every=max(1, per_epoch // 4),
            patience=self.patience,
        )


def _maps(
    images: Sequence[ImageArray],
    backbone: Backbone,
    material: Material,
    report: Report,
    stage: str,
) -> list[HalfArray]:
    """Stages 2 and 3 of all pictures, each (N, C, h, w)."""
    return cached_maps(
        images,
        backbone,
        (1, 2),
        device=material.device,
        report=_named(report, stage),
    )


def _holdout(
    fusion: PrototypeFusion,
    scaling: Scaling,
    backbone: Backbone,
    material: Material,
    report: Report,
) -> _Holdout:
    known = judged(material.holdout)
    size = material.good[0].shape[:2]
    if not known.is_useful:
        return _Holdout(known, np.empty((0, 1, 1, scaling.channels), np.float16), size)
    images = pictures_of(material.holdout)
    maps = _maps(images, backbone, material, report, "extracting hold-out features")
    return _Holdout(known, _scaled(fusion, scaling, maps), size)


class _Course:
    """Rows with and without noise, told apart; see `calibration.training.Course`."""

    def __init__(
        self,
        network: Averaged[Discriminating],
        rows: HalfArray,
        learned: Places,
        holdout: _Holdout,
        batch: int,
        noise: float,
    ) -> None:
        self.model, trained = network, network.network
        self.optimisers = {
            "adapter": _adam([trained.adapter], ADAPTER_RATE),
            "discriminator": _adam([trained.first, trained.norm, trained.last], DISCRIMINATOR_RATE),
        }
        self._rows, self._learned, self._holdout = rows, learned, holdout
        self._batch, self._noise = batch, noise

    def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """Equation 7 for a batch of rows and the same with noise."""
        drawn = self._learned[rng.integers(len(self._learned), size=self._batch)]
        rows = torch.from_numpy(self._rows[drawn].astype(np.float32)).to(self._device)
        if step:
            self.model.update()
        network = self.model.network
        adapted = network.adapter(rows)  # (N, C)
        noisy = adapted + self._noise * torch.randn_like(adapted)
        normality = network.normality(torch.cat([adapted, noisy]))
        normal, anomalous = normality[: self._batch], normality[self._batch :]
        return {
            "good": functional.relu(MARGIN - normal).mean(),
            "with noise": functional.relu(MARGIN + anomalous).mean(),
        }

    def judge(self) -> Mapping[str, float]:
        """Image AUROC and, where there are masks, pixel AP of the hold-out set."""
        if not self._holdout.judged.is_useful:
            return {}
        return self._holdout.judged.figures(self._map(one) for one in self._holdout.features)

    def _map(self, features: HalfArray) -> MapArray:
        """(h, w, D) of a picture to its (H, W) map."""
        flat = features.reshape(-1, features.shape[-1]).astype(np.float32)
        scores = self.model(torch.from_numpy(flat).to(self._device)).float().cpu().numpy()
        return smoothed(scores.reshape(features.shape[:2]), self._holdout.size, SIGMA)

    @property
    def _device(self) -> torch.device:
        return self.model.network.last.weight.device


@dataclass(frozen=True, slots=True)
class _Holdout:
    """The hold-out set as the network sees it."""

    judged: Judged
    features: HalfArray
    """(N, h, w, C)."""
    size: tuple[int, int]
    """(H, W) of the model's input."""


def _named(report: Report, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: report(stage, done, total)


def _adam(layers: Sequence[nn.Module], rate: float) -> torch.optim.Optimizer:
    parameters = [weight for layer in layers for weight in layer.parameters()]
    return torch.optim.Adam(parameters, lr=rate, weight_decay=WEIGHT_DECAY)


def _fused(fusion: PrototypeFusion, maps: Sequence[HalfArray]) -> Iterator[torch.Tensor]:
    """Local features of BLOCK pictures at a time, (B, h, w, C)."""
    for start in range(0, len(maps[0]), BLOCK):
        two, three = (torch.from_numpy(one[start : start + BLOCK]).float() for one in maps)
        with torch.inference_mode():
            fused = side_by_side(fusion((two, three)))
        yield fused.permute(0, 2, 3, 1)


def _learned(maps: Sequence[HalfArray], material: Material) -> list[Places]:
    """Of each picture the places that are learned from: where it is inspected, or all."""
    height, width = maps[0].shape[2:]
    return list(all_learned_places(material.regions, len(maps[0]), (height, width), SIGMA))


def _of_all(places: Sequence[Places], each: int) -> Places:
    """The same places, counted on over the rows of all pictures, `each` of every one."""
    return np.concatenate([index * each + one for index, one in enumerate(places)])


def _some_rows(
    fusion: PrototypeFusion, maps: Sequence[HalfArray], places: Sequence[Places], seed: int
) -> Rows:
    """(N, C) local features, evenly many of each picture, at places drawn by the seed."""
    rng = np.random.default_rng(seed)
    each = math.ceil(STATISTICS / len(maps[0]))
    remaining = iter(places)
    rows = []
    for block in _fused(fusion, maps):
        for picture in block.flatten(1, 2):  # (h * w, C)
            known = next(remaining)
            rows.append(picture[np.sort(rng.choice(known, min(each, len(known)), replace=False))])
    return torch.cat(rows).numpy()


def _scaled(fusion: PrototypeFusion, scaling: Scaling, maps: Sequence[HalfArray]) -> HalfArray:
    """(N, h, w, C) of all pictures."""
    found = half_array((len(maps[0]), *maps[0].shape[2:], scaling.channels))
    mean, gain = torch.from_numpy(scaling.mean), torch.from_numpy(scaling.gain)
    done = 0
    for block in _fused(fusion, maps):
        found[done : done + len(block)] = ((block - mean) * gain).half().numpy()
        done += len(block)
    return found
