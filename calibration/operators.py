"""ONNX's operators, opset 17, in torch: those that exported graphs use (`calibration.lint`).

Each takes the node's inputs, None for what is left out, and its attributes. Shapes, axes and the
like are tensors of whole numbers on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Tensors = list[Any]
"""Of tensors, and None."""
Attributes = dict[str, Any]
Operator = Callable[[Tensors, Attributes], torch.Tensor]

PADDING = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}


def _elementwise(function: Callable[..., torch.Tensor]) -> Operator:
    return lambda inputs, attributes: function(*inputs)


def _folded(function: Callable[..., torch.Tensor]) -> Operator:
    """Of any number of inputs."""
    return lambda inputs, attributes: reduce(function, inputs)


def _reduced(function: Callable[..., torch.Tensor]) -> Operator:
    """Over axes, which are an attribute or, for some operators, an input."""

    def run(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
        axes = inputs[1].tolist() if len(inputs) > 1 else attributes.get("axes")
        axes = list(range(inputs[0].ndim)) if axes is None else list(axes)
        return function(inputs[0], dim=axes, keepdim=bool(attributes.get("keepdims", 1)))

    return run


def _same_sides(pads: list[int]) -> tuple[int, int]:
    """(vertical, horizontal) of ONNX's top, left, bottom, right."""
    top, left, bottom, right = pads
    if (top, left) != (bottom, right):
        raise ValueError(f"padding {pads} differs from side to side")
    return top, left


def _convolved(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    bias = inputs[2] if len(inputs) > 2 else None
    return functional.conv2d(
        inputs[0],
        inputs[1],
        bias,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=_same_sides(attributes.get("pads", [0] * 4)),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _max_pooled(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    return functional.max_pool2d(
        inputs[0],
        attributes["kernel_shape"],
        attributes.get("strides"),
        _same_sides(attributes.get("pads", [0] * 4)),
        attributes.get("dilations", (1, 1)),
        bool(attributes.get("ceil_mode", 0)),
    )


def _average_pooled(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    return functional.avg_pool2d(
        inputs[0],
        attributes["kernel_shape"],
        attributes.get("strides"),
        _same_sides(attributes.get("pads", [0] * 4)),
        bool(attributes.get("ceil_mode", 0)),
        bool(attributes.get("count_include_pad", 0)),
    )


def _resized(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    mode = attributes.get("mode"), attributes.get("coordinate_transformation_mode", b"half_pixel")
    if mode != (b"linear", b"half_pixel"):
        raise ValueError(f"Resize {mode} is not bilinear between the pixels' centres")
    x = inputs[0]
    sizes = inputs[3] if len(inputs) > 3 else None
    scales = inputs[2]
    size = sizes[2:] if sizes is not None else (torch.tensor(x.shape[2:]) * scales[2:].cpu())
    sides = [int(side) for side in size]
    return functional.interpolate(x, size=sides, mode="bilinear", align_corners=False)


def _padded(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x, pads = inputs[0], inputs[1].tolist()
    sides = [(pads[axis], pads[axis + x.ndim]) for axis in range(x.ndim)]
    while len(sides) > 1 and not any(sides[0]):
        sides.pop(0)
    flat = [length for pair in reversed(sides) for length in pair]  # torch begins with the last
    mode = PADDING[attributes.get("mode", b"constant")]
    if mode != "constant":
        return functional.pad(x, flat, mode=mode)
    value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    return functional.pad(x, flat, value=value)


def _sliced(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    starts, ends = inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else range(len(starts))
    steps = inputs[4].tolist() if len(inputs) > 4 else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(*slice(start, end, step).indices(x.shape[axis]))
        if step == 1:
            x = x.narrow(axis, chosen.start, len(chosen))
        else:  # torch's slices don't run backwards
            wanted = torch.tensor(list(chosen), dtype=torch.int64, device=x.device)
            x = x.index_select(axis, wanted)
    return x


def _gathered(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    index, axis = inputs[1], attributes.get("axis", 0)
    if index.ndim == 0:
        return x.select(axis, int(index))
    chosen = x.index_select(axis, index.flatten().to(x.device))
    return chosen.reshape(*x.shape[:axis], *index.shape, *x.shape[axis:][1:])


def _reshaped(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    """A zero keeps the side as it is."""
    x: torch.Tensor = inputs[0]
    wanted = inputs[1].tolist()
    return x.reshape([x.shape[at] if side == 0 else side for at, side in enumerate(wanted)])


def _expanded(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(inputs[1].tolist())))


def _unsqueezed(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    ndim = x.ndim + len(inputs[1])
    for axis in sorted(axis % ndim for axis in inputs[1].tolist()):
        x = x.unsqueeze(axis)
    return x


def _squeezed(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    return x.squeeze(tuple(inputs[1].tolist()))


def _filled(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    value: torch.Tensor = attributes.get("value", torch.zeros(1))
    return value.expand(tuple(inputs[0].tolist())).clone()


def _clipped(inputs: Tensors, attributes: Attributes) -> torch.Tensor:
    x: torch.Tensor = inputs[0]
    bounds = inputs[1:]
    low = bounds[0] if bounds else None
    high = bounds[1] if len(bounds) > 1 else None
    if low is None and high is None:
        return x
    clipped: torch.Tensor = torch.clamp(x, low, high)
    return clipped


def _length(x: torch.Tensor, dim: list[int], keepdim: bool) -> torch.Tensor:
    """Summed in fp32 whatever `x` is: squares would overflow half precision."""
    length: torch.Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)
    return length


OPERATORS: dict[str, Operator] = {
    "Abs": _elementwise(torch.abs),
    "Add": _elementwise(torch.add),
    "AveragePool": _average_pooled,
    "Cast": lambda inputs, attributes: inputs[0].to(attributes["to"]),
    "Clip": _clipped,
    "Concat": lambda inputs, attributes: torch.cat(inputs, dim=attributes["axis"]),
    "Constant": lambda inputs, attributes: attributes["value"],
    "ConstantOfShape": _filled,
    "Conv": _convolved,
    "Div": _elementwise(torch.div),
    "Exp": _elementwise(torch.exp),
    "Expand": _expanded,
    "Gather": _gathered,
    "Identity": lambda inputs, attributes: inputs[0],
    "MatMul": _elementwise(torch.matmul),
    "Max": _folded(torch.maximum),
    "MaxPool": _max_pooled,
    "Min": _folded(torch.minimum),
    "Mul": _elementwise(torch.mul),
    "Neg": _elementwise(torch.neg),
    "Pad": _padded,
    "Pow": _elementwise(torch.pow),
    "ReduceL2": _reduced(_length),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _elementwise(torch.relu),
    "Reshape": _reshaped,
    "Resize": _resized,
    "Shape": lambda inputs, attributes: torch.tensor(inputs[0].shape),
    "Sigmoid": _elementwise(torch.sigmoid),
    "Sign": _elementwise(torch.sign),
    "Slice": _sliced,
    "Sqrt": _elementwise(torch.sqrt),
    "Squeeze": _squeezed,
    "Sub": _elementwise(torch.sub),
    "Tanh": _elementwise(torch.tanh),
    "Transpose": lambda inputs, attributes: inputs[0].permute(attributes["perm"]),
    "Unsqueeze": _unsqueezed,
}
