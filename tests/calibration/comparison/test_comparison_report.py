"""The page that sets contenders side by side."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from calibration.backbones import load_backbone
from calibration.comparison.contenders import (
    Contender,
    Failure,
    Latency,
    Outcome,
    choose_parts,
    entries,
)
from calibration.comparison.halves import Halves
from calibration.comparison.record import Comparison, Shown
from calibration.comparison.report import cost_rows, figure_rows, render_comparison
from calibration.dataset import Sample
from calibration.evaluate import Evaluation
from calibration.metrics import auroc, best_f1, confusion
from calibration.scorers import Labelled, scorer_named
from inspectd.core.bundle import Bundle

LABELS = ("chip",) * 4 + ("dent",) * 6 + ("good",) * 10
EVIL = '<script>alert("x")</script>'
IS_DEFECT = np.array([label != "good" for label in LABELS])


def evaluation(scores: np.ndarray) -> Evaluation:
    """At 0.5, without masks."""
    counts = confusion(scores, IS_DEFECT, 0.5)
    return Evaluation(
        image_auroc=auroc(scores, IS_DEFECT),
        f1=counts.f1,
        best_f1=best_f1(scores, IS_DEFECT),
        precision=counts.precision,
        recall=counts.recall,
        escapes=counts.escapes,
        overkill=counts.overkill,
        threshold=0.5,
        policy="f1",
        promise="",
        found="",
        review_good=0,
        review_defect=0,
        n_good=10,
        n_defect=10,
        pixel_auroc=0.9876,
        pixel_ap=None,
        aupro=0.8765,
        latency_ms_p50=1.0,
        runtime="none",
        product="flange",
        revision="r0001-0123abcd",
    )


def scored() -> tuple[np.ndarray, np.ndarray]:
    """One that finds all, and one that lets two dents escape and rejects a good part."""
    sharp = np.concatenate([np.linspace(0.6, 0.9, 10), np.linspace(0.1, 0.4, 10)])
    blunt = sharp.copy()
    blunt[[4, 5, 19]] = 0.2, 0.45, 0.55
    return sharp, blunt


@pytest.fixture
def comparison(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> Comparison:
    """Of two contenders; a third one failed."""
    bundle, backbone = make_bundle(tmp_path / "bundle"), load_backbone("builtin")
    halves = Halves(
        (), tuple(Sample(Path(f"/p/{label}/{i:03d}.png"), label) for i, label in enumerate(LABELS))
    )
    made = [
        Outcome(
            Contender(name, scorer_named(name), backbone, "builtin"),
            bundle,
            evaluation(scores),
            scores,
            12.3,
            {f"of {name} only": f"{name} was fitted"},
        )
        for name, scores in zip(("protoad", "mpfnet"), scored(), strict=True)
    ]
    latencies = [Latency(10.0, None, 20), Latency(25.0, 31.5, 120)]
    groups = choose_parts(made, halves.labels, 6)
    return Comparison(
        product="flange",
        created_at=datetime(2025, 3, 4, 5, 6, tzinfo=UTC),
        command="inspectd compare --product flange",
        halves=halves,
        entries=tuple(entries(made, latencies, IS_DEFECT, 0)),
        failures=(Failure("prn", f"no masks {EVIL}"),),
        shown=tuple(shown(group, at) for group, some in groups.items() for at in some),
        notes=("These pictures are spent.",),
        facts={"seed": "0"},
    )


def shown(group: str, index: int) -> Shown:
    """A grey part with a hot corner."""
    heat = np.full((16, 16), 0.1, np.float32)
    heat[:4, :4] = 0.9
    mask = (heat > 0.5).astype(np.uint8) * 255
    picture = np.full((32, 32, 3), 128, np.uint8)
    label = LABELS[index]
    return Shown(
        group, index, Labelled(f"{label}/{index:03d}.png", label, picture, mask), (heat, heat)
    )


def words(page: str) -> str:
    """What a person reads, with plain spaces."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(text).replace("\u202f", " ").split())


def test_the_page_stands_alone(comparison: Comparison) -> None:
    """No script, no style sheet, no picture or font from elsewhere; no id twice."""
    page = render_comparison(comparison)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert not re.search(r"<script|<link|<iframe|@import|url\((?!#)", page)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_comparison_is_the_same_page(comparison: Comparison) -> None:
    """Nothing in it depends on the time or on chance."""
    assert render_comparison(comparison) == render_comparison(comparison)


def test_every_contender_and_figure(comparison: Comparison) -> None:
    """Who competes, with every figure of the table, the facts of each fit and the command."""
    text = words(render_comparison(comparison))
    for name, cells in (*figure_rows(comparison.entries), *cost_rows(comparison.entries)):
        assert name in text
        assert all(cell.text in text and cell.fine in text for cell in cells)
    for name in ("protoad", "mpfnet"):
        assert f"{name} was fitted" in text
    for said in ("These pictures are spent.", "inspectd compare --product flange", "no masks"):
        assert said in text
    assert "10 good and 10 defective parts" in text


def test_figures(comparison: Comparison) -> None:
    """Counts stand with n and interval, differences with theirs, ratios against the first."""
    rows = {
        name: [(cell.text, cell.fine) for cell in cells]
        for name, cells in (*figure_rows(comparison.entries), *cost_rows(comparison.entries))
    }
    assert rows["Escapes"] == [("0 of 10", "0.0 to 27.8 %"), ("2 of 10", "5.7 to 51.0 %")]
    assert rows["Overkill"][1][0] == "1 of 10"
    assert rows["AUROC against protoad"][0] == ("reference", "")
    assert rows["AUROC against protoad"][1][0].startswith("-0.")
    assert rows["Verdicts against protoad"] == [
        ("reference", ""),
        ("0 better, 3 worse", "by chance: p 0.25"),
    ]
    assert rows["Pixel AUROC"][0] == ("0.988", "")
    assert rows["Pixel AP"][0] == ("no masks", "")
    assert rows["Latency, median"] == [("10.0 ms", "n 20"), ("25.0 ms", "p99 31.5 ms, n 120")]
    assert rows["Latency against protoad"] == [("1.00 x", ""), ("2.50 x", "")]


def test_a_failure_is_told_as_text(comparison: Comparison) -> None:
    """Who failed and why stands at the top; what it says is no markup."""
    page = render_comparison(comparison)
    assert "prn could not be compared" in words(page)
    assert EVIL not in page


def test_disagreements_are_shown(comparison: Comparison) -> None:
    """Every part judged differently has both verdicts, the wrong one named."""
    text = words(render_comparison(comparison))
    assert "Where they disagree 3 of 3 shown" in text
    assert "dent/004.png" in text
    assert "passes: escape with 0.2000 (threshold 0.5000)" in text
    assert "fails: overkill with 0.5500" in text
    assert "None of the judged parts." in text


def test_no_winner_by_chance(comparison: Comparison) -> None:
    """What the interval doesn't tell apart is said not to be; what it does, is."""
    first, second = comparison.entries
    assert second.difference is not None
    level = replace(second, difference=replace(second.difference, low=-0.1, high=0.1))
    text = words(render_comparison(replace(comparison, entries=(first, level))))
    assert "mpfnet can't be told apart from protoad" in text
    worse = replace(second, difference=replace(second.difference, low=-0.2, high=-0.1))
    text = words(render_comparison(replace(comparison, entries=(first, worse))))
    assert "mpfnet ranks parts worse than protoad" in text


def test_a_single_one_is_left(comparison: Comparison) -> None:
    """Where the others failed the page still says what the one does."""
    alone = replace(
        comparison,
        entries=comparison.entries[:1],
        shown=tuple(replace(one, maps=one.maps[:1]) for one in comparison.shown),
    )
    assert "protoad stands alone" in words(render_comparison(alone))


def test_what_these_parts_cannot_tell(comparison: Comparison) -> None:
    """Where both rank the parts alike no interval of zero width is shown as if it were one."""
    first, second = comparison.entries
    assert second.difference is not None
    alike = replace(second, difference=replace(second.difference, value=0.0, low=0.0, high=0.0))
    text = words(render_comparison(replace(comparison, entries=(first, alike))))
    assert "both rank every defect above every good part" in text
    assert "none on these parts" in text
    assert "+0.000 to +0.000" not in text
