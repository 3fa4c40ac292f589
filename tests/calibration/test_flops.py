"""A graph's work, counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.flops import flops
from calibration.synthetic import PRODUCTS, ProbeSize, write_network, write_probe
from inspectd.core.bundle import Graph
from inspectd.core.errors import BundleError


def test_matrix_products(tmp_path: Path) -> None:
    """The probe is 3 columns to 16, then 16 to 16 a few times, for every pixel."""
    probe = write_probe(tmp_path, ProbeSize(32, 16))
    assert flops(probe) == 2 * 32 * 32 * (3 * 16 + PRODUCTS * 16 * 16)


def test_convolutions(tmp_path: Path) -> None:
    """Kernel, stride and groups count; what is elementwise doesn't."""
    weights = {
        "dense": np.zeros((8, 3, 3, 3), np.float32),
        "grouped": np.zeros((8, 2, 1, 1), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "dense"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Conv", ["z", "grouped"], ["w"], group=4),
        helper.make_node("ReduceMax", ["w"], ["anomaly_map"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "two convolutions",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 32, 64, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["n", 16, 32]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert flops(Graph(path, (32, 64))) == 2 * 16 * 32 * 8 * (3 * 3 * 3 + 2)


def test_the_rewriting_saves_most_of_the_head(tmp_path: Path) -> None:
    """Each stage at its own resolution: exactly the difference that the algebra gives."""
    counted = {
        head: flops(write_network(tmp_path, "resnet18", (64, 64), 50, head))
        for head in ("published", "rewritten")
    }
    finest = 16 * 16
    saved = 2 * 50 * (finest * (128 + 256) - finest * 128 // 4 - finest * 256 // 16)
    assert counted["published"] - counted["rewritten"] == saved


def test_a_damaged_file(tmp_path: Path) -> None:
    """Names the file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"model\.onnx.*can't be counted"):
        flops(Graph(path, (32, 32)))
