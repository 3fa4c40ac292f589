"""The account of a simulated line: what passed and what was answered in, figures out. Pure.

A part is an edge on the trigger line; an answer belongs to it by the camera's count of triggers.
Words: an *escape* is a defective part that the gate let through, *overkill* a good part that was
answered `fail`; a *diverted* part is a good one that was rejected for want of a timely verdict.
*By faults* are those that the scorer, undisturbed, decides otherwise.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from inspectd.simulate.scenario import Expect

GATE_SLACK_S = 0.05
"""A gate that acts so much after the deadline still had the part: its clock begins at the
exposure, ours at the edge."""
IN_FLIGHT_S = 0.05
"""A part that passed so shortly before a fault was still on its way: it is that fault's."""
LIFE_LEAST = 8
"""Measurements of a daemon's life, from which on its growth is told."""
DECIDED = ("pass", "fail")
AFTERMATH_S = 2.0
"""So long after a fault's end parts still count as disturbed: a backlog is sent, say."""
TOTAL = "trigger to verdict"
UNDISTURBED = "trigger to verdict, far from faults"


@dataclass(frozen=True, slots=True)
class Answer:
    """One verdict, the first time that it came."""

    result_id: str
    seq: int
    count: int | None
    """The camera's count of triggers."""
    verdict: str
    reason: str
    is_late: bool
    product: str
    at_s: float
    """Monotonic seconds at which it was received."""


@dataclass(frozen=True, slots=True)
class Row:
    """One part in the daemon's ledger, at the end."""

    result_id: str
    seq: int
    count: int | None
    is_delivered: bool
    """The broker acknowledged its verdict."""


@dataclass(frozen=True, slots=True)
class FaultSpan:
    """One fault as it happened."""

    kind: str
    part: int
    """Parts that had passed when it began."""
    began_s: float
    ended_s: float
    """Monotonic seconds; where the daemon was killed, when it was ready again."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon's process at one moment."""

    at_s: float
    life: int
    """Which start of the daemon."""
    rss_mb: float
    """Resident memory, MiB."""
    descriptors: int
    camera_rss_mb: float
    """Of the camera's own process, MiB."""


class Stages:
    """The daemon's own timings by stage, milliseconds; compact, for many parts."""

    def __init__(self) -> None:
        self.by_name: defaultdict[str, array[float]] = defaultdict(lambda: array("f"))

    def note(self, timings_ms: Mapping[str, float]) -> None:
        """Of one part."""
        for name, value in timings_ms.items():
            self.by_name[name].append(value)


@dataclass(frozen=True, slots=True)
class Events:
    """All that the account is made of."""

    passed_at: Sequence[float]
    """Monotonic seconds of each part, part 1 first."""
    is_defective: Sequence[bool]
    """Of each picture in the line's order; they repeat."""
    fails: Sequence[Mapping[str, bool]]
    """Of each picture: product to whether the scorer, undisturbed, fails it."""
    deadline_ms: int
    answers: Sequence[Answer]
    """In the order of arrival."""
    repeated: int
    """Verdicts that came again under a known result id."""
    gate_passed: Mapping[str, float]
    """Result id to when the gate let that part through, monotonic seconds."""
    rows: Sequence[Row]
    faults: Sequence[FaultSpan]
    power_ups: Sequence[int] = ()
    """Edges until each time that the camera got its power back: its count began anew."""
    samples: Sequence[Sample] = ()
    stages: Mapping[str, Sequence[float]] = field(default_factory=dict)
    gate_counts: Mapping[str, int] = field(default_factory=dict)
    daemon_starts: int = 1
    daemon_deaths: int = 0


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one stage, milliseconds."""

    count: int
    p50: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True, slots=True)
class FaultFigures:
    """What one kind of fault did."""

    times: int
    affected: int
    """Parts without a timely pass or fail, from its begin to the next fault's."""
    recovery_s_median: float
    """From its begin until parts are decided in time again."""
    recovery_s_most: float


@dataclass(frozen=True, slots=True)
class Growth:
    """The daemon's process in its longest life, last quarter against second, and at most."""

    life_s: float
    rss_mb_first: float
    rss_mb_last: float
    rss_mb_most: float
    descriptors_first: int
    descriptors_last: int
    descriptors_most: int

    @property
    def rss_mb(self) -> float:
        """MiB more."""
        return self.rss_mb_last - self.rss_mb_first

    @property
    def descriptors(self) -> int:
        """So many more."""
        return self.descriptors_last - self.descriptors_first


@dataclass(frozen=True, slots=True)
class Account:
    """The figures; parts unless said otherwise."""

    triggers: int
    answered: int
    """With a verdict that a subscriber received, or that the broker acknowledged to the daemon."""
    lost_in_broker: int
    """Of these: acknowledged, and then lost by the broker that was killed."""
    unanswered: int
    passed: int
    failed: int
    undecided: int
    undecided_by_reason: dict[str, int]
    late: int
    """Answers marked late: for the record, the part had gone by."""
    stale: int
    """Answers that were sent in time and arrived after the deadline; a gate knows them by that."""
    duplicates: int
    """With more than one result."""
    repeated: int
    """Messages: the same result again, as at-least-once delivery allows."""
    uncounted: int
    """Answers that don't say which trigger they are of."""
    surplus: int
    """Answers of a trigger that never was."""
    out_of_order: int
    """Answers, not late, that came after one of a later part."""
    let_through: int
    let_through_late: int
    """By a gate that was told too late."""
    escapes: int
    escapes_by_faults: int
    overkill: int
    overkill_by_faults: int
    diverted: int
    good: int
    defective: int
    daemon_starts: int
    daemon_deaths: int
    faults: dict[str, FaultFigures]
    latency_ms: dict[str, Percentiles]
    growth: Growth | None
    gate: dict[str, int]
    products: dict[str, int]

    def as_json(self) -> dict[str, object]:
        """For a file."""
        return asdict(self)


def account_of(events: Events) -> Account:
    """Adds it all up."""
    parts = _matched(events)
    verdicts = Counter(answer.verdict for answer in parts.first.values())
    reasons = Counter(a.reason for a in parts.first.values() if a.verdict == "undecided")
    in_ledger = _acknowledged(events, parts)
    gate = _gate_figures(events, parts)
    overkill = [n for n, a in parts.first.items() if a.verdict == "fail" and _is_good(events, n)]
    answered = len(parts.first) + len(in_ledger)
    defective = sum(not _is_good(events, n) for n in range(1, len(events.passed_at) + 1))
    latencies = {**_latencies(events, parts), **events.stages}
    return Account(
        triggers=len(events.passed_at),
        answered=answered,
        lost_in_broker=len(in_ledger),
        unanswered=len(events.passed_at) - answered,
        passed=verdicts["pass"],
        failed=verdicts["fail"],
        undecided=verdicts["undecided"],
        undecided_by_reason=dict(reasons.most_common()),
        late=sum(answer.is_late for answer in parts.first.values()),
        stale=sum(
            not answer.is_late and latency_ms(events, number, answer) > events.deadline_ms
            for number, answer in parts.first.items()
        ),
        duplicates=parts.duplicates,
        repeated=events.repeated,
        uncounted=sum(answer.count is None for answer in events.answers),
        surplus=parts.surplus,
        out_of_order=_out_of_order(events.answers),
        let_through=len(gate.through),
        let_through_late=gate.too_late,
        escapes=sum(not _is_good(events, n) for n in gate.through),
        escapes_by_faults=sum(_fails(events, n, parts.first[n]) for n in gate.through),
        overkill=len(overkill),
        overkill_by_faults=sum(not _fails(events, n, parts.first[n]) for n in overkill),
        diverted=gate.diverted,
        good=len(events.passed_at) - defective,
        defective=defective,
        daemon_starts=events.daemon_starts,
        daemon_deaths=events.daemon_deaths,
        faults=_by_kind(events, parts),
        latency_ms={name: percentiles(values) for name, values in latencies.items() if values},
        growth=_growth(events.samples),
        gate=dict(events.gate_counts),
        products=dict(Counter(answer.product for answer in parts.first.values())),
    )


def unmet(account: Account, expect: Expect) -> list[str]:
    """Each limit that the account breaks, as a sentence."""
    growth = account.growth
    shares = {
        "undecided_share": account.undecided / max(1, account.triggers),
        "diverted_share": account.diverted / max(1, account.good),
    }
    latency = account.latency_ms.get(UNDISTURBED)
    figures: dict[str, float | None] = {
        **{
            name: getattr(account, name)
            for name in type(expect).model_fields
            if name in Account.__dataclass_fields__
        },
        **shares,
        "latency_p99_ms": None if latency is None else latency.p99,
        "rss_growth_mb": None if growth is None else growth.rss_mb,
        "fd_growth": None if growth is None else growth.descriptors,
    }
    broken = []
    for name in type(expect).model_fields:
        limit, figure = getattr(expect, name), figures[name]
        if limit is not None and figure is not None and figure > limit:
            words = name.replace("_", " ")
            broken.append(f"{words}: {figure:.4g}, expected at most {limit:g}")
    return broken


def percentiles(values: Sequence[float]) -> Percentiles:
    """p50, p99, p99.9: the nearest rank, so that each is a value that was measured."""
    ranked = sorted(values)

    def at(share: float) -> float:
        return round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 3)

    return Percentiles(len(ranked), at(0.5), at(0.99), at(0.999), round(ranked[-1], 3))


def edge_of(count: int, answer_epoch: int, power_ups: Sequence[int]) -> int:
    """The number of the edge that the camera counted so, since its `answer_epoch`-th power-up."""
    return count if answer_epoch == 0 else power_ups[answer_epoch - 1] + count


# --- answers to parts -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Matched:
    """Answers beside the parts that they are of."""

    first: dict[int, Answer]
    """Part's number, from 1, to its first answer."""
    numbers: dict[str, int]
    """Result id to the part's number."""
    duplicates: int
    surplus: int


def _matched(events: Events) -> Matched:
    first: dict[int, Answer] = {}
    repeated: set[int] = set()
    surplus = 0
    numbers = _numbers(events)
    for answer in events.answers:
        number = numbers.get(answer.result_id)
        if number is None:
            surplus += 1
        elif number in first:
            repeated.add(number)
        else:
            first[number] = answer
    return Matched(first, numbers, len(repeated), surplus)


def _numbers(events: Events) -> dict[str, int]:
    """Result id to the number of its part, of all that was answered or is in the ledger.

    A part that passed unseen while the camera was away has no count: in the order of the daemon's
    own numbers it takes the next place behind the one before it, if no other part has that.
    """
    known: dict[str, Answer | Row] = {row.result_id: row for row in events.rows}
    known |= {answer.result_id: answer for answer in events.answers}
    epochs = _epochs(list(known.values()), len(events.power_ups))
    found: dict[str, int] = {}
    for result_id, entry in known.items():
        if entry.count is not None:
            number = edge_of(entry.count, epochs.get(result_id, 0), events.power_ups)
            if 1 <= number <= len(events.passed_at):
                found[result_id] = number
    taken, last = set(found.values()), 0
    for entry in sorted(known.values(), key=lambda entry: entry.seq):
        if entry.result_id in found:
            last = found[entry.result_id]
        elif entry.count is None and last < len(events.passed_at) and last + 1 not in taken:
            last += 1
            found[entry.result_id] = last
            taken.add(last)
    return found


def _epochs(entries: Sequence[Answer | Row], power_ups: int) -> dict[str, int]:
    """Result id to the camera's power-up that its count is since: a count that falls, in the order
    of the ledger, tells it."""
    if not power_ups:
        return {}
    found: dict[str, int] = {}
    epoch = last = 0
    for entry in sorted(entries, key=lambda entry: entry.seq):
        if entry.count is None:
            continue
        if entry.count < last and epoch < power_ups:
            epoch += 1
        last = entry.count
        found[entry.result_id] = epoch
    return found


def _acknowledged(events: Events, parts: Matched) -> set[int]:
    """Parts whose verdict nobody received, but the broker had acknowledged it."""
    received = {answer.result_id for answer in events.answers}
    found = {
        parts.numbers[row.result_id]
        for row in events.rows
        if row.is_delivered and row.result_id not in received and row.result_id in parts.numbers
    }
    return found - parts.first.keys()


def _out_of_order(answers: Sequence[Answer]) -> int:
    highest = wrong = 0
    for answer in answers:
        if answer.is_late:
            continue
        wrong += answer.seq < highest
        highest = max(highest, answer.seq)
    return wrong


# --- truth ------------------------------------------------------------------------------------


def _is_good(events: Events, number: int) -> bool:
    return not events.is_defective[(number - 1) % len(events.is_defective)]


def _fails(events: Events, number: int, answer: Answer) -> bool:
    """Whether the scorer, undisturbed, fails this part with the product that answered."""
    return events.fails[(number - 1) % len(events.fails)].get(answer.product, True)


@dataclass(frozen=True, slots=True)
class _GateFigures:
    through: list[int]
    too_late: int
    diverted: int


def _gate_figures(events: Events, parts: Matched) -> _GateFigures:
    limit = events.deadline_ms / 1000 + GATE_SLACK_S
    through, too_late = [], 0
    for result_id, at_s in events.gate_passed.items():
        number = parts.numbers.get(result_id)
        if number is None:
            continue
        through.append(number)
        too_late += at_s - events.passed_at[number - 1] > limit
    open_for = set(through)
    rejected = [
        number
        for number in range(1, len(events.passed_at) + 1)
        if number not in open_for and _is_good(events, number)
    ]
    failed = sum(
        number in parts.first and parts.first[number].verdict == "fail" for number in rejected
    )
    return _GateFigures(sorted(open_for), too_late, len(rejected) - failed)


# --- time -------------------------------------------------------------------------------------


def _is_timely(events: Events, number: int, answer: Answer | None) -> bool:
    """Whether a part was decided, and that was known before its deadline."""
    if answer is None or answer.verdict not in DECIDED or answer.is_late:
        return False
    return latency_ms(events, number, answer) <= events.deadline_ms


def latency_ms(events: Events, number: int, answer: Answer) -> float:
    """From the edge to the verdict's arrival."""
    return (answer.at_s - events.passed_at[number - 1]) * 1e3


def matched(events: Events) -> Matched:
    """Answers beside their parts, for a plot."""
    return _matched(events)


def _latencies(events: Events, parts: Matched) -> dict[str, list[float]]:
    """Of pass and fail that aren't marked late: all, and those far from any fault."""
    every, undisturbed = [], []
    near = _disturbed(events)
    for number, answer in parts.first.items():
        if answer.verdict in DECIDED and not answer.is_late:
            latency = latency_ms(events, number, answer)
            every.append(latency)
            if number not in near:
                undisturbed.append(latency)
    return {TOTAL: every, UNDISTURBED: undisturbed}


def _disturbed(events: Events) -> set[int]:
    """Parts that passed from shortly before a fault until some time after it."""
    near: set[int] = set()
    passed_at, before_s = events.passed_at, events.deadline_ms / 1000
    for fault in events.faults:
        low = bisect_left(passed_at, fault.began_s - before_s)
        high = bisect_left(passed_at, fault.ended_s + AFTERMATH_S)
        near.update(range(low + 1, high + 1))
    return near


def _by_kind(events: Events, parts: Matched) -> dict[str, FaultFigures]:
    """Parts affected by each fault, and how long it took until the line was itself again."""
    ordered = sorted(events.faults, key=lambda fault: fault.began_s)
    begins = [fault.began_s - IN_FLIGHT_S for fault in ordered]
    until = [*begins[1:], float("inf")] if begins else []
    passed_at = events.passed_at
    affected: defaultdict[str, int] = defaultdict(int)
    recovery: defaultdict[str, list[float]] = defaultdict(list)
    for fault, begin, end in zip(ordered, begins, until, strict=True):
        low, high = bisect_left(passed_at, begin), bisect_left(passed_at, end)
        missing = [
            index
            for index in range(low, high)
            if not _is_timely(events, index + 1, parts.first.get(index + 1))
        ]
        affected[fault.kind] += len(missing)
        last = passed_at[missing[-1]] if missing else fault.began_s
        recovery[fault.kind].append(max(0.0, last - fault.began_s))
    return {
        kind: FaultFigures(
            len(times), affected[kind], round(median(times), 3), round(max(times), 3)
        )
        for kind, times in recovery.items()
    }


def _growth(samples: Sequence[Sample]) -> Growth | None:
    lives: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.life].append(sample)
    longest = max(lives.values(), key=len, default=[])
    if len(longest) < LIFE_LEAST:
        return None
    quarter = len(longest) // 4
    second, last = longest[quarter : 2 * quarter], longest[-quarter:]
    return Growth(
        life_s=round(longest[-1].at_s - longest[0].at_s, 1),
        rss_mb_first=round(median(sample.rss_mb for sample in second), 2),
        rss_mb_last=round(median(sample.rss_mb for sample in last), 2),
        rss_mb_most=round(max(sample.rss_mb for sample in samples), 2),
        descriptors_first=round(median(sample.descriptors for sample in second)),
        descriptors_last=round(median(sample.descriptors for sample in last)),
        descriptors_most=max(sample.descriptors for sample in samples),
    )
