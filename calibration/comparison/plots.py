"""Plots of the comparison page: ROC curves, AUROC over latency, and every score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from calibration.comparison.contenders import Entry
from calibration.metrics import BoolArray, confusion, roc_curve
from calibration.page import AMBER, BLUE, INK, RED
from inspectd.core.holdout import GOOD

COLOURS = (BLUE, RED, "#168753", AMBER, "#6b46c1", "#0e7490", "#9d174d", INK)
"""Of the contenders, in their order."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
"""Of the contenders' curves: those that lie upon each other must both be seen."""
WIDEST = 4.2
"""Points, of the first curve; each further one is thinner and drawn on top."""


def colours(count: int) -> list[str]:
    """One for each contender; with more than there are, they come again."""
    return list(islice(cycle(COLOURS), count))


def trade_off_figure(entries: Sequence[Entry], is_defect: BoolArray) -> Figure:
    """Left all ROC curves with each threshold's point, right AUROC over latency."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_roc(left, entries, is_defect)
    _draw_speed(right, entries)
    return figure


def scores_figure(entries: Sequence[Entry], labels: Sequence[str]) -> Figure:
    """A plot for each contender on an axis of its own: every part, a row for each kind."""
    rows = sorted(set(labels), key=lambda label: (label != GOOD, label))
    height = 0.95 + 0.24 * len(rows)
    figure = Figure(figsize=(9.6, height * len(entries)), layout="constrained")
    plots = figure.subplots(len(entries), 1, squeeze=False)[:, 0]
    for axes, entry in zip(plots, entries, strict=True):
        _draw_scores(axes, entry, labels, rows)
    return figure


def _draw_roc(axes: Axes, entries: Sequence[Entry], is_defect: BoolArray) -> None:
    widths = np.linspace(WIDEST, 1.4, max(2, len(entries)))
    styles = zip(colours(len(entries)), widths, cycle(DASHES), strict=False)
    for entry, (colour, width, dash) in zip(entries, styles, strict=False):
        scores, evaluation = entry.outcome.scores, entry.evaluation
        curve = roc_curve(scores, is_defect)
        label = f"{entry.name} {evaluation.image_auroc:.3f}"
        axes.plot(curve.fpr, curve.tpr, color=colour, lw=width, ls=dash, label=label)
        counts = confusion(scores, is_defect, evaluation.threshold)
        overkill = counts.fp / (counts.fp + counts.tn)
        axes.plot(
            overkill, counts.recall, "o", color=colour, mec="white", ms=8, clip_on=False, zorder=5
        )
    axes.plot((0, 1), (0, 1), color="#9aa5b1", lw=0.8)
    axes.set(xlabel="good parts that fail", ylabel="defective parts that fail")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower right", title="AUROC", title_fontsize=9)


def _draw_speed(axes: Axes, entries: Sequence[Entry]) -> None:
    """A bar is where the AUROC would lie by the interval of the difference to the first's."""
    base = entries[0].evaluation.image_auroc
    slowest = max(entry.latency.p50_ms for entry in entries)
    for at, (entry, colour) in enumerate(zip(entries, colours(len(entries)), strict=True)):
        x, y = entry.latency.p50_ms, entry.evaluation.image_auroc
        if entry.difference is not None:
            ends = np.clip([base + entry.difference.low, base + entry.difference.high], 0, 1)
            axes.plot((x, x), ends, color=colour, lw=1.4, marker="_", ms=8)
        axes.plot(x, y, "o", color=colour, ms=8, clip_on=False)
        left = x > 0.6 * slowest
        axes.annotate(
            entry.name, (x, y), xytext=(-9 if left else 9, 9 if at % 2 else -13),
            textcoords="offset points", ha="right" if left else "left", color=colour,
        )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set(xlim=(0, 1.12 * slowest), ylim=(min(low, high - 0.04), high))
    axes.set(xlabel="median latency of a picture, ms", ylabel="image AUROC")


def _draw_scores(axes: Axes, entry: Entry, labels: Sequence[str], rows: list[str]) -> None:
    """A dot for each part, scattered within its row so that equal scores show."""
    cut = entry.evaluation.threshold
    for row, label in enumerate(rows):
        scores = entry.outcome.scores[np.array(labels) == label]
        heights = row + (np.arange(scores.size) * 0.618) % 1 * 0.5 - 0.25
        colour = BLUE if label == GOOD else RED
        axes.plot(scores, heights, "o", ms=3.6, mew=0, alpha=0.75, color=colour)
    axes.axvline(cut, color=INK, lw=1.2, ls="--")
    above = axes.get_xaxis_transform()
    axes.text(cut, 1.03, f"passes ◂ {cut:#.4g} ▸ fails", transform=above, ha="center", color=INK)
    axes.set_title(entry.name, loc="left", fontsize=10, fontweight="bold", pad=15)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.set(ylim=(len(rows) - 0.5, -0.5))
