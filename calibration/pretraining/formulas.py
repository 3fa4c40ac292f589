"""What tells one material from another: a row of numbers each, drawn once from the seed.

A material is a class that the network learns to name wherever it sees it. Its sheets differ by
the noise they are drawn from; its formula stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch

from calibration.pretraining.dice import Dice

KINDS = ("noise", "stamps", "cells", "waves", "weave")
STAMPS = ("disc", "ring", "bar", "square", "ripple", "fractal")
CELL_LOOKS = ("hills", "cracks", "mosaic", "spots")
CURVES = ("plain", "ridges", "steps", "contours", "peaks")
MOST_CELLS = 30
"""Cells along a side of a sheet."""
MAPS = 3
"""Affine maps of a fractal."""


@dataclass(frozen=True, slots=True)
class Formulas:
    """Materials by row: every tensor is (N,) or (N, ...); lengths in pixels of the sheet."""

    kind: torch.Tensor
    """Index into `KINDS`."""
    angle: torch.Tensor
    """Radians: the direction along which noise and stamps stretch."""
    stretch: torch.Tensor
    """How many times longer along it."""
    exponent: torch.Tensor
    """Noise: the amplitude falls with this power of the frequency."""
    centre: torch.Tensor
    """Noise: preferred frequency, cycles per pixel."""
    bandwidth: torch.Tensor
    """Noise: deviation about it, in powers of e."""
    stamp: torch.Tensor
    """Index into `STAMPS`."""
    size: torch.Tensor
    """Stamps: radius."""
    cover: torch.Tensor
    """Stamps: their area per area of the sheet."""
    is_signed: torch.Tensor
    """Stamps: some bright, some dark."""
    maps: torch.Tensor
    """Fractal stamps: (N, MAPS, 2, 3) contracting affine maps."""
    cells: torch.Tensor
    """Cells: (N, 2), how many along y and x."""
    jitter: torch.Tensor
    """Cells: 0 lie on a grid, 1 anywhere in their field of it."""
    cell_look: torch.Tensor
    """Index into `CELL_LOOKS`."""
    squareness: torch.Tensor
    """Cells: True measures by the larger of both distances, which makes them square."""
    waves: torch.Tensor
    """Waves: (N, 3, 2), whole periods per sheet along y and x."""
    wave_weights: torch.Tensor
    """Waves: (N, 3)."""
    threads: torch.Tensor
    """Weave: (N, 2), whole periods per sheet along y and x."""
    warp: torch.Tensor
    """How far places are displaced."""
    curve: torch.Tensor
    """Index into `CURVES`."""
    hardness: torch.Tensor
    """Of steps and contours."""
    grain: torch.Tensor
    """Amplitude of fine noise over everything."""
    relief: torch.Tensor
    """Share of the shading under a light from the side; 0: painted, not embossed."""
    light: torch.Tensor
    """Radians: where that light comes from."""
    colours: torch.Tensor
    """(N, 3, 3): colours of low, middle and high places, 0 to 1."""

    def __len__(self) -> int:
        return len(self.kind)

    def rows(self, which: torch.Tensor) -> Formulas:
        """The materials of an (n,) index or mask."""
        return Formulas(**{one.name: getattr(self, one.name)[which] for one in fields(self)})

    def on(self, device: str) -> Formulas:
        """The same, where it is computed with."""
        return Formulas(**{one.name: getattr(self, one.name).to(device) for one in fields(self)})


def drawn_formulas(count: int, seed: int) -> Formulas:
    """Materials, the same for the same seed on every device; on the CPU."""
    dice = Dice("cpu", seed, 1)
    return Formulas(
        kind=dice.below(len(KINDS), count),
        angle=dice.uniform(0, math.pi, count),
        stretch=dice.sometimes(0.5, dice.log_uniform(1.5, 12, count), 1.0),
        exponent=dice.uniform(0, 2.5, count),
        centre=dice.log_uniform(0.015, 0.35, count),
        bandwidth=dice.sometimes(0.6, dice.log_uniform(0.12, 0.7, count), 3.0),
        stamp=dice.below(len(STAMPS), count),
        size=dice.log_uniform(1.5, 12, count),
        cover=dice.log_uniform(0.05, 0.8, count),
        is_signed=dice.chance(0.4, count),
        maps=_contractions(dice, count),
        cells=4 + dice.below(MOST_CELLS - 4, count, 2),
        jitter=dice.sometimes(0.7, dice.uniform(0.1, 1, count), 0.0),
        cell_look=dice.below(len(CELL_LOOKS), count),
        squareness=dice.chance(0.3, count),
        waves=dice.below(49, count, 3, 2) - 24,
        wave_weights=dice.normal(count, 3),
        threads=dice.sign(count, 2) * (2 + dice.below(14, count, 2)),
        warp=dice.sometimes(0.4, dice.log_uniform(0.7, 5, count), 0.0),
        curve=dice.below(len(CURVES), count),
        hardness=dice.log_uniform(0.8, 6, count),
        grain=dice.log_uniform(0.02, 0.5, count),
        relief=dice.sometimes(0.5, dice.uniform(0.3, 1, count), 0.0),
        light=dice.uniform(0, 2 * math.pi, count),
        colours=_palettes(dice, count),
    )


def _contractions(dice: Dice, count: int) -> torch.Tensor:
    """(N, MAPS, 2, 3): turns and shrinkings about places around the middle."""
    angle = dice.uniform(-math.pi, math.pi, count, MAPS)
    shrink = dice.uniform(0.3, 0.75, count, MAPS, 1, 1)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
    shift = dice.uniform(-0.5, 0.5, count, MAPS, 2, 1)
    return torch.cat([shrink * turn.reshape(count, MAPS, 2, 2), shift], dim=-1)


def _palettes(dice: Dice, count: int) -> torch.Tensor:
    """(N, 3, 3): greys and faint colours mostly, as materials have, of any contrast."""
    grey = dice.uniform(0.12, 0.88, count, 1, 1)
    tint = dice.sometimes(0.6, 0.15 * dice.normal(count, 1, 3), 0.0)
    spread = dice.log_uniform(0.03, 0.5, count, 1, 1)
    steps = torch.tensor([-1.0, 0.0, 1.0], device=dice.device)[None, :, None]
    bent = dice.sometimes(0.4, 0.7 * dice.normal(count, 3, 3), 0.0)
    return (grey + tint + spread * (steps * dice.sign(count, 1, 1) + bent)).clamp(0, 1)
