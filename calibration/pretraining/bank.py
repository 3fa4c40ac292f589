"""Sheets of all materials at hand, a few of them redrawn at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch

from calibration.pretraining.dice import Dice
from calibration.pretraining.formulas import drawn_formulas
from calibration.pretraining.materials import draw_sheets

SIDE = 192
"""Pixels of a sheet, which wraps around."""
COPIES = 2
"""Sheets of each material at a time."""
AT_ONCE = 4
"""Sheets that one refresh draws anew."""


class Bank:
    """Sheets in slots; slot s holds a sheet of material s mod `count`.

    After r refreshes the bank is a function of seed and r alone, so that a resumed training finds
    the sheets it had.
    """

    def __init__(self, count: int, seed: int, device: str) -> None:
        """Takes the number of materials; the bank is empty until it is filled."""
        self.count, self.seed, self.device = count, seed, device
        self.formulas = drawn_formulas(count, seed).on(device)
        self.sheets = torch.zeros((count * COPIES, SIDE, SIDE, 3), dtype=torch.uint8, device=device)
        self.means = torch.zeros((count * COPIES, 3), device=device)

    @property
    def groups(self) -> int:
        """Refreshes that draw every sheet once."""
        return len(self.sheets) // AT_ONCE

    def fill(self, done: int, report: Callable[[int, int], None]) -> None:
        """Puts the bank into the state it has after so many refreshes beyond the first round."""
        for number in range(done, done + self.groups):
            self._refresh(number)
            report(number + 1 - done, self.groups)

    def refresh(self, done: int) -> None:
        """One more refresh, after so many beyond the first round."""
        self._refresh(done + self.groups)

    def _refresh(self, number: int) -> None:
        start = number % self.groups * AT_ONCE
        slots = torch.arange(start, start + AT_ONCE, device=self.device) % len(self.sheets)
        dice = Dice(self.device, self.seed, 2, number)
        sheets = draw_sheets(self.formulas.rows(slots % self.count), SIDE, dice)
        self.sheets[slots] = sheets
        self.means[slots] = sheets.float().mean(dim=(1, 2)) / 255

    def looked_up(self, slots: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Colours, (..., 3) from 0 to 1, of places between the pixels of sheets.

        Args:
            slots: which sheet, of any shape.
            y: rows, of the same shape; those beyond the sheet wrap around.
            x: columns.
        """
        top, left = y.floor(), x.floor()
        down, right = (y - top)[..., None], (x - left)[..., None]
        rows = [(torch.remainder(top + step, SIDE)).long() for step in (0, 1)]
        columns = [(torch.remainder(left + step, SIDE)).long() for step in (0, 1)]
        flat = self.sheets.reshape(-1, 3)
        starts = [(slots * SIDE + row) * SIDE for row in rows]
        above, below = (
            torch.lerp(flat[start + columns[0]].float(), flat[start + columns[1]].float(), right)
            for start in starts
        )
        return torch.lerp(above, below, down) / 255
