"""Which of a graph's files a CPU runtime loads for a precision, and what that means for parity."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspectd.core import paths
from inspectd.core.files import sha256_of

if TYPE_CHECKING:  # so that the GPU's part runs where pydantic isn't installed
    from inspectd.core.bundle import Graph

ROUNDING = {"fp32": 0.0, "bf16": 5e-3, "int8": 5e-3}
"""How far a precision may move a score: the parity gate holds it to that. A cosine's rounding in 8
bits of mantissa is 2e-3."""


@dataclass(frozen=True, slots=True)
class Model:
    """What to load."""

    path: Path
    runtime: str
    """The runtime's full name; of a quantised model with its hash, as what was found of one model
    says nothing of another."""
    rounding: float
    proof_command: str
    """What to type before it may decide; empty where that isn't asked for."""


def model_of(graph: Graph, runtime: str, precision: str) -> Model:
    """The file for a precision: fp32's, but for int8, which lies in the model.

    Args:
        graph: with its files.
        runtime: name and version.
        precision: one of `ROUNDING`.

    Raises:
        RuntimeUnavailableError: the graph has no model in int8.
    """
    rounding = ROUNDING[precision]
    if precision != "int8":
        return Model(graph.path, f"{runtime} {precision} CPU", rounding, "")
    path = graph.file(precision)
    name = runtime.partition("-")[0]
    option = f"--runtime {name}-int8 --images HOLDOUT"
    label = f"{runtime} int8 CPU (model {sha256_of(path)[:8]})"
    return Model(path, label, rounding, command_for("verify", graph, paths.cache_dir(), option))


def command_for(verb: str, graph: Graph, cache: Path, option: str) -> str:
    """What to type, with the places where they aren't those that a shell would find by itself."""
    outside = {k: v for k, v in os.environ.items() if not k.endswith("_DIRECTORY")}
    words = [f"inspectd {verb} --product {graph.product or 'NAME'}"]
    if graph.revision:
        words.append(f"--revision {graph.revision}")
        state = graph.path.absolute().parents[3]  # state/products/product/revision/model
        if state != paths.state_dir(outside).absolute():
            words.append(f"--state-dir {shlex.quote(str(state))}")
    words.append(option)
    if cache != paths.cache_dir(outside):
        words.insert(0, f"INSPECTD_CACHE_DIR={shlex.quote(str(cache))}")
    return " ".join(words)
