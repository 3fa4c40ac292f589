"""The page at the end of a demo run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from inspectd.core.records import ImageArray
from inspectd.demo.report import LineSummary, render_line_report

EVIL = '<script>alert("x")</script>&.png'
CLEAN = LineSummary(
    triggers=1200,
    answered=1200,
    unanswered=0,
    duplicates=0,
    passed=1010,
    failed=180,
    undecided=10,
    escapes=2,
    overkill=1,
    latency_ms_p50=31.25,
    latency_ms_p99=48.75,
)


class Page(HTMLParser):
    """What a page refers to, which cards are green or red, and what it says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.anchors: list[str] = []
        self.elements: list[str] = []
        self.classes: list[str] = []
        self.paths: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects by element."""
        named = {name: value or "" for name, value in attrs}
        self.elements.append(tag)
        self.classes.append(named.get("class", ""))
        self.paths += [named["d"]] if tag == "path" else []
        self.anchors += [named["href"]] if "href" in named else []
        self.pictures += [named["src"]] if "src" in named else []

    def handle_data(self, data: str) -> None:
        """Collects the text with plain spaces."""
        self.words += " ".join(data.replace("\u202f", " ").split()) + " "


def render(
    summary: LineSummary = CLEAN,
    latencies_ms: Sequence[float] = (20.0, 30.0, 95.0),
    overlays: Sequence[tuple[str, ImageArray]] = (),
    broker: str = "Mosquitto",
) -> str:
    """A page of a run."""
    return render_line_report(
        summary,
        latencies_ms,
        overlays,
        calibration_report="calibration/report.html",
        broker=broker,
        runtime="ONNX Runtime, CPU",
        created_at=datetime(2025, 3, 4, 5, 6, tzinfo=UTC),
    )


def test_the_page_stands_alone() -> None:
    """It loads nothing; its only link is the calibration report beside it."""
    html = render(overlays=[("part 1", np.zeros((40, 60), np.uint8))])
    page = Page(html)
    assert set(page.anchors) == {"calibration/report.html"}
    assert len(page.pictures) == 1
    assert page.pictures[0].startswith("data:image/jpeg;base64,")
    assert not {"script", "link", "iframe"} & set(page.elements)
    assert not re.search(r"https?:|@import|url\(", html)


def test_the_numbers_are_on_it() -> None:
    """Counts, percentiles, broker, runtime and date."""
    words = Page(render()).words
    assert "Each of the 1,200 triggers got exactly one verdict." in words
    assert "Passed 1,010" in " ".join(words.split())
    assert "Median 31.2 ms, 99 % below 48.8 ms, slowest 95.0 ms." in words
    assert "Mosquitto" in words
    assert "ONNX Runtime, CPU" in words
    assert "2025-03-04 05:06 UTC" in words


@pytest.mark.parametrize(
    ("unanswered", "duplicates", "reds"), [(0, 0, 0), (3, 0, 1), (0, 2, 1), (1, 1, 2)]
)
def test_what_must_be_zero_is_green_or_red(unanswered: int, duplicates: int, reds: int) -> None:
    """Unanswered triggers and duplicate verdicts are red unless there are none."""
    summary = replace(
        CLEAN, answered=1200 - unanswered, unanswered=unanswered, duplicates=duplicates
    )
    page = Page(render(summary))
    assert page.classes.count("card alarm") == reds
    assert page.classes.count("card ok") == 2 - reds
    assert ("exactly one verdict" in page.words) is (reds == 0)


def test_names_cannot_break_the_page() -> None:
    """Captions and the broker's name are escaped."""
    html = render(overlays=[(EVIL, np.zeros((8, 8, 3), np.uint8))], broker=EVIL)
    assert "<script" not in html
    assert Page(html).words.count(EVIL) == 2


def test_a_run_without_answers_has_a_page() -> None:
    """No latencies: no charts, and it says why."""
    nothing = LineSummary(5, 0, 5, 0, 0, 0, 0, 0, 0, 0.0, 0.0)
    page = Page(render(nothing, latencies_ms=()))
    assert "No part was answered." in page.words
    assert "svg" not in page.elements
    assert "5 of 5 triggers got no verdict" in page.words


@pytest.mark.parametrize("count", [1, 2, 499, 501, 20_000])
def test_charts_stay_inside_their_frame(count: int) -> None:
    """However many parts: finite coordinates within the drawing, and a page of bounded size."""
    values = np.random.default_rng(0).gamma(4, 9, count)
    html = render(latencies_ms=values.tolist())
    numbers = [float(n) for path in Page(html).paths for n in re.findall(r"-?\d+\.?\d*", path)]
    assert all(-200 <= number <= 1000 for number in numbers)
    assert not any("nan" in path or "inf" in path for path in Page(html).paths)
    assert len(html) < 60_000


@pytest.mark.parametrize("value", [0.0, 1e-4, 0.7, 3.0, 1e6])
def test_charts_take_any_scale(value: float) -> None:
    """Latencies from nothing to many minutes get an axis."""
    page = Page(render(latencies_ms=[value] * 3))
    assert page.elements.count("svg") == 2


def test_the_slowest_part_is_never_averaged_away() -> None:
    """Of many parts each few are drawn by their slowest: a single spike reaches the top."""
    values = np.full(20_000, 10.0)
    values[12_345] = 100.0
    course = max(Page(render(latencies_ms=values.tolist())).paths, key=lambda d: d.count("L"))
    assert min(float(point.split()[1].split("h")[0]) for point in course[1:].split("L")) == 0.0


def test_the_summary_goes_into_json() -> None:
    """Every field by its name."""
    assert json.loads(json.dumps(CLEAN.as_json()))["latency_ms_p99"] == 48.75
    assert LineSummary(**CLEAN.as_json()) == CLEAN  # type: ignore[arg-type]
