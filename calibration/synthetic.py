"""Graphs to measure time with: networks of random weights, and a chain of matrix products.

Neither knows anything of a part. A network's speed doesn't depend on what its weights are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from calibration.backbones import Backbone
from calibration.backbones.resnet import SHAPES, ResNet
from calibration.graph import OPSET, ScoringGraph, export_onnx
from calibration.lint import IR, require_portable
from calibration.precision import write_fp16, write_int8
from calibration.projected import ProjectedHead, Projection, every_fourth
from calibration.scorers.protoad import CHANNELS, TILE, PublishedHead, RewrittenHead
from inspectd.core.bundle import Graph, ModelPart
from inspectd.core.errors import ConfigError

BACKBONES = tuple(SHAPES)
HEADS = ("projected", "rewritten", "published")
"""The last two are the same function, the first is what calibrate makes."""
RANGES = 2
"""Pictures of noise that int8's ranges are taken from."""
PRODUCTS = 3
"""Of the probe, one after the other, behind one that only widens the picture's three colours."""


@dataclass(frozen=True, slots=True)
class ProbeSize:
    """Large enough to reach the rate, small enough to be run a few times in a second or two."""

    side: int
    """Of the probe's picture: its square is the products' rows."""
    channels: int


CPU_PROBE = ProbeSize(48, 1_024)
"""14 GFLOP."""
GPU_PROBE = ProbeSize(128, 4_096)
"""1.6 TFLOP."""


def write_network(
    folder: Path, backbone: str, size: tuple[int, int], prototypes: int, head: str, seed: int = 0
) -> Graph:
    """ProtoAD with random weights; a seed gives `rewritten` and `published` the same function.

    Raises:
        ConfigError: no such backbone or head.
    """
    if backbone not in BACKBONES:
        raise ConfigError(f"no network is called {backbone!r}; known: {', '.join(BACKBONES)}")
    if head not in HEADS:
        raise ConfigError(f"no head is called {head!r}; known: {', '.join(HEADS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _calmed(ResNet(SHAPES[backbone]))
        layer = _head(head, prototypes, network.channels)
    path = folder / f"{backbone}-{head}.onnx"
    export_onnx(ScoringGraph(Backbone(backbone, network, "0" * 64), layer, size), path)
    return Graph(path, size)


def in_fewer_bits(graph: Graph, seed: int = 0) -> Graph:
    """The same graph with its fp16 and int8 models, written beside it."""
    drawn = np.random.default_rng(seed)
    noise = [drawn.integers(0, 256, (*graph.size, 3), np.uint8) for _ in range(RANGES)]
    paths = {name: graph.path.with_suffix(f".{name}.onnx") for name in ("fp16", "int8")}
    write_fp16(graph.path, paths["fp16"])
    write_int8(graph.path, paths["int8"], noise)
    return replace(graph, precisions=paths)


def _head(head: str, prototypes: int, channels: tuple[int, ...]) -> nn.Module:
    """With prototypes of length 1, drawn by torch's generator."""
    if head == "projected":
        directions = torch.linalg.qr(torch.randn((sum(channels), CHANNELS))).Q  # (C, D)
        rows = functional.normalize(torch.randn((prototypes, CHANNELS)))
        projection = Projection(directions.numpy(), kept=CHANNELS / sum(channels))
        return ProjectedHead(projection, rows.numpy(), channels, every_fourth, TILE)
    kernels = functional.normalize(torch.rand((prototypes, sum(channels))))
    if head == "published":
        return PublishedHead(kernels)
    return RewrittenHead(kernels, channels, TILE)


def _calmed(network: ResNet) -> ResNet:
    """In evaluation mode, with short cuts that don't let activations grow from block to block.

    With random weights each block would double the variance, and half precision would overflow.
    Biases that are all zero would be stored once, which no trained network's are.
    """
    network.eval().requires_grad_(False)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.normal_(std=0.1)
            if name.rpartition(".")[2] in ("bn2", "bn3"):
                module.weight.mul_(0.5)
    return network


def write_probe(folder: Path, wanted: ProbeSize, seed: int = 0) -> Graph:
    """Nothing but large matrix products, in the shape of a model: tells what a machine can do.

    They are 1 x 1 convolutions, which `in_fewer_bits` quantises, named as a head's.
    """
    names, drawn = ModelPart(), np.random.default_rng(seed)
    side, channels = wanted.side, wanted.channels
    shapes = [(channels, 3), *[(channels, channels)] * PRODUCTS]
    weights = [_weights(drawn, f"w{at}", shape) for at, shape in enumerate(shapes)]
    first = [
        helper.make_node("Cast", [names.input], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    products = [
        helper.make_node(
            "Conv", [f"x{at}", f"w{at}"], [f"x{at + 1}"], f"/head/{at}", kernel_shape=[1, 1]
        )
        for at in range(len(shapes))
    ]
    last = [
        helper.make_node(
            "ReduceMax", [f"x{len(shapes)}"], [names.anomaly_map], axes=[1], keepdims=0
        ),
        helper.make_node("ReduceMax", [names.anomaly_map], [names.score], axes=[1, 2], keepdims=0),
    ]
    path = folder / f"probe-{side}-{channels}.onnx"
    _save([*first, *products, *last], weights, side, path)
    return Graph(path, (side, side))


def _save(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], side: int, path: Path
) -> None:
    """As a model for square pictures."""
    names, batch = ModelPart(), "batch"
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(names.input, TensorProto.UINT8, [batch, side, side, 3])],
        [
            helper.make_tensor_value_info(
                names.anomaly_map, TensorProto.FLOAT, [batch, side, side]
            ),
            helper.make_tensor_value_info(names.score, TensorProto.FLOAT, [batch]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    require_portable(model, path)
    onnx.save(model, path)


def _weights(drawn: np.random.Generator, name: str, shape: tuple[int, int]) -> onnx.TensorProto:
    """(outputs, inputs, 1, 1) from (outputs, inputs), that keep a value's size about as it is."""
    values = drawn.standard_normal((*shape, 1, 1), np.float32) / np.float32(np.sqrt(shape[1]))
    return numpy_helper.from_array(values, name)
