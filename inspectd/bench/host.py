"""The parent's end of a contender's process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from inspectd.bench.contenders import Contender
from inspectd.bench.worker import Failure, Loaded, Request, serve
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import ImageArray

END_S = 10.0
"""A worker may take so long to leave its runtime before it is killed."""


class Worker:
    """A contender in its own process; entering loads it, leaving ends the process."""

    def __init__(
        self, contender: Contender, threads: int, pictures: Sequence[ImageArray], batch: int = 1
    ) -> None:
        self.contender = contender
        ours, theirs = multiprocessing.Pipe()
        self._connection, self._theirs = ours, theirs
        self._process = multiprocessing.get_context("spawn").Process(
            target=serve,
            args=(theirs, contender, threads, tuple(pictures), batch),
            name=f"bench-{contender.name}",
            daemon=True,
        )
        self.loaded: Loaded

    def __enter__(self) -> Self:
        """Starts the process and waits until it has loaded.

        Raises:
            RuntimeUnavailableError: it can't run here; the message says why.
        """
        self._process.start()
        self._theirs.close()
        try:
            self.loaded = self._answer()
        except InferenceError as error:
            self._end(0.0)
            raise RuntimeUnavailableError(str(error)) from error
        except BaseException:
            self._end(0.0)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(END_S if kind is None else 0.0)

    def ask(self, request: Request) -> Any:
        """Its answer.

        Raises:
            InferenceError: it failed, or its process is gone.
        """
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._gone() from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if isinstance(answer, Failure):
            raise InferenceError(answer.message)
        return answer

    def _gone(self) -> InferenceError:
        self._process.join(END_S)
        return InferenceError(f"its process ended by itself, status {self._process.exitcode}")

    def _end(self, patience_s: float) -> None:
        """It leaves when we hang up; in the middle of a request it is killed."""
        self._connection.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
