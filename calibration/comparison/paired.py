"""Whether two scorings of the same parts differ by more than chance: paired intervals.

Both judge the same parts, so what one part makes easy or hard for both cancels; intervals of each
alone would hide differences that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np

from calibration.metrics import BoolArray, FloatArray, auroc

ROUNDS = 2000
"""Of the bootstrap."""
BLOCK = 256
"""Defective parts whose comparisons with all good ones are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """AUROC of one scoring minus that of another, on the same parts."""

    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of it."""

    @property
    def verdict(self) -> Literal["higher", "lower", "not told apart"]:
        """What the interval allows to say."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "not told apart"


@dataclass(frozen=True, slots=True)
class Changes:
    """Verdicts of one that another gave otherwise, on the same parts."""

    better: int
    """Right here and wrong there."""
    worse: int
    """Wrong here and right there."""

    @property
    def p_value(self) -> float:
        """How often chance alone would be as lopsided: the exact test of Q. McNemar (1947)."""
        n, fewer = self.better + self.worse, min(self.better, self.worse)
        return min(1.0, sum(comb(n, k) for k in range(fewer + 1)) / (1 << max(0, n - 1)))


def changes(fails: BoolArray, reference: BoolArray, is_defect: BoolArray) -> Changes:
    """Counts the changed verdicts; all three are (N,) bool, of the same parts."""
    differ = fails != reference
    right = fails == is_defect
    return Changes(int((differ & right).sum()), int((differ & ~right).sum()))


def auroc_difference(
    scores: FloatArray, reference: FloatArray, is_defect: BoolArray, seed: int
) -> Difference:
    """AUROC of `scores` minus that of `reference`, with a paired bootstrap's interval.

    Percentiles (B. Efron & R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13);
    good and defective parts are drawn apart, the same for both. Where both separate all parts it
    is 0 to 0: then these parts can't tell them apart at all.

    Args:
        scores: (N,) float64.
        reference: (N,) float64, of the same parts.
        is_defect: (N,) bool.
        seed: of the bootstrap.

    Raises:
        DatasetError: no good part, no defective part, or a score that is not finite.
    """
    value = auroc(scores, is_defect) - auroc(reference, is_defect)
    drawn = _drawn_gains(scores, reference, is_defect, np.random.default_rng(seed))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Difference(value, float(low), float(high))


def _drawn_gains(
    scores: FloatArray, reference: FloatArray, is_defect: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """(ROUNDS,) differences in AUROC on parts drawn with replacement."""
    bad, good = np.flatnonzero(is_defect), np.flatnonzero(~is_defect)
    # How often each part is drawn in each round: (ROUNDS, D) and (ROUNDS, G)
    bad_times, good_times = (
        rng.multinomial(len(some), np.full(len(some), 1 / len(some)), ROUNDS).astype(np.float32)
        for some in (bad, good)
    )
    total = np.zeros((ROUNDS, len(good)), np.float32)
    for start in range(0, len(bad), BLOCK):
        some = slice(start, start + BLOCK)
        gain = _wins(scores, bad[some], good) - _wins(reference, bad[some], good)  # (d, G)
        total += bad_times[:, some] @ gain
    sums = (total * good_times).sum(axis=1, dtype=np.float64)  # (ROUNDS,)
    return np.asarray(sums / (len(bad) * len(good)))


def _wins(scores: FloatArray, bad: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(d, G): 1 where the defective part scores higher than the good one, half where they tie."""
    return np.asarray(np.sign(scores[bad][:, None] - scores[good][None]) / 2 + 0.5, np.float32)
