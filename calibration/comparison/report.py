"""The page that sets contenders side by side: for whoever must choose one of them.

Nothing is called best: each figure stands beside its counts or its interval, and a difference in
AUROC beside what chance would make on so few parts. Where they disagree, the parts are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, NamedTuple

import numpy as np

from calibration.comparison.contenders import Entry
from calibration.comparison.plots import colours, scores_figure, trade_off_figure
from calibration.comparison.record import Comparison, Shown
from calibration.gallery import MARKED, TILE, Exhibit, draw_gallery
from calibration.large import block_maxima, shrunk
from calibration.page import Rate, plot_style, render, svg
from calibration.scorers import Labelled
from inspectd.core import overlay
from inspectd.core.holdout import GOOD


class Cell(NamedTuple):
    """A figure of one contender."""

    text: str
    fine: str = ""
    """In small print below it: what it rests on."""
    is_wrong: bool = False
    """Whether it counts wrong verdicts."""


def render_comparison(comparison: Comparison) -> str:
    """The page, as HTML that stands alone."""
    with plot_style():
        return render("comparison.html.j2", _context(comparison))


def _context(comparison: Comparison) -> dict[str, Any]:
    """What the template prints."""
    entries, halves = comparison.entries, comparison.halves
    labels, is_defect = halves.labels, halves.is_defect
    fails = np.array([entry.outcome.fails for entry in entries])  # (C, N)
    return {
        "comparison": comparison,
        "created": f"{comparison.created_at.astimezone(UTC):%Y-%m-%d %H:%M UTC}",
        "entries": entries,
        "colours": colours(len(entries)),
        "n_good": int((~is_defect).sum()),
        "n_defect": int(is_defect.sum()),
        "rows": [*figure_rows(entries), *cost_rows(entries)],
        "kinds": _kinds(fails, labels),
        "wrong": _wrong(comparison, fails, is_defect),
        "totals": {
            "disagreement": int((fails.any(axis=0) & ~fails.all(axis=0)).sum()),
            "wrong": int((fails != is_defect).all(axis=0).sum()),
        },
        "trade_off_plot": svg(trade_off_figure(entries, is_defect), "trade"),
        "scores_plot": svg(scores_figure(entries, labels), "scores"),
        "heat_scale": overlay.jpeg_data_uri(overlay.heat_scale(12, 256)),
        "tiles": _tiles(comparison),
        "recipes": _recipes(entries),
    }


def figure_rows(entries: Sequence[Entry]) -> list[tuple[str, list[Cell]]]:
    """What each finds and misses, by the name of the figure."""
    found = [entry.evaluation for entry in entries]
    first = entries[0].name
    return [
        ("Image AUROC", [Cell(f"{one.image_auroc:.3f}") for one in found]),
        (f"AUROC against {first}", [_difference(entry) for entry in entries]),
        ("Image AP", [Cell(f"{entry.image_ap:.3f}") for entry in entries]),
        (
            "F1 at its threshold",
            [Cell(f"{one.f1:.3f}", f"best of any threshold {one.best_f1:.3f}") for one in found],
        ),
        ("Escapes", [_counted(one.escapes, one.n_defect) for one in found]),
        ("Overkill", [_counted(one.overkill, one.n_good) for one in found]),
        (f"Verdicts against {first}", [_changes(entry) for entry in entries]),
        ("Pixel AUROC", [_share(one.pixel_auroc) for one in found]),
        ("Pixel AP", [_share(one.pixel_ap) for one in found]),
        ("PRO to FPR 0.3", [_share(one.aupro) for one in found]),
    ]


def cost_rows(entries: Sequence[Entry]) -> list[tuple[str, list[Cell]]]:
    """What each takes, by the name of the figure."""
    first = entries[0]
    return [
        ("Latency, median", [_latency(entry) for entry in entries]),
        (
            f"Latency against {first.name}",
            [Cell(f"{one.latency.p50_ms / first.latency.p50_ms:.2f} x") for one in entries],
        ),
        ("Model", [Cell(f"{entry.outcome.size_mb:.1f} MB") for entry in entries]),
        ("Calibrated in", [Cell(f"{entry.outcome.seconds:.0f} s") for entry in entries]),
    ]


def _difference(entry: Entry) -> Cell:
    gained = entry.difference
    if gained is None:
        return Cell("reference")
    if gained.low == gained.high == 0:
        return Cell("none", "on these parts")
    interval = f"{gained.low:+.3f} to {gained.high:+.3f}: {gained.verdict}"
    return Cell(f"{gained.value:+.3f}", interval)


def _changes(entry: Entry) -> Cell:
    changed = entry.changes
    if changed is None:
        return Cell("reference")
    if not changed.better + changed.worse:
        return Cell("all the same")
    text = f"{changed.better} better, {changed.worse} worse"
    return Cell(text, f"by chance: p {changed.p_value:.2g}")


def _counted(count: int, n: int) -> Cell:
    low, high = Rate(count, n).interval
    return Cell(f"{count} of {n}", f"{100 * low:.1f} to {100 * high:.1f} %", count > 0)


def _share(value: float | None) -> Cell:
    return Cell("no masks" if value is None else f"{value:.3f}")


def _latency(entry: Entry) -> Cell:
    latency = entry.latency
    tail = "" if latency.p99_ms is None else f"p99 {latency.p99_ms:.1f} ms, "
    return Cell(f"{latency.p50_ms:.1f} ms", f"{tail}n {latency.n}")


def _kinds(fails: np.ndarray, labels: tuple[str, ...]) -> list[tuple[str, list[Rate]]]:
    """Of each kind of defect how many each contender fails; the most missed first."""
    rows = []
    for kind in sorted(set(labels) - {GOOD}):
        mine = fails[:, np.array(labels) == kind]  # (C, n)
        rows.append((kind, [Rate(int(one.sum()), one.size) for one in mine]))
    return sorted(rows, key=lambda row: sum(rate.value for rate in row[1]))


def _wrong(comparison: Comparison, fails: np.ndarray, is_defect: np.ndarray) -> list[Any]:
    """Each part that some contender misjudges: its name, its kind, and every (score, wrong?)."""
    missed = fails != is_defect  # (C, N)
    indexes = np.flatnonzero(missed.any(axis=0))
    return [
        (
            comparison.halves.judged[index].name,
            comparison.halves.labels[index],
            [
                (float(entry.outcome.scores[index]), bool(missed[at, index]))
                for at, entry in enumerate(comparison.entries)
            ],
        )
        for index in sorted(indexes, key=lambda index: -missed[:, index].sum())
    ]


def _tiles(comparison: Comparison) -> list[dict[str, Any]]:
    """The shown parts, drawn: as seen and marked, and under each contender's heat and outlines."""
    drawn = [_drawn_of(comparison, at) for at in range(len(comparison.entries))]
    return [
        {
            "group": one.group,
            "name": one.picture.name,
            "label": one.picture.label,
            "seen": _seen(one.picture),
            "views": [
                {
                    "pictures": pictures[one.index][1:],
                    "score": float(entry.outcome.scores[one.index]),
                    "threshold": entry.evaluation.threshold,
                    "fails": bool(entry.outcome.fails[one.index]),
                    "wrong": bool(entry.outcome.fails[one.index]) != one.picture.is_defect,
                }
                for entry, pictures in zip(comparison.entries, drawn, strict=True)
            ],
        }
        for one in comparison.shown
    ]


def _drawn_of(comparison: Comparison, at: int) -> Mapping[int, tuple[str, ...]]:
    """The shown parts as one contender sees them, on a scale of its own."""
    exhibits = {
        one.index: Exhibit(shrunk(one.picture.image), block_maxima(one.maps[at]), _mask(one))
        for one in comparison.shown
    }
    pixel = comparison.entries[at].outcome.bundle.manifest.threshold.pixel
    good = [one.maps[at] for one in comparison.shown if not one.picture.is_defect]
    # Large defects would raise the scale above the pixel threshold
    heat = overlay.heat_range(good or [one.maps[at] for one in comparison.shown], pixel)
    return draw_gallery(exhibits, pixel, heat).pictures


def _mask(one: Shown) -> Any:
    mask = one.picture.mask
    return None if mask is None or not one.picture.is_defect else block_maxima(mask)


def _seen(picture: Labelled) -> list[str]:
    """As the model saw it, and where a person marked a defect with that."""
    pictures = [picture.image]
    if picture.is_defect and picture.mask is not None:
        pictures.append(overlay.outline_mask(picture.image, picture.mask, MARKED))
    return [overlay.jpeg_data_uri(overlay.fit(one, TILE)) for one in pictures]


def _recipes(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """How each was made: all that any scorer says of its fit, a row each."""
    named = [
        {
            "scorer": entry.outcome.contender.scorer.name,
            "backbone": entry.outcome.contender.backbone.name,
            "backbone, sha256": f"{entry.outcome.contender.backbone.sha256[:12]}…",
            "runtime": entry.evaluation.runtime,
            "threshold": f"{entry.evaluation.threshold:.6g}",
            **entry.outcome.facts,
        }
        for entry in entries
    ]
    names = dict.fromkeys(name for one in named for name in one)
    return [(name, [one.get(name, "-") for one in named]) for name in names]
