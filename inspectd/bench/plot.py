"""The distributions as a picture: back to back above, at the line's cadence below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspectd.bench.course import Course
from inspectd.bench.report import Figures
from inspectd.core.errors import ConfigError, InspectdError

ENDINGS = (".png", ".svg")


def require_plottable(path: Path) -> None:
    """Before the measurement, not after it.

    Raises:
        ConfigError: the name doesn't end in one of `ENDINGS`.
        InspectdError: matplotlib isn't installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{path}: a plot's name ends in {' or '.join(ENDINGS)}")
    _figure()


def plot_course(course: Course, figures: Sequence[Figures], title: str, path: Path) -> None:
    """Writes a PNG or an SVG, by the name's ending.

    Raises:
        ConfigError, InspectdError: see `require_plottable`.
    """
    require_plottable(path)
    figure = _figure()
    above, below = figure.subplots(2, 1, sharex=True)
    for index, one in enumerate(figures):
        samples, colour = course.samples[one.name], f"C{index % 10}"
        style = "-" if index < 10 else "--"
        _share(above, samples.back_ms, one.name, colour, style)
        _share(below, samples.cadence_ms, one.name, colour, style)
        if one.floor.ms > 0:  # NaN isn't
            above.axvline(one.floor.ms, color=colour, linestyle=":", linewidth=1)
    above.set_title(title)
    _dress(above, "back to back (dotted: compute floor)")
    _dress(below, f"at {course.plan.rate:g} parts/s, from the instant due")
    below.set_xlabel("latency, ms")
    figure.legend(*above.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=110, format=path.suffix.lower().removeprefix("."))


def _share(axes: Any, samples: Sequence[float], name: str, colour: str, style: str) -> None:
    if not samples:
        return
    ordered = sorted(samples)
    shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
    axes.step(ordered, shares, style, where="post", color=colour, linewidth=1.3, label=name)


def _dress(axes: Any, label: str) -> None:
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of pictures")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.text(0.01, 0.94, label, transform=axes.transAxes, fontsize=9)


def _figure() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InspectdError(
            f"a plot needs matplotlib: pip install 'inspectd[calibration]' ({error})"
        ) from error
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
