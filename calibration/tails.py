"""Where the scores of good parts end: peaks over a threshold, fitted by a generalized Pareto.

Policy `sigma` knows no defect. Above a high enough score the excesses of almost any distribution
are generalized Pareto's (Pickands, Annals of Statistics 3, 1975; Coles, An Introduction to
Statistical Modeling of Extreme Values, 2001, chapter 4); the fit says where only a stated share of
good parts comes. It is made by Zhang & Stephens' estimator (Technometrics 51, 2009): likelihood
averaged over a grid, so that it exists for every sample and needs no search.

How sure that is comes from a parametric bootstrap: tails drawn from the fit, fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from calibration.metrics import FloatArray
from inspectd.core.errors import DatasetError

LEAST_GOOD = 30
"""Good parts below which nothing can be said of their tail."""
LEAST_TAIL = 10
"""Scores in the tail, at least; a tenth of all where that is more."""
LEAST_DISTINCT = 5
"""Different scores in the tail, at least."""
REACH = 10.0
"""How many times further than one in n a fit of n scores may reach."""
HIGHEST_RATE = 0.1
"""What is more frequent is no tail."""
DRAWS = 400
"""Of the bootstrap."""
POOR_FIT = 0.05
"""A p-value below this is warned of."""
_CELLS = 2_000_000
"""Numbers in memory at a time, of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A generalized Pareto above `start`: what share of good parts scores higher than a cut."""

    start: float
    """In units of the score; the tail is what lies above."""
    share: float
    """Of all good parts, in the tail."""
    shape: float
    """Below 0 the tail ends somewhere; above it falls ever more slowly."""
    scale: float
    """In units of the score."""

    def cut(self, rate: float) -> float:
        """The score that so small a share of good parts reaches."""
        grown = np.log(self.share / rate)
        excess = grown if abs(self.shape) < 1e-9 else np.expm1(self.shape * grown) / self.shape
        return float(self.start + self.scale * excess)

    def rate(self, cut: float) -> float:
        """The share of good parts that reaches a cut inside the tail."""
        return float(self.share * _survival(np.array(cut - self.start), self.shape, self.scale))


@dataclass(frozen=True, slots=True)
class SigmaFit:
    """A cut by policy `sigma`, and how far it can be trusted."""

    cut: float
    rate: float
    """The stated share of good parts that reaches the cut."""
    tail: Tail
    n_good: int
    n_tail: int
    rate_interval: tuple[float, float]
    """95 %: what a cut found from so few parts would really have, were the tail as fitted."""
    cut_interval: tuple[float, float]
    """95 %: where it would lie."""
    p_value: float
    """Of the fit, by Anderson and Darling's statistic; low where the tail is of another form."""
    other_rates: tuple[float, ...]
    """The cut's rate where the tail is taken to begin higher up and further down."""

    def warnings(self) -> list[str]:
        """What to doubt, each with its remedy."""
        found = []
        if self.rate < 1 / self.n_good:
            found.append(
                f"Warning: a false-alarm rate of {_percent(self.rate)} reaches beyond the "
                f"{self.n_good} good parts seen (1 in {self.n_good} is "
                f"{_percent(1 / self.n_good)}): the threshold is extrapolated. Add good parts, "
                f"at least {ceil(1 / self.rate)} in all."
            )
        if self.p_value < POOR_FIT:
            found.append(
                "Warning: the highest good scores don't follow the fitted tail (p = "
                f"{self.p_value:.2g}); look at the report's histogram for parts that are not good "
                "or of another kind."
            )
        spread = max([*self.other_rates, self.rate]) / max(1e-12, min(*self.other_rates, self.rate))
        if spread > 10:
            rates = " and ".join(_percent(rate) for rate in self.other_rates)
            found.append(
                "Warning: the fit is unstable: where the tail is taken to begin elsewhere the same "
                f"threshold has a rate of {rates}. Add good parts."
            )
        if self.tail.shape > 0.5:
            found.append(
                f"Warning: the good scores have a heavy tail (shape {self.tail.shape:.2f}): single "
                "good parts far out are to be expected. See whether those are really good."
            )
        return found


def sigma_threshold(good: FloatArray, rate: float, seed: int = 0) -> SigmaFit:
    """The cut that a stated share of good parts reaches.

    Args:
        good: (N,) float64, finite: scores of good parts only.
        rate: share of good parts that may fail, at most 0.1.
        seed: of the bootstrap.

    Raises:
        DatasetError: too few good parts, too few different scores, or a rate too far beyond them.
    """
    require_support(good.size, rate)
    if not np.isfinite(good).all():
        raise DatasetError("a good part's score is not finite; remove its picture")
    wanted = max(LEAST_TAIL, ceil(good.size / 10))
    tail, excess = fit_tail(good, wanted)
    cut = tail.cut(rate)
    others = (max(LEAST_DISTINCT, round(0.7 * excess.size)), round(1.4 * excess.size))
    rates, cuts, p_value = _bootstrap(tail, excess, good.size, rate, seed)
    return SigmaFit(
        cut=cut,
        rate=rate,
        tail=tail,
        n_good=good.size,
        n_tail=excess.size,
        rate_interval=_middle(rates),
        cut_interval=_middle(cuts),
        p_value=p_value,
        other_rates=tuple(_rate_from(good, count, cut) for count in others),
    )


def fit_tail(good: FloatArray, wanted: int) -> tuple[Tail, FloatArray]:
    """The tail of the `wanted` highest scores (more, where scores tie), and its excesses, sorted.

    Raises:
        DatasetError: scores tie so much that there is no tail.
    """
    distinct = np.unique(good)
    above = good.size - np.searchsorted(np.sort(good), distinct, side="right")
    starts = distinct[above >= wanted]
    excess = np.sort(good[good > starts[-1]]) - starts[-1] if starts.size else distinct[:0]
    if np.unique(excess).size < LEAST_DISTINCT or excess.size > good.size / 2:
        raise DatasetError(
            f"the {good.size} good scores take only {distinct.size} different values, too few to "
            "fit their tail; add good parts, or choose a policy that counts (max-overkill)"
        )
    shape, scale = _fit(excess[None])
    tail = Tail(float(starts[-1]), excess.size / good.size, float(shape[0]), float(scale[0]))
    return tail, excess


def require_support(n_good: int, rate: float) -> None:
    """Refuses what so many good parts can't say, before anything is scored.

    Raises:
        DatasetError: too few good parts at all, or for so low a rate.
    """
    if n_good < LEAST_GOOD:
        raise DatasetError(
            f"policy sigma fits the tail of the good scores and needs at least {LEAST_GOOD} good "
            f"parts in the hold-out set; it has {n_good}: add {LEAST_GOOD - n_good}"
        )
    if rate < 1 / (REACH * n_good):
        raise DatasetError(
            f"{n_good} good parts can't support a false-alarm rate of {_percent(rate)}; the "
            f"lowest that they can is {_percent(1 / (REACH * n_good))}. Ask for that, or add "
            f"good parts: at least {ceil(1 / (REACH * rate))} in all"
        )


def _fit(excess: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Zhang & Stephens' shape and scale (B,) of sorted excesses (B, K), all above 0.

    With b = -shape / scale the profile likelihood is averaged over the grid of their equation (6).
    """
    count = excess.shape[1]
    points = 20 + int(sqrt(count))
    quartile = excess[:, int(count / 4 + 0.5) - 1, None]  # (B, 1)
    reach = 1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))  # (G,)
    b = 1 / excess[:, -1, None] + reach / (3 * quartile)  # (B, G)
    k = np.log1p(-b[..., None] * excess[:, None]).mean(axis=2)  # (B, G, K) to (B, G)
    likelihood = count * (np.log(-b / k) - k - 1)
    weight = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    best = (weight * b).sum(axis=1) / weight.sum(axis=1)  # (B,)
    shape = np.log1p(-best[:, None] * excess).mean(axis=1)
    return shape, -shape / best


def _survival(
    excess: FloatArray, shape: float | FloatArray, scale: float | FloatArray
) -> FloatArray:
    """P(an excess is larger), of a generalized Pareto; 0 beyond its end."""
    shape = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
    inside = np.maximum(0.0, 1 + shape * excess / scale)
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(-np.log(inside) / shape)) * (inside > 0)


def _bootstrap(
    tail: Tail, excess: FloatArray, n_good: int, rate: float, seed: int
) -> tuple[FloatArray, FloatArray, float]:
    """True rates and cuts (B,) of tails drawn from the fit and fitted anew, and the p-value."""
    rng = np.random.default_rng(seed)
    count = excess.size
    rates, cuts, worse = [], [], 0
    observed = _misfit(excess[None], np.array([tail.shape]), np.array([tail.scale]))[0]
    rows = max(1, _CELLS // (count * (20 + int(sqrt(count)))))
    for begin in range(0, DRAWS, rows):
        size = min(rows, DRAWS - begin)
        drawn = np.sort(tail.scale * _quantile(rng.random((size, count)), tail.shape), axis=1)
        shape, scale = _fit(np.maximum(drawn, 1e-12 * tail.scale))
        worse += int(np.sum(_misfit(drawn, shape, scale) >= observed))
        share = np.maximum(rng.binomial(n_good, tail.share, size) / n_good, rate)
        for one in zip(share, shape, scale, strict=True):
            cut = Tail(tail.start, *(float(number) for number in one)).cut(rate)
            cuts.append(cut)
            rates.append(tail.rate(cut))
    return np.array(rates), np.array(cuts), worse / DRAWS


def _quantile(probability: FloatArray, shape: float) -> FloatArray:
    """Excesses, in units of the scale, of a generalized Pareto."""
    grown = -np.log1p(-probability)
    return np.asarray(grown if abs(shape) < 1e-9 else np.expm1(shape * grown) / shape)


def _misfit(excess: FloatArray, shape: FloatArray, scale: FloatArray) -> FloatArray:
    """Anderson & Darling's statistic (B,) of sorted excesses (B, K) against a fit each.

    Weighs the ends; its distribution depends on the fit (Choulakian & Stephens, Technometrics 43,
    2001), so it is compared with refitted draws, not with a table.
    """
    above = np.clip(_survival(excess, shape[:, None], scale[:, None]), 1e-12, 1 - 1e-12)
    count = excess.shape[1]
    odd = 2 * np.arange(1, count + 1) - 1
    return np.asarray(-count - (odd * (np.log1p(-above) + np.log(above[:, ::-1]))).mean(axis=1))


def _rate_from(good: FloatArray, count: int, cut: float) -> float:
    """The cut's rate where the tail is the `count` highest scores; the counted one if none fits."""
    try:
        tail, _ = fit_tail(good, count)
    except DatasetError:
        return float(np.mean(good >= cut))
    return tail.rate(cut) if cut > tail.start else float(np.mean(good >= cut))


def _middle(values: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
