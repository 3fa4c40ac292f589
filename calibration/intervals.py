"""How sure a counted rate is: intervals for k events in n parts."""

from __future__ import annotations

from math import sqrt
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
    if not 0 <= k <= n:
        raise ValueError(f"{k} events in {n} parts are impossible; pass 0 <= k <= n")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence of {confidence} is impossible; pass a fraction, as 0.95")
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
