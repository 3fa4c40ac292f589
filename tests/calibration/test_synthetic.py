"""Graphs of random weights, to measure time with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.eager import EagerRuntime
from calibration.lint import lint
from calibration.synthetic import PRODUCTS, ProbeSize, in_fewer_bits, write_network, write_probe
from inspectd.core.errors import ConfigError
from inspectd.runtimes import open_runtime

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def test_the_papers_heads_are_the_same_function(tmp_path: Path) -> None:
    """So that one can be timed, and compared, beside the other."""
    scores = []
    for head in ("rewritten", "published"):
        graph = write_network(tmp_path, "resnet18", (64, 64), 40, head)
        with open_runtime(graph, "onnxruntime", 1) as runtime:
            scores.append(runtime.infer(PICTURE).score)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert 0 < scores[0] < 1


def test_the_projected_head_in_all_precisions(tmp_path: Path) -> None:
    """It does the least work, and its int8 model gives the scores of fp32 within rounding."""
    graph = in_fewer_bits(write_network(tmp_path, "resnet18", (64, 64), 40, "projected"))
    assert sorted(graph.precisions) == ["fp16", "int8"]
    with open_runtime(graph, "onnxruntime", 1) as runtime:
        expected = runtime.infer(PICTURE).score
    assert 0 < expected < 1
    for name in ("onnxruntime-int8", "openvino-int8"):
        with open_runtime(graph, name, 1) as runtime:
            found = runtime.infer(PICTURE).score
            assert found == pytest.approx(expected, abs=runtime.rounding)
            assert found != expected


def test_half_precision_does_not_overflow(tmp_path: Path) -> None:
    """Though the weights are random."""
    graph = write_network(tmp_path, "resnet18", (64, 64), 40, "published")
    with EagerRuntime(graph, 1, "cpu", "fp16") as runtime:
        assert np.isfinite(runtime.infer(PICTURE).values).all()


@pytest.mark.parametrize(
    ("network", "head"), [("alexnet", "rewritten"), ("resnet18", "improved"), ("", "published")]
)
def test_what_does_not_exist_is_refused(tmp_path: Path, network: str, head: str) -> None:
    """With the names that do."""
    with pytest.raises(ConfigError, match="known: "):
        write_network(tmp_path, network, (64, 64), 40, head)


def test_the_probe_is_a_model(tmp_path: Path) -> None:
    """Every runtime can read it, and its values stay of the size that they have."""
    probe = write_probe(tmp_path, ProbeSize(32, 64))
    assert lint(onnx.load(probe.path)) == []
    with open_runtime(probe, "onnxruntime", 1) as runtime:
        found = runtime.infer(np.full((32, 32, 3), 127, np.uint8))
    assert found.values.shape == (32, 32)
    assert 1 < found.score < 1e4


def test_the_probe_in_int8_is_all_in_int8(tmp_path: Path) -> None:
    """Every product reads quantised values and weights: the rate is that of int8."""
    probe = in_fewer_bits(write_probe(tmp_path, ProbeSize(32, 64)))
    graph = onnx.load(probe.precisions["int8"]).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type == "Conv"]
    assert len(products) == 1 + PRODUCTS
    assert {makers[name] for node in products for name in node.input} == {"DequantizeLinear"}
    for name in ("onnxruntime-int8", "openvino-int8"):
        with open_runtime(probe, name, 1) as runtime:
            assert runtime.infer(np.full((32, 32, 3), 127, np.uint8)).score > 1
