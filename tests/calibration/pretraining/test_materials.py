"""Sheets of drawn materials, and the bank that holds them."""

from __future__ import annotations

import pytest
import torch

from calibration.pretraining.bank import AT_ONCE, COPIES, SIDE, Bank
from calibration.pretraining.dice import Dice
from calibration.pretraining.fields import noise, smooth_noise
from calibration.pretraining.formulas import KINDS, Formulas, drawn_formulas
from calibration.pretraining.materials import draw_sheets

COUNT = 40


@pytest.fixture(scope="module")
def formulas() -> Formulas:
    """Enough for every kind."""
    return drawn_formulas(COUNT, 3)


@pytest.fixture(scope="module")
def sheets(formulas: Formulas) -> torch.Tensor:
    """(COUNT, 64, 64, 3)."""
    return draw_sheets(formulas, 64, Dice("cpu", 5))


def filled(count: int = 4, done: int = 0) -> Bank:
    """A small bank after some refreshes."""
    bank = Bank(count, 0, "cpu")
    bank.fill(done, lambda *_: None)
    return bank


def test_every_kind_is_drawn(formulas: Formulas) -> None:
    """Materials of all kinds come up."""
    assert set(formulas.kind.tolist()) == set(range(len(KINDS)))


def test_every_material_has_something_to_see(sheets: torch.Tensor) -> None:
    """No sheet is of one colour, and no two are alike."""
    assert sheets.dtype == torch.uint8
    assert sheets.float().std(dim=(1, 2)).amax(dim=1).min() > 1
    flat = sheets.float().flatten(1)
    distances = torch.cdist(flat, flat)
    assert distances[~torch.eye(COUNT, dtype=torch.bool)].min() > 100


def test_the_seed_decides(formulas: Formulas, sheets: torch.Tensor) -> None:
    """The same formulas and seed draw the same, another seed draws others."""
    again, other = (draw_sheets(formulas, 64, Dice("cpu", seed)) for seed in (5, 6))
    assert torch.equal(again, sheets)
    assert not torch.equal(other, sheets)


def test_noise_is_drawn_out_along_its_angle(formulas: Formulas) -> None:
    """Stretched noise changes more slowly along its angle than across it."""
    one = formulas.rows(torch.zeros(1, dtype=torch.long))
    one.angle[:], one.stretch[:], one.bandwidth[:], one.exponent[:] = 0.0, 8.0, 0.5, 0.0
    field = noise(one, 96, Dice("cpu", 1))
    down, right = field.diff(dim=1).std(), field.diff(dim=2).std()
    assert right < 0.5 * down


def test_sheets_wrap_around() -> None:
    """A field's last column goes on in its first."""
    field = smooth_noise(1, 64, 4.0, Dice("cpu", 2))
    seam = (field[..., 0] - field[..., -1]).abs().mean()
    assert seam < 2 * field.diff(dim=2).abs().mean()


def test_pixels_are_looked_up_between_and_beyond() -> None:
    """Whole places give a sheet's pixels, half ones their mean, and those beyond wrap around."""
    bank = filled()
    slot, row = torch.tensor([1]), torch.tensor([3.0])
    first, second = (bank.sheets[1, 3, column].float() / 255 for column in (0, 1))
    for place, wanted in ((0.0, first), (0.5, (first + second) / 2), (float(SIDE), first)):
        found = bank.looked_up(slot, row, torch.tensor([place]))
        torch.testing.assert_close(found, wanted[None])


def test_a_refresh_redraws_some_sheets_of_the_same_materials() -> None:
    """Sheets are replaced in turn; their materials keep their colours."""
    bank = filled()
    before = bank.sheets.clone()
    bank.refresh(0)
    changed = (bank.sheets != before).flatten(1).any(dim=1)
    assert changed.tolist() == [slot < AT_ONCE for slot in range(4 * COPIES)]
    assert (bank.means[:4] - bank.means[4:]).abs().max() < 0.1


def test_a_bank_can_be_rebuilt() -> None:
    """A bank filled as after three refreshes is the one that was refreshed three times."""
    bank = filled()
    for done in range(3):
        bank.refresh(done)
    assert torch.equal(filled(done=3).sheets, bank.sheets)
