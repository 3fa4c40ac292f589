"""What the generator takes and gives: seen defects, kinds and their mix, styles, the result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.records import ImageArray, MaskArray

Range = tuple[float, float]
"""Lowest and highest value; drawn uniformly from in between."""

_SPREAD = (5**0.5 - 1) / 2
"""Multiples of the golden ratio, modulo 1, fill [0, 1) evenly however many there are."""


class Kind(StrEnum):
    """The three kinds of PRN's section 3.4; the words of ``--kinds``."""

    EXTENDED = "extended"
    """A seen defect, augmented and moved (EA)."""
    HETEROLOGOUS = "heterologous"
    """A foreign texture (HEA)."""
    HOMOLOGOUS = "homologous"
    """A good picture, augmented and shuffled (HOA)."""


@dataclass(frozen=True, slots=True)
class SimulatedDefect:
    """A good picture with a defect drawn into it."""

    image: ImageArray
    """(H, W, 3) RGB."""
    mask: MaskArray
    """(H, W), 255 where the picture visibly changed; never empty."""
    kind: Kind
    """The kind that was asked for."""
    good: int
    """Place of the good picture in the generator's sequence."""
    is_fallback: bool = False
    """Whether nothing visible of that kind found a place and a plain spot was drawn instead."""


@dataclass(frozen=True, slots=True)
class SeenDefect:
    """A picture of a real defect and where it is."""

    image: ImageArray
    """(H, W, 3) RGB, of the same scale as the good pictures."""
    mask: MaskArray
    """(H, W), non-zero where defective."""
    name: str = ""
    """For messages."""
    region: MaskArray | None = None
    """(H, W), non-zero where it is inspected; None: everywhere."""

    def __post_init__(self) -> None:
        if self.image.shape[:2] != self.mask.shape:
            raise DatasetError(
                f"{self.name}: the picture is {_size(self.image)} but its mask {_size(self.mask)} "
                "(H x W); draw the mask at the picture's size"
            )
        if not self.mask.any():
            raise DatasetError(f"{self.name}: the mask marks nothing; draw it or leave it out")


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind comes; the shares need not sum to 1."""

    extended: float = 0.5
    heterologous: float = 0.25
    homologous: float = 0.25

    def __post_init__(self) -> None:
        if min(self.shares.values()) < 0 or not sum(self.shares.values()) > 0:
            raise ConfigError("shares of anomaly kinds can't be negative or all zero")

    @property
    def shares(self) -> dict[Kind, float]:
        """By kind."""
        return {kind: float(getattr(self, kind.value)) for kind in Kind}

    def kind_of(self, index: int) -> Kind:
        """The kind of sample `index`; any run of indexes has about these shares."""
        place = (index + 0.5) * _SPREAD % 1.0
        shares = {kind: share for kind, share in self.shares.items() if share}
        edges = np.cumsum(list(shares.values())) / sum(shares.values())
        return list(shares)[int(np.searchsorted(edges[:-1], place, side="right"))]


PAPER = Mix()
"""PRN's: 16 extended and 16 simulated anomalies a batch, the latter half and half."""
UNSEEN = Mix(0.0, 0.5, 0.5)
"""Where no defect was ever seen: simulated anomalies only."""


@dataclass(frozen=True, slots=True)
class Style:
    """How large and how plain the defects are."""

    opacity: Range = (0.2, 1.0)
    """1 - beta of equations 4 and 6: the defect's share in its pixels; the rest is the picture's.
    DRAEM draws beta from 0.1 to 1; below 0.2 little is visible."""
    extended_opacity: Range = (0.5, 1.0)
    """The same for extended anomalies, which are meant to look like the seen ones."""
    area: Range = (0.005, 0.4)
    """Target area as a share of the picture; drawn so that each octave is as likely."""
    extended_area: Range = (0.05, 0.5)
    """The same for extended anomalies: smaller ones would leave little of a seen defect."""
    filled: Range = (0.15, 0.8)
    """Share of the target area that the noise covers."""
    cells: tuple[int, int] = (1, 5)
    """Powers of two: cells of the noise along either side of the picture."""
    softness: float = 0.7
    """Sigma in pixels of the edge, which fades inward; 0 is hard."""
    visible: int = 10
    """Grey levels a pixel must change by, in one channel at least, to be marked."""


TRAINING = Style()
"""For learning from: from faint to blatant."""


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"
