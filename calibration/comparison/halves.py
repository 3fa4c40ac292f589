"""Labelled pictures in two halves: one to calibrate with, one to judge by.

On the first the threshold is found (and a supervised scorer shown some defects), on the other
every contender is judged: the same parts for each, seen by none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.dataset import MASKS, TEST, Sample
from calibration.metrics import BoolArray
from inspectd.core.errors import DatasetError
from inspectd.core.files import sha256_of
from inspectd.core.holdout import GOOD


@dataclass(frozen=True, slots=True)
class Halves:
    """Labelled pictures, each in one of both."""

    holdout: tuple[Sample, ...]
    """The first half of each kind, in name order: for the threshold."""
    judged: tuple[Sample, ...]
    """The rest: for the figures."""

    @property
    def labels(self) -> tuple[str, ...]:
        """(N,) of the judged parts: `good` or the kind of defect."""
        return tuple(sample.label for sample in self.judged)

    @property
    def is_defect(self) -> BoolArray:
        """(N,) of the judged parts."""
        return np.array([sample.is_defect for sample in self.judged], np.bool_)


def split_halves(samples: Sequence[Sample]) -> Halves:
    """The first half of each kind in name order, and the rest; of an odd one the rest has more.

    Raises:
        DatasetError: a half would be without good or without defective pictures.
    """
    total = Counter(sample.label for sample in samples)
    met: Counter[str] = Counter()
    holdout: list[Sample] = []
    judged: list[Sample] = []
    for sample in sorted(samples, key=lambda one: (one.label, one.path.name)):
        (holdout if met[sample.label] < total[sample.label] // 2 else judged).append(sample)
        met[sample.label] += 1
    halves = Halves(tuple(holdout), tuple(judged))
    for wanted, what in ((False, "2 good pictures"), (True, "2 pictures of some kind of defect")):
        if any(wanted not in {one.is_defect for one in half} for half in (holdout, judged)):
            raise DatasetError(
                f"comparing needs at least {what} among the labelled ones, half to find the "
                f"threshold and half to judge by; there are {total[GOOD]} good ones and of "
                f"defects {_counted(total)}"
            )
    return halves


def link_samples(samples: Sequence[Sample], folder: Path) -> None:
    """Lays the pictures out as a labelled folder, with their masks, by symbolic links."""
    for sample in samples:
        _link(sample.path, folder / sample.label)
        if sample.mask is not None:
            _link(sample.mask, folder / MASKS / sample.label)


def is_test(halves: Halves) -> bool:
    """Whether the pictures are those of a folder test/, that only evaluating may look into."""
    return halves.judged[0].path.resolve().parents[1].name == TEST


def seen_before(train: Sequence[Path], halves: Halves) -> int:
    """Judged pictures whose file is also among those learned from or held out."""
    known = {sha256_of(path) for path in (*train, *(one.path for one in halves.holdout))}
    return sum(sha256_of(one.path) in known for one in halves.judged)


def _counted(total: Counter[str]) -> str:
    kinds = [f"{count} {kind}" for kind, count in sorted(total.items()) if kind != GOOD]
    return ", ".join(kinds) or "none"


def _link(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / path.name
    if not link.is_symlink():  # two pictures of one name but another suffix share a mask
        link.symlink_to(path.resolve())
