"""The tables of ``inspectd bench``."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from inspectd.bench.floor import Floor
from inspectd.bench.report import Figures
from inspectd.bench.statistics import Latency
from inspectd.cli.bench_tables import DASH, cost_table, figure, latency_table, parity_table
from inspectd.pipeline.parity import Bounds, Pair, judge

WIDTH = 120
TIMES = Latency(1_000, 1234.5, 1234.5, 1234.5, 1300.0, 1200.0)
PARITY = judge([Pair("a", False, 0.2, 0.3, True)], math.nan, Bounds(1e-3, 0.0, 1e-3))
WIDE = Figures(
    name="torch-cuda-fp16-published",
    runtime="torch-2.13.0+cu130 CUDA graph fp16 NVIDIA H200 NVL",
    precision="fp16",
    device="NVIDIA H200 NVL",
    back=TIMES,
    cadence=TIMES,
    after_gap=(12.3, 45.6),
    keeps_up=True,
    throughput=1234.5,
    batched_throughput=math.nan,
    load_s=123.0,
    first_ms=1.0,
    build_s=1234.0,
    memory_mib=12345.0,
    own_memory_mib=12345.0,
    peak_mib=12345.0,
    device_mib=12345.0,
    gflop=1.0,
    floor=Floor(0.0123, 123.0),
    parity=PARITY,
    failure="",
)


def text_of(table: Table) -> str:
    """As on a terminal that is wider than it needs."""
    console = Console(width=300)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.mark.parametrize(
    "table",
    [latency_table("bottle r1", [WIDE], 12.5), cost_table([WIDE], 16), parity_table([WIDE])],
)
def test_a_table_fits(table: Table) -> None:
    """The longest names and figures in 120 columns, none of them cut."""
    assert max(map(len, text_of(table).splitlines())) <= WIDTH
    assert WIDE.name in text_of(table)


def test_batches_have_a_column_only_where_they_were_measured() -> None:
    """And a dash for who took none."""
    assert "by" not in text_of(cost_table([WIDE], 1))
    (row,) = (line for line in text_of(cost_table([WIDE], 4)).splitlines() if WIDE.name in line)
    assert row.split("\u2502")[-2].strip() == DASH
    assert "pictures/s by 4" in text_of(cost_table([WIDE], 4))


def test_another_function_has_no_parity() -> None:
    """Neither ok nor FAIL."""
    assert "FAIL" in text_of(parity_table([WIDE]))
    nothing = judge([], math.nan, PARITY.bounds)
    assert "FAIL" not in text_of(parity_table([replace(WIDE, parity=nothing)]))


def test_one_that_is_late_has_no_figures_at_the_rate() -> None:
    """Its queue would only grow."""
    text = text_of(latency_table("a", [replace(WIDE, keeps_up=False)], 5))
    assert "late" in text
    assert "12.3x" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1234.5, "1234"), (1.2345, "1.23"), (0.012345, "0.0123"), (None, DASH), (math.nan, DASH)],
)
def test_three_significant_digits(value: float | None, expected: str) -> None:
    """Without an exponent."""
    assert figure(value) == expected
