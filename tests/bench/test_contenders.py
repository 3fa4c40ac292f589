"""Who takes part."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectd.bench.contenders import Contender, chosen, device_of, own_contenders, precision_of
from inspectd.core.bundle import Graph
from inspectd.core.errors import ConfigError
from inspectd.runtimes import AUTO, CHOICES

GRAPH = Graph(Path("model.onnx"), (32, 32))


def test_every_runtime_takes_part() -> None:
    """A new one by itself; `auto` is none."""
    assert {one.name for one in own_contenders(GRAPH)} == {*CHOICES} - {AUTO}


def test_those_for_a_gpu_are_known() -> None:
    """They aren't even started where there is none."""
    on_gpu = {one.name for one in own_contenders(GRAPH) if one.on_gpu}
    assert on_gpu == {name for name in CHOICES if name.startswith("tensorrt")}


def test_a_choice() -> None:
    """In the usual order, all where none is named; an unknown name lists the known ones."""
    everyone = own_contenders(GRAPH)
    some = chosen(everyone, ["onnxruntime", "openvino"])
    assert [one.name for one in some] == ["openvino", "onnxruntime"]
    assert chosen(everyone, []) == everyone
    with pytest.raises(ConfigError, match=r"no runtime 'onyx'.*known: tensorrt, "):
        chosen(everyone, ["onyx"])


def test_only_batches_are_asked_for() -> None:
    """An opener that knows none is called as before."""
    contender = Contender("a", GRAPH, "builtins:slice", "choice")
    assert repr(contender.open(GRAPH, 1)) == repr(slice(GRAPH, "choice", 1))
    with pytest.raises(TypeError, match="at most 3 arguments, got 4"):
        contender.open(GRAPH, 1, 4)


@pytest.mark.parametrize(
    ("label", "precision", "device"),
    [
        ("openvino-2026.4 bf16 CPU", "bf16", "CPU"),
        ("torch-2.13.0+cpu eager fp32 CPU", "fp32", "CPU"),
        ("torch-2.13.0 CUDA graph fp16 NVIDIA H200", "fp16", "NVIDIA H200"),
        ("tensorrt-8.6.1 fp16 NVIDIA H200 (engine 0123abcd)", "fp16", "NVIDIA H200"),
        ("something else", "", ""),
    ],
)
def test_precision_and_device_by_name(label: str, precision: str, device: str) -> None:
    """An engine and torch on the same card compare by them."""
    assert (precision_of(label), device_of(label)) == (precision, device)
