"""The tables of ``inspectd bench``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from inspectd.bench.report import Figures

DASH = "-"
"""Not measured, or too few samples to say."""


def figure(value: float | None, digits: int = 3, unit: str = "") -> str:
    """A number with as many significant digits, and without an exponent."""
    if value is None or not math.isfinite(value):
        return DASH
    decimals = 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 6)}f}{unit}"


def latency_table(title: str, figures: Sequence[Figures], rate: float) -> Table:
    """Who is how fast."""
    at_rate = f"{rate:g}/s"
    table = _table(
        f"{title}: latency of one picture, ms",
        *("p50", "p99", "p99.9"),
        *(f"{at_rate}\np50", f"{at_rate}\np99", f"{at_rate}\np99.9"),
        *("after\na gap", "pictures\na second", "floor", "over\nit"),
    )
    for one in figures:
        cadence = (one.cadence.p50, one.cadence.p99, one.cadence.p999)
        table.add_row(
            one.name,
            *map(figure, (one.back.p50, one.back.p99, one.back.p999)),
            *(map(figure, cadence) if one.keeps_up else ("late", DASH, DASH)),
            figure(one.after_gap[0], 3, "x") if one.keeps_up else DASH,
            figure(one.throughput),
            figure(one.floor.ms),
            figure(one.floor.ratio, 2, "x"),
        )
    return table


def cost_table(figures: Sequence[Figures], batch: int) -> Table:
    """What each takes, and what it gives in batches, where these were measured."""
    headings = ["MiB", "its own", "peak", "GPU", "load s", "build s"]
    table = _table("what it takes", *headings, *_only(batch, f"pictures/s by {batch}"))
    for one in figures:
        costs = (one.memory_mib, one.own_memory_mib, one.peak_mib, one.device_mib)
        table.add_row(
            one.name,
            *map(figure, (*costs, one.load_s, one.build_s)),
            *_only(batch, figure(one.batched_throughput)),
        )
    return table


def _only(batch: int, text: str) -> list[str]:
    """A column that is there where batches were measured."""
    return [text] if batch > 1 else []


def parity_table(figures: Sequence[Figures]) -> Table:
    """What runs, and whether it computes the same."""
    table = Table(title="what runs, and whether it computes the same", title_justify="left")
    table.add_column("runtime")
    table.add_column("what runs", overflow="fold")
    for heading in ("score\ndiffers by", "verdicts", "parity"):
        table.add_column(heading, justify="right")
    for one in figures:
        table.add_row(one.name, one.runtime, *_parity(one))
    return table


def _table(title: str, *headings: str) -> Table:
    """Runtimes, each with numbers."""
    table = Table(title=title, title_justify="left")
    table.add_column("runtime")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _parity(one: Figures) -> tuple[str, str, Text]:
    """Largest difference, verdicts that changed, and whether that is allowed."""
    parity = one.parity
    if not parity.n_golden:
        return DASH, DASH, Text(DASH)
    changed = str(len(parity.changed)) if one.has_verdicts else DASH
    outcome = Text("ok") if parity.passed else Text("FAIL", "bold red")
    return f"{parity.difference:.1e}", changed, outcome


def absent_table(absent: Mapping[str, str]) -> Table:
    """Who can't run here, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in absent.items():
        by_reason.setdefault(reason, []).append(name)
    table = Table("not measured", "why", title_justify="left")
    for reason, names in by_reason.items():
        table.add_row("\n".join(names), reason)
    return table
