"""Sheets of materials: fields bent, embossed, roughened and coloured by their formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch

from calibration.pretraining import fields
from calibration.pretraining.dice import Dice
from calibration.pretraining.formulas import CURVES, KINDS, Formulas

Field = Callable[[Formulas, int, Dice], torch.Tensor]
FIELDS: dict[str, Field] = {
    "noise": fields.noise,
    "stamps": fields.stamps,
    "cells": fields.cells,
    "waves": fields.waves,
    "weave": fields.weave,
}


def draw_sheets(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """(n, S, S, 3) uint8 that wrap around: one sheet per row of the formulas."""
    height = _bent(_warped(_base(formulas, side, dice), formulas, dice), formulas)
    height = fields.standardised(height).clamp(-3, 3)
    grain = _wide(formulas.grain) * dice.normal(*height.shape)
    painted = _lit(height, formulas) + grain
    return _coloured(painted, formulas)


def _base(formulas: Formulas, side: int, dice: Dice) -> torch.Tensor:
    """(n, S, S): each material's own field, standardised."""
    out = torch.zeros(len(formulas), side, side, device=dice.device)
    for index, name in enumerate(KINDS):
        rows = (formulas.kind == index).nonzero()[:, 0]
        if len(rows):
            out[rows] = FIELDS[name](formulas.rows(rows), side, dice)
    return fields.standardised(out)


def _warped(field: torch.Tensor, formulas: Formulas, dice: Dice) -> torch.Tensor:
    rows = (formulas.warp > 0).nonzero()[:, 0]
    if not len(rows):
        return field
    side, count = field.shape[-1], len(rows)
    dy, dx = fields.smooth_noise(2 * count, side, 12.0, dice).reshape(2, count, side, side)
    amount = _wide(formulas.warp[rows])
    field[rows] = fields.displaced(field[rows], amount * dy, amount * dx)
    return field


def _bent(field: torch.Tensor, formulas: Formulas) -> torch.Tensor:
    """The non-linearity that makes ridges, steps, contours or peaks of a field."""
    hard = _wide(formulas.hardness)
    curves = torch.stack(
        [
            field,
            -field.abs(),
            torch.tanh(hard * field),
            torch.sin(hard * field),
            torch.exp(0.8 * field.clamp_max(3)),
        ]
    )
    if len(curves) != len(CURVES):
        raise AssertionError("a curve has no name, or a name no curve")
    return curves[formulas.curve, torch.arange(len(formulas), device=field.device)]


def _lit(height: torch.Tensor, formulas: Formulas) -> torch.Tensor:
    """Height as paint, as relief under a light from the side, or as both."""
    down = torch.roll(height, -1, dims=1) - torch.roll(height, 1, dims=1)
    right = torch.roll(height, -1, dims=2) - torch.roll(height, 1, dims=2)
    slope = _wide(formulas.light.sin()) * down + _wide(formulas.light.cos()) * right
    shade = fields.standardised(slope).clamp(-3, 3)
    return torch.lerp(height, shade, _wide(formulas.relief))


def _coloured(level: torch.Tensor, formulas: Formulas) -> torch.Tensor:
    """(n, S, S) levels to (n, S, S, 3) uint8 between each material's three colours."""
    share = 2 * torch.sigmoid(1.2 * level)[..., None]  # (n, S, S, 1), 0 to 2
    low, middle, high = formulas.colours[:, :, None, None].unbind(dim=1)  # each (n, 1, 1, 3)
    below, above = share.clamp_max(1), (share - 1).clamp_min(0)
    colour = low + below * (middle - low) + above * (high - middle)
    return (255 * colour).round().clamp(0, 255).to(torch.uint8)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """(n,) to (n, 1, 1)."""
    return values[:, None, None]
