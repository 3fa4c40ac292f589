"""A course as figures: for people, for machines, for the plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from inspectd.bench.contenders import device_of, precision_of
from inspectd.bench.course import Course, Samples
from inspectd.bench.floor import Floor, Rates, best_rates, floor_of
from inspectd.bench.machine import Machine
from inspectd.bench.rung import Facts, Rung
from inspectd.bench.statistics import Latency, curve, first_over_median
from inspectd.pipeline.parity import Bounds, Pair, Parity, judge

SCHEMA = 1
"""Of the JSON; a figure that changes its meaning or its name raises it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One contender."""

    name: str
    runtime: str
    """Its own name, with version, precision and device."""
    precision: str
    device: str
    back: Latency
    """One picture after the other."""
    cadence: Latency
    """At the line's cadence, from the instant a part was due."""
    after_gap: tuple[float, float]
    """(median, worst) of the first picture after a stand-still, over the cadence's median."""
    keeps_up: bool
    """Whether a picture takes less time than there is between two parts."""
    throughput: float
    """Pictures a second, one at a time; NaN where none was measured."""
    batched_throughput: float
    """Pictures a second in batches of the plan's size; NaN where none was measured."""
    load_s: float
    first_ms: float
    build_s: float | None
    """Of a TensorRT engine; None where nothing is built."""
    memory_mib: float
    """Of the process with the runtime loaded and a few pictures scored."""
    own_memory_mib: float
    """That, less what the process held before the runtime's packages were imported."""
    peak_mib: float | None
    device_mib: float | None
    """Of the GPU."""
    gflop: float | None
    floor: Floor
    parity: Parity
    failure: str

    @property
    def has_verdicts(self) -> bool:
        """Whether the model decides anything."""
        return math.isfinite(self.parity.threshold)


@dataclass(frozen=True, slots=True)
class Context:
    """What a report needs besides the course."""

    machine: Machine
    command: tuple[str, ...]
    """As typed."""
    started_at: str
    """UTC, with zone."""
    flops: Mapping[str, int]
    """Of one picture, by the model's path."""
    build_s: Mapping[str, float]
    """Of TensorRT engines, by the runtime's name."""
    load_average: tuple[float, float]
    """Of the machine, over one minute, at the beginning and at the end."""


def figures_of(course: Course, context: Context) -> list[Figures]:
    """Each contender's, in their usual order."""
    rates = rates_of(course)
    return [_figures(name, one, course, context, rates) for name, one in course.samples.items()]


def rates_of(course: Course) -> Rates:
    """What the machine has shown, by precision and device."""
    return best_rates((name, *_kind(one), one.flops_per_s) for name, one in course.samples.items())


def _kind(samples: Samples) -> tuple[str, str]:
    return precision_of(samples.loaded.label), device_of(samples.loaded.label)


def _figures(
    name: str, samples: Samples, course: Course, context: Context, rates: Rates
) -> Figures:
    loaded, back = samples.loaded, Latency.of(samples.back_ms)
    cadence = Latency.of(samples.cadence_ms)
    flops = context.flops.get(str(samples.contender.graph.path))
    precision, device = _kind(samples)
    return Figures(
        name=name,
        runtime=loaded.label,
        precision=precision,
        device=device,
        back=back,
        cadence=cadence,
        after_gap=first_over_median(samples.firsts_ms, samples.cadence_ms),
        keeps_up=not back.p50 > 1e3 / course.plan.rate,
        throughput=_per_second(back),
        batched_throughput=_per_second(Latency.of(samples.batches_ms)) * course.plan.batch,
        load_s=loaded.load_s,
        first_ms=loaded.first_ms,
        build_s=context.build_s.get(loaded.label),
        memory_mib=loaded.resident_mib,
        own_memory_mib=loaded.resident_mib - loaded.before_mib,
        peak_mib=samples.peak_mib,
        device_mib=loaded.device_mib,
        gflop=None if flops is None else flops / 1e9,
        floor=floor_of(flops, rates, (precision, device), back.p50),
        parity=_parity(samples, course),
        failure=samples.failure,
    )


def _per_second(latency: Latency) -> float:
    return 1e3 / latency.mean if latency.count else math.nan


def _parity(samples: Samples, course: Course) -> Parity:
    """Against ONNX Runtime in fp32, on this machine; of another function, of no picture."""
    subject = course.subject
    pairs = [
        Pair(name, False, reference, score, is_golden=True)
        for name, reference, score in zip(
            subject.names, course.reference, samples.scores, strict=False
        )
        if samples.contender.is_comparable
    ]
    return judge(pairs, subject.threshold, Bounds.of(subject.tolerance, samples.loaded.rounding))


def facts_of(course: Course, lint: tuple[str, ...] | None) -> Facts:
    """What the run says about a GPU."""
    on_cpu = [one for one in course.samples.values() if _is_torch(one) and _is_on_cpu(one)]
    on_gpu = [one for one in course.samples.values() if _is_torch(one) and not _is_on_cpu(one)]
    engines = [one for one in course.samples.values() if one.loaded.label.startswith("tensorrt-")]
    return Facts(
        lint=lint,
        agrees_with_torch=_all_agree(on_cpu, course),
        engine_agrees=_all_agree(engines, course),
        engine_is_captured=bool(engines) and all(one.loaded.is_captured for one in engines),
        torch_on_gpu=tuple(
            "CUDA graph" if one.loaded.is_captured else "eager" for one in on_gpu if one.back_ms
        ),
    )


def _is_torch(samples: Samples) -> bool:
    return samples.loaded.label.startswith("torch-")


def _is_on_cpu(samples: Samples) -> bool:
    return device_of(samples.loaded.label) == "CPU"


def _all_agree(some: list[Samples], course: Course) -> bool | None:
    scored = [one for one in some if _is_sound(one)]
    return all(_parity(one, course).passed for one in scored) if scored else None


def _is_sound(samples: Samples) -> bool:
    return bool(samples.scores) and samples.contender.is_comparable and not samples.failure


def as_json(course: Course, context: Context, rung: Rung) -> dict[str, Any]:
    """Everything, for another program."""
    return {
        "schema": SCHEMA,
        "complete": course.is_complete,
        "rounds_done": course.rounds_done,
        "command": list(context.command),
        "started_at": context.started_at,
        "machine": asdict(context.machine),
        "load_average": list(context.load_average),
        "model": {
            "title": course.subject.title,
            "path": str(course.subject.graph.path),
            "size": list(course.subject.graph.size),
            "pictures": len(course.subject.pictures),
        },
        "plan": asdict(course.plan),
        "rates": [
            {"precision": kind[0], "device": kind[1], **asdict(shown)}
            for kind, shown in rates_of(course).items()
        ],
        "contenders": [
            {
                **_without_parity(figures),
                "parity": figures.parity.as_json() if figures.parity.n_golden else None,
                "flops_per_s": course.samples[figures.name].flops_per_s,
                "curves_ms": {
                    "back": curve(course.samples[figures.name].back_ms),
                    "cadence": curve(course.samples[figures.name].cadence_ms),
                    "after_gap": course.samples[figures.name].firsts_ms,
                    "batches": curve(course.samples[figures.name].batches_ms),
                },
            }
            for figures in figures_of(course, context)
        ],
        "absent": course.absent,
        "rung": asdict(rung),
    }


def _without_parity(figures: Figures) -> dict[str, Any]:
    content = asdict(figures)
    del content["parity"]
    return content
