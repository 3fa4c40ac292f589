"""Pictures of made-up products."""

from __future__ import annotations

import pytest
import torch

from calibration.pretraining.bank import Bank
from calibration.pretraining.dice import Dice
from calibration.pretraining.layouts import REGIONS, drawn_layouts, regions
from calibration.pretraining.scenes import Batch, Scenes, draw_scenes
from calibration.pretraining.sheet import ACROSS, TILE, draw_sheet

BATCH = Batch(products=12, good=2, defective=2, side=64)


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Eight materials."""
    bank = Bank(8, 0, "cpu")
    bank.fill(0, lambda *_: None)
    return bank


@pytest.fixture(scope="module")
def scenes(bank: Bank) -> Scenes:
    """Twelve products."""
    return draw_scenes(bank, BATCH, Dice("cpu", 1))


def test_pictures_have_their_labels(scenes: Scenes) -> None:
    """Pictures lie between 0 and 1; every pixel has a known material."""
    assert scenes.pictures.shape == (12, 4, 3, 64, 64)
    assert scenes.materials.shape == scenes.defects.shape == (12, 4, 64, 64)
    assert scenes.pictures.min() >= 0
    assert scenes.pictures.max() <= 1
    assert set(scenes.materials.flatten().tolist()) <= set(range(8))


def test_good_pictures_come_first(scenes: Scenes) -> None:
    """No defect is marked on them; on most of the others there is a small one."""
    assert not scenes.defects[:, :2].any()
    share = scenes.defects[:, 2:].float().mean(dim=(2, 3))
    assert (share > 0).float().mean() > 0.6
    assert share.max() < 0.5


def test_pictures_of_one_product_have_the_same_materials(scenes: Scenes) -> None:
    """All views show what the first one shows, if not all of it."""
    for product in scenes.materials:
        shown = [set(view.flatten().tolist()) for view in product]
        assert set.intersection(*shown)


def test_the_seed_decides(bank: Bank, scenes: Scenes) -> None:
    """The same seed draws the same pictures, another one others."""
    again, other = (draw_scenes(bank, BATCH, Dice("cpu", seed)) for seed in (1, 2))
    assert torch.equal(again.pictures, scenes.pictures)
    assert not torch.equal(other.pictures, scenes.pictures)


def test_layouts_have_several_regions() -> None:
    """A few regions are plain, most have two or more, none has one too many."""
    layouts = drawn_layouts(Dice("cpu", 4), 40)
    line = torch.linspace(-1, 1, 48)
    y, x = (part.expand(40, 1, 48, 48) for part in torch.meshgrid(line, line, indexing="ij"))
    found, brightness = regions(layouts, y, x)
    counts = [len(set(one.flatten().tolist())) for one in found]
    assert max(counts) <= REGIONS
    assert sum(count > 1 for count in counts) > 20
    assert brightness.min() > 0


def test_the_sheet_shows_materials_and_products() -> None:
    """Ten tiles in a row; the same seed draws the same."""
    sheet = draw_sheet(0)
    assert sheet.shape[1] > ACROSS * TILE[1]
    assert sheet.shape[0] > 12 * TILE[0]
