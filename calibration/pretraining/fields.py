"""Scalar fields on a sheet that wraps around: noise, stamps, cells, waves, weave.

Each function takes n materials and gives (n, S, S) of no particular scale; `standardised` gives
mean 0 and deviation 1.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from calibration.pretraining.dice import Dice
from calibration.pretraining.formulas import MAPS, MOST_CELLS, STAMPS, Formulas

PARTICLES, ROUNDS, SKIPPED = 512, 24, 4
"""Of the chaos game (Barnsley 1988)."""


def standardised(field: torch.Tensor) -> torch.Tensor:
    """Mean 0 and deviation 1 per sheet."""
    deviation, mean = torch.std_mean(field, dim=(1, 2), keepdim=True)
    return (field - mean) / deviation.clamp_min(1e-6)


def noise(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """White noise whose spectrum is shaped: a band or a power law, drawn out along an angle."""
    spectrum = _spectrum(formulas, side)
    return filtered(dice.normal(len(formulas), side, side), spectrum)


def filtered(field: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """(n, S, S) through an (n, S, S) spectrum, symmetric about 0."""
    half = spectrum[..., : field.shape[-1] // 2 + 1]
    out: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(field) * half, s=field.shape[-2:])
    return out


def smooth_noise(count: int, side: int, reach: float, dice: Dice) -> torch.Tensor:
    """(n, S, S): isotropic noise without detail finer than `reach` pixels, deviation 1."""
    frequency = _frequencies(side, dice.device).square().sum(dim=0)
    spectrum = torch.exp(-frequency * reach**2 * 4)[None]
    return standardised(filtered(dice.normal(count, side, side), spectrum))


def stamps(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """Copies of one small figure at random places, added."""
    figure = _figures(formulas, side, dice)  # (n, S, S)
    area = figure.sum(dim=(1, 2), keepdim=True).clamp_min(1.0)
    rate = (_wide(formulas.cover) / area).clamp(3 / side**2, 0.3)
    is_placed = dice.uniform(0, 1, len(formulas), side, side) < rate
    signs = torch.where(_wide(formulas.is_signed), dice.sign(len(formulas), side, side), 1.0)
    placed = torch.fft.rfft2(torch.where(is_placed, signs, 0.0))
    out: torch.Tensor = torch.fft.irfft2(placed * torch.fft.rfft2(figure), s=(side, side))
    return out


def cells(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """Distances to scattered points (Worley 1996): hills, cracks, a mosaic or spots."""
    nearest, second, value = _nearest_points(formulas, side, dice)
    cracks = ((second - nearest) * 6).clamp_max(1.0)
    spots = torch.sigmoid((0.32 - nearest) * 30)
    looks = torch.stack([nearest, cracks, value, spots])  # (looks, n, S, S)
    return looks[formulas.cell_look, torch.arange(len(formulas), device=dice.device)]


def waves(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """Three plane waves, added."""
    y, x = _places(side, dice.device)
    turns = formulas.waves[..., 0, None, None] * y + formulas.waves[..., 1, None, None] * x
    phase = dice.uniform(0, 1, len(formulas), 3, 1, 1)
    field = torch.cos(2 * math.pi * (turns / side + phase))  # (n, 3, S, S)
    return (formulas.wave_weights[..., None, None] * field).sum(dim=1)


def weave(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """Two sets of round threads that cross over and under each other."""
    y, x = _places(side, dice.device)
    along, across = _wide(formulas.threads[:, 0]), _wide(formulas.threads[:, 1])
    first = math.pi * (along * y + across * x) / side
    second = math.pi * (along * x - across * y) / side
    is_above = torch.sin(first) * torch.sin(second) > 0
    return torch.where(is_above, torch.sin(2 * first).abs(), 0.8 * torch.sin(2 * second).abs())


def _spectrum(formulas: Formulas, side: int) -> torch.Tensor:
    """(n, S, S) amplitudes."""
    fy, fx = _frequencies(side, str(formulas.kind.device))
    cosine, sine = _wide(formulas.angle.cos()), _wide(formulas.angle.sin())
    along = (fx * cosine + fy * sine) * _wide(formulas.stretch)
    frequency = torch.hypot(along, fy * cosine - fx * sine).clamp_min(0.5 / side)
    octaves = (frequency / _wide(formulas.centre)).log() / _wide(formulas.bandwidth)
    amplitude = frequency ** -_wide(formulas.exponent) * torch.exp(-octaves.square() / 2)
    amplitude[:, 0, 0] = 0
    return amplitude


def _figures(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """(n, S, S): each material's stamp around (0, 0)."""
    y, x = (
        torch.where(place < side / 2, place, place - side) for place in _places(side, dice.device)
    )
    cosine, sine = _wide(formulas.angle.cos()), _wide(formulas.angle.sin())
    size = _wide(formulas.size)
    along = (x * cosine + y * sine) / (size * _wide(formulas.stretch.sqrt()))
    across = (y * cosine - x * sine) / size
    radius = torch.hypot(along, across)
    shapes = torch.stack(
        [
            _inside(radius, size),
            _inside((radius - 0.8).abs() * 4, size / 4),
            _inside(torch.maximum(along.abs() / 2, across.abs() * 4), size / 4),
            _inside(torch.maximum(along.abs(), across.abs()), size),
            torch.exp(-2 * radius.square()) * torch.cos(5 * across),
            _fractals(formulas, side, dice),
        ]
    )  # (stamps, n, S, S)
    return shapes[formulas.stamp, torch.arange(len(formulas), device=dice.device)]


def _inside(distance: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """1 where a relative distance is below 1, with an edge one pixel wide."""
    return ((1 - distance) * pixels + 0.5).clamp(0, 1)


def _fractals(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """(n, S, S): attractors of iterated maps, some four sizes wide; zeros for other stamps."""
    out = torch.zeros(len(formulas), side, side, device=dice.device)
    chosen = (formulas.stamp == STAMPS.index("fractal")).nonzero()[:, 0]
    if not len(chosen):
        return out
    points = _attractor(formulas.maps[chosen], dice)  # (m, points, 2)
    places = (points * 2 * formulas.size[chosen, None, None]).round().long() % side
    flat = places[..., 0] * side + places[..., 1]  # (m, points)
    counts = torch.zeros(len(chosen), side * side, device=dice.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
    out[chosen] = (counts / 3).clamp_max(1).reshape(-1, side, side)
    return out


def _attractor(maps: torch.Tensor, dice: Dice) -> torch.Tensor:
    """(m, points, 2) of (m, MAPS, 2, 3): the chaos game, many particles at once."""
    count = len(maps)
    points = dice.uniform(-1, 1, count, PARTICLES, 2)
    rows = torch.arange(count, device=dice.device)[:, None]
    kept = []
    for turn in range(ROUNDS):
        chosen = maps[rows, dice.below(MAPS, count, PARTICLES)]  # (m, particles, 2, 3)
        points = (chosen[..., :2] @ points[..., None])[..., 0] + chosen[..., 2]
        if turn >= SKIPPED:
            kept.append(points)
    return torch.cat(kept, dim=1)


def _nearest_points(
    formulas: Formulas, side: int, dice: Dice
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances to the nearest and second nearest point, in cells, and the nearest's value."""
    count = len(formulas)
    shifts = (
        0.5
        + (dice.uniform(0, 1, count, MOST_CELLS, MOST_CELLS, 2) - 0.5)
        * formulas.jitter[:, None, None, None]
    )
    values = dice.normal(count, MOST_CELLS, MOST_CELLS)
    number = formulas.cells[:, :, None, None]  # (n, 2, 1, 1)
    place = torch.stack(_places(side, dice.device))[None] * number / side  # (n, 2, S, S)
    home = place.floor()
    rows = torch.arange(count, device=dice.device)[:, None, None]
    nearest = torch.full((count, side, side), 9.0, device=dice.device)
    second, value = nearest.clone(), torch.zeros_like(nearest)
    for step in torch.cartesian_prod(*[torch.tensor([-1, 0, 1], device=dice.device)] * 2):
        cell = home + step[None, :, None, None]
        index = torch.remainder(cell, number).long()
        point = cell + shifts[rows, index[:, 0], index[:, 1]].permute(0, 3, 1, 2)
        gap = (place - point).abs()
        distance = torch.where(
            _wide(formulas.squareness), gap.amax(dim=1), torch.hypot(gap[:, 0], gap[:, 1])
        )
        is_nearer = distance < nearest
        second = torch.where(is_nearer, nearest, torch.minimum(second, distance))
        value = torch.where(is_nearer, values[rows, index[:, 0], index[:, 1]], value)
        nearest = torch.minimum(nearest, distance)
    return nearest, second, value


def displaced(field: torch.Tensor, dy: torch.Tensor, dx: torch.Tensor) -> torch.Tensor:
    """(n, S, S) looked up (n, S, S) pixels further, around the edges."""
    side, reach = field.shape[-1], 16
    wide = functional.pad(field[:, None], (reach,) * 4, mode="circular")
    y, x = _places(side, str(field.device))
    whole = side + 2 * reach
    places = torch.stack([x + dx.clamp(-15, 15), y + dy.clamp(-15, 15)], dim=-1) + reach + 0.5
    return functional.grid_sample(wide, places * (2 / whole) - 1, align_corners=False)[:, 0]


def _places(side: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(S, S) rows and columns."""
    line = torch.arange(side, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y, x


def _frequencies(side: int, device: str) -> torch.Tensor:
    """(2, S, S) cycles per pixel along y and x."""
    line = torch.fft.fftfreq(side, device=device)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))


def _wide(values: torch.Tensor) -> torch.Tensor:
    """(n,) to (n, 1, 1)."""
    return values[:, None, None]
