"""What an interrupted training needs to go on: one safetensors file, written at once or not at all.

Names of tensors begin with what they belong to: ``model/``, ``best/``, ``optimiser/NAME/`` and
``generator/``. What is not a tensor is JSON in the file's metadata. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from inspectd.core.errors import ConfigError
from inspectd.core.files import write_atomically

FILE = "checkpoint.safetensors"

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training between two steps."""

    request: str
    """Digest of all that decides the result."""
    progress: Mapping[str, Any]
    """Steps done and figures so far: what JSON can hold."""
    tensors: State
    """Weights, optimisers and generators; see the module."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replaces the folder's checkpoint; an interruption leaves the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    about = {"request": checkpoint.request, "progress": json.dumps(checkpoint.progress)}
    write_atomically(folder / FILE, save(tensors, about))


def read_checkpoint(folder: Path, request: str) -> Checkpoint:
    """The checkpoint to go on from.

    Raises:
        ConfigError: there is none, it is damaged, or it is of another request.
    """
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(
            f"{path}: no interrupted training is kept there; leave out --resume to begin anew"
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found, progress = about["request"], json.loads(about["progress"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error}); leave out --resume to begin anew") from error
    if found != request:
        raise ConfigError(
            f"{path}: is of another request (other pictures, masks, seed, backbone, options, "
            "device or version); repeat the command that was interrupted, or leave out --resume to "
            "begin anew"
        )
    return Checkpoint(found, progress, tensors)


def forget_checkpoint(folder: Path) -> None:
    """Removes the folder's checkpoint, and the folder if nothing else is in it."""
    (folder / FILE).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def prefixed(prefix: str, state: Mapping[str, torch.Tensor]) -> State:
    """The tensors under ``prefix/``."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> State:
    """What `prefixed` put under ``prefix/``, by its own names."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def optimiser_state(optimiser: torch.optim.Optimizer) -> State:
    """The moments and counts of an optimiser, by ``parameter/name``; not its settings."""
    return {
        f"{index}/{name}": torch.as_tensor(value)
        for index, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, state: State) -> None:
    """Puts back what `optimiser_state` took; its settings stay as they are."""
    moments: dict[int, State] = {}
    for key, tensor in state.items():
        index, _, name = key.partition("/")
        moments.setdefault(int(index), {})[name] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
