"""Torch, operator by operator, as a runtime: what the others are measured beside.

The graph is the exported one, so nothing is compared but the execution; its batch normalisations
are folded into the convolutions already, which makes this a little faster than the module that it
was exported from. What depends on shapes alone is computed once, at the first picture, as torch
code would have it written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from calibration.operators import OPERATORS, Attributes, Operator, Tensors
from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import AnomalyMap, ImageArray

ROUNDING = {"fp32": 0.0, "fp16": 2e-3}
TYPES = {"fp32": torch.float32, "fp16": torch.float16}
WARM_UP = 3
"""Pictures before a capture, as torch's documentation wants it."""


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


class EagerRuntime:
    """Torch on the CPU or on the first GPU, without a compiler."""

    is_captured = False

    def __init__(self, graph: Graph, threads: int, device: str, precision: str) -> None:
        """`device` is ``cpu`` or ``cuda``, `precision` fp32 or fp16.

        Raises:
            RuntimeUnavailableError: there is no GPU that torch could use.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailableError(
                f"torch {torch.__version__} sees no GPU; install the one for CUDA, see nvidia-smi"
            )
        where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        self.name = f"torch-{torch.__version__} eager {precision} {where}"
        self.rounding = ROUNDING[precision]
        self._graph = graph
        self._threads = threads
        self._device = torch.device(device)
        self._precision = precision
        self._before = torch.get_num_threads()
        self._program: Program | None = None

    def __enter__(self) -> Self:
        self._before = torch.get_num_threads()
        if self._threads:
            torch.set_num_threads(self._threads)
        try:
            self._program = Program(str(self._graph.path), self._device, self._precision)
        except RuntimeUnavailableError:
            raise
        except Exception as error:  # protobuf's, onnx's and torch's share no base but Exception
            raise RuntimeUnavailableError(
                f"{self.name} can't load {self._graph.path}: {error}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._program = None
        torch.set_num_threads(self._before)

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one (H, W, 3) uint8 RGB picture; see `Runtime.infer`."""
        if image.dtype != np.uint8 or image.shape != (*self._graph.size, 3):
            raise InferenceError(f"{self.name}: {image.dtype} {image.shape} is no picture for it")
        try:
            with torch.inference_mode():
                return self._scored(np.ascontiguousarray(image))
        except Exception as error:  # torch raises RuntimeError, and others from below it
            raise InferenceError(f"{self.name}: {error}") from error

    def _scored(self, image: ImageArray) -> AnomalyMap:
        names = self._graph.names
        found = self._run(torch.tensor(image)[None].to(self._device))
        values = found[names.anomaly_map][0].float().cpu().numpy()
        return AnomalyMap(values, float(found[names.score][0]))

    def _run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        if self._program is None:
            raise InferenceError("not entered")
        return self._program(self._graph.names.input, image)


class CapturedRuntime(EagerRuntime):
    """The same on a GPU, with copies, kernels and all in one CUDA graph that is replayed."""

    is_captured = True

    def __init__(self, graph: Graph, threads: int, precision: str) -> None:
        super().__init__(graph, threads, "cuda", precision)
        self.name = self.name.replace(" eager ", " CUDA graph ")
        self._replay: Any = None

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            with torch.inference_mode():
                self._capture()
        except Exception as error:  # torch raises RuntimeError, and others from below it
            self.__exit__(None, None, None)
            raise RuntimeUnavailableError(f"{self.name} can't be captured: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._replay = None
        super().__exit__(kind, error, trace)

    def _capture(self) -> None:
        size = self._graph.size
        self._image = torch.zeros((1, *size, 3), dtype=torch.uint8, pin_memory=True)
        self._map = torch.zeros((1, *size), pin_memory=True)
        self._score = torch.zeros(1, pin_memory=True)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._step()
        aside.synchronize()
        replay = torch.cuda.CUDAGraph()
        with torch.cuda.graph(replay):
            self._step()
        self._replay = replay

    def _step(self) -> None:
        """Copy in, graph, copy out."""
        found = self._run(self._image.to(self._device, non_blocking=True))
        self._map.copy_(found[self._graph.names.anomaly_map], non_blocking=True)
        self._score.copy_(found[self._graph.names.score], non_blocking=True)

    def _scored(self, image: ImageArray) -> AnomalyMap:
        if self._replay is None:
            raise InferenceError("not entered")
        self._image.copy_(torch.tensor(image)[None])
        self._replay.replay()
        torch.cuda.synchronize()
        return AnomalyMap(self._map[0].numpy().copy(), float(self._score[0]))


CHOICES = ("torch-cpu", "torch-cuda-fp32", "torch-cuda-fp16", "torch-graph-fp16")
"""What `open_eager` knows."""


def open_eager(graph: Graph, choice: str, threads: int) -> EagerRuntime:
    """A runtime of torch by name, not yet entered.

    Raises:
        RuntimeUnavailableError: no such name, or no GPU.
    """
    if choice not in CHOICES:
        raise RuntimeUnavailableError(f"no runtime {choice!r}; known: {', '.join(CHOICES)}")
    if choice == "torch-graph-fp16":
        return CapturedRuntime(graph, threads, "fp16")
    if choice == "torch-cpu":
        return EagerRuntime(graph, threads, "cpu", "fp32")
    return EagerRuntime(graph, threads, "cuda", choice.removeprefix("torch-cuda-"))
