"""The parity gate: whether a runtime or a precision reproduces the reference, within bounds.

The reference of a golden picture is its score in the manifest, that of a hold-out picture is what
ONNX Runtime computes in fp32. With a precision whose rounding is r (fp16 0.002, bf16 and int8
0.005, fp32 0):

- no score may differ by more than r, or the manifest's golden tolerance where that is more;
- every verdict must be equal, but for parts whose reference is within r of the threshold: rounding
  alone moves these, and they are listed for people to look at;
- the AUROC over the hold-out set may not drop by more than the bound on the score.

A score that is no number never passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

MAX_LISTED = 100
"""Parts listed in a record; all of them count."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a runtime may be from the reference."""

    score: float
    """Largest difference of a score."""
    margin: float
    """A part whose reference is nearer to the threshold than this may change its verdict."""
    auroc: float
    """Largest drop of the AUROC over the hold-out set."""

    @classmethod
    def of(cls, tolerance: float, rounding: float) -> Bounds:
        """From the manifest's golden tolerance and the runtime's rounding."""
        largest = max(tolerance, rounding)
        return cls(score=largest, margin=rounding, auroc=largest)


@dataclass(frozen=True, slots=True)
class Pair:
    """One picture, scored twice."""

    name: str
    is_defect: bool
    reference: float
    score: float
    is_golden: bool = False

    @property
    def difference(self) -> float:
        """Absolute."""
        return abs(self.score - self.reference)


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate found."""

    bounds: Bounds
    threshold: float
    n_golden: int
    n_holdout: int
    difference: float
    """The largest; NaN where a score is no number."""
    worst: str
    """The picture that differs most."""
    changed: tuple[Pair, ...]
    """Verdicts that differ and may not."""
    near: tuple[Pair, ...]
    """Verdicts that differ within the margin of the threshold."""
    auroc: tuple[float, float] | None
    """Reference's and runtime's; None where the hold-out set hasn't both kinds of parts."""
    problems: tuple[str, ...]
    """Why it failed; empty where it passed."""

    @property
    def passed(self) -> bool:
        """Whether the runtime may decide."""
        return not self.problems

    def as_json(self) -> dict[str, object]:
        """For the record; lists are cut at `MAX_LISTED`."""
        content = asdict(self)
        content["changed"] = content["changed"][:MAX_LISTED]
        content["near"] = content["near"][:MAX_LISTED]
        return {"passed": self.passed, **content}


def judge(pairs: Sequence[Pair], threshold: float, bounds: Bounds) -> Parity:
    """Compares a runtime's scores with the reference's, golden and hold-out pictures together."""
    flipped = [pair for pair in pairs if _flips(pair, threshold)]
    near = tuple(p for p in flipped if abs(p.reference - threshold) < bounds.margin)
    changed = tuple(pair for pair in flipped if pair not in near)
    worst = max(pairs, key=_rank, default=None)
    holdout = [pair for pair in pairs if not pair.is_golden]
    areas = _areas(holdout)
    return Parity(
        bounds=bounds,
        threshold=threshold,
        n_golden=len(pairs) - len(holdout),
        n_holdout=len(holdout),
        difference=0.0 if worst is None else worst.difference,
        worst="" if worst is None else worst.name,
        changed=changed,
        near=near,
        auroc=areas,
        problems=tuple(_problems(worst, changed, areas, bounds)),
    )


def harshest(pairs: Sequence[Pair], threshold: float) -> Pair:
    """Of one picture's pairs, in batches of several sizes, the one that speaks most against it."""
    return max(pairs, key=lambda pair: (_flips(pair, threshold), _rank(pair)))


def auroc(scores: Sequence[float], is_defect: Sequence[bool]) -> float:
    """Share of (defective, good) pairs that are in order; a tie counts half."""
    values, kinds = np.asarray(scores, np.float64), np.asarray(is_defect, bool)
    good, bad = np.sort(values[~kinds]), values[kinds]
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(below.sum() / (2 * len(good) * len(bad)))


def _flips(pair: Pair, threshold: float) -> bool:
    return (pair.score < threshold) != (pair.reference < threshold)


def _rank(pair: Pair) -> float:
    return pair.difference if math.isfinite(pair.difference) else math.inf


def _areas(pairs: Sequence[Pair]) -> tuple[float, float] | None:
    kinds = [pair.is_defect for pair in pairs]
    if all(kinds) or not any(kinds) or not all(math.isfinite(pair.score) for pair in pairs):
        return None
    reference = auroc([pair.reference for pair in pairs], kinds)
    return reference, auroc([pair.score for pair in pairs], kinds)


def _problems(
    worst: Pair | None,
    changed: tuple[Pair, ...],
    areas: tuple[float, float] | None,
    bounds: Bounds,
) -> list[str]:
    if worst is None:
        return ["nothing was compared: there is no golden picture; calibrate anew"]
    found = []
    if not worst.difference <= bounds.score:  # NaN never is
        found.append(
            f"{worst.name} scores {worst.score:.5f} instead of {worst.reference:.5f}: more than "
            f"{bounds.score:g} apart"
        )
    if changed:
        found.append(f"{len(changed)} verdict(s) changed, {changed[0].name} first")
    if areas is not None and areas[0] - areas[1] > bounds.auroc:
        found.append(
            f"the AUROC fell from {areas[0]:.4f} to {areas[1]:.4f}: by more than {bounds.auroc:g}"
        )
    return found
