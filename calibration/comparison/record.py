"""A comparison that is done: everything its page, its table and its JSON say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from calibration.comparison.contenders import Entry, Failure, Outcome, choose_parts, entries
from calibration.comparison.contest import Terms, infer_in_turn, prepared
from calibration.comparison.halves import Halves, is_test, seen_before
from calibration.dataset import find_good
from calibration.facts import tools
from calibration.scorers import Labelled, Report
from inspectd.core.records import MapArray

EACH = 6
"""Parts shown of a group, at most."""
FEW_ROUNDS = 30
"""Of the timing, below which the page says that they are few."""
SPENT = (
    "The labelled pictures are those of test/, and they are spent by this: half of them found the "
    "thresholds and the other half is what a contender is chosen by. For an honest figure of the "
    "one that is chosen, take pictures that none of this has seen."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A judged part of which there are pictures."""

    group: str
    """Why it is shown: a key of `calibration.comparison.contenders.choose_parts`."""
    index: int
    """Its place among the judged."""
    picture: Labelled
    maps: tuple[MapArray, ...]
    """(H, W) of each contender, in their order."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything the page says."""

    product: str
    created_at: datetime
    """With zone; shown in UTC."""
    command: str
    """That makes this comparison again."""
    halves: Halves
    entries: tuple[Entry, ...]
    """At least one; the others are compared with the first."""
    failures: tuple[Failure, ...]
    shown: tuple[Shown, ...]
    notes: tuple[str, ...]
    """Sentences on what the figures may not be used for."""
    facts: Mapping[str, str]
    """Split, seed, machine, versions."""


def compared(
    made: Sequence[Outcome],
    failed: Sequence[Failure],
    terms: Terms,
    command: str,
    machine: Mapping[str, str],
    report: Report,
) -> Comparison:
    """Times all that were made by turns, and gathers what the page says.

    Args:
        made: at least one; the others are compared with the first.
        failed: those that could not be made.
        terms: what all were given alike.
        command: that makes the comparison again.
        machine: facts on what computes here.
        report: progress.
    """
    halves = terms.halves
    groups = choose_parts(made, halves.labels, EACH)
    turns = infer_in_turn(made, terms, [at for some in groups.values() for at in some], report)
    load = os.getloadavg()[0]
    report("computing figures", 0, 1)
    found = entries(made, turns.latencies, halves.is_defect, terms.seed)
    comparison = Comparison(
        product=terms.product,
        created_at=datetime.now(UTC),
        command=command,
        halves=halves,
        entries=tuple(found),
        failures=tuple(failed),
        shown=_shown(groups, turns.maps, made[0], halves),
        notes=_notes(terms, found),
        facts={**_facts(terms), **machine, "load average after timing": f"{load:.1f}", **tools()},
    )
    report("computing figures", 1, 1)
    return comparison


def _shown(
    groups: Mapping[str, Sequence[int]],
    maps: Sequence[Mapping[int, MapArray]],
    first: Outcome,
    halves: Halves,
) -> tuple[Shown, ...]:
    pictures = prepared(halves.judged, first.bundle)
    return tuple(
        Shown(group, index, pictures[index], tuple(found[index] for found in maps))
        for group, indexes in groups.items()
        for index in indexes
    )


def _notes(terms: Terms, found: Sequence[Entry]) -> tuple[str, ...]:
    """What must be known before a figure is read: spent or known pictures, and every warning."""
    notes = [SPENT] if is_test(terms.halves) else []
    if twice := seen_before(find_good(terms.images), terms.halves):
        notes.append(
            f"Warning: {twice} of the judged pictures are also among those learned from or held "
            "out, so every figure here flatters; remove them from one of the two."
        )
    notes += [
        f"{entry.name}: {remark}"
        for entry in found
        for remark in entry.outcome.bundle.manifest.remarks
        if remark.startswith("Warning")
    ]
    rounds = min(entry.latency.n for entry in found)
    if rounds < FEW_ROUNDS:
        notes.append(
            f"Latency rests on {rounds} rounds only: the machine is slow, or was busy. inspectd "
            "bench measures it at length."
        )
    return tuple(notes)


def _facts(terms: Terms) -> dict[str, str]:
    """Split, input and seed."""
    halves = terms.halves
    defects = sum(one.is_defect for one in halves.holdout)
    side, crop = terms.resize, terms.crop
    return {
        "labelled pictures": str(terms.labelled),
        "split": f"the first half of each kind in name order ({len(halves.holdout) - defects} "
        f"good, {defects} defective) for threshold and seen defects, the rest "
        f"({len(halves.judged)}) for judging",
        "pictures learned from": str(len(find_good(terms.images))),
        "input (H x W)": " x ".join(map(str, side))
        + ("" if crop is None else f", centre {crop[0]} x {crop[1]}"),
        "seed": str(terms.seed),
        "budget of each training": "none"
        if terms.budget_s is None
        else f"{terms.budget_s / 60:g} min",
    }
