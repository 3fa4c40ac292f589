"""ONNX Runtime in which things go wrong on demand, for simulations: slow, failing, hanging.

What is to go wrong stands in a small file that both sides map: `FaultPlan` is the hand that writes
it, while the daemon runs; `SimulatedRuntime` looks at it before each picture. The file's name comes
by the environment. Without it nothing goes wrong, and scores are ONNX Runtime's own in any case.

The configuration takes it only with ``simulation = true``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Self

from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.runtimes.onnxruntime import OnnxRuntime

VARIABLE = "INSPECTD_SIMULATED_RUNTIME"
"""The environment variable that names the plan."""
LOOK_S = 0.02
"""How often a hanging inference looks whether it may go on."""


class _Words(ctypes.Structure):
    """The file's content; each word has one writer."""

    _fields_ = (
        ("delay_ms", ctypes.c_uint32),
        ("hangs", ctypes.c_uint32),
        ("failures_asked", ctypes.c_uint32),
        ("failures_done", ctypes.c_uint32),
    )


class FaultPlan:
    """What goes wrong from now on; it outlives the processes that read it."""

    def __init__(self, path: Path) -> None:
        """Maps the file, and makes it first where there is none."""
        if not path.exists():
            path.write_bytes(bytes(_Words()))
        self.path = path
        self._words = _mapped(path)

    def environment(self) -> dict[str, str]:
        """For the processes that are to heed it."""
        return {VARIABLE: str(self.path.resolve())}

    def delay(self, milliseconds: int) -> None:
        """Each inference takes so much longer; 0 ends it."""
        self._words.delay_ms = milliseconds

    def hang(self) -> None:
        """From now on inferences don't return, until `resume`."""
        self._words.hangs = 1

    def resume(self) -> None:
        """Ends `hang`."""
        self._words.hangs = 0

    def fail(self, pictures: int) -> None:
        """So many more inferences fail."""
        self._words.failures_asked += pictures

    @property
    def pending(self) -> int:
        """Failures still to come."""
        return int(self._words.failures_asked - self._words.failures_done)


class SimulatedRuntime:
    """See the module; `OnnxRuntime` does the work."""

    def __init__(self, graph: Graph, threads: int = 0, batch: int = 1) -> None:
        self._inner = OnnxRuntime(graph, threads, batch=batch)
        self._inner.name = self.name = f"simulated-{self._inner.name}"
        self.rounding = self._inner.rounding
        self.largest_batch = batch
        self._words = _Words()

    def __enter__(self) -> Self:
        path = os.environ.get(VARIABLE)
        try:
            self._words = _mapped(Path(path)) if path else _Words()
        except (OSError, ValueError) as error:
            raise RuntimeUnavailableError(
                f"{self.name}: {path} can't be mapped ({error}); unset {VARIABLE}"
            ) from error
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)
        self._words = _Words()

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one (H, W, 3) uint8 RGB picture, if the plan lets it; see `Runtime.infer`."""
        self._obey()
        return self._inner.infer(image)

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Several at once, if the plan lets them: they wait, hang or fail together."""
        self._obey()
        return self._inner.infer_batch(images)

    def _obey(self) -> None:
        words = self._words
        while words.hangs:  # a fake may look again and again; what it stands for never returns
            sleep(LOOK_S)
        if words.delay_ms:
            sleep(words.delay_ms / 1000)
        if words.failures_asked != words.failures_done:
            words.failures_done += 1
            raise InferenceError(f"{self.name}: it was asked to fail")


def _mapped(path: Path) -> _Words:
    with path.open("r+b") as file:
        return _Words.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(_Words)))
