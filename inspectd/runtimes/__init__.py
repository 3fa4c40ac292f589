"""Inference runtimes, chosen by name; vendor packages are imported only in their own file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from inspectd.core.bundle import Graph
from inspectd.core.contracts import Runtime
from inspectd.core.errors import RuntimeUnavailableError

AUTO = "auto"
PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
"""Runtime name to the package it needs, in the order in which `auto` tries them."""
REDUCED = {"openvino-bf16": "openvino"}
"""Runtimes of lower precision, to the package they need; never chosen by `auto`."""
SIMULATED = {"simulated": "onnxruntime"}
"""Runtimes in which faults can be put, to the package they need; no user is offered them."""
CHOICES = (AUTO, *PACKAGES, *REDUCED)


def open_runtime(graph: Graph, choice: str = AUTO, threads: int = 0) -> Runtime:
    """A runtime for a graph, not yet entered.

    Args:
        graph: the model to run.
        choice: ``auto`` or a runtime's name.
        threads: CPU threads; 0 takes all cores.

    Raises:
        RuntimeUnavailableError: unknown, or its package isn't installed.
    """
    name = _chosen(choice)
    return _factories()[name](graph, threads)


def installed() -> list[str]:
    """Names of the runtimes whose package is installed, best first."""
    return [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]


def _chosen(choice: str) -> str:
    present = installed()
    if choice == AUTO and present:
        return present[0]
    if choice == AUTO:
        raise RuntimeUnavailableError("no runtime is installed; pip install onnxruntime")
    package = {**PACKAGES, **REDUCED, **SIMULATED}.get(choice)
    if package is None:
        raise RuntimeUnavailableError(f"no runtime {choice!r}; known: {', '.join(CHOICES)}")
    if package not in present:
        raise RuntimeUnavailableError(f"{choice} isn't installed; pip install {package}")
    return choice


def _factories() -> dict[str, Callable[[Graph, int], Runtime]]:
    def openvino(graph: Graph, threads: int) -> Runtime:
        from inspectd.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(graph, threads)

    def openvino_bf16(graph: Graph, threads: int) -> Runtime:
        from inspectd.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(graph, threads, precision="bf16")

    def onnxruntime(graph: Graph, threads: int) -> Runtime:
        from inspectd.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime(graph, threads)

    def simulated(graph: Graph, threads: int) -> Runtime:
        from inspectd.runtimes.simulated import SimulatedRuntime

        return SimulatedRuntime(graph, threads)

    return {
        "openvino": openvino,
        "openvino-bf16": openvino_bf16,
        "onnxruntime": onnxruntime,
        "simulated": simulated,
    }
