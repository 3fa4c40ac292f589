"""The decision when a batch goes and with which pictures, without clock and threads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inspectd.daemon.batches import KEPT, RESERVE_NS, Costs, Limits, Waiting, chosen, pause_ns

MS = 1_000_000
NOW = 10_000 * MS
LIMITS = Limits(largest=4, patience_ns=5 * MS)


def waiting(*dues_ms: float, since_ms: float = 0.0) -> list[Waiting]:
    """Pictures that came so long ago and are due so many ms from now."""
    return [Waiting(NOW - int(since_ms * MS), NOW + int(due * MS)) for due in dues_ms]


def pause(pictures: list[Waiting], *, senders: int = 4, cost_ns: int | None = 20 * MS) -> int:
    """`pause_ns` at `NOW`."""
    return pause_ns(pictures, NOW, senders=senders, limits=LIMITS, cost_ns=cost_ns)


def test_a_picture_waits_its_patience() -> None:
    """With time enough the setting bounds it, from when the first of them came."""
    assert pause(waiting(1000)) == 5 * MS
    assert pause(waiting(1000, since_ms=3)) == 2 * MS
    assert pause([*waiting(1000, since_ms=3), *waiting(1000)]) == 2 * MS
    assert pause(waiting(1000, since_ms=6)) == 0


def test_the_earliest_deadline_bounds_it() -> None:
    """Less the time of a full batch and of what comes after; a late part goes at once."""
    tight = 20 + RESERVE_NS / MS
    assert pause(waiting(1000, tight + 2)) == 2 * MS
    assert pause(waiting(tight)) == 0
    assert pause(waiting(-3, 1000)) == 0


def test_a_full_batch_goes() -> None:
    """Full is what the engine takes, or one picture of each lane that could send any."""
    assert pause(waiting(*[1000] * 4)) == 0
    assert pause(waiting(1000, 1000), senders=2) == 0
    assert pause(waiting(1000), senders=1) == 0
    assert pause(waiting(1000), senders=0) == 0


def test_what_is_not_measured_is_not_risked() -> None:
    """Where nobody knows how long a batch takes, none is waited for."""
    assert pause(waiting(1000), cost_ns=None) == 0


PICTURES = st.lists(
    st.builds(Waiting, st.integers(0, NOW), st.integers(0, 2 * NOW)), min_size=1, max_size=9
)


@given(PICTURES, st.integers(0, 9), st.integers(1, 8), st.integers(0, NOW), st.integers(0, NOW))
def test_waiting_makes_no_part_late(
    pictures: list[Waiting], senders: int, largest: int, patience_ns: int, cost_ns: int
) -> None:
    """After the pause a batch of the known cost is in time for each, or there was no pause."""
    limits = Limits(largest, patience_ns)
    found = pause_ns(pictures, NOW, senders=senders, limits=limits, cost_ns=cost_ns)
    assert 0 <= found <= patience_ns
    if found:
        assert len(pictures) < min(senders, largest)
        assert all(NOW + found + cost_ns + RESERVE_NS <= one.due_ns for one in pictures)
        assert all(NOW + found - one.since_ns <= patience_ns for one in pictures)


@given(PICTURES, st.integers(1, 8))
def test_the_most_urgent_go(pictures: list[Waiting], largest: int) -> None:
    """As many as fit, none twice, and nobody who stays is due before one who goes."""
    going = chosen(pictures, largest)
    assert len(set(going)) == len(going) == min(len(pictures), largest)
    left = [one.due_ns for at, one in enumerate(pictures) if at not in going]
    assert not left or max(pictures[at].due_ns for at in going) <= min(left)


def test_costs_are_the_slowest_of_late() -> None:
    """By size; a size never seen takes the next larger one's, or its share of a smaller one's."""
    costs = Costs()
    assert costs.worst_ns(1) is None
    costs.note(2, 20)
    costs.note(2, 30)
    assert [costs.worst_ns(size) for size in (1, 2, 4)] == [30, 30, 60]
    costs.note(4, 50)
    assert [costs.worst_ns(size) for size in (1, 2, 3, 4)] == [30, 30, 75, 75]
    for _ in range(KEPT):
        costs.note(2, 10)
    assert costs.worst_ns(2) == 10
    assert costs.worst_ns(4) == 50


def test_a_stall_is_forgotten_whatever_sizes_come_after_it() -> None:
    """Else one slow full batch would keep all later ones from being waited for."""
    costs = Costs()
    costs.note(1, 10)
    costs.note(4, 30)
    costs.note(4, 300)
    assert costs.worst_ns(4) == 300
    for _ in range(KEPT):
        costs.note(1, 11)
    assert costs.worst_ns(4) == 33
