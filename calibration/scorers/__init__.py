"""Scoring methods by name: one file each, found by `scorer_named`.

A scorer learns from `Material` and returns `Fitted`: a head, a torch module that maps the
backbone's three stages to patch scores, (B, 1, h, w), and that exports to ONNX. Methods that need
no training look at the good pictures only; trained ones also at the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inspectd.core.errors import ConfigError
from inspectd.core.holdout import GOOD
from inspectd.core.records import ImageArray, MaskArray

if TYPE_CHECKING:
    from torch import nn

    from calibration.backbones import Backbone

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""
Option = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prepared picture and what a person, or the simulation, says of it."""

    name: str
    label: str
    """`good` or the kind of defect."""
    image: ImageArray
    """(H, W, 3) uint8 RGB of the model's input size."""
    mask: MaskArray | None
    """(H, W), 255 where defective; zeros for a good part; None where it isn't known."""
    region: MaskArray | None = None
    """(H, W), non-zero where it is inspected; None: everywhere."""

    @property
    def is_defect(self) -> bool:
        """Whether the picture shows a defective part."""
        return self.label != GOOD


@dataclass(frozen=True, slots=True)
class Material:
    """What a scorer may learn from, and how it may work."""

    good: Sequence[ImageArray]
    """Good pictures, each (H, W, 3) uint8 RGB of the model's input size."""
    regions: Sequence[MaskArray] | None = None
    """Of each good picture, (H, W), non-zero where it is inspected; None: everywhere. What lies
    outside is not to be learned, as far as the method allows."""
    holdout: Sequence[Labelled] = ()
    """To stop by, never to learn from; none of `seen` is among them. May be empty."""
    seen: Sequence[Labelled] = ()
    """Real defects with masks to learn from, at most the scorer's `seen_limit`. May be empty."""
    folder: Path | None = None
    """For checkpoints, made when it is needed; None: none are written."""
    request: str = ""
    """Digest of all that decides the result: a checkpoint of another request isn't continued."""
    is_resumed: bool = False
    """Continues the training whose checkpoint lies in `folder`."""
    budget_s: float | None = None
    """Seconds that training may take; None: as long as it is planned."""
    device: str = "cpu"
    """Where torch computes: `cpu` or `cuda`."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure over the course of the training."""

    name: str
    """What is drawn; those whose names begin alike up to a comma share one plot."""
    epochs: tuple[float, ...]
    """(N,) epochs done."""
    values: tuple[float, ...]
    """(N,)."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a scorer learned, on the CPU and ready to be exported."""

    head: nn.Module
    """Three stages to (B, 1, h, w) patch scores."""
    facts: dict[str, str] = field(default_factory=dict)
    """For the report: what was learned, how much, how long."""
    sigma: float = 4.0
    """Of the Gaussian that smooths the map, in pixels of the model's input; 0: none."""
    top_pixels: int = 1
    """The image score is the mean of so many highest pixels of the smoothed map."""
    highest: float | None = None
    """No score can be above it; None: there is no such bound."""
    curves: tuple[Curve, ...] = ()
    """Of the training, for the report."""
    remarks: tuple[str, ...] = ()
    """Sentences for people: what the training leaves open."""


class Scorer(Protocol):
    """A scoring method."""

    @property
    def name(self) -> str:
        """What ``--scorer`` calls it."""
        ...

    @property
    def seen_limit(self) -> int:
        """Real defects with masks that it learns from at most; 0: it learns from good parts."""
        ...

    @property
    def is_trained(self) -> bool:
        """Whether it heeds the material's folder, budget and device."""
        ...

    def options(self) -> dict[str, Option]:
        """The settings that reproduce a fit, for the manifest."""
        ...

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        """Learns from the material; the backbone stays as it is."""
        ...


def scorer_named(name: str, **options: Option) -> Scorer:
    """A scorer with its options set.

    Raises:
        ConfigError: no scorer of that name, or it has no such option.
    """
    from calibration.scorers.mpfnet import MPFNet
    from calibration.scorers.prn import PRNScorer
    from calibration.scorers.protoad import ProtoAD

    known: dict[str, Callable[..., Scorer]] = {
        "protoad": ProtoAD,
        "prn": PRNScorer,
        "mpfnet": MPFNet,
    }
    if name not in known:
        raise ConfigError(f"no scorer is called {name!r}; known: {', '.join(known)}")
    own = known[name]().options()
    if strange := sorted(set(options) - set(own)):
        raise ConfigError(f"{name} has no {', '.join(strange)}; it has {', '.join(own)}")
    return known[name](**options)
