"""Scorers and backbones side by side: who competes, and what may be said of it.

All are calibrated alike and judged on the same parts, which none has seen: `halves`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.backbones import Backbone
from calibration.comparison.paired import Changes, Difference, auroc_difference, changes
from calibration.evaluate import Evaluation
from calibration.metrics import BoolArray, FloatArray, average_precision
from calibration.scorers import Scorer
from inspectd.core.bundle import MODEL, Bundle
from inspectd.core.errors import ConfigError
from inspectd.core.holdout import GOOD


@dataclass(frozen=True, slots=True)
class Contender:
    """A scorer on a backbone."""

    name: str
    """Distinct among those that are compared."""
    scorer: Scorer
    backbone: Backbone
    spec: str
    """What the user called the backbone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A contender that was calibrated and judged."""

    contender: Contender
    bundle: Bundle
    evaluation: Evaluation
    scores: FloatArray
    """(N,) of the judged parts."""
    seconds: float
    """That calibration took."""
    facts: Mapping[str, str]
    """What the scorer says of its fit."""

    @property
    def fails(self) -> BoolArray:
        """(N,) which judged parts it fails."""
        return np.asarray(self.scores >= self.evaluation.threshold)

    @property
    def size_mb(self) -> float:
        """Of the model's file, in 10^6 bytes."""
        return (self.bundle.path / MODEL).stat().st_size / 1e6


@dataclass(frozen=True, slots=True)
class Failure:
    """A contender that could not be calibrated or judged."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one picture, with all contenders in memory and taking turns."""

    p50_ms: float
    p99_ms: float | None
    """None: too few samples to say."""
    n: int
    """Samples."""


@dataclass(frozen=True, slots=True)
class Entry:
    """All that is said of one contender."""

    outcome: Outcome
    latency: Latency
    image_ap: float
    """Average precision of whole parts."""
    difference: Difference | None
    """Of the AUROC to the first contender's; None for the first."""
    changes: Changes | None
    """Of the verdicts, each at its own threshold, against the first's; None for the first."""

    @property
    def name(self) -> str:
        """The contender's."""
        return self.outcome.contender.name

    @property
    def evaluation(self) -> Evaluation:
        """As ``inspectd evaluate`` has it."""
        return self.outcome.evaluation


def check_names(scorers: Sequence[str], backbones: Sequence[str]) -> None:
    """Refuses what makes no comparison.

    Raises:
        ConfigError: there are fewer than two contenders, or something is named twice.
    """
    for words in (scorers, backbones):
        if twice := sorted(word for word, count in Counter(words).items() if count > 1):
            raise ConfigError(f"{', '.join(twice)} would be compared with itself; name it once")
    if len(scorers) * len(backbones) < 2:
        raise ConfigError(
            "with fewer than two contenders there is nothing to compare; name several --scorers "
            "or --backbones, with commas between"
        )


def contenders(
    scorers: Sequence[Scorer], backbones: Sequence[tuple[str, Backbone]]
) -> list[Contender]:
    """Every scorer on every backbone, named by what differs.

    Args:
        scorers: of distinct names.
        backbones: what the user called each, and the network.
    """
    names = _backbone_names(backbones)
    return [
        Contender(_name(scorer.name, name, len(scorers), len(names)), scorer, backbone, spec)
        for scorer in scorers
        for name, (spec, backbone) in zip(names, backbones, strict=True)
    ]


def entries(
    outcomes: Sequence[Outcome], latencies: Sequence[Latency], is_defect: BoolArray, seed: int
) -> list[Entry]:
    """What is said of each, against the first."""
    first = outcomes[0]
    return [
        Entry(
            outcome,
            latency,
            average_precision(outcome.scores, is_defect),
            None if at == 0 else auroc_difference(outcome.scores, first.scores, is_defect, seed),
            None if at == 0 else changes(outcome.fails, first.fails, is_defect),
        )
        for at, (outcome, latency) in enumerate(zip(outcomes, latencies, strict=True))
    ]


def leader(found: Sequence[Entry]) -> Entry:
    """The highest AUROC; of equal ones the highest F1 at its threshold, then the fastest."""
    return max(
        found,
        key=lambda one: (one.evaluation.image_auroc, one.evaluation.f1, -one.latency.p50_ms),
    )


def latency_of(samples_ms: FloatArray) -> Latency:
    """Median and, from 100 samples on, the 99th percentile."""
    tail = float(np.percentile(samples_ms, 99)) if samples_ms.size >= 100 else None
    return Latency(float(np.median(samples_ms)), tail, samples_ms.size)


def choose_parts(
    outcomes: Sequence[Outcome], labels: Sequence[str], each: int
) -> dict[str, list[int]]:
    """Judged parts to show, by group; no part twice.

    `disagreement`: failed by some and passed by others; `wrong`: misjudged by all; both by turns
    over the kinds, at most `each`. `typical`: of each kind, good parts first, the one in the
    middle by the mean of the contenders' ranks.
    """
    fails = np.array([outcome.fails for outcome in outcomes])  # (C, N)
    is_defect = np.array([label != GOOD for label in labels], np.bool_)
    split = fails.any(axis=0) & ~fails.all(axis=0)
    wrong = (fails != is_defect).all(axis=0)
    place = _mean_ranks(np.array([outcome.scores for outcome in outcomes]))
    chosen = {
        "disagreement": _by_turns(np.flatnonzero(split), labels)[:each],
        "wrong": _by_turns(np.flatnonzero(wrong), labels)[:each],
    }
    shown = {index for indexes in chosen.values() for index in indexes}
    kinds = sorted(set(labels), key=lambda label: (label != GOOD, label))
    middles = [_middle(np.flatnonzero(np.array(labels) == kind), place) for kind in kinds]
    return {**chosen, "typical": [index for index in middles if index not in shown]}


def _backbone_names(backbones: Sequence[tuple[str, Backbone]]) -> list[str]:
    """The networks' names; where two have the same, what the user called them."""
    names = [backbone.name for _, backbone in backbones]
    if len(set(names)) == len(names):
        return names
    stems = [Path(spec).stem for spec, _ in backbones]
    return stems if len(set(stems)) == len(stems) else [spec for spec, _ in backbones]


def _name(scorer: str, backbone: str, scorers: int, backbones: int) -> str:
    if backbones == 1:
        return scorer
    return backbone if scorers == 1 else f"{scorer} {backbone}"


def _mean_ranks(scores: FloatArray) -> FloatArray:
    """(N,) mean over the C contenders of each part's place; (C, N) scores have no common unit."""
    return np.asarray(scores.argsort(axis=1).argsort(axis=1).mean(axis=0))


def _middle(indexes: npt.NDArray[np.intp], place: FloatArray) -> int:
    return int(indexes[place[indexes].argsort(kind="stable")[len(indexes) // 2]])


def _by_turns(indexes: npt.NDArray[np.intp], labels: Sequence[str]) -> list[int]:
    """The first of each kind, then the second of each, and so on."""
    met: Counter[str] = Counter()
    turns = {}
    for index in indexes.tolist():
        turns[index] = met[labels[index]]
        met[labels[index]] += 1
    return sorted(turns, key=turns.__getitem__)
