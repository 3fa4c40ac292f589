"""The picture of the distributions."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import pytest

from inspectd.bench.course import Course
from inspectd.bench.plot import plot_course, require_plottable
from inspectd.bench.report import Context, figures_of
from inspectd.core.errors import ConfigError


def test_a_png(course: Course, context: Context, tmp_path: Path) -> None:
    """A picture that can be decoded, of more than one colour."""
    path = tmp_path / "bench.png"
    plot_course(course, figures_of(course, context), "a title", path)
    assert cv2.imread(str(path)).std() > 0


def test_an_svg(course: Course, context: Context, tmp_path: Path) -> None:
    """By the name's ending; capital letters are as good."""
    path = tmp_path / "bench.SVG"
    plot_course(course, figures_of(course, context), "a title", path)
    assert ElementTree.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - our own


def test_nothing_measured(course: Course, context: Context, tmp_path: Path) -> None:
    """A run that was interrupted at once still gives a picture."""
    for samples in course.samples.values():
        samples.back_ms, samples.cadence_ms = [], []
    path = tmp_path / "bench.png"
    plot_course(course, figures_of(course, context), "a title", path)
    assert cv2.imread(str(path)) is not None


def test_another_ending_is_refused(tmp_path: Path) -> None:
    """Before anything is measured."""
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        require_plottable(tmp_path / "bench.jpg")
