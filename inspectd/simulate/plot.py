"""The course of a simulated line as a picture: latency and faults above, memory below."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from inspectd.core.errors import InspectdError
from inspectd.simulate.account import Events, latency_ms, matched

MOST_POINTS = 20_000
"""Of a colour; more are thinned out evenly."""
MOST_LABELS = 40
HEADROOM = 1.25
"""Of an axis above its largest value."""
COLOURS = {"pass": "#2a7f3f", "fail": "#b3261e", "undecided": "#e08a00", "late": "#7a5cc4"}


def plot_course(events: Events, title: str, path: Path) -> None:
    """Writes a PNG.

    Raises:
        InspectdError: matplotlib isn't installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InspectdError(
            f"a plot needs matplotlib: pip install 'inspectd[calibration]' ({error})"
        ) from error
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    zero = events.passed_at[0] if events.passed_at else 0.0
    _latencies(above, events, zero)
    _faults((above, below), events, zero)
    _memory(below, events, zero)
    above.set_title(title)
    figure.savefig(path, dpi=110)


def _latencies(axes: Any, events: Events, zero: float) -> None:
    points: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for number, answer in matched(events).first.items():
        kind = "late" if answer.is_late else answer.verdict
        at_s = events.passed_at[number - 1] - zero
        points[kind].append((at_s, max(0.1, latency_ms(events, number, answer))))
    for kind, colour in COLOURS.items():
        found = points[kind][:: len(points[kind]) // MOST_POINTS + 1]
        if found:
            times, values = zip(*found, strict=True)
            marker = "x" if kind in ("undecided", "late") else "."
            label = f"{kind}: {len(points[kind])}"
            axes.plot(times, values, marker, color=colour, markersize=4, label=label)
    axes.axhline(events.deadline_ms, color="black", linestyle=":", linewidth=1, label="deadline")
    axes.set_yscale("log")
    axes.set_ylabel("trigger to verdict received, ms")
    axes.legend(loc="upper right", ncols=5, fontsize=8)


def _faults(both: tuple[Any, Any], events: Events, zero: float) -> None:
    step = len(events.faults) // MOST_LABELS + 1
    for index, fault in enumerate(events.faults):
        for axes in both:
            axes.axvspan(
                fault.began_s - zero, fault.ended_s - zero, color="#888888", alpha=0.25, linewidth=0
            )
            axes.axvline(fault.began_s - zero, color="#666666", linewidth=0.6)
        if index % step == 0:
            both[0].annotate(
                fault.kind,
                (fault.began_s - zero, 0.01),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=7,
                verticalalignment="bottom",
            )


def _memory(axes: Any, events: Events, zero: float) -> None:
    times = [sample.at_s - zero for sample in events.samples]
    resident = [sample.rss_mb for sample in events.samples]
    axes.plot(times, resident, color="#1f5fa8", linewidth=1, label="daemon, MiB")
    other = axes.twinx()
    counts = [sample.descriptors for sample in events.samples]
    other.plot(times, counts, color="#b0641a", linewidth=1, label="descriptors")
    axes.set_ylabel("resident, MiB")
    other.set_ylabel("descriptors")
    axes.set_ylim(0, HEADROOM * max(resident, default=1.0))
    other.set_ylim(0, HEADROOM * max(counts, default=1))
    lines = [*axes.get_lines()[-1:], *other.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], loc="lower right", fontsize=8)
    axes.set_xlabel("seconds since the first part")
