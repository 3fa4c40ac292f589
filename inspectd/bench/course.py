"""The run: contenders take turns, in rounds of shuffled order, so that a busy spell strikes all.

Only one works at a time. What was measured stays in `Course` turn by turn, so that a run that is
interrupted still has figures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import sleep

from inspectd.bench.contenders import Contender
from inspectd.bench.host import Worker
from inspectd.bench.requests import AtCadence, BackToBack, Beat, InBatches, Peak, Rate, Scores
from inspectd.bench.subject import Subject
from inspectd.bench.worker import Loaded
from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.pipeline.score import examine
from inspectd.runtimes import open_runtime

REFERENCE = "onnxruntime"
PAUSE_S = 0.05
"""Between two turns: threads of the one before may still spin for a moment."""

Report = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how often, how fast."""

    seconds: float
    """Per contender: half of it back to back, half at the cadence; without the stand-stills, and
    without batches, which take half of it again."""
    rounds: int
    rate: float
    """Parts per second of the line."""
    gap_s: float
    """Length of a stand-still."""
    gaps: int
    """Stand-stills per contender."""
    threads: int
    """CPU threads; 0 takes all cores."""
    batch: int = 1
    """Pictures in one go; 1 measures no batches."""
    seed: int = 0

    @property
    def turn_s(self) -> float:
        """Of each kind of turn."""
        return self.seconds / 2 / self.rounds

    @property
    def parts_per_turn(self) -> int:
        """At the cadence; at least one."""
        return max(1, round(self.turn_s * self.rate))

    @property
    def gap_rounds(self) -> frozenset[int]:
        """Rounds in which the line stands still, spread evenly."""
        count = min(self.gaps, self.rounds)
        return frozenset(index * self.rounds // count for index in range(count))

    def order(self, names: Sequence[str]) -> list[list[str]]:
        """Who comes when: a list for each round."""
        drawn = random.Random(self.seed)  # noqa: S311 - no secret
        return [drawn.sample(list(names), len(names)) for _ in range(self.rounds)]


@dataclass(frozen=True, slots=True)
class Probe:
    """A graph of matrix products, and its work."""

    graph: Graph
    flops: int
    """Of one picture."""


ProbeFor = Callable[[str], Probe | None]
"""The probe for a runtime, by its name; None where there is none."""


@dataclass(slots=True)
class Samples:
    """What is known of one contender so far."""

    contender: Contender
    loaded: Loaded
    back_ms: list[float] = field(default_factory=list)
    cadence_ms: list[float] = field(default_factory=list)
    firsts_ms: list[float] = field(default_factory=list)
    """The first picture after each stand-still."""
    batches_ms: list[float] = field(default_factory=list)
    """Of the plan's size, each as a whole."""
    scores: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    flops_per_s: float | None = None
    """Of its precision, on the probe: the best of all rounds."""
    is_weighable: bool = True
    """Whether it runs the probe; an engine or a quantised model is of one graph only."""
    failure: str = ""
    """Why it dropped out; empty where it didn't."""


@dataclass(slots=True)
class Course:
    """Everything measured so far."""

    subject: Subject
    plan: Plan
    reference: list[float] = field(default_factory=list)
    """Scores by ONNX Runtime in fp32."""
    samples: dict[str, Samples] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Contenders that can't run here, and why."""
    rounds_done: int = 0
    is_complete: bool = False


def measure(
    course: Course,
    contenders: Sequence[Contender],
    probe_for: ProbeFor,
    report: Report,
) -> None:
    """Fills the course.

    Raises:
        RuntimeUnavailableError: not even the reference runs.
    """
    plan, subject = course.plan, course.subject
    course.reference = _reference_scores(subject, plan.threads)
    with ExitStack() as stack:
        workers = {}
        for index, contender in enumerate(contenders):
            report("loading", index, len(contenders))
            worker = _started(course, contender)
            if worker is not None:
                stack.push(worker)
                workers[contender.name] = worker
        report("loading", len(contenders), len(contenders))
        for name, worker in workers.items():
            _score(worker, course.subject, course.samples[name])
        _rounds(course, workers, probe_for, report)
    course.is_complete = True


def _reference_scores(subject: Subject, threads: int) -> list[float]:
    with open_runtime(subject.graph, REFERENCE, threads) as runtime:
        return [examine(runtime, image, subject.scope).score for image in subject.pictures]


def _started(course: Course, contender: Contender) -> Worker | None:
    """A worker that is loaded; None where it can't run or is one that runs already."""
    plan = course.plan
    worker = Worker(contender, plan.threads, course.subject.inputs, plan.batch)
    try:
        worker.__enter__()
    except RuntimeUnavailableError as error:
        course.absent[contender.name] = str(error)
        return None
    label = worker.loaded.label
    for name, other in course.samples.items():
        if (label, contender.graph) == (other.loaded.label, other.contender.graph):
            worker.__exit__(None, None, None)
            course.absent[contender.name] = f"is what {name} runs: {label}"
            return None
    course.samples[contender.name] = Samples(contender, worker.loaded)
    return worker


def _score(worker: Worker, subject: Subject, samples: Samples) -> None:
    """Scores, and then the most memory that it ever held: later it holds the probe, too."""
    try:
        samples.scores = worker.ask(Scores(subject.pictures, subject.scope))
        samples.peak_mib = worker.ask(Peak())
    except InferenceError as error:
        samples.failure = str(error)


def _rounds(
    course: Course, workers: dict[str, Worker], probe_for: ProbeFor, report: Report
) -> None:
    plan, done = course.plan, 0
    for index, names in enumerate(plan.order(list(workers))):
        for name in names:
            report("measuring", done, plan.rounds * len(workers))
            gap_s = plan.gap_s if index in plan.gap_rounds else 0.0
            samples = course.samples[name]
            if not samples.failure:
                _turn(workers[name], samples, plan, gap_s)
                _weigh(workers[name], samples, probe_for(samples.loaded.label))
            done += 1
        course.rounds_done = index + 1
    report("measuring", done, plan.rounds * len(workers))


def _turn(worker: Worker, samples: Samples, plan: Plan, gap_s: float) -> None:
    """Every kind of pictures; who fails drops out."""
    try:
        sleep(PAUSE_S)
        samples.back_ms += worker.ask(BackToBack(plan.turn_s))
        if 1 < plan.batch <= samples.loaded.largest_batch:
            samples.batches_ms += worker.ask(InBatches(plan.turn_s))
        sleep(PAUSE_S)
        beat: Beat = worker.ask(AtCadence(1 / plan.rate, plan.parts_per_turn, gap_s))
        samples.cadence_ms += beat.others
        if beat.first is not None:
            samples.firsts_ms.append(beat.first)
    except InferenceError as error:
        samples.failure = str(error)


def _weigh(worker: Worker, samples: Samples, probe: Probe | None) -> None:
    """The rate of its precision, once more; of a precision that nobody can tell it for, none."""
    if probe is None or not samples.is_weighable:
        return
    try:
        rate = worker.ask(Rate(probe.graph, probe.flops))
        samples.flops_per_s = max(rate, samples.flops_per_s or 0.0)
    except InferenceError:
        samples.is_weighable = False
