"""The vendor's packages behind one door, contexts for threads, and errors with their remedy.

pycuda's `Context.detach` can't be trusted with a primary context: in a thread other than the one
that retained it nothing is released, and in the same one a dangling context stays current. And what
pycuda allocates is freed only while the very context object is current under which it was made;
otherwise it leaks without a word. So there is one context object per GPU and process, retained
once, never detached, and everything is made and freed inside `Vendor.current`.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from inspectd.core.errors import RuntimeUnavailableError
from inspectd.runtimes.nvidia.driver import probe

MODULES = ("tensorrt", "pycuda")
REMEDIES = (
    (
        ("out of memory", "out_of_memory", "insufficient memory", "outofmemory"),
        "the GPU's memory is full: nvidia-smi says who holds it; free some, or take another GPU",
    ),
    (
        ("driver version is insufficient", "forward compatibility", "unsupported display driver"),
        "update NVIDIA's driver: it is too old for this TensorRT",
    ),
    (
        (
            "launch failure",
            "illegal memory access",
            "illegal instruction",
            "ecc error",
            "unknown error",
            "hardware stack",
            "launch timed out",
            "device-side assert",
            "context is destroyed",
            "busy or unavailable",
            "misaligned address",
            "launch_failed",
            "illegal_address",
        ),
        "the GPU is lost to this process, which must start anew; see nvidia-smi -q, and Xid in "
        "dmesg",
    ),
    (
        ("no cuda-capable device", "invalid device ordinal", "no_device"),
        "no GPU is visible; see nvidia-smi and CUDA_VISIBLE_DEVICES",
    ),
)
"""Words of an error, lower case, to what can be done."""


@dataclass(eq=False)
class Vendor:
    """The packages, imported."""

    trt: Any
    """The module ``tensorrt``."""
    cuda: Any
    """The module ``pycuda.driver``."""
    graphs: Any
    """The module ``cuda.bindings.driver``; None where it isn't there: no CUDA graphs then."""
    log: Any = None
    """TensorRT's logger; it takes only one per process."""
    loading: threading.Lock = field(default_factory=threading.Lock)
    """Held while an engine is loaded and its graph captured: one at a time in a process."""
    _contexts: dict[int, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.log = _log(self.trt)

    @property
    def major(self) -> int:
        """TensorRT's."""
        return int(self.version.split(".")[0])

    @property
    def version(self) -> str:
        """TensorRT's."""
        return str(self.trt.__version__)

    @contextmanager
    def current(self, device: int) -> Iterator[None]:
        """Makes a GPU's primary context current in the calling thread."""
        context = self._contexts.get(device) or self._retained(device)
        context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def _retained(self, device: int) -> Any:
        with self._lock:
            if device not in self._contexts:
                self._contexts[device] = self.cuda.Device(device).retain_primary_context()
            return self._contexts[device]


@cache
def load() -> Vendor:
    """Imports the packages; asks the driver first.

    Raises:
        RuntimeUnavailableError: no driver, no GPU, or a package is missing or doesn't load.
    """
    probe()
    try:
        trt = importlib.import_module("tensorrt")
        cuda = importlib.import_module("pycuda.driver")
    except (ImportError, OSError, RuntimeError) as error:  # bindings without their library raise
        raise RuntimeUnavailableError(
            f"TensorRT can't be loaded ({error}); pip install tensorrt pycuda"
        ) from error
    cuda.init()
    return Vendor(trt, cuda, _graphs())


def packages() -> list[str]:
    """Which of the packages are missing."""
    return [name for name in MODULES if importlib.util.find_spec(name) is None]


def _graphs() -> Any:
    for name in ("cuda.bindings.driver", "cuda.cuda"):  # the latter before cuda-python 12.8
        try:
            return importlib.import_module(name)
        except (ImportError, OSError):
            continue
    return None


def _log(trt: Any) -> Any:
    """A logger that keeps the last warnings and errors for our own messages."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is only known at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.kept: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.kept.append(message.strip())

        def taken(self) -> str:
            """The errors since the last time, as one sentence."""
            said = "; ".join(self.kept)
            self.kept.clear()
            return said or "it doesn't say why"

    return Log()


def explained(error: object) -> str:
    """A CUDA or TensorRT error in words, with what to do where that is known."""
    text = str(error) or type(error).__name__
    lowered = text.lower()
    for words, remedy in REMEDIES:
        if any(word in lowered for word in words):
            return f"{text}; {remedy}"
    return text
