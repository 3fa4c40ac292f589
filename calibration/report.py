"""The page a quality engineer reads before a calibration goes to the line.

One HTML file that needs nothing but itself: JPEG tiles as data URIs, plots as inline SVG, no
script. Every rate stands beside the counts it comes from and its interval, and what the threshold
would get wrong comes before what it gets right. The same report renders to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from calibration.gallery import Gallery
from calibration.intervals import rule_of_three
from calibration.metrics import Confusion, auroc, confusion, precision_recall_f1_curve, roc_curve
from calibration.page import AMBER, BLUE, INK, RED, Rate, plot_style, render, svg
from calibration.scorers import Curve
from inspectd.core import overlay
from inspectd.core.bundle import PolicyPart
from inspectd.core.errors import DatasetError
from inspectd.core.holdout import GOOD
from inspectd.core.records import Threshold

CaseGroup = Literal["escapes", "overkill", "nearest", "clearest", "typical"]
"""Why a part is shown, in the order of the page."""

CASES = 8
"""Parts shown in each group, at most."""


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Everything the page says."""

    product: str
    revision: str
    created_at: datetime
    """With zone; shown in UTC."""
    threshold: Threshold
    scores: npt.NDArray[np.float64]
    """(N,) of the hold-out parts the threshold was found on."""
    labels: tuple[str, ...]
    """(N,) `good` or the kind of defect."""
    names: tuple[str, ...]
    """(N,)."""
    gallery: Gallery
    """Pictures of the parts that may be shown; `choose_cases` says which are."""
    policy: PolicyPart
    """How the threshold was chosen, and what that promises."""
    remarks: tuple[str, ...]
    """Sentences: what the threshold rests on, and warnings."""
    facts: Mapping[str, str]
    """Scorer, backbone, seed, versions, timings: a table for whoever must reproduce it."""
    parent: str | None = None
    """The revision whose model this is, if only the threshold is new."""
    cases: int = CASES
    """Parts shown in each group, at most."""
    score_kind: str = "anomaly score"
    """What the score measures: the label of the plots' axis."""
    curves: tuple[Curve, ...] = ()
    """Of a training; empty where nothing was trained."""

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.labels) == len(self.names):
            raise ValueError("pass one label and one name for each score")

    @property
    def is_defect(self) -> npt.NDArray[np.bool_]:
        """(N,)."""
        return np.array([label != GOOD for label in self.labels], np.bool_)


def choose_cases(
    scores: npt.NDArray[np.float64], labels: tuple[str, ...], threshold: float, limit: int
) -> dict[CaseGroup, list[int]]:
    """Which parts to show, by `CaseGroup`: at most `limit` indexes each, no part twice.

    Escapes come lowest score first and overkill highest first, the worst in front. `nearest` is
    half defects and half good parts, by distance to the threshold; `clearest` takes the highest
    score of every kind of defect before the second of any; `typical` is good parts about their
    median.
    """
    defective = np.array([label != GOOD for label in labels], np.bool_)
    fails, margin = scores >= threshold, np.abs(scores - threshold)
    hits = _ordered(defective & fails, margin)
    passes = _ordered(~defective & ~fails, margin)
    near_hits, near_passes = (limit + 1) // 2, limit // 2
    nearest = sorted(hits[:near_hits] + passes[:near_passes], key=margin.__getitem__)
    from_median = np.abs(scores - np.median(scores[~defective])) if passes else margin
    typical = sorted(passes[near_passes:], key=from_median.__getitem__)
    return {
        "escapes": _ordered(defective & ~fails, scores)[:limit],
        "overkill": _ordered(~defective & fails, -scores)[:limit],
        "nearest": nearest,
        "clearest": _by_turns(hits[near_hits:][::-1], labels)[:limit],
        "typical": typical[:limit],
    }


def render_calibration_report(report: CalibrationReport) -> str:
    """The page, as HTML that stands alone.

    Raises:
        DatasetError: there is no good part among them.
    """
    if report.is_defect.all():
        raise DatasetError("a report needs good hold-out parts; add some")
    with plot_style():
        return render("report.html.j2", _context(report))


def _context(report: CalibrationReport) -> dict[str, Any]:
    """What the template prints."""
    defective, scores = report.is_defect, report.scores
    counts = confusion(scores, defective, report.threshold.image)
    has_defects = bool(defective.any())
    return {
        "report": report,
        "created": f"{report.created_at.astimezone(UTC):%Y-%m-%d %H:%M UTC}",
        "counts": counts,
        "escapes": Rate(counts.escapes, counts.tp + counts.fn),
        "overkill": Rate(counts.overkill, counts.tn + counts.fp),
        "auroc": auroc(scores, defective) if has_defects else None,
        "highest_good": float(scores[~defective].max()),
        "lowest_defect": float(scores[defective].min()) if has_defects else None,
        "warnings": [line for line in report.remarks if line.startswith("Warning")],
        "rule_of_three": rule_of_three,
        "kinds": _kinds(report),
        "score_plot": svg(_score_figure(report), "scores"),
        "curve_plot": svg(_curve_figure(report, counts), "curves") if has_defects else None,
        "training_plot": svg(_training_figure(report.curves), "training")
        if report.curves
        else None,
        "heat": report.gallery.heat,
        "heat_scale": overlay.jpeg_data_uri(overlay.heat_scale(12, 256)),
        "tiles": _tiles(report),
    }


def _ordered(wanted: npt.NDArray[np.bool_], key: npt.NDArray[np.float64]) -> list[int]:
    """Indexes of the wanted parts, lowest key first."""
    return sorted(np.flatnonzero(wanted).tolist(), key=key.__getitem__)


def _by_turns(indexes: list[int], labels: tuple[str, ...]) -> list[int]:
    """The first of each label, then the second of each, and so on."""
    mine = [labels[index] for index in indexes]
    turn = {index: mine[:at].count(mine[at]) for at, index in enumerate(indexes)}
    return sorted(indexes, key=turn.__getitem__)


def _kinds(report: CalibrationReport) -> list[tuple[str, Rate, float]]:
    """Each kind of defect, how often it is found and its lowest score; the most missed first."""
    labels, rows = np.array(report.labels), []
    for kind in sorted(set(report.labels) - {GOOD}):
        scores = report.scores[labels == kind]
        found = Rate(int(np.sum(scores >= report.threshold.image)), scores.size)
        rows.append((kind, found, float(scores.min())))
    return sorted(rows, key=lambda row: row[1].value)


def _tiles(report: CalibrationReport) -> list[dict[str, Any]]:
    """The chosen parts of which there are pictures, in the order of the page."""
    chosen = choose_cases(report.scores, report.labels, report.threshold.image, report.cases)
    pictures = report.gallery.pictures
    return [
        {
            "group": group,
            "name": report.names[index],
            "label": report.labels[index],
            "score": float(report.scores[index]),
            "pictures": pictures[index],
        }
        for group, indexes in chosen.items()
        for index in indexes
        if index in pictures
    ]


def _score_figure(report: CalibrationReport) -> Figure:
    """Histogram of good and defective parts; below it every part, a row for each kind."""
    rows = [GOOD, *(kind for kind, _, _ in _kinds(report))]
    figure = Figure(figsize=(9.6, 2.9 + 0.26 * len(rows)), layout="constrained")
    bars, strip = figure.subplots(2, 1, sharex=True, height_ratios=(8, len(rows)))
    _draw_bars(bars, report)
    _draw_strip(strip, report, rows)
    for axes in (bars, strip):
        axes.axvline(report.threshold.image, color=INK, lw=1.2, ls="--")
        _draw_band(axes, report.threshold)
    return figure


def _draw_bars(axes: Axes, report: CalibrationReport) -> None:
    """A bin ends at the threshold, so that no bar stands on both sides of it."""
    cut, scores, above = report.threshold.image, report.scores, axes.get_xaxis_transform()
    width = float(np.ptp(np.append(scores, cut))) / 40 or 1.0
    first, last = np.floor((scores.min() - cut) / width), np.floor((scores.max() - cut) / width)
    edges = (cut + width * np.arange(first, last + 2)).tolist()
    axes.hist(scores[~report.is_defect], edges, color=BLUE, alpha=0.75, label="good")
    if report.is_defect.any():
        axes.hist(scores[report.is_defect], edges, color=RED, alpha=0.65, label="defective")
    after = "fails" if report.threshold.review_below is None else "review, then fails"
    axes.text(cut, 1.03, f"passes ◂ {cut:#.4g} ▸ {after}", transform=above, ha="center", color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("parts")
    axes.legend(loc="upper right")


def _draw_band(axes: Axes, threshold: Threshold) -> None:
    """The review band, where there is one: shaded up to the second threshold."""
    if threshold.review_below is not None:
        axes.axvspan(threshold.image, threshold.review_below, color=AMBER, alpha=0.15, lw=0)
        axes.axvline(threshold.review_below, color=AMBER, lw=1.2, ls="--")


def _draw_strip(axes: Axes, report: CalibrationReport, rows: list[str]) -> None:
    """A dot for each part, scattered within its row so that equal scores show."""
    for row, label in enumerate(rows):
        scores = report.scores[np.array(report.labels) == label]
        heights = row + (np.arange(scores.size) * 0.618) % 1 * 0.5 - 0.25
        colour = BLUE if label == GOOD else RED
        axes.plot(scores, heights, "o", ms=3.2, mew=0, alpha=0.7, color=colour)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=report.score_kind)


def _curve_figure(report: CalibrationReport, counts: Confusion) -> Figure:
    """What other thresholds would do: escapes against overkill, and precision, recall and F1."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_trade_off(left, report, counts)
    _draw_f1(right, report, counts)
    return figure


def _draw_trade_off(axes: Axes, report: CalibrationReport, counts: Confusion) -> None:
    """Escapes over overkill at every possible threshold; the limits asked for, as lines."""
    curve = roc_curve(report.scores, report.is_defect)
    axes.plot(curve.fpr, 1 - curve.tpr, color=BLUE, lw=1.8)
    limits = report.policy.limits
    for name, draw in (("max_escape_rate", axes.axhline), ("max_overkill_rate", axes.axvline)):
        if name in limits:
            draw(limits[name], color=RED, lw=1, ls=":", label=f"{name.replace('_', ' ')}")
    for cut, colour, label in (
        (report.threshold.image, INK, "at the threshold, 95 %"),
        (report.threshold.review_below, AMBER, "at the second threshold, 95 %"),
    ):
        if cut is not None:
            _draw_point(axes, confusion(report.scores, report.is_defect, cut), colour, label)
    axes.set(xlabel="overkill: share of good parts", ylabel="escapes: share of defects")
    axes.legend(loc="upper right")


def _draw_point(axes: Axes, counts: Confusion, colour: str, label: str) -> None:
    """A dot with Wilson's intervals as a cross."""
    overkill, escapes = (
        Rate(k, n)
        for k, n in ((counts.fp, counts.fp + counts.tn), (counts.fn, counts.fn + counts.tp))
    )
    reach = [
        [[rate.value - rate.interval[0]], [rate.interval[1] - rate.value]]
        for rate in (overkill, escapes)
    ]
    axes.errorbar(
        overkill.value, escapes.value, xerr=reach[0], yerr=reach[1], fmt="o",
        color=colour, ms=6, lw=1, capsize=3, clip_on=False, label=label,
    )  # fmt: skip


def _draw_f1(axes: Axes, report: CalibrationReport, counts: Confusion) -> None:
    """Precision, recall and F1 over the threshold."""
    curve = precision_recall_f1_curve(report.scores, report.is_defect)
    styles = {"precision": (BLUE, "--"), "recall": (RED, "-."), "f1": (INK, "-")}
    for name, (colour, line) in styles.items():
        # A value holds from its score down to the next lower one.
        share = getattr(curve, name)
        axes.step(curve.thresholds, share, line, where="post", color=colour, label=name)
    axes.axvline(report.threshold.image, color=INK, lw=1.2, ls="--")
    axes.plot(report.threshold.image, counts.f1, "o", color=INK, ms=6)
    axes.set(xlabel=f"threshold on the {report.score_kind}", ylim=(0, 1.03))
    axes.legend(loc="lower left")


def _training_figure(curves: tuple[Curve, ...]) -> Figure:
    """A plot for each first word of the curves' names, over the epochs."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.name.partition(",")[0], []).append(curve)
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    plots = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (name, members) in zip(plots, groups.items(), strict=True):
        for curve, colour in zip(members, cycle((BLUE, RED, INK, AMBER))):
            label = curve.name.partition(", ")[2] or name
            axes.plot(curve.epochs, curve.values, color=colour, lw=1.4, label=label)
        axes.set(xlabel="epochs", ylabel=name)
        if len(members) > 1:
            axes.legend(loc="best")
    return figure
