"""Defects: where they are, and what they do to the material there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from calibration.pretraining.dice import Dice

EFFECTS = ("tint", "shade", "foreign", "turned", "shifted", "erased", "rough")
WAVES = 4
"""That roughen a defect's border."""


@dataclass(frozen=True, slots=True)
class Defects:
    """One defect per row; lengths in pixels of the picture."""

    effect: torch.Tensor
    """(N,): index into `EFFECTS`."""
    inside: torch.Tensor
    """(N, H, W): 0 to 1."""
    strength: torch.Tensor
    """(N,): 0.35 to 1 of what the effect can do."""
    colour: torch.Tensor
    """(N, 3), 0 to 1."""
    angle: torch.Tensor
    """(N,): by which a turned material is turned, or in which direction a shifted one is."""
    slot: torch.Tensor
    """(N,): the sheet of a foreign material."""

    def has(self, name: str) -> torch.Tensor:
        """(N, 1, 1): whether the effect is this one."""
        return (self.effect == EFFECTS.index(name))[:, None, None]


def drawn_defects(dice: Dice, count: int, side: int, slots: int) -> Defects:
    """Spots, scratches and whatever lies between, one per picture of (side, side)."""
    return Defects(
        effect=dice.below(len(EFFECTS), count),
        inside=_areas(dice, count, side),
        strength=dice.uniform(0.35, 1, count),
        colour=dice.uniform(0, 1, count, 1) + dice.sometimes(0.4, 0.3 * dice.normal(count, 3), 0.0),
        angle=dice.uniform(0, 2 * math.pi, count),
        slot=dice.below(slots, count),
    )


def moved(defects: Defects, y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, H, W) places on a sheet, where the material is turned or shifted inside a defect."""
    inside = defects.inside
    angle = torch.where(defects.has("turned") & (inside > 0.5), _wide(defects.angle), 0.0)
    cosine, sine = angle.cos(), angle.sin()
    pull = torch.where(defects.has("shifted"), 9 * _wide(defects.strength) * inside, 0.0)
    return (
        cosine * y - sine * x + pull * _wide(defects.angle.sin()),
        sine * y + cosine * x + pull * _wide(defects.angle.cos()),
    )


def replaced(defects: Defects, slots: torch.Tensor) -> torch.Tensor:
    """(N, H, W) sheets, another one inside a foreign body."""
    is_foreign = defects.has("foreign") & (defects.inside > 0.5)
    return torch.where(is_foreign, _wide(defects.slot), slots)


def painted(
    defects: Defects, colours: torch.Tensor, means: torch.Tensor, dice: Dice
) -> torch.Tensor:
    """(N, H, W, 3) colours, spoilt inside defects of paint, light, wear or roughness.

    Args:
        defects: one per picture.
        colours: 0 to 1.
        means: (N, H, W, 3), what the material looks like from far.
        dice: draws the roughness.
    """
    amount = (defects.inside * _wide(defects.strength))[..., None]
    is_dark = (defects.colour.mean(dim=1) < 0.5)[:, None, None, None]
    shade = torch.where(is_dark, colours * 0.25, colours * 1.9 + 0.05)
    rough = colours + 0.5 * dice.normal(*colours.shape[:3], 1)
    for name, other in (
        ("tint", defects.colour[:, None, None, :].expand_as(colours)),
        ("shade", shade),
        ("erased", means),
        ("rough", rough),
    ):
        share = torch.where(defects.has(name)[..., None], amount, 0.0)
        colours = torch.lerp(colours, other, share)
    return colours


def _areas(dice: Dice, count: int, side: int) -> torch.Tensor:
    """(N, H, W): bent ellipses with rough borders, from spots to hairlines."""
    line = torch.arange(side, device=dice.device, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    middle = dice.uniform(0.08, 0.92, count, 2) * side
    angle = dice.uniform(0, math.pi, count)
    dy, dx = y - _wide(middle[:, 0]), x - _wide(middle[:, 1])
    along = dx * _wide(angle.cos()) + dy * _wide(angle.sin())
    across = dy * _wide(angle.cos()) - dx * _wide(angle.sin())
    is_line = dice.chance(0.4, count)
    length = torch.where(is_line, dice.log_uniform(8, 45, count), dice.log_uniform(2.5, 20, count))
    width = torch.where(
        is_line, dice.log_uniform(0.8, 2.2, count), length * dice.log_uniform(0.4, 1, count)
    )
    bend = dice.uniform(-0.012, 0.012, count)
    across = across - _wide(bend) * along.square()
    radius = torch.hypot(along / _wide(length), across / _wide(width))
    radius = radius * (1 + _wide(dice.uniform(0, 0.35, count)) * _ripples(dice, dy, dx))
    return ((1 - radius) * _wide(width.clamp_max(4)) + 0.5).clamp(0, 1)


def _ripples(dice: Dice, dy: torch.Tensor, dx: torch.Tensor) -> torch.Tensor:
    """(N, H, W): a few waves of random direction, added."""
    total = torch.zeros_like(dy)
    for _ in range(WAVES):
        frequency, angle = dice.log_uniform(0.1, 1.2, len(dy)), dice.uniform(0, 6.3, len(dy))
        fy, fx = _wide(frequency * angle.sin()), _wide(frequency * angle.cos())
        total = total + torch.sin(fy * dy + fx * dx + _wide(dice.uniform(0, 6.3, len(dy))))
    return total / math.sqrt(WAVES)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """(N,) to (N, 1, 1)."""
    return values[:, None, None]
