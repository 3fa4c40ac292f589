"""The page at the end of a demo run: did every part get its verdict, how fast, and which.

One HTML file that needs nothing but itself, apart from the link to the calibration report beside
it. The charts are drawn here as numbers and in the template as SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from inspectd.core.overlay import fit, jpeg_data_uri
from inspectd.core.records import ImageArray

_PLOT = (200.0, 1000.0)
"""(H, W) of a chart's area in units of its SVG."""
_BINS = 50
_COLUMNS = 500
"""Parts drawn one by one over time; beyond it, the slowest of each few."""
_TILE = (256, 256)
"""(H, W) of an overlay in the page, in pixels."""


@dataclass(frozen=True, slots=True)
class LineSummary:
    """What a run of the line came to. A trigger is a part in front of a camera."""

    triggers: int
    answered: int
    """Triggers with at least one verdict."""
    unanswered: int
    """Triggers without a verdict: must be 0."""
    duplicates: int
    """Verdicts beyond the first for a trigger: must be 0."""
    passed: int
    failed: int
    undecided: int
    escapes: int
    """Defective parts that passed."""
    overkill: int
    """Good parts that failed."""
    latency_ms_p50: float
    """From trigger to verdict, in milliseconds: the median."""
    latency_ms_p99: float
    """In milliseconds: 99 of 100 parts were faster."""

    @property
    def is_complete(self) -> bool:
        """Every trigger was answered exactly once."""
        return self.unanswered == 0 and self.duplicates == 0 and self.answered == self.triggers

    def as_json(self) -> dict[str, int | float]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    """In units of the SVG, from the left or from the top."""
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The geometry of one chart."""

    path: str
    """SVG path data of what is drawn."""
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def render_line_report(
    summary: LineSummary,
    latencies_ms: Sequence[float],
    overlays: Sequence[tuple[str, ImageArray]],
    *,
    calibration_report: str,
    broker: str,
    runtime: str,
    created_at: datetime,
) -> str:
    """The page, as HTML that stands alone.

    Args:
        summary: the counts.
        latencies_ms: from trigger to verdict, one per answered part, in their order.
        overlays: captions and pictures.
        calibration_report: where that page is, relative to this one.
        broker: who carried the verdicts.
        runtime: what computed them.
        created_at: with zone; shown in UTC.
    """
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    values = np.asarray(latencies_ms, np.float64)
    return pages.get_template("line.html.j2").render(
        summary=summary,
        created=f"{created_at.astimezone(UTC):%Y-%m-%d %H:%M UTC}",
        charts=_charts(summary, values) if values.size else None,
        overlays=[(caption, jpeg_data_uri(fit(image, _TILE))) for caption, image in overlays],
        calibration_report=calibration_report,
        broker=broker,
        runtime=runtime,
    )


def _charts(summary: LineSummary, values: np.ndarray) -> dict[str, Any]:
    """Both charts and where the percentiles lie on them."""
    top = _ticks(float(values.max()))[-1]
    return {
        "histogram": _histogram(values, top),
        "course": _course(values, top),
        "p50": min(summary.latency_ms_p50 / top, 1.0),
        "p99": min(summary.latency_ms_p99 / top, 1.0),
        "height": _PLOT[0],
        "width": _PLOT[1],
        "grouped": ceil(values.size / _COLUMNS),
        "slowest": float(values.max()),
    }


def _histogram(values: np.ndarray, top: float) -> Chart:
    """Parts over latency, as bars."""
    height, width = _PLOT
    counts, _ = np.histogram(values, _BINS, range=(0.0, top))
    most, step = _ticks(float(counts.max()), whole=True)[-1], width / _BINS
    bars = (
        f"M{bin_ * step + 1:.1f} {height:g}v{-height * count / most:.1f}h{step - 2:.1f}V{height:g}z"
        for bin_, count in enumerate(counts)
        if count
    )
    return Chart("".join(bars), _across(_ticks(top), top), _up(_ticks(most, whole=True), most))


def _course(values: np.ndarray, top: float) -> Chart:
    """Latency over the parts in their order, as a line; of many parts the slowest of each few."""
    height, width = _PLOT
    starts = np.arange(0, values.size, ceil(values.size / _COLUMNS))
    slowest = np.maximum.reduceat(values, starts)
    points = (
        f"{start / max(values.size - 1, 1) * width:.1f} {height * (1 - value / top):.1f}"
        for start, value in zip(starts, slowest, strict=True)
    )
    parts = [tick for tick in _ticks(values.size, whole=True) if tick <= values.size]
    return Chart("M" + "L".join(points) + "h.1", _across(parts, values.size), _up(_ticks(top), top))


def _across(ticks: list[float], top: float) -> tuple[Tick, ...]:
    """Ticks from the left."""
    return tuple(Tick(round(_PLOT[1] * tick / top, 1), f"{tick:,.10g}") for tick in ticks)


def _up(ticks: list[float], top: float) -> tuple[Tick, ...]:
    """Ticks from the bottom, where an SVG counts from the top."""
    return tuple(Tick(round(_PLOT[0] * (1 - tick / top), 1), f"{tick:,.10g}") for tick in ticks)


def _ticks(high: float, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 to `high` or just beyond, at most seven."""
    high = max(high, 1e-9)
    rough = high / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * (1 - 1e-9))
    if whole:
        step = max(round(step), 1)
    return [round(step * index, 12) for index in range(ceil(high / step - 1e-9) + 1)]
