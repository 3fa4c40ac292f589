"""Inference runtimes, chosen by name; vendor packages are imported only in their own file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

from inspectd.core.contracts import Runtime
from inspectd.core.errors import RuntimeUnavailableError

if TYPE_CHECKING:  # so that the GPU's part runs where pydantic isn't installed
    from inspectd.core.bundle import Graph

AUTO = "auto"
PACKAGES = {
    "tensorrt": ("tensorrt", "pycuda"),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
}
"""Runtime name to the packages it needs, in the order in which `auto` tries them."""
VARIANTS = {
    "openvino-int8": "openvino",
    "openvino-bf16": "openvino",
    "onnxruntime-int8": "onnxruntime",
    "tensorrt-fp16": "tensorrt",
    "tensorrt-fp32": "tensorrt",
    "tensorrt-int8": "tensorrt",
}
"""Runtimes of one precision, to the one whose packages they need; never chosen by `auto`."""
SIMULATED = {"simulated": "onnxruntime"}
"""Runtimes in which faults can be put, to the one that they rest on; no user is offered them."""
CHOICES = (AUTO, *PACKAGES, *VARIANTS)


def open_runtime(graph: Graph, choice: str = AUTO, threads: int = 0, batch: int = 1) -> Runtime:
    """A runtime for a graph, not yet entered.

    `auto` takes TensorRT where the driver, a GPU and an engine that has passed the parity gate
    agree, then OpenVINO, then ONNX Runtime, these in fp32.

    Args:
        graph: the model to run.
        choice: ``auto`` or a runtime's name.
        threads: CPU threads; 0 takes all cores.
        batch: pictures that are to go into one inference at most; see `Batched`.

    Raises:
        RuntimeUnavailableError: unknown, a package isn't installed, or there is no GPU.
        EngineError: TensorRT has no engine for it; the message has the command that builds one.
    """
    name = _automatic(graph) if choice == AUTO else _installed(choice)
    return _factories(batch)[name](graph, threads)


def installed() -> list[str]:
    """Names of the runtimes whose packages are installed, best first."""
    return [name for name, packages in PACKAGES.items() if all(map(_is_present, packages))]


def _is_present(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _automatic(graph: Graph) -> str:
    present = installed()
    for name in present:
        if name != "tensorrt" or _has_engine(graph):
            return name
    raise RuntimeUnavailableError("no runtime is installed; pip install onnxruntime")


def _has_engine(graph: Graph) -> bool:
    from inspectd.runtimes.tensorrt import proven_engine

    return proven_engine(graph)


def _installed(choice: str) -> str:
    name = {**VARIANTS, **SIMULATED}.get(choice, choice)
    if name not in PACKAGES:
        raise RuntimeUnavailableError(f"no runtime {choice!r}; known: {', '.join(CHOICES)}")
    if name not in installed():
        packages = " ".join(PACKAGES[name])
        raise RuntimeUnavailableError(f"{choice} isn't installed; pip install {packages}")
    return choice


def _factories(batch: int) -> dict[str, Callable[[Graph, int], Runtime]]:
    def tensorrt(precision: str) -> Callable[[Graph, int], Runtime]:
        def opened(graph: Graph, threads: int) -> Runtime:
            from inspectd.runtimes.tensorrt import TensorRtRuntime

            return TensorRtRuntime(graph, precision, batch=batch)

        return opened

    def openvino(precision: str) -> Callable[[Graph, int], Runtime]:
        def opened(graph: Graph, threads: int) -> Runtime:
            from inspectd.runtimes.openvino import OpenVinoRuntime

            return OpenVinoRuntime(graph, threads, precision, batch)

        return opened

    def onnxruntime(precision: str) -> Callable[[Graph, int], Runtime]:
        def opened(graph: Graph, threads: int) -> Runtime:
            from inspectd.runtimes.onnxruntime import OnnxRuntime

            return OnnxRuntime(graph, threads, precision, batch)

        return opened

    def simulated(graph: Graph, threads: int) -> Runtime:
        from inspectd.runtimes.simulated import SimulatedRuntime

        return SimulatedRuntime(graph, threads, batch)

    return {
        "tensorrt": tensorrt("best"),
        "tensorrt-fp16": tensorrt("fp16"),
        "tensorrt-fp32": tensorrt("fp32"),
        "tensorrt-int8": tensorrt("int8"),
        "openvino": openvino("fp32"),
        "openvino-bf16": openvino("bf16"),
        "openvino-int8": openvino("int8"),
        "onnxruntime": onnxruntime("fp32"),
        "onnxruntime-int8": onnxruntime("int8"),
        "simulated": simulated,
    }
