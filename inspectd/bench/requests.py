"""What a contender's process can be asked, each with what it does there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

import numpy as np

from inspectd.bench.worker import Bench, peak_mib, seconds_of
from inspectd.core.bundle import Graph
from inspectd.core.contracts import Warmable
from inspectd.core.records import ImageArray
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.score import examine

KEEP_WARM_S = 0.2
"""Between two calls of `Warmable.keep_warm` while no part comes, as in the daemon."""


@dataclass(frozen=True, slots=True)
class BackToBack:
    """Pictures one after the other; the first isn't counted: others had the caches."""

    seconds: float
    least: int = 3

    def run(self, bench: Bench) -> list[float]:
        """Milliseconds each."""
        return _one_after_the_other(bench.picture, self.seconds, self.least)


def _one_after_the_other(work: Callable[[], float], seconds: float, least: int) -> list[float]:
    """What each gave, but for the first."""
    work()
    found: list[float] = []
    end = monotonic() + seconds
    while len(found) < least or monotonic() < end:
        found.append(work())
    return found


@dataclass(frozen=True, slots=True)
class InBatches:
    """Batches of the size that the worker was started for; the first isn't counted."""

    seconds: float
    least: int = 2

    def run(self, bench: Bench) -> list[float]:
        """Milliseconds of each batch."""
        return _one_after_the_other(bench.pictures_at_once, self.seconds, self.least)


@dataclass(frozen=True, slots=True)
class Beat:
    """What came of a turn at the line's cadence, milliseconds from the instant a part was due."""

    first: float | None
    """After the stand-still; None where there was none."""
    others: list[float]


@dataclass(frozen=True, slots=True)
class AtCadence:
    """Parts at fixed instants; the first isn't counted, and after it the line may stand still."""

    interval_s: float
    count: int
    gap_s: float = 0.0

    def run(self, bench: Bench) -> Beat:
        """A part that waits for the one before it is late, and counts so."""
        bench.picture()
        due = monotonic() + max(self.gap_s, self.interval_s)
        first = _when_due(bench, due) if self.gap_s else None
        started = due if self.gap_s else due - self.interval_s
        others = [
            _when_due(bench, started + (index + 1) * self.interval_s) for index in range(self.count)
        ]
        return Beat(first, others)


def _when_due(bench: Bench, due: float) -> float:
    """Waits as the daemon does, then scores a picture; milliseconds since it was due."""
    while (left := due - monotonic()) > 0:
        sleep(min(left, KEEP_WARM_S))
        if monotonic() < due and isinstance(bench.runtime, Warmable):
            bench.runtime.keep_warm()
    bench.picture()
    return (monotonic() - due) * 1e3


@dataclass(frozen=True, slots=True)
class Scores:
    """Every picture's score, once."""

    pictures: tuple[ImageArray, ...]
    """(H, W, 3), prepared."""
    scope: Scope = WHOLE
    """What of them counts."""

    def run(self, bench: Bench) -> list[float]:
        """In the pictures' order."""
        return [examine(bench.runtime, image, self.scope).score for image in self.pictures]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory that the process ever held."""

    def run(self, bench: Bench) -> float:
        """MiB."""
        return peak_mib()


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the contender's precision multiplies matrices, at this moment of the run."""

    probe: Graph
    flops: int
    """Of one picture through the probe."""
    count: int = 2

    def run(self, bench: Bench) -> float:
        """FLOP/s of the fastest picture: what the machine can, not what it did while disturbed."""
        runtime = bench.opened_probe(self.probe)
        image = np.full((*self.probe.size, 3), 127, np.uint8)
        return max(self.flops / seconds_of(runtime, image) for _ in range(self.count))
