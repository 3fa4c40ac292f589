"""Calibrates contenders alike and judges them on the same parts: the I/O around `contenders`.

They are calibrated into a store in a scratch folder, so the product's revisions and the
one that is active stay as they are; `keep` puts a revision beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter

import numpy as np

from calibration.backbones import Backbone
from calibration.calibrate import Request, calibrate
from calibration.comparison.contenders import Contender, Failure, Latency, Outcome, latency_of
from calibration.comparison.halves import Halves
from calibration.dataset import Sample
from calibration.evaluate import arrays, score_samples, summarise
from calibration.material import PreparedSamples
from calibration.scorers import Fitted, Labelled, Material, Option, Report, Scorer
from inspectd.core.bundle import Bundle
from inspectd.core.contracts import Runtime
from inspectd.core.errors import InspectdError
from inspectd.core.records import ImageArray, MapArray
from inspectd.core.scope import Scope
from inspectd.core.store import ProductStore
from inspectd.pipeline.score import examine
from inspectd.runtimes import open_runtime

ROUNDS = 120
"""In which each contender infers one picture that is timed."""
LEAST_ROUNDS = 10
TIMING_S = 90.0
"""After which no new round begins, if the least are done."""
TIMED_PICTURES = 8
"""Different ones, evenly spread over the judged."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What every contender is given alike."""

    product: str
    images: Path
    labelled: Path
    """Folder of the pictures that were split."""
    halves: Halves
    holdout: Path
    """Folder of the first half: see `calibration.comparison.halves.link_samples`."""
    resize: tuple[int, int]
    """(H, W) pixels."""
    crop: tuple[int, int] | None
    """(H, W) pixels; None: all of that."""
    seed: int
    runtime: str
    threads: int
    budget_s: float | None
    """Of each training; None: as long as it is planned."""
    device: str
    """Of each training."""

    def request(self, scorer: Scorer) -> Request:
        """For `calibrate`; a scorer that isn't trained needs neither budget nor device."""
        return Request(
            product=self.product,
            images=self.images,
            holdout=self.holdout,
            resize=self.resize,
            crop=self.crop,
            seed=self.seed,
            runtime=self.runtime,
            threads=self.threads,
            precisions=(),
            budget_s=self.budget_s if scorer.is_trained else None,
            device=self.device if scorer.is_trained else "cpu",
        )


@dataclass(frozen=True, slots=True)
class Turns:
    """What came of letting the contenders infer by turns; in their order."""

    latencies: tuple[Latency, ...]
    maps: tuple[Mapping[int, MapArray], ...]
    """Of each the (H, W) maps of the parts that are shown, by their place among the judged."""


@dataclass(frozen=True, slots=True)
class _Observed:
    """A scorer that remembers what was said of its fit."""

    scorer: Scorer
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.scorer.name

    @property
    def seen_limit(self) -> int:
        return self.scorer.seen_limit

    @property
    def is_trained(self) -> bool:
        return self.scorer.is_trained

    def options(self) -> dict[str, Option]:
        return self.scorer.options()

    def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
        fitted = self.scorer.fit(material, backbone, seed, report)
        self.facts.update(fitted.facts)
        return fitted


def contest(
    contender: Contender, terms: Terms, store: ProductStore, report: Report
) -> Outcome | Failure:
    """Calibrates a contender into a scratch store and scores the judged parts as the line would.

    What goes wrong with one is its failure; the others may go well.
    """
    try:
        return _judged(contender, terms, store, report)
    except InspectdError as error:
        return Failure(contender.name, str(error))
    except Exception as error:  # noqa: BLE001 - hours of the others' training would be lost
        return Failure(contender.name, f"{type(error).__name__}: {error}")


def counting_on(folder: Path, product: str, last: str | None) -> ProductStore:
    """A store whose revisions of the product are counted on from `last`, its newest elsewhere."""
    if last is not None:
        (folder / product / last).mkdir(parents=True)
    return ProductStore(folder)


def keep(bundle: Bundle, store: ProductStore) -> Bundle:
    """Puts a revision into the product's store as it is; which one is active stays as it is."""
    product = bundle.manifest.product
    with store.staging(product) as folder:
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        return store.commit(product, folder, bundle.manifest.revision)


def infer_in_turn(
    outcomes: Sequence[Outcome], terms: Terms, shown: Sequence[int], report: Report
) -> Turns:
    """Times all contenders by turns, all in memory at once, and maps the parts that are shown.

    Side by side in one run they share whatever else the machine does, so the ratios hold where
    the milliseconds alone would not.
    """
    with ExitStack() as stack:
        runtimes = [
            stack.enter_context(open_runtime(one.bundle.graph, terms.runtime, terms.threads))
            for one in outcomes
        ]
        scopes = [one.bundle.scope() for one in outcomes]
        pictures = prepared(terms.halves.judged, outcomes[0].bundle)
        some = np.unique(np.linspace(0, len(pictures) - 1, TIMED_PICTURES, dtype=int))
        runs = [_runner(*pair) for pair in zip(runtimes, scopes, strict=True)]
        times = time_in_turn(runs, [pictures[index].image for index in some], report)
        maps: tuple[dict[int, MapArray], ...] = tuple({} for _ in outcomes)
        for done, index in enumerate(shown):
            image = pictures[index].image
            for runtime, scope, found in zip(runtimes, scopes, maps, strict=True):
                found[index] = examine(runtime, image, scope).values
            report("mapping examples", done + 1, len(shown))
    return Turns(tuple(latency_of(np.array(one)) for one in times), maps)


def time_in_turn(
    runs: Sequence[Callable[[ImageArray], object]], images: Sequence[ImageArray], report: Report
) -> list[list[float]]:
    """Milliseconds of each round, for each of `runs`.

    In a round all take the same picture, in another order each time. Each runs twice and the
    second is timed: the first finds the caches as another model left them, which it never does
    on the line.
    """
    times: list[list[float]] = [[] for _ in runs]
    began = monotonic()
    for number in range(ROUNDS):
        if number >= LEAST_ROUNDS and monotonic() - began > TIMING_S:
            break
        image = images[number % len(images)]
        for place in range(len(runs)):
            which = (place + number) % len(runs)
            runs[which](image)
            started = perf_counter()
            runs[which](image)
            times[which].append((perf_counter() - started) * 1e3)
        report("measuring latency", number + 1, ROUNDS)
    report("measuring latency", ROUNDS, ROUNDS)
    return times


def prepared(samples: Sequence[Sample], bundle: Bundle) -> Sequence[Labelled]:
    """The pictures as a revision's model is shown them."""
    return PreparedSamples(samples, bundle.manifest.preprocessing)


def _judged(contender: Contender, terms: Terms, store: ProductStore, report: Report) -> Outcome:
    started = monotonic()
    observed = _Observed(contender.scorer)
    request = terms.request(contender.scorer)
    bundle = calibrate(request, observed, contender.backbone, store, report)
    seconds = monotonic() - started
    scope = bundle.scope()
    with open_runtime(bundle.graph, terms.runtime, terms.threads) as runtime:
        scored = score_samples(
            terms.halves.judged,
            bundle.manifest.preprocessing,
            scope,
            runtime,
            lambda done, total: report("scoring the judged half", done, total),
        )
        evaluation = summarise(scored, bundle.manifest, runtime.name, scope)
    scores, _ = arrays(scored)
    return Outcome(contender, bundle, evaluation, scores, seconds, observed.facts)


def _runner(runtime: Runtime, scope: Scope) -> Callable[[ImageArray], object]:
    return lambda image: examine(runtime, image, scope)
