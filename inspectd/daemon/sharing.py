"""Lanes with the same model on the same runtime share one engine.

Each lane has a `Share`, which to its inspector is a runtime like any other; behind it a `Batcher`
makes batches. An engine is opened for the first lane and closed by the last.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog

from inspectd.core.bundle import MODEL, Bundle
from inspectd.core.config import BatchingSection
from inspectd.core.contracts import Batched, MustProve, Runtime
from inspectd.core.errors import InferenceError
from inspectd.core.paths import cache_dir
from inspectd.core.precisions import command_for
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.daemon.batcher import Batcher, BatchRuntime
from inspectd.daemon.batches import Limits
from inspectd.runtimes import open_runtime

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Key:
    """What lanes must have in common to share an engine."""

    model: str
    """sha256 of the ONNX file."""
    runtime: str
    """Its full name: version, precision, device and, on a GPU, the engine."""
    threads: int


@dataclass(eq=False, slots=True)
class _Engine:
    """A runtime with its users."""

    runtime: BatchRuntime
    size: tuple[int, int]
    """(H, W) of its pictures."""
    users: int = 0
    opening: threading.Lock = field(default_factory=threading.Lock)
    batcher: Batcher | None = None
    """None until it is open."""


class Engines:
    """The engines that are open, each for as long as a lane has a share in it."""

    def __init__(self, batching: BatchingSection) -> None:
        self._limits = Limits(batching.max_batch, int(batching.max_wait_ms * 1e6))
        self._lock = threading.Lock()
        self._engines: dict[_Key, _Engine] = {}

    def open(self, bundle: Bundle, choice: str, threads: int) -> Runtime:
        """A lane's runtime, not yet entered: a share, or its own where there are no batches.

        Raises:
            RuntimeUnavailableError: see `open_runtime`.
        """
        runtime = open_runtime(bundle.graph, choice, threads, self._limits.largest)
        if self._limits.largest == 1:
            return runtime
        if not isinstance(runtime, Batched) or runtime.largest_batch == 1:
            option = f"--batch {self._limits.largest}"
            remedy = f"on a GPU: {command_for('build', bundle.graph, cache_dir(), option)}"
            log.warning("batching_unavailable", runtime=runtime.name, remedy=remedy)
            return runtime
        key = _Key(bundle.manifest.files[MODEL], runtime.name, threads)
        return Share(self, key, _Engine(runtime, bundle.graph.size))

    def join(self, key: _Key, spare: _Engine) -> Batcher:
        """The open engine of a key; where there is none, `spare` is opened."""
        with self._lock:
            engine = self._engines.setdefault(key, spare)
            engine.users += 1
            lanes = engine.users
        try:
            with engine.opening:
                if engine.batcher is None:
                    engine.batcher = self._opened(engine)
        except BaseException:
            self._forget(key, engine)
            raise
        log.info("engine_shared", runtime=key.runtime, lanes=lanes)
        return engine.batcher

    def leave(self, key: _Key, batcher: Batcher, lane: object) -> None:
        """Ends a lane's share; the last one closes the engine."""
        batcher.leave(lane)
        engine = self._engines[key]
        if self._forget(key, engine):
            engine.runtime.__exit__(None, None, None)

    def _opened(self, engine: _Engine) -> Batcher:
        runtime = engine.runtime
        limits = Limits(min(self._limits.largest, runtime.largest_batch), self._limits.patience_ns)
        runtime.__enter__()
        try:
            batcher = Batcher(runtime, limits)
            batcher.warm_up(engine.size)
        except BaseException:
            runtime.__exit__(None, None, None)
            raise
        return batcher

    def _forget(self, key: _Key, engine: _Engine) -> bool:
        """One user less; whether it was the last one."""
        with self._lock:
            engine.users -= 1
            if engine.users:
                return False
            del self._engines[key]
            return True


class Share:
    """A lane's part in an engine; entering opens it where no other lane has."""

    def __init__(self, engines: Engines, key: _Key, spare: _Engine) -> None:
        self._engines = engines
        self._key = key
        self._spare = spare
        self._batcher: Batcher | None = None
        self.name = spare.runtime.name
        self.rounding = spare.runtime.rounding
        self.largest_batch = spare.runtime.largest_batch
        if isinstance(spare.runtime, MustProve):
            self.proof_command = spare.runtime.proof_command

    def __enter__(self) -> Self:
        self._batcher = self._engines.join(self._key, self._spare)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        batcher, self._batcher = self._batcher, None
        if batcher is not None:
            self._engines.leave(self._key, batcher, self)

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores a picture that belongs to no part; see `Runtime.infer`."""
        return self._entered().infer(self, image, None)

    def infer_by(self, image: ImageArray, due_ns: int) -> AnomalyMap:
        """Scores a part's picture, with those of other lanes; see `Sharing`."""
        return self._entered().infer(self, image, due_ns)

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Scores several pictures by themselves; see `Batched`."""
        return self._entered().infer_batch(images)

    def keep_warm(self) -> None:
        """Lets the engine work a little; see `Warmable`."""
        self._entered().keep_warm()

    def _entered(self) -> Batcher:
        if self._batcher is None:
            raise InferenceError(f"{self.name}: not entered")
        return self._batcher
