"""Multiplications and additions of an exported graph, counted from its shapes.

Convolutions and matrix products only: the rest is a few percent, and waits for memory, not for
arithmetic. A multiplication and the addition after it are two. An algorithm that needs fewer
(Winograd's, for 3 x 3 kernels) may take less time than this count over the machine's rate.
"""

from __future__ import annotations

from math import prod

import torch

from calibration.operators import Tensors
from calibration.program import Program
from inspectd.core.bundle import Graph
from inspectd.core.errors import BundleError


def flops(graph: Graph) -> int:
    """Of one picture; the graph runs on torch's device that computes shapes alone.

    Raises:
        BundleError: the graph can't be read, or has operators that torch's half doesn't know.
    """
    try:
        nowhere = torch.device("meta")
        image = torch.zeros((1, *graph.size, 3), dtype=torch.uint8, device=nowhere)
        steps = Program(str(graph.path), nowhere, "fp32").steps(graph.names.input, image)
        return sum(_of(*step) for step in steps)
    except Exception as error:  # protobuf's, onnx's and torch's share no base but Exception
        raise BundleError(graph.path, f"its work can't be counted ({error})") from error


def _of(kind: str, inputs: Tensors, output: torch.Tensor) -> int:
    if kind == "Conv":
        per_value = prod(inputs[1].shape[1:])  # (outputs, inputs / groups, height, width)
    elif kind == "MatMul":
        per_value = inputs[0].shape[-1]
    else:
        return 0
    return 2 * output.numel() * int(per_value)
