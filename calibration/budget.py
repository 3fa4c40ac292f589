"""The most exact variant of a scorer that is fast enough, measured on this machine.

A scorer that knows faster forms of itself names them, the most exact first. Each is fitted,
exported and timed in fp32 and, where the parity gate lets it, in int8; the first that keeps to the
budget and to the loss of F1 that is allowed is taken. Nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np

from calibration.scorers import Fitted, Scorer
from inspectd.core.contracts import Runtime
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray
from inspectd.core.scope import Scope
from inspectd.pipeline.score import examine

WARM_UP = 5
TIMED = 40
QUANTILE = 0.95
"""Of the times that are held against the budget: a median would be missed by every other part."""


@runtime_checkable
class Faster(Protocol):
    """A scorer with faster forms of itself."""

    def faster(self) -> Sequence[Scorer]:
        """The most exact first, without itself."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """What is asked for."""

    latency_ms: float
    """For one prepared picture on the runtime, `QUANTILE` of the times."""
    max_f1_loss: float
    """On the hold-out set, against the scorer as it was asked for, in fp32."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One variant on one runtime."""

    what: str
    """Scorer and options in words."""
    runtime: str
    """What to configure: `openvino-int8`."""
    latency_ms: float
    f1: float
    """On the hold-out set, at the threshold that the policy finds for this variant."""

    def __str__(self) -> str:
        return f"{self.what} on {self.runtime}: {self.latency_ms:.1f} ms, F1 {self.f1:.3f}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What keeps to the budget."""

    scorer: Scorer
    fitted: Fitted
    trial: Trial
    tried: tuple[Trial, ...]
    """All that were measured, this one last."""

    def remark(self, budget: Budget) -> str:
        """For people, beside the threshold."""
        loss = self.tried[0].f1 - self.trial.f1
        return (
            f"Latency budget {budget.latency_ms:g} ms: {self.trial.what} takes "
            f"{self.trial.latency_ms:.1f} ms (95 % of {TIMED} pictures took less) on "
            f"{self.trial.runtime} here; set runtime to it. F1 on the hold-out set is "
            f"{self.trial.f1:.3f}, {abs(loss):.3f} {'below' if loss >= 0 else 'above'} "
            f"{self.tried[0].what}."
        )


Measure = Callable[[Scorer, Fitted], Iterator[Trial]]
"""Times a fitted variant, in fp32 first."""


def choose_within(
    budget: Budget, scorer: Scorer, fit: Callable[[Scorer], Fitted], measure: Measure
) -> Chosen:
    """The first variant that keeps to the budget.

    Raises:
        ConfigError: none does; the message lists what was measured.
    """
    tried: list[Trial] = []
    for candidate in (scorer, *(scorer.faster() if isinstance(scorer, Faster) else ())):
        try:
            fitted = fit(candidate)
        except ConfigError:
            if candidate is scorer:
                raise
            continue  # too few pictures for this form, a coarser partition, say
        for trial in measure(candidate, fitted):
            tried.append(trial)
            if fits(trial, tried[0], budget):
                return Chosen(candidate, fitted, trial, tuple(tried))
    listed = "; ".join(map(str, sorted(tried, key=lambda trial: trial.latency_ms)))
    raise ConfigError(
        f"nothing takes {budget.latency_ms:g} ms here at a loss of F1 of at most "
        f"{budget.max_f1_loss:g}; measured: {listed}. Raise --latency-budget or --max-f1-loss, or "
        "take a smaller --input-size"
    )


def fits(trial: Trial, reference: Trial, budget: Budget) -> bool:
    """Whether a variant is fast and good enough."""
    is_fast = trial.latency_ms <= budget.latency_ms
    return is_fast and reference.f1 - trial.f1 <= budget.max_f1_loss + 1e-12


def latency_ms(runtime: Runtime, image: ImageArray, scope: Scope) -> float:
    """`QUANTILE` of the times that examining one prepared picture, (H, W, 3), takes."""
    for _ in range(WARM_UP):
        examine(runtime, image, scope)
    times = []
    for _ in range(TIMED):
        started = perf_counter()
        examine(runtime, image, scope)
        times.append(perf_counter() - started)
    return float(np.quantile(times, QUANTILE) * 1e3)
