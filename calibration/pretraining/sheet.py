"""A contact sheet of what a backbone is trained on: materials, then products with their defects."""

from __future__ import annotations

import numpy as np
import torch

from calibration.gallery import MARKED
from calibration.pretraining.bank import Bank
from calibration.pretraining.dice import Dice
from calibration.pretraining.scenes import Batch, draw_scenes
from inspectd.core import overlay
from inspectd.core.records import ImageArray

ACROSS = 10
"""Tiles in a row."""
MATERIALS = 40
PRODUCTS = 16
TILE = (112, 112)
"""(H, W) in pixels."""


def draw_sheet(seed: int) -> ImageArray:
    """(H, W, 3): sheets of materials, then five pictures per product, the last two defective."""
    bank = Bank(MATERIALS, seed, "cpu")
    bank.fill(0, lambda *_: None)
    tiles = [
        (f"material {index}", bank.sheets[index, : TILE[0], : TILE[1]].numpy())
        for index in range(MATERIALS)
    ]
    scenes = draw_scenes(bank, Batch(PRODUCTS, 3, 2, TILE[0]), Dice("cpu", seed, 3, 0))
    for product in range(PRODUCTS):
        for view in range(5):
            picture = _picture(scenes.pictures[product, view])
            mask = scenes.defects[product, view].numpy()
            caption = f"product {product}" if view < 3 else f"defect {100 * mask.mean():.1f} %"
            tiles.append((caption, overlay.outline_mask(picture, mask, MARKED)))
    return overlay.contact_sheet(tiles, ACROSS, TILE)


def _picture(picture: torch.Tensor) -> ImageArray:
    """(3, H, W), 0 to 1, to (H, W, 3) uint8."""
    return np.ascontiguousarray((255 * picture).byte().permute(1, 2, 0).numpy())
