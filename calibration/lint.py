"""What an exported graph must be for every runtime to read it; checked at each export.

TensorRT 8.6 is the strictest: opset 17 and IR 8 at most; an input of bytes only into a Cast, and
that before the Transpose; no bias quantised to int32; standard operators only, and of these the
ones below, which all of its versions since 8.6 have.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from inspectd.core.bundle import ModelPart
from inspectd.core.errors import BundleError

OPSET = 17
"""The newest that TensorRT 8.6 reads."""
IR = 8
OPERATORS = """
Abs Add ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
DequantizeLinear Div Exp Expand Flatten Floor Gather Gemm GlobalAveragePool Identity LeakyRelu
MatMul Max MaxPool Min Mul Neg Pad Pow QuantizeLinear Reciprocal ReduceL2 ReduceMax ReduceMean
ReduceMin ReduceSum Relu Reshape Resize Shape Sigmoid Sign Slice Softmax Split Sqrt Squeeze Sub Tanh
TopK Transpose Unsqueeze
"""
_OPERATORS = frozenset(OPERATORS.split())
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def require_portable(model: onnx.ModelProto, path: Path) -> None:
    """Refuses a graph that some runtime can't read.

    Raises:
        BundleError: it lists all that is wrong.
    """
    if problems := lint(model):
        raise BundleError(path, f"not every runtime can read the model: {'; '.join(problems)}")


def lint(model: onnx.ModelProto, names: ModelPart | None = None) -> list[str]:
    """All that is wrong with a graph; empty where every runtime can read it."""
    names = names or ModelPart()
    return [
        *_format(model),
        *_tensors(model, names),
        *_entrance(model.graph, names.input),
        *_weights(model.graph),
    ]


def _format(model: onnx.ModelProto) -> list[str]:
    found = []
    if model.ir_version > IR:
        found.append(f"IR version {model.ir_version}, at most {IR}")
    for item in model.opset_import:
        if item.domain:
            found.append(f"operators of {item.domain}")
        elif item.version > OPSET:
            found.append(f"opset {item.version}, at most {OPSET}")
    strange = sorted({node.op_type for node in model.graph.node} - _OPERATORS)
    return [*found, *(f"operator {name}" for name in strange)]


def _tensors(model: onnx.ModelProto, names: ModelPart) -> list[str]:
    """Names, types and axes of what goes in and out."""
    wanted = {
        names.input: ((TensorProto.UINT8,), 4),
        names.anomaly_map: (FLOATS, 3),
        names.score: (FLOATS, 1),
    }
    there = {
        value.name: value.type.tensor_type for value in (*model.graph.input, *model.graph.output)
    }
    if set(there) != set(wanted):
        return [f"tensors {', '.join(there)} instead of {', '.join(wanted)}"]
    found = []
    for name, (kinds, axes) in wanted.items():
        kind, shape = there[name].elem_type, there[name].shape.dim
        if kind not in kinds or len(shape) != axes:
            text = TensorProto.DataType.Name(kind)
            found.append(f"{name} is {text} with {len(shape)} axes, not {axes}")
        elif not shape[0].dim_param:
            found.append(f"{name} has a batch of fixed length")
    picture = there[names.input].shape.dim
    if len(picture) == 4 and (picture[3].dim_value != 3 or not picture[1].dim_value):
        found.append(f"{names.input} is not (batch, H, W, 3)")
    return found


def _entrance(graph: onnx.GraphProto, name: str) -> list[str]:
    """The picture goes into one Cast, and what that gives into one Transpose."""
    users = [node for node in graph.node if name in node.input]
    if [node.op_type for node in users] != ["Cast"]:
        return [f"{name} goes into {_types(users)}, not into one Cast"]
    after = [node for node in graph.node if users[0].output[0] in node.input]
    if [node.op_type for node in after] != ["Transpose"]:
        return [f"the cast picture goes into {_types(after)}, not into one Transpose"]
    return []


def _weights(graph: onnx.GraphProto) -> list[str]:
    kinds = {weights.name: weights.data_type for weights in graph.initializer}
    found = [
        f"weights {weights.name} lie outside the file"
        for weights in graph.initializer
        if weights.data_location == TensorProto.EXTERNAL
    ]
    doubles = sorted(name for name, kind in kinds.items() if kind == TensorProto.DOUBLE)
    found += [f"weights {name} are float64" for name in doubles]
    found += [
        f"{node.name or node.output[0]} has a bias quantised to int32"
        for node in graph.node
        if node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) == TensorProto.INT32
    ]
    return found


def _types(nodes: list[onnx.NodeProto]) -> str:
    return " and ".join(node.op_type for node in nodes) or "nothing"
