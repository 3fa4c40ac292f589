"""The compute floor."""

from __future__ import annotations

import math

import pytest

from inspectd.bench.floor import best_rates, floor_of

CPU = ("fp32", "CPU")


def test_the_best_rate_of_a_precision_counts_for_all() -> None:
    """By precision and device; who has none is left out."""
    rates = best_rates(
        [
            ("a", "fp32", "CPU", 100e9),
            ("b", "fp32", "CPU", 120e9),
            ("c", "bf16", "CPU", 300e9),
            ("d", "fp32", "H200", 9e12),
            ("e", "int8", "CPU", None),
        ]
    )
    assert rates[CPU].contender == "b"
    assert {kind: shown.flops_per_s for kind, shown in rates.items()} == {
        CPU: 120e9,
        ("bf16", "CPU"): 300e9,
        ("fp32", "H200"): 9e12,
    }


def test_the_floor_is_work_over_rate() -> None:
    """2 GFLOP at 100 GFLOP/s are 20 ms; a median of 50 ms is 2.5 times that."""
    floor = floor_of(2_000_000_000, best_rates([("a", *CPU, 100e9)]), CPU, 50.0)
    assert floor.ms == pytest.approx(20)
    assert floor.ratio == pytest.approx(2.5)


def test_no_floor_without_work_or_rate() -> None:
    """Neither is guessed: int8 isn't given fp32's rate."""
    rates = best_rates([("a", *CPU, 100e9)])
    for floor in (floor_of(None, rates, CPU, 50), floor_of(10**9, rates, ("int8", "CPU"), 50)):
        assert math.isnan(floor.ms)
        assert math.isnan(floor.ratio)
