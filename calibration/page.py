"""What every page of calibration is made with: templates, plots as inline SVG, rates.

A page is one HTML file that needs nothing but itself, and the same content gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from calibration.intervals import wilson

BLUE, RED, INK, AMBER = "#2b6cb0", "#c2410c", "#1f2933", "#c9800a"
_PLOT_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a kind of defect may be called "$5"
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e9ee",
}


class Rate(NamedTuple):
    """`k` parts of `n`, and what that says of all parts to come, as fractions."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """The share itself; of nothing, 0."""
        return self.k / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson, 95 %."""
        return wilson(self.k, self.n)


def plot_style() -> AbstractContextManager[None]:
    """How figures look that are drawn inside."""
    return matplotlib.rc_context(_PLOT_STYLE)


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page of `templates/`; what the context holds is text, not HTML, unless it is `svg`'s."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return pages.get_template(template).render(context)


def svg(figure: Figure, name: str) -> Markup:
    """The figure as an SVG element, with ids of its own and the same bytes each time."""
    text, nothing = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).figure.savefig(text, format="svg", metadata=nothing)
    element = "<svg " + text.getvalue().partition("<svg ")[2]  # without the XML prologue
    for start in (' id="', '="#', "url(#"):
        element = element.replace(start, f"{start}{name}-")
    return Markup(element)  # noqa: S704 - matplotlib's own SVG; names in it are escaped there
