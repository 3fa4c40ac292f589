"""Prepares a product beside the running line: loads, checks and warms it up in its own thread.

One preparation at a time. What comes of it is posted to the daemon's main thread, which alone
decides what happens to it. A preparation that is still running at the end of the daemon is left to
die with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import structlog

from inspectd.core.bundle import MODEL, Bundle
from inspectd.core.config import load_product_settings
from inspectd.core.contracts import Runtime
from inspectd.core.errors import CommandError, InspectdError, RuntimeUnavailableError
from inspectd.core.paths import cache_dir
from inspectd.core.store import ProductStore
from inspectd.daemon.answers import Setup
from inspectd.pipeline.inspector import Inspector
from inspectd.pipeline.verified import admit
from inspectd.runtimes import open_runtime

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be inspected, and on what."""

    product: str
    revision: str | None
    """None: the one that is active in the store."""
    runtime: str
    threads: int
    fallback: str = ""
    """The runtime that is taken where the first one isn't there."""


Opener = Callable[[Bundle, str, int], Runtime]
"""Gives the runtime, not yet entered, for a bundle, a choice and so many threads."""


def own_runtime(bundle: Bundle, choice: str, threads: int) -> Runtime:
    """A runtime that nobody else uses."""
    return open_runtime(bundle.graph, choice, threads)


def prepare(
    choice: Choice, store: ProductStore, config: Path, open_engine: Opener = own_runtime
) -> Setup:
    """Opens, checks and warms up a product's revision.

    Raises:
        InspectdError: it can't be used.
    """
    started = perf_counter()
    bundle = store.open(choice.product, choice.revision)
    own = load_product_settings(config, choice.product)
    try:
        inspector, worst, lifetime = _verified(open_engine, bundle, choice.runtime, choice.threads)
    except RuntimeUnavailableError as error:
        if choice.fallback in ("", choice.runtime):
            raise
        log.warning("runtime_unavailable", error=str(error), fallback=choice.fallback)
        inspector, worst, lifetime = _verified(open_engine, bundle, choice.fallback, choice.threads)
    log.info(
        "product_prepared",
        product=choice.product,
        revision=bundle.manifest.revision,
        runtime=inspector.runtime.name,
        golden_difference=worst,
        took_s=round(perf_counter() - started, 2),
    )
    return Setup(inspector, own.deadline_ms, lifetime)


def _verified(
    open_engine: Opener, bundle: Bundle, runtime: str, threads: int
) -> tuple[Inspector, float, ExitStack]:
    """An inspector that reproduces the golden pictures, their difference, and what closes it."""
    with ExitStack() as lifetime:
        opened = lifetime.enter_context(open_engine(bundle, runtime, threads))
        admit(cache_dir(), bundle.manifest.files[MODEL], opened)
        inspector = Inspector(bundle, opened)
        worst = inspector.verify()
        return inspector, worst, lifetime.pop_all()


Then = Callable[[Setup | InspectdError], None]


class Changeover:
    """See the module; all of it is called in the main thread."""

    def __init__(
        self,
        prepare: Callable[[Choice], Setup],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        """`post` has something called in the main thread."""
        self._prepare = prepare
        self._post = post
        self._running: Choice | None = None
        self._next: tuple[Choice, Then] | None = None

    @property
    def running(self) -> Choice | None:
        """What is being prepared."""
        return self._running

    def begin(self, choice: Choice, then: Then) -> None:
        """Prepares a product; `then` hears of the outcome in the main thread.

        Raises:
            CommandError: another one is being prepared.
        """
        if self._running is not None:
            raise CommandError(
                f"product {self._running.product} is being prepared; try again when that is done"
            )
        self._running = choice
        run = threading.Thread(
            target=self._run, args=(choice, then), name="changeover", daemon=True
        )
        run.start()

    def insist(self, choice: Choice, then: Then) -> None:
        """The same, but waits for its turn; the newest wish counts."""
        if self._running is None:
            self.begin(choice, then)
        else:
            self._next = choice, then

    def _run(self, choice: Choice, then: Then) -> None:
        outcome: Setup | InspectdError
        try:
            outcome = self._prepare(choice)
        except InspectdError as error:
            outcome = error
        except Exception as error:
            log.error("preparation_failed", product=choice.product, exc_info=error)
            outcome = InspectdError(f"{type(error).__name__}: {error}")
        self._post(lambda: self._finish(outcome, then))

    def _finish(self, outcome: Setup | InspectdError, then: Then) -> None:
        self._running = None
        waiting, self._next = self._next, None
        then(outcome)
        if waiting is not None:
            self.begin(*waiting)
