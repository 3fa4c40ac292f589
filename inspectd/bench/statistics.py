"""Percentiles of latencies; NaN where the samples are too few to speak of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = (*range(0, 100), 99.5, 99.9, 100)
"""Percentiles that make up a curve."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What came of a number of pictures, milliseconds; NaN where there were too few."""

    count: int
    p50: float
    p99: float
    """Needs 100 pictures."""
    p999: float
    """Needs 1,000 pictures."""
    most: float
    mean: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Latency:
        """From samples in milliseconds."""
        return cls(
            count=len(samples),
            p50=supported(samples, 0.5),
            p99=supported(samples, 0.99),
            p999=supported(samples, 0.999),
            most=max(samples, default=math.nan),
            mean=math.fsum(samples) / len(samples) if samples else math.nan,
        )


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0 to 1) of them don't exceed; NaN of none."""
    if not samples:
        return math.nan
    rank = math.ceil(round(share * len(samples), 9))
    return sorted(samples)[max(0, rank - 1)]


def supported(samples: Sequence[float], share: float) -> float:
    """The percentile where at least one sample can be expected beyond it, else NaN."""
    if round(len(samples) * (1 - share), 9) < 1 and share != 0.5:
        return math.nan
    return percentile(samples, share)


def curve(samples: Sequence[float]) -> dict[str, float]:
    """The whole distribution, by percentile: ``{"0": ..., "50": ..., "99.9": ...}``."""
    return {f"{step:g}": percentile(samples, step / 100) for step in STEPS} if samples else {}


def first_over_median(firsts: Sequence[float], samples: Sequence[float]) -> tuple[float, float]:
    """(median, worst) of the pictures after a stand-still, over the cadence's median."""
    usual = percentile(samples, 0.5)
    if not firsts or not usual > 0:
        return math.nan, math.nan
    return percentile(firsts, 0.5) / usual, max(firsts) / usual
