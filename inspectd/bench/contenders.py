"""Who takes part. Whether a contender can run here is found out by opening it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inspectd.core.bundle import Graph
from inspectd.core.contracts import Runtime
from inspectd.core.errors import ConfigError
from inspectd.runtimes import PACKAGES, VARIANTS

OWN = "inspectd.runtimes:open_runtime"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Contender:
    """A runtime that isn't open yet, and in which process it will be."""

    name: str
    graph: Graph
    opener: str
    """``module:function`` that takes graph, choice and threads, and gives a `Runtime`; where
    batches are wanted, it takes their size as well."""
    choice: str
    """The opener's name for it."""
    on_gpu: bool = False
    """Whether it needs an NVIDIA GPU."""
    is_comparable: bool = True
    """Whether its graph is the measured model's function, so that scores say anything."""

    def open(self, graph: Graph, threads: int, batch: int = 1) -> Runtime:
        """The runtime for its own or another graph, not yet entered.

        Raises:
            InspectdError, ImportError: it can't run here.
        """
        module, _, function = self.opener.partition(":")
        size = () if batch == 1 else (batch,)
        opened: Runtime = vars(importlib.import_module(module))[function](
            graph, self.choice, threads, *size
        )
        return opened


def own_contenders(graph: Graph) -> list[Contender]:
    """Every runtime of `inspectd.runtimes`, each followed by its precisions."""
    return [
        Contender(name, graph, OWN, name, on_gpu=base == "tensorrt")
        for base in PACKAGES
        for name in (base, *(variant for variant, of in VARIANTS.items() if of == base))
    ]


def chosen(all_of_them: Sequence[Contender], names: Iterable[str]) -> list[Contender]:
    """Those asked for by name, in the usual order; all where none is named.

    Raises:
        ConfigError: there is none of a name.
    """
    wanted, known = list(names), [one.name for one in all_of_them]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no runtime {name!r} to measure; known: {', '.join(known)}")
    return [one for one in all_of_them if one.name in wanted or not wanted]


def precision_of(label: str) -> str:
    """From a runtime's name, ``openvino-2026.4 bf16 CPU``; empty where it has none."""
    return next((word for word in label.split() if word in PRECISIONS), "")


def device_of(label: str) -> str:
    """From a runtime's name: what comes after the precision, without a remark in brackets."""
    _, _, rest = label.partition(f" {precision_of(label)} ")
    return rest.partition(" (")[0]
