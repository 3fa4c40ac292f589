"""One loop for every scorer that is trained."""

from __future__ import annotations

import torch

from inspectd.core.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def device_named(name: str) -> str:
    """`cpu` or `cuda`; `auto` takes the GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name not in DEVICES:
        raise ConfigError(f"no device is called {name!r}; known: {', '.join(DEVICES)}")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError("no CUDA device is usable here; pass --device cpu, or auto")
    return "cuda" if has_gpu and name != "cpu" else "cpu"
