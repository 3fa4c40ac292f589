"""How sure a counted rate is: intervals for k events in n parts."""

from __future__ import annotations

from math import ceil, exp, fsum, lgamma, log, log1p, sqrt
from statistics import NormalDist


def wilson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate (E. B. Wilson, JASA 22, 1927).

    Args:
        k: parts with the event, 0 to n.
        n: parts looked at; with none of them every rate is possible, which is (0, 1).
        confidence: of both sides together, between 0 and 1.

    Returns:
        Lowest and highest plausible rate, as fractions.

    Raises:
        ValueError: the counts or the confidence are impossible.
    """
    _require_possible(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = k / n
    centre = rate + z * z / (2 * n)
    reach = z * sqrt(rate * (1 - rate) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    # At k = 0 and k = n one end is exactly 0 or 1; rounding must not say otherwise.
    low = 0.0 if k == 0 else (centre - reach) / scale
    high = 1.0 if k == n else (centre + reach) / scale
    return low, high


def rule_of_three(n: int) -> float:
    """Upper bound at 95 % of a rate whose event was seen in none of n parts: 3 / n, at most 1.

    It lies just above the exact bound 1 - 0.05 ** (1 / n) for every n (Hanley & Lippman-Hand,
    JAMA 249, 1983).

    Raises:
        ValueError: n is negative.
    """
    if n < 0:
        raise ValueError(f"{n} parts are impossible; pass 0 or more")
    return 1.0 if n == 0 else min(1.0, 3 / n)


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a rate (Clopper & Pearson, Biometrika 26, 1934).

    The highest rate at which k events or fewer in n parts are not yet rarer than ``1 - confidence``
    allows. Unlike Wilson's it never promises more than its confidence, whatever the rate. At
    k = 0 it is ``1 - (1 - confidence) ** (1 / n)``.

    Raises:
        ValueError: the counts or the confidence are impossible.
    """
    _require_possible(k, n, confidence)
    if k == n:
        return 1.0
    low, high = k / n, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _at_most(k, n, middle) > 1 - confidence else (low, middle)
    return high


def events_allowed(rate: float, n: int, confidence: float = 0.95) -> int | None:
    """The most events in n parts whose exact upper bound is still at most `rate`.

    None where even no event at all proves too little. This is Wilks' one-sided tolerance limit
    (Annals of Mathematical Statistics 12, 1941): a cut that is put at the (k + 1)-th lowest of n
    scores has a share of at most `rate` of all scores to come below it, with this confidence, for
    scores of any distribution and although the cut was found on the same scores; with ties the
    share is smaller still.

    Raises:
        ValueError: the counts or the confidence are impossible.
    """
    _require_possible(0, n, confidence)
    if n == 0 or _at_most(0, n, rate) > 1 - confidence:
        return None
    low, high = 0, n  # the bound holds at `low` and not at `high`, where all parts are events
    while high - low > 1:
        middle = (low + high) // 2
        holds = _at_most(middle, n, rate) <= 1 - confidence
        low, high = (middle, high) if holds else (low, middle)
    return low


def parts_needed(rate: float, confidence: float = 0.95) -> int:
    """Parts that must be without any event to prove a rate of at most `rate`.

    ``n >= ln(1 - confidence) / ln(1 - rate)``: 299 for 1 % at 95 %, 59 for 5 %.

    Raises:
        ValueError: the rate or the confidence is not between 0 and 1.
    """
    _require_possible(0, 0, confidence)
    if not 0.0 < rate < 1.0:
        raise ValueError(f"a rate of {rate} is impossible; pass a fraction, as 0.01")
    needed = ceil(log(1 - confidence) / log1p(-rate))
    # Rounding may miss by one where the quotient is a whole number.
    return needed + 1 if events_allowed(rate, needed, confidence) is None else needed


def weighted_sum(
    weights: tuple[float, ...], counted: tuple[tuple[int, int], ...]
) -> tuple[float, float]:
    """95 % interval of a weighted sum of independent rates (Zou & Donner, Stat. Med. 27, 2008).

    Wilson's intervals of the rates are combined by the squares of their reaches. Unlike a
    bootstrap's the result isn't (0, 0) where no event was counted.

    Args:
        weights: of each rate, not negative.
        counted: (k, n) of each rate.
    """
    low = high = 0.0
    total = 0.0
    for weight, (k, n) in zip(weights, counted, strict=True):
        rate = k / n if n else 0.5
        below, above = wilson(k, n)
        total += weight * rate
        low += (weight * (rate - below)) ** 2
        high += (weight * (above - rate)) ** 2
    return max(0.0, total - sqrt(low)), total + sqrt(high)


def _at_most(k: int, n: int, rate: float) -> float:
    """P(at most k events in n parts) of the binomial distribution."""
    if rate <= 0.0 or k >= n:
        return 1.0
    if rate >= 1.0:
        return 0.0
    hit, miss = log(rate), log1p(-rate)
    rest = lgamma(n + 1)
    terms = (
        exp(rest - lgamma(i + 1) - lgamma(n - i + 1) + i * hit + (n - i) * miss)
        for i in range(k + 1)
    )
    return min(1.0, fsum(terms))


def _require_possible(k: int, n: int, confidence: float) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} events in {n} parts are impossible; pass 0 <= k <= n")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence of {confidence} is impossible; pass a fraction, as 0.95")
