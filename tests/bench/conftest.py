"""A course written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.synthetic import ProbeSize, write_probe
from inspectd.bench.contenders import Contender
from inspectd.bench.course import Course, Plan, Samples
from inspectd.bench.machine import Machine
from inspectd.bench.report import Context
from inspectd.bench.subject import Subject, of_graph
from inspectd.bench.worker import Loaded
from inspectd.core.bundle import Graph

GRAPH = Graph(Path("model.onnx"), (8, 8))


def loaded(label: str, rounding: float = 0.0, is_captured: bool = False) -> Loaded:
    """A contender of that name that is open."""
    return Loaded(label, rounding, is_captured, 1.5, 30.0, 150.0, 50.0, None)


@pytest.fixture(scope="session")
def runnable(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The smallest model there is, on pictures of noise: no product has to be calibrated."""
    graph = write_probe(tmp_path_factory.mktemp("bench"), ProbeSize(32, 8))
    return of_graph(graph, "a small one")


@pytest.fixture
def course() -> Course:
    """Two contenders on the CPU, 100 pictures each; a third is absent."""
    picture = np.zeros((8, 8, 3), np.uint8)
    names = ("golden/00.png", "golden/01.png")
    subject = Subject("flange r1", GRAPH, (picture,) * 2, names, 0.5, 1e-3)
    made = Course(subject, Plan(10, 5, 5, 2, 1, 1), reference=[0.2, 0.8])
    labels = {"onnxruntime": "onnxruntime-1 fp32 CPU", "torch-cpu": "torch-2 eager fp32 CPU"}
    for index, (name, label) in enumerate(labels.items()):
        made.samples[name] = Samples(
            Contender(name, GRAPH, "a:b", name),
            loaded(label),
            back_ms=[10.0 + index] * 100,
            cadence_ms=[12.0 + index] * 20,
            firsts_ms=[24.0 + 2 * index],
            scores=[0.2, 0.8],
            peak_mib=200.0,
            flops_per_s=1e11 if index == 0 else None,
        )
    made.absent["tensorrt"] = "no NVIDIA driver"
    made.rounds_done, made.is_complete = 5, True
    return made


@pytest.fixture
def context() -> Context:
    """What belongs to it: 0.5 GFLOP a picture."""
    machine = Machine("a CPU", 2, ("avx2",), 24.0, "Linux", (), {"inspectd": "0"})
    flops = {str(GRAPH.path): 500_000_000}
    return Context(machine, ("inspectd", "bench"), "2025-01-02T03:04:05+00:00", flops, {}, (0, 1))
