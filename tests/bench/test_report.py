"""A course as figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from inspectd.bench.contenders import Contender
from inspectd.bench.course import Course, Samples
from inspectd.bench.report import SCHEMA, Context, as_json, facts_of, figures_of
from inspectd.bench.rung import rung_of
from inspectd.bench.worker import Loaded


def captured(label: str, is_captured: bool = True) -> Loaded:
    """A contender on a GPU."""
    return Loaded(label, 2e-3, is_captured, 1.0, 1.0, 100.0, 50.0, 300.0)


def test_a_contenders_figures(course: Course, context: Context) -> None:
    """Latency, throughput, memory, floor: all from the samples."""
    ort, torch = figures_of(course, context)
    assert (ort.name, ort.precision, ort.device) == ("onnxruntime", "fp32", "CPU")
    assert (ort.back.p50, ort.back.p99) == (10, 10)
    assert ort.throughput == pytest.approx(100)
    assert ort.after_gap == (2.0, 2.0)
    assert ort.own_memory_mib == 100
    assert (ort.floor.ms, ort.floor.ratio) == (pytest.approx(5), pytest.approx(2))
    assert torch.floor.ms == pytest.approx(5), "another's rate of the same precision counts"
    assert ort.parity.passed
    assert ort.has_verdicts


def test_batches_count_pictures(course: Course, context: Context) -> None:
    """Four in 20 ms are 200 a second; who took none has no figure."""
    course.plan = replace(course.plan, batch=4)
    course.samples["onnxruntime"].batches_ms = [19.0, 21.0]
    ort, torch = figures_of(course, context)
    assert ort.batched_throughput == pytest.approx(200)
    assert math.isnan(torch.batched_throughput)


def test_one_that_differs_fails(course: Course, context: Context) -> None:
    """By score and by verdict, within its own rounding's bounds."""
    course.samples["torch-cpu"].scores = [0.2, 0.45]
    parity = figures_of(course, context)[1].parity
    assert not parity.passed
    assert parity.difference == pytest.approx(0.35)
    assert len(parity.changed) == 1


def test_another_function_is_not_compared(course: Course, context: Context) -> None:
    """It neither fails nor says anything about a GPU."""
    samples = course.samples["torch-cpu"]
    samples.scores = [0.7, 0.1]
    samples.contender = replace(samples.contender, is_comparable=False)
    assert figures_of(course, context)[1].parity.n_golden == 0
    facts = facts_of(course, ())
    assert facts.agrees_with_torch is None
    first, second = as_json(course, context, rung_of(facts))["contenders"]
    assert first["parity"]["passed"] is True
    assert second["parity"] is None


def test_one_that_is_too_slow(course: Course, context: Context) -> None:
    """Five parts a second leave 200 ms."""
    course.samples["torch-cpu"].back_ms = [201.0] * 3
    assert [one.keeps_up for one in figures_of(course, context)] == [True, False]


def test_what_was_interrupted_has_figures(course: Course, context: Context) -> None:
    """Nothing measured is no figure, not an error; and JSON says that it isn't complete."""
    course.is_complete = False
    samples = course.samples["torch-cpu"]
    samples.back_ms, samples.cadence_ms, samples.firsts_ms, samples.scores = [], [], [], []
    found = figures_of(course, context)[1]
    assert found.back.count == found.parity.n_golden == 0
    content = as_json(course, context, rung_of(facts_of(course, ())))
    assert content["complete"] is False


def test_the_json_is_complete(course: Course, context: Context) -> None:
    """Versioned, with machine, command, raw percentiles, who was absent, and the rung."""
    content = json.loads(json.dumps(as_json(course, context, rung_of(facts_of(course, ())))))
    assert content["schema"] == SCHEMA
    assert content["complete"] is True
    assert content["machine"]["cpu"] == "a CPU"
    assert content["command"] == ["inspectd", "bench"]
    assert content["absent"] == {"tensorrt": "no NVIDIA driver"}
    assert content["rates"] == [
        {"precision": "fp32", "device": "CPU", "flops_per_s": 1e11, "contender": "onnxruntime"}
    ]
    first = content["contenders"][0]
    assert first["curves_ms"]["back"]["50"] == 10.0
    assert first["parity"]["passed"] is True
    assert content["rung"]["number"] == 1


def test_what_a_cpu_says_about_a_gpu(course: Course) -> None:
    """The lint, and torch's scores; nothing of an engine."""
    facts = facts_of(course, ())
    assert facts.agrees_with_torch is True
    assert facts.engine_agrees is None
    course.samples["torch-cpu"].scores = [0.3, 0.8]
    assert facts_of(course, ()).agrees_with_torch is False
    del course.samples["torch-cpu"]
    assert facts_of(course, ()).agrees_with_torch is None


def test_what_a_gpu_says(course: Course) -> None:
    """Engine, replay, torch both ways: the third rung."""
    template = course.samples["onnxruntime"]
    labels = {
        "tensorrt": captured("tensorrt-8.6.1 fp16 NVIDIA H200 (engine 01234567)"),
        "torch-cuda-fp16": captured("torch-2 eager fp16 NVIDIA H200", is_captured=False),
        "torch-graph-fp16": captured("torch-2 CUDA graph fp16 NVIDIA H200"),
    }
    for name, loaded in labels.items():
        contender = Contender(name, course.subject.graph, "a:b", name)
        course.samples[name] = replace(template, contender=contender, loaded=loaded)
    assert rung_of(facts_of(course, ())).number == 3
    slow: Samples = course.samples["tensorrt"]
    course.samples["tensorrt"] = replace(slow, scores=[0.2, 0.81])
    assert rung_of(facts_of(course, ())).number == 1
