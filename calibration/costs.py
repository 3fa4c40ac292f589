"""Policy `cost`: the cut that costs least, at the line's prices and its share of defective parts.

Per part, in units of one overkill: ``prevalence * cost_ratio * escape rate + (1 - prevalence) *
overkill rate``. The hold-out set's own share of defects doesn't count, as it is not the line's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.intervals import weighted_sum
from calibration.metrics import BoolArray, FloatArray, confusion
from inspectd.core.errors import DatasetError

DRAWS = 1000
"""Of the bootstrap."""
_CELLS = 2_000_000
"""Numbers in memory at a time, of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the two mistakes weigh."""

    cost_ratio: float
    """Price of an escape over price of an overkill."""
    prevalence: float
    """Share of the line's parts that are defective."""

    @property
    def weights(self) -> tuple[float, float]:
        """Of the escape rate and of the overkill rate, per part, in units of one overkill."""
        return self.prevalence * self.cost_ratio, 1 - self.prevalence


@dataclass(frozen=True, slots=True)
class CostFit:
    """A cut by policy `cost`."""

    cut: float
    prices: Prices
    cost: float
    """Expected per part on the hold-out set, in units of one overkill."""
    cost_interval: tuple[float, float]
    """95 %, from both rates' Wilson intervals: a bootstrap would say 0 to 0 where nothing was
    misjudged."""
    cut_interval: tuple[float, float]
    """95 %, by bootstrap: where the cut would lie on other hold-out sets of this size."""


def cost_threshold(
    scores: FloatArray, is_defect: BoolArray, prices: Prices, seed: int = 0
) -> CostFit:
    """The cut of least expected cost, mid-way in the widest gap that has it; then the lowest.

    Args:
        scores: (N,) float64, finite, of both classes, at least two different ones.
        is_defect: (N,) bool.
        prices: of the two mistakes.
        seed: of the bootstrap.

    Raises:
        DatasetError: at these prices passing or failing every part is cheaper than any cut.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    good = np.bincount(place[~is_defect], minlength=distinct.size)
    defective = np.bincount(place[is_defect], minlength=distinct.size)
    costs = _costs(good[None], defective[None], prices)[0]  # (K + 1,)
    inner = costs[1:-1]
    tolerance = 1e-12 * sum(prices.weights)
    _require_worthwhile(costs, tolerance)
    best = np.flatnonzero(inner <= inner.min() + tolerance)
    middles = distinct[:-1] / 2 + distinct[1:] / 2
    chosen = best[np.argmax(np.diff(distinct)[best])]
    # Between neighbouring floats there is no middle; the upper one gives the same verdicts.
    cut = float(middles[chosen] if middles[chosen] > distinct[chosen] else distinct[chosen + 1])
    counts = confusion(scores, is_defect, cut)
    events = ((counts.fn, int(is_defect.sum())), (counts.fp, int((~is_defect).sum())))
    return CostFit(
        cut=cut,
        prices=prices,
        cost=float(inner[chosen]),
        cost_interval=weighted_sum(prices.weights, events),
        cut_interval=_cut_interval(good, defective, middles, prices, seed),
    )


def _costs(
    good: npt.NDArray[np.int64], defective: npt.NDArray[np.int64], prices: Prices
) -> FloatArray:
    """(B, K + 1) costs of failing from the i-th distinct score on, from (B, K) counts at each."""
    escape, overkill = prices.weights
    passed = [np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0))) for counts in (defective, good)]
    escapes, passes = (counts / counts[:, -1:] for counts in passed)
    return np.asarray(escape * escapes + overkill * (1 - passes))


def _require_worthwhile(costs: FloatArray, tolerance: float) -> None:
    best = costs[1:-1].min()
    for verdict, cost, remedy in (
        ("failing", costs[0], "a lower --cost-ratio or --prevalence"),
        ("passing", costs[-1], "a higher --cost-ratio or --prevalence"),
    ):
        if cost < best - tolerance:
            raise DatasetError(
                f"at these prices {verdict} every part is cheapest ({cost:.4g} overkills a part, "
                f"by the best threshold {best:.4g}), so there is nothing to inspect; check for "
                f"{remedy}, or train a model that tells the parts apart better"
            )


def _cut_interval(
    good: npt.NDArray[np.int64],
    defective: npt.NDArray[np.int64],
    middles: FloatArray,
    prices: Prices,
    seed: int,
) -> tuple[float, float]:
    """Percentiles of the best cut over sets drawn anew from each class (Efron 1979)."""
    rng = np.random.default_rng(seed)
    n_good, n_defect = int(good.sum()), int(defective.sum())
    cuts: list[FloatArray] = []
    rows = max(1, _CELLS // good.size)
    for begin in range(0, DRAWS, rows):
        size = min(rows, DRAWS - begin)
        drawn = (
            rng.multinomial(n_good, good / n_good, size),
            rng.multinomial(n_defect, defective / n_defect, size),
        )
        # Equal costs side by side are a wide gap of that draw: its middle.
        costs = _costs(*drawn, prices)[:, 1:-1]
        lowest = costs <= costs.min(axis=1, keepdims=True) + 1e-12
        first = lowest.argmax(axis=1)
        run = np.cumprod(np.where(np.arange(middles.size) < first[:, None], 1, lowest), axis=1)
        last = run.sum(axis=1) - 1
        cuts.append(middles[first] / 2 + middles[last] / 2)
    low, high = np.quantile(np.concatenate(cuts), (0.025, 0.975))
    return float(low), float(high)
