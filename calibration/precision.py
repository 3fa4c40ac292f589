"""The same graph in fewer bits: typed fp16, and int8 with Q/DQ nodes.

Precision lies in the ONNX file, so that a runtime takes it as it is and none has to be calibrated.
What both leave in fp32, because rounding there moves scores and costs nothing to avoid: the way in
(cast, normalisation), a patch's length and the division by it, and the way out (upsampling,
smoothing, image score). All that is outside of backbone and head is way in or way out.

int8 is symmetric, weights per output channel, activations per tensor, as TensorRT wants it; biases
stay in fp32. Its ranges are the largest values on the product's own good pictures: a percentile
would clip what defects reach, and moved scores more on metal_nut. A tensor is only quantised where
something computes with it in int8: cosines that go straight into a maximum are not, as steps of
1/127 would be in the score.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from calibration.lint import require_portable
from inspectd.core.bundle import ModelPart
from inspectd.core.records import ImageArray

SCOPES = ("/network/", "/head/")
"""Names of the nodes of backbone and head begin so; torch's exporter names nodes by module."""
HALF = frozenset(
    {"Add", "AveragePool", "Concat", "Conv", "Max", "MaxPool", "Relu", "ReduceMax", "Resize"}
)
"""Operators that run in fp16; none of them adds up more than a convolution does."""
QUANTISED = ("Add", "Conv", "MaxPool")
"""Operators that run in int8 on every runtime; the others get what was before rounding."""
STAGES = ("/network/conv1/", "/network/layer1/", "/network/layer2/", "/network/layer3/")
"""Of the ResNets, from the picture on."""


def write_fp16(model: Path, target: Path) -> None:
    """Writes a graph whose convolutions are typed fp16; what goes in and out is as before.

    Raises:
        BundleError: some runtime couldn't read it.
    """
    loaded = onnx.shape_inference.infer_shapes(onnx.load(model))
    _Halved(loaded.graph).rewrite()
    _save(loaded, target)


def write_int8(
    model: Path, target: Path, images: Sequence[ImageArray], keep: Sequence[str] = ()
) -> None:
    """Writes a graph whose convolutions read int8, by Q/DQ nodes.

    Args:
        model: the fp32 graph.
        target: file to write.
        images: prepared good pictures, (H, W, 3) uint8 RGB, that ranges are taken from.
        keep: beginnings of the names of nodes that stay in fp32, of `STAGES`, say.

    Raises:
        BundleError: some runtime couldn't read it.
    """
    graph = onnx.load(model)
    excluded = [
        node.name
        for node in graph.graph.node
        if not node.name.startswith(SCOPES) or node.name.startswith(tuple(keep))
    ]
    with TemporaryDirectory() as folder, _silence():
        raw = Path(folder) / "raw.onnx"
        quantize_static(
            str(model),
            str(raw),
            _Pictures(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
            },
        )
        quantised = onnx.load(raw)
    _spare_floats(quantised.graph)
    _save(quantised, target)


class _Halved:
    """Types the right nodes of a graph fp16, with one cast wherever a tensor crosses over."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        known = (*graph.value_info, *graph.input, *graph.output)
        self._floats = {
            value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT
        } | {name for name, one in self._weights.items() if one.data_type == TensorProto.FLOAT}
        self._halves: set[str] = set()
        self._nodes: list[Any] = []
        self._crossed: dict[tuple[str, int], str] = {}

    def rewrite(self) -> None:
        for node in self._graph.node:
            is_half = self._is_half(node)
            kind = TensorProto.FLOAT16 if is_half else TensorProto.FLOAT
            data = 1 if node.op_type == "Resize" else len(node.input)  # the rest is its geometry
            for index, name in enumerate(node.input[:data]):
                if name in self._floats and is_half != (name in self._halves):
                    node.input[index] = self._converted(name, kind)
            if is_half:
                self._halves.update(node.output)
            self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        _drop_unused(self._graph)

    def _is_half(self, node: Any) -> bool:
        return (
            node.op_type in HALF and node.name.startswith(SCOPES) and node.output[0] in self._floats
        )

    def _converted(self, name: str, kind: int) -> str:
        """The same tensor in another type; made once."""
        if (name, kind) not in self._crossed:
            new = f"{name}/{TensorProto.DataType.Name(kind).lower()}"
            self._crossed[name, kind] = new
            if name in self._weights:
                values = numpy_helper.to_array(self._weights[name]).astype(np.float16)
                self._graph.initializer.append(numpy_helper.from_array(values, new))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [new], name=new, to=kind))
        return self._crossed[name, kind]


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the quantiser from advising, on the root logger, to simplify the graph first."""
    root = logging.getLogger()

    def is_from_elsewhere(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root.addFilter(is_from_elsewhere)
    try:
        yield
    finally:
        root.removeFilter(is_from_elsewhere)


class _Pictures(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Feeds a quantiser one picture at a time."""

    def __init__(self, images: Sequence[ImageArray]) -> None:
        self._input = ModelPart().input
        self._images: Iterator[ImageArray] = iter(images)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """The next picture as a batch of one; None after the last."""
        image = next(self._images, None)
        return None if image is None else {self._input: image[np.newaxis]}


def _spare_floats(graph: Any) -> None:
    """Takes Q/DQ pairs away wherever what follows computes in fp32 anyway."""
    users: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        before = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if before is None:  # a weight's
            continue
        for user in users[node.output[0]]:
            if user.op_type not in QUANTISED:
                _rewire(user, node.output[0], before.input[0])
    _drop_unused(graph)


def _rewire(node: Any, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new


def _drop_unused(graph: Any) -> None:
    """Takes away nodes whose outputs nobody reads, last ones first."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Checks and writes; the quantiser leaves shapes behind that need not be there."""
    for item in list(model.opset_import):
        if item.domain:
            model.opset_import.remove(item)
    model.ir_version = min(model.ir_version, 8)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    require_portable(model, path)
    onnx.save(model, path)
