"""An exported graph that torch runs, node by node, in a precision and on a device.

What depends on shapes alone is computed once, at the first picture, as torch code would have it
written down; and a value goes as soon as no later node needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from calibration.operators import OPERATORS, Attributes, Operator, Tensors
from inspectd.core.errors import RuntimeUnavailableError

TYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Node:
    """One operator with what goes in and out."""

    kind: str
    """ONNX's name."""
    run: Operator
    inputs: tuple[str, ...]
    """Empty names stand for what is left out."""
    output: str
    attributes: Attributes
    done_with: tuple[str, ...] = ()
    """Values that no later node needs."""


class Program:
    """A graph in one precision on one device; for one size of picture."""

    def __init__(self, path: str, device: torch.device, precision: str) -> None:
        """Reads the graph.

        Raises:
            RuntimeUnavailableError: an operator isn't known here.
        """
        self._device = device
        self._dtype = TYPES[precision]
        graph = onnx.load(path).graph
        self._known = {one.name: self._tensor(one) for one in graph.initializer}
        self._outputs = tuple(one.name for one in graph.output)
        self._nodes = [self._node(node) for node in graph.node]
        self._is_settled = False

    def __call__(self, name: str, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(1, H, W, 3) uint8 on the device to the graph's outputs."""
        if not self._is_settled:
            self._settle(name, image)
        values = {name: image}
        for node in self._nodes:
            values[node.output] = node.run(self._inputs(node, values), node.attributes)
            for finished in node.done_with:
                del values[finished]
        return {output: values[output] for output in self._outputs}

    def steps(self, name: str, image: torch.Tensor) -> Iterator[tuple[str, Tensors, torch.Tensor]]:
        """Each node in turn: ONNX's name for it, its inputs and its output."""
        values = {name: image}
        for node in self._nodes:
            inputs = self._inputs(node, values | self._known)
            values[node.output] = node.run(inputs, node.attributes)
            yield node.kind, inputs, values[node.output]

    def _settle(self, name: str, image: torch.Tensor) -> None:
        """Runs once and keeps what doesn't depend on the pixels; drops the nodes that made it."""
        values, left = {name: image}, []
        for node in self._nodes:
            is_fixed = node.kind == "Shape" or all(one in self._known for one in node.inputs if one)
            value = node.run(self._inputs(node, values), node.attributes)
            (self._known if is_fixed else values)[node.output] = value
            if not is_fixed:
                left.append(node)
        self._nodes = _with_last_uses(left, {*values}, {name, *self._outputs})
        self._is_settled = True

    def _inputs(self, node: Node, values: Mapping[str, torch.Tensor]) -> Tensors:
        return [
            None if not one else values[one] if one in values else self._known[one]
            for one in node.inputs
        ]

    def _node(self, node: onnx.NodeProto) -> Node:
        if node.op_type not in OPERATORS or node.domain or len(node.output) != 1:
            raise RuntimeUnavailableError(
                f"torch can't run this graph: operator {node.domain}{node.op_type} of "
                f"{node.name or node.output[0]} is not in calibration/operators.py; leave torch out"
            )
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        for key, value in attributes.items():
            if isinstance(value, TensorProto):
                attributes[key] = self._tensor(value)
        if node.op_type == "Cast":
            attributes["to"] = self._type(attributes["to"])
        run = OPERATORS[node.op_type]
        return Node(node.op_type, run, tuple(node.input), node.output[0], attributes)

    def _type(self, kind: int) -> torch.dtype:
        """Floating point is whatever was asked for."""
        if kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
            return self._dtype
        return torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(kind))).dtype

    def _tensor(self, proto: onnx.TensorProto) -> torch.Tensor:
        """Whole numbers are shapes and axes, and stay with the CPU."""
        value = torch.from_numpy(numpy_helper.to_array(proto).copy())
        if not value.is_floating_point():
            return value
        return value.to(self._device, self._dtype)


def _with_last_uses(nodes: list[Node], passing: set[str], kept: set[str]) -> list[Node]:
    """Says after which node a value may go."""
    needed, found = set(kept), []
    for node in reversed(nodes):
        over = tuple({*node.inputs, node.output} & passing - needed)
        needed |= {*node.inputs, node.output}
        found.append(replace(node, done_with=over))
    return found[::-1]
