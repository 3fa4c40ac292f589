"""How a product looks before it has materials: which region each place belongs to.

A product is a plain texture, an object on a ground with rings or holes, stripes, or a mosaic. Its
regions are functions of places in the product's own coordinates, pixels from the middle, so that
every picture of it may show it turned and shifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from calibration.pretraining.dice import Dice

REGIONS = 4
SITES = 7
"""Of a mosaic."""
KINDS = ("plain", "object", "object", "stripes", "mosaic")
HARMONICS = 4
"""Of an object's outline."""
BEYOND = 1e6
"""A bound that nothing reaches."""


@dataclass(frozen=True, slots=True)
class Layouts:
    """Products by row; lengths are shares of half a picture's side."""

    kind: torch.Tensor
    """(P,): index into `KINDS`."""
    centre: torch.Tensor
    """(P, 2): y, x of an object's middle."""
    bounds: torch.Tensor
    """(P, REGIONS - 1): where one region of an object or a stripe ends."""
    outline: torch.Tensor
    """(P, HARMONICS): amplitudes of an object's outline."""
    turns: torch.Tensor
    """(P, HARMONICS): their phases."""
    angle: torch.Tensor
    """(P,): of stripes."""
    sites: torch.Tensor
    """(P, SITES, 2): of a mosaic."""
    wobble: torch.Tensor
    """(P, 2, 3): amplitude, frequency and phase of what bends all borders, along y and x."""
    bevel: torch.Tensor
    """(P,): how much darker or lighter borders are."""


def drawn_layouts(dice: Dice, count: int) -> Layouts:
    """Products at random."""
    kind = dice.below(len(KINDS), count)
    wobble = torch.stack(
        [
            dice.uniform(0, 0.06, count, 2),
            dice.uniform(1, 7, count, 2),
            dice.uniform(0, 2 * math.pi, count, 2),
        ],
        dim=-1,
    )
    return Layouts(
        kind=kind,
        centre=dice.uniform(-0.15, 0.15, count, 2),
        bounds=_bounds(dice, kind),
        outline=dice.sometimes(0.6, 0.1 * dice.normal(count, HARMONICS), 0.0),
        turns=dice.uniform(0, 2 * math.pi, count, HARMONICS),
        angle=dice.uniform(0, 2 * math.pi, count),
        sites=dice.uniform(-1.1, 1.1, count, SITES, 2),
        wobble=wobble,
        bevel=dice.sometimes(0.5, dice.uniform(-0.5, 0.5, count), 0.0),
    )


def regions(
    layouts: Layouts, y: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, ..., H, W) places to their region, 0 to REGIONS - 1, and the brightness of borders.

    Region 0 of an object is the ground around it.
    """
    y, x = _wobbled(layouts, y, x)
    distance = torch.where(
        _is(layouts, "object", y), _radius(layouts, y, x), _across(layouts, y, x)
    )
    bounds = layouts.bounds.reshape(len(layouts.kind), REGIONS - 1, *[1] * (y.ndim - 1))
    gaps = distance[:, None] - bounds  # (P, REGIONS - 1, ..., H, W)
    layer = (gaps < 0).sum(dim=1)
    factor = 1 + _like(layouts.bevel, y) * torch.exp(-(gaps.abs().amin(dim=1) / 0.04).square())
    is_mosaic = _is(layouts, "mosaic", y)
    return (
        torch.where(is_mosaic, _site(layouts, y, x) % REGIONS, layer),
        torch.where(is_mosaic, torch.ones_like(factor), factor),
    )


def _bounds(dice: Dice, kind: torch.Tensor) -> torch.Tensor:
    """(P, REGIONS - 1): rising radii of an object, places of stripes; never for a plain one."""
    count = len(kind)
    outer = dice.uniform(0.5, 0.95, count, 1)
    shares = dice.uniform(0.1, 0.95, count, REGIONS - 2)
    is_used = dice.chance(0.6, count, REGIONS - 2)
    inner = torch.where(is_used, outer * shares, torch.full_like(shares, -BEYOND))
    rings = torch.cat([outer, inner], dim=1)
    stripes = dice.uniform(-0.9, 0.9, count, REGIONS - 1)
    bounds = torch.where((kind == KINDS.index("stripes"))[:, None], stripes, rings)
    return torch.where((kind == KINDS.index("plain"))[:, None], -BEYOND, bounds)


def _wobbled(
    layouts: Layouts, y: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    amplitude, frequency, phase = (_like(part, y, 1) for part in layouts.wobble.unbind(dim=-1))
    return (
        y + amplitude[:, 0] * torch.sin(frequency[:, 0] * x + phase[:, 0]),
        x + amplitude[:, 1] * torch.sin(frequency[:, 1] * y + phase[:, 1]),
    )


def _radius(layouts: Layouts, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Distance from an object's middle, in units of its outline."""
    dy, dx = y - _like(layouts.centre[:, 0], y), x - _like(layouts.centre[:, 1], y)
    around = torch.atan2(dy, dx)
    outline = torch.ones_like(y)
    for index in range(HARMONICS):
        turn = _like(layouts.turns[:, index], y)
        outline += _like(layouts.outline[:, index], y) * torch.cos((index + 2) * around + turn)
    return torch.hypot(dy, dx) / outline.clamp_min(0.3)


def _across(layouts: Layouts, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Distance across stripes."""
    return y * _like(layouts.angle.sin(), y) + x * _like(layouts.angle.cos(), y)


def _site(layouts: Layouts, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The nearest site of a mosaic."""
    nearest, lowest = torch.zeros_like(y, dtype=torch.long), torch.full_like(y, BEYOND)
    for index in range(SITES):  # four times as fast as argmin over a stack
        dy, dx = (place - _like(layouts.sites[:, index, k], y) for k, place in enumerate((y, x)))
        distance = dy.square() + dx.square()
        nearest = torch.where(distance < lowest, index, nearest)
        lowest = torch.minimum(distance, lowest)
    return nearest


def _is(layouts: Layouts, name: str, y: torch.Tensor) -> torch.Tensor:
    named = [index for index, kind in enumerate(KINDS) if kind == name]
    return _like(torch.isin(layouts.kind, torch.tensor(named, device=y.device)), y)


def _like(values: torch.Tensor, y: torch.Tensor, kept: int = 0) -> torch.Tensor:
    """(P, kept dimensions) with as many dimensions of size 1 as make it broadcast over `y`."""
    return values.reshape(*values.shape[: 1 + kept], *[1] * (y.ndim - 1))
