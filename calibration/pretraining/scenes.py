"""Pictures of made-up products: of each a few good ones, then a few with a defect.

Pictures of one product share its layout, its materials and their colours; they differ in pose,
in the part of the sheet that is seen, in light, blur and noise, as pictures from a line do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from calibration.pretraining.bank import COPIES, SIDE, Bank
from calibration.pretraining.defects import Defects, drawn_defects, moved, painted, replaced
from calibration.pretraining.dice import Dice
from calibration.pretraining.layouts import REGIONS, drawn_layouts, regions

VISIBLE = 0.04
"""Mean difference of colour, of 1, below which a defect is none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How many pictures are drawn at a time."""

    products: int
    good: int
    """Pictures of each product without a defect; they come first."""
    defective: int
    """Pictures of each product with one."""
    side: int
    """Pixels."""

    @property
    def views(self) -> int:
        """Pictures of each product."""
        return self.good + self.defective


@dataclass(frozen=True, slots=True)
class Scenes:
    """(P, V, ...): P products, V pictures of each."""

    pictures: torch.Tensor
    """(P, V, 3, H, W), 0 to 1."""
    materials: torch.Tensor
    """(P, V, H, W): which material is there, before any defect."""
    defects: torch.Tensor
    """(P, V, H, W): True where one can be seen."""


@dataclass(frozen=True, slots=True)
class _Surfaces:
    """What the regions of products are made of, by (P, V, REGIONS)."""

    slots: torch.Tensor
    """The sheet."""
    turns: torch.Tensor
    """(P, V, REGIONS, 2, 2): from product to sheet."""
    shifts: torch.Tensor
    """(P, V, REGIONS, 2): y, x on the sheet."""
    gains: torch.Tensor
    """(P, V, REGIONS, 3): contrast of each colour, about the sheet's mean."""
    bases: torch.Tensor
    """(P, V, REGIONS, 3): the mean colour."""


def draw_scenes(bank: Bank, batch: Batch, dice: Dice) -> Scenes:
    """A batch of pictures from the sheets that the bank has now."""
    layouts = drawn_layouts(dice, batch.products)
    surfaces = _surfaces(bank, batch, dice)
    y, x = _posed(batch, dice)  # (P, V, H, W)
    half = batch.side / 2
    region, bevel = regions(layouts, y / half, x / half)
    flat = region + REGIONS * _rows(region)  # (P, V, H, W): row of (P * V * REGIONS)
    count = batch.products * batch.defective
    defects = drawn_defects(dice, count, batch.side, len(bank.sheets))
    clean = _shown(bank, surfaces, flat, y, x)
    spoilt = _spoilt(
        bank, surfaces, [part[:, batch.good :] for part in (flat, y, x)], defects, dice
    )
    visible = _visible(clean[:, batch.good :], spoilt, defects)
    colours = torch.cat([clean[:, : batch.good], spoilt], dim=1) * bevel[..., None]
    masks = torch.cat([torch.zeros_like(region[:, : batch.good], dtype=torch.bool), visible], dim=1)
    materials = (surfaces.slots % bank.count).flatten()[flat]
    return Scenes(_photographed(colours, batch, dice), materials, masks)


def _surfaces(bank: Bank, batch: Batch, dice: Dice) -> _Surfaces:
    """Materials and colours per product and region; sheets and places per picture."""
    products, views = batch.products, batch.views
    shape = (products, views, REGIONS)
    material = dice.below(bank.count, products, 1, REGIONS)
    slots = material + bank.count * dice.below(COPIES, *shape)
    angle = dice.uniform(-0.25, 0.25, products, REGIONS)
    scale = dice.log_uniform(0.8, 1.3, products, REGIONS)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1)
    turns = (scale[..., None] * turn).reshape(products, 1, REGIONS, 2, 2).expand(*shape, 2, 2)
    own = dice.uniform(0, SIDE, *shape, 2)
    is_fixed = dice.chance(0.3, products, 1, REGIONS)  # a print, not a material that runs on
    slots = torch.where(is_fixed, slots[:, :1], slots)
    shifts = torch.where(is_fixed[..., None], own[:, :1], own)
    means = bank.means[slots]
    gains, bases = _repainted(dice, means[:, :1])
    return _Surfaces(slots, turns, shifts, gains.expand(*shape, 3), bases.expand(*shape, 3))


def _repainted(dice: Dice, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, 1, REGIONS, 3) contrasts and mean colours: mostly others than the material's own.

    A material shall be known by its structure, not by its colour alone.
    """
    products, _, count, _ = means.shape
    is_own = dice.chance(0.25, products, 1, count, 1)
    grey = dice.uniform(0.08, 0.92, products, 1, count, 1)
    tint = dice.sometimes(0.6, 0.12 * dice.normal(products, 1, count, 3), 0.0)
    bases = torch.where(is_own, means, (grey + tint).clamp(0.03, 0.97))
    gain = dice.log_uniform(0.35, 1.6, products, 1, count, 1) * dice.sign(products, 1, count, 1)
    gains = torch.where(is_own, torch.ones_like(gain), gain)
    return gains.expand(products, 1, count, 3), bases


def _posed(batch: Batch, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, V, H, W) rows and columns in each product's coordinates, pixels from its middle."""
    shape = (batch.products, batch.views, 1, 1)
    line = torch.arange(batch.side, device=dice.device) - (batch.side - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    loose = dice.sometimes(0.7, dice.uniform(0.2, 1, batch.products, 1, 1, 1), 0.0)
    angle = 0.15 * loose * dice.uniform(-1, 1, *shape)
    scale = 1 + 0.05 * loose * dice.uniform(-1, 1, *shape)
    dy, dx = (0.06 * batch.side * loose * dice.uniform(-1, 1, *shape) for _ in range(2))
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    return cosine * (y - dy) - sine * (x - dx), sine * (y - dy) + cosine * (x - dx)


def _rows(region: torch.Tensor) -> torch.Tensor:
    """(P, V, 1, 1): the number of each picture."""
    count = region.shape[0] * region.shape[1]
    return torch.arange(count, device=region.device).reshape(*region.shape[:2], 1, 1)


def _on_sheet(
    surfaces: _Surfaces, flat: torch.Tensor, y: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns on each place's sheet."""
    turns = surfaces.turns.reshape(-1, 4)[flat]
    shifts = surfaces.shifts.reshape(-1, 2)[flat]
    return (
        turns[..., 0] * y + turns[..., 1] * x + shifts[..., 0],
        turns[..., 2] * y + turns[..., 3] * x + shifts[..., 1],
    )


def _repaint(
    bank: Bank, surfaces: _Surfaces, flat: torch.Tensor, colours: torch.Tensor
) -> torch.Tensor:
    means = bank.means[surfaces.slots.flatten()][flat]
    gains, bases = (part.reshape(-1, 3)[flat] for part in (surfaces.gains, surfaces.bases))
    return (bases + gains * (colours - means)).clamp(0, 1)


def _shown(
    bank: Bank, surfaces: _Surfaces, flat: torch.Tensor, y: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """(P, V, H, W, 3): what good parts look like."""
    slots = surfaces.slots.flatten()[flat]
    colours = bank.looked_up(slots, *_on_sheet(surfaces, flat, y, x))
    return _repaint(bank, surfaces, flat, colours)


def _spoilt(
    bank: Bank, surfaces: _Surfaces, places: list[torch.Tensor], defects: Defects, dice: Dice
) -> torch.Tensor:
    """(P, D, H, W, 3): what defective parts look like."""
    shape = places[0].shape
    flat, y, x = (part.flatten(0, 1) for part in places)  # (N, H, W)
    slots = replaced(defects, surfaces.slots.flatten()[flat])
    colours = bank.looked_up(slots, *_on_sheet(surfaces, flat, *moved(defects, y, x)))
    bases = surfaces.bases.reshape(-1, 3)[flat]
    spoilt = painted(defects, _repaint(bank, surfaces, flat, colours), bases, dice)
    return spoilt.clamp(0, 1).reshape(*shape, 3)


def _visible(clean: torch.Tensor, spoilt: torch.Tensor, defects: Defects) -> torch.Tensor:
    """(P, D, H, W): inside a defect, and not as before."""
    change = (spoilt - clean).abs().mean(dim=-1).flatten(0, 1)  # (N, H, W)
    around = functional.avg_pool2d(change[:, None], 5, stride=1, padding=2)[:, 0]
    is_visible = (defects.inside > 0.5) & (torch.maximum(change, around) > VISIBLE)
    return is_visible.reshape(clean.shape[:-1])


def _photographed(colours: torch.Tensor, batch: Batch, dice: Dice) -> torch.Tensor:
    """(P, V, H, W, 3) colours to (P, V, 3, H, W) pictures: light, blur and noise."""
    shape = (batch.products, batch.views)
    line = torch.linspace(-1, 1, batch.side, device=dice.device)
    slope = 0.12 * dice.uniform(-1, 1, *shape, 2, 1, 1)
    light = 1 + slope[:, :, 0] * line[:, None] + slope[:, :, 1] * line[None, :]
    light = light * (1 + 0.12 * dice.uniform(-1, 1, *shape, 1, 1))  # (P, V, H, W)
    pictures = (colours * light[..., None]).permute(0, 1, 4, 2, 3).flatten(0, 1)
    pictures = _blurred(pictures, dice.uniform(0.1, 1, *shape).flatten())
    level = dice.log_uniform(0.002, 0.03, len(pictures), 1, 1, 1)
    noisy = pictures + level * dice.normal(*pictures.shape)
    return noisy.clamp(0, 1).reshape(*shape, *noisy.shape[1:])


def _blurred(pictures: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Mixed with themselves under a 3 x 3 binomial filter."""
    line = torch.tensor([0.25, 0.5, 0.25], device=pictures.device)
    kernel = (line[:, None] * line[None, :]).expand(3, 1, 3, 3)
    padded = functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
    soft = functional.conv2d(padded, kernel, groups=3)
    return torch.lerp(pictures, soft, share[:, None, None, None])
