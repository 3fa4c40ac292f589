"""Scoring methods by name: one file each, found by `scorer_named`.

A scorer learns from prepared good pictures and returns a head: a torch module that maps the
backbone's three stages to patch scores, (B, 1, h, w), and that exports to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

from calibration.backbones import Backbone
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""
Option = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a scorer learned."""

    head: nn.Module
    """Three stages to (B, 1, h, w) patch scores."""
    facts: dict[str, str] = field(default_factory=dict)
    """For the report: what was learned, how much, how long."""


class Scorer(Protocol):
    """A scoring method."""

    @property
    def name(self) -> str:
        """What ``--scorer`` calls it."""
        ...

    def options(self) -> dict[str, Option]:
        """The settings that reproduce a fit, for the manifest."""
        ...

    def fit(
        self, images: Sequence[ImageArray], backbone: Backbone, seed: int, report: Report
    ) -> Fitted:
        """Learns from good pictures, each (H, W, 3) uint8 RGB of the model's input size."""
        ...


def scorer_named(name: str, **options: Option) -> Scorer:
    """A scorer with its options set.

    Raises:
        ConfigError: no scorer of that name.
    """
    from calibration.scorers.protoad import ProtoAD

    known: dict[str, Callable[..., Scorer]] = {"protoad": ProtoAD}
    if name not in known:
        raise ConfigError(f"no scorer is called {name!r}; known: {', '.join(known)}")
    return known[name](**options)
