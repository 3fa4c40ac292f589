"""When a batch goes, and with which pictures: decided here, done in `inspectd.daemon.sharing`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

RESERVE_NS = 15_000_000
"""From a batch's end to its parts' deadlines: regions, mask, ledger, and the timer's own lead."""
KEPT = 32
"""Batches whose times are remembered."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A picture that waits for its batch."""

    since_ns: int
    """`time.monotonic_ns()`, as the next."""
    due_ns: int
    """When its part's verdict must be out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds every batch of an engine."""

    largest: int
    """Pictures."""
    patience_ns: int
    """How long a picture may wait for others, whatever its deadline allows."""


def pause_ns(
    waiting: Sequence[Waiting], now_ns: int, *, senders: int, limits: Limits, cost_ns: int | None
) -> int:
    """How long those that wait may go on waiting for more; 0: the batch goes now.

    Waiting can make no part late that would not have been late anyway: the earliest deadline still
    leaves the time of a full batch.

    Args:
        waiting: at least one picture.
        now_ns: the clock, `time.monotonic_ns()`.
        senders: lanes that could have a picture in this batch, those in it already included.
        limits: the engine's.
        cost_ns: what a full batch takes; None where that isn't known, so nobody waits.
    """
    if cost_ns is None or len(waiting) >= min(senders, limits.largest):
        return 0
    patient = min(one.since_ns for one in waiting) + limits.patience_ns
    in_time = min(one.due_ns for one in waiting) - cost_ns - RESERVE_NS
    return max(0, min(patient, in_time) - now_ns)


def chosen(waiting: Sequence[Waiting], largest: int) -> list[int]:
    """Which of them go, by their place: where there are too many, the earliest deadlines first."""
    order = sorted(range(len(waiting)), key=lambda at: (waiting[at].due_ns, waiting[at].since_ns))
    return order[:largest]


class Costs:
    """What batches take: each size's best time, times how much slower the engine was of late.

    So a stall is forgotten after `KEPT` batches of whatever size.
    """

    def __init__(self) -> None:
        self._best: dict[int, int] = {}
        self._slowness: deque[float] = deque(maxlen=KEPT)

    def note(self, size: int, took_ns: int) -> None:
        """A batch is done."""
        took = max(1, took_ns)
        self._best[size] = min(took, self._best.get(size, took))
        self._slowness.append(took / self._best[size])

    def worst_ns(self, size: int) -> int | None:
        """The slowest of late of that size, or of the next larger; else in proportion to a smaller.

        None where nothing was measured.
        """
        if not self._best:
            return None
        nearest = min((known for known in self._best if known >= size), default=max(self._best))
        share = max(1.0, size / nearest)
        return int(self._best[nearest] * share * max(self._slowness))
