"""The compute floor: a model's arithmetic over the fastest rate that this machine has shown.

The rate is that of large matrix products, taken in every round by every contender in its own
precision; the best one of a precision on a device counts for all. Nothing but fewer operations
(Winograd's for 3 x 3 kernels) or another precision gets below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Rates = dict[tuple[str, str], "Shown"]
"""By (precision, device)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A rate, and who reached it."""

    flops_per_s: float
    contender: str


@dataclass(frozen=True, slots=True)
class Floor:
    """How fast a contender could be at best."""

    ms: float
    """NaN where work or rate isn't known."""
    ratio: float
    """The median over it."""


def best_rates(measured: Iterable[tuple[str, str, str, float | None]]) -> Rates:
    """From (contender, precision, device, FLOP/s or None)."""
    found: Rates = {}
    for contender, precision, device, rate in measured:
        before = found.get((precision, device))
        if rate is not None and (before is None or rate > before.flops_per_s):
            found[precision, device] = Shown(rate, contender)
    return found


def floor_of(
    flops: int | None, rates: Mapping[tuple[str, str], Shown], kind: tuple[str, str], p50_ms: float
) -> Floor:
    """For a model's work, the contender's (precision, device) and its median."""
    shown = rates.get(kind)
    if flops is None or shown is None:
        return Floor(math.nan, math.nan)
    ms = flops / shown.flops_per_s * 1e3
    return Floor(ms, p50_ms / ms if ms > 0 else math.nan)
