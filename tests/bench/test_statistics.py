"""Percentiles, and where there are too few samples for one."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.bench.statistics import Latency, curve, first_over_median, percentile, supported

SAMPLES = st.lists(st.floats(0.001, 1e4), min_size=1, max_size=60)


@given(SAMPLES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_a_sample(samples: list[float], share: float) -> None:
    """Numpy's inverted distribution function: never a value between two samples."""
    expected = float(np.percentile(samples, share * 100, method="inverted_cdf"))
    assert percentile(samples, share) == expected


@pytest.mark.parametrize(("count", "share"), [(99, 0.99), (999, 0.999)])
def test_too_few_samples_support_no_tail(count: int, share: float) -> None:
    """p99 needs 100 pictures, p99.9 needs 1,000; with one more there is a figure."""
    assert math.isnan(supported([1.0] * count, share))
    assert supported([1.0] * (count + 1), share) == 1.0


def test_the_median_needs_one_sample() -> None:
    """It is always given, but of nothing."""
    assert supported([3.0], 0.5) == 3.0
    assert math.isnan(supported([], 0.5))


def test_a_latency_of_many_pictures() -> None:
    """1 to 1,000 ms."""
    found = Latency.of([float(value) for value in range(1000, 0, -1)])
    assert (found.count, found.p50, found.p99, found.p999) == (1000, 500, 990, 999)
    assert (found.most, found.mean) == (1000, 500.5)


def test_a_latency_of_nothing() -> None:
    """No figure, no error."""
    found = Latency.of([])
    assert found.count == 0
    assert all(math.isnan(x) for x in (found.p50, found.p99, found.p999, found.most, found.mean))


@given(SAMPLES)
def test_a_curve_rises(samples: list[float]) -> None:
    """From the least to the largest sample."""
    values = list(curve(samples).values())
    assert all(low <= high for low, high in pairwise(values))
    assert (values[0], values[-1]) == (min(samples), max(samples))
    assert curve([]) == {}


def test_the_first_after_a_gap() -> None:
    """Median and worst, over the usual median."""
    assert first_over_median([20, 30, 10], [10, 10, 12]) == (2.0, 3.0)
    assert all(math.isnan(value) for value in first_over_median([], [10]))
    assert all(math.isnan(value) for value in first_over_median([10], []))
