"""The choice of a variant by its measured time and its F1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from calibration.budget import Budget, Trial, choose_within, fits
from calibration.scorers import Fitted, Option, Scorer, scorer_named
from calibration.scorers.protoad import ProtoAD
from inspectd.core.errors import ConfigError


@dataclass(frozen=True)
class Timed:
    """A scorer whose times and F1 are known."""

    name: str
    trials: tuple[tuple[str, float, float], ...]
    others: tuple[Timed, ...] = field(default=())

    def options(self) -> dict[str, Option]:
        return {}

    def faster(self) -> Sequence[Scorer]:
        return self.others  # type: ignore[return-value]

    def fit(self, *_: object) -> Fitted:
        return Fitted(nn.Identity())


QUICK = Timed("quick", (("openvino", 9.0, 0.90), ("openvino-int8", 4.0, 0.90)))
MIDDLE = Timed("middle", (("openvino", 20.0, 0.97), ("openvino-int8", 8.0, 0.97)))
EXACT = Timed("exact", (("openvino", 50.0, 0.98), ("openvino-int8", 19.0, 0.98)), (MIDDLE, QUICK))


def _choose(latency: float, loss: float) -> tuple[str, str, list[str]]:
    fitted: list[str] = []

    def fit(scorer: Scorer) -> Fitted:
        fitted.append(scorer.name)
        return Fitted(nn.Identity())

    def measure(scorer: Scorer, _: Fitted) -> Iterator[Trial]:
        assert isinstance(scorer, Timed)
        for runtime, time, f1 in scorer.trials:
            yield Trial(scorer.name, runtime, time, f1)

    chosen = choose_within(Budget(latency, loss), EXACT, fit, measure)  # type: ignore[arg-type]
    return chosen.trial.what, chosen.trial.runtime, fitted


@pytest.mark.parametrize(
    ("latency", "loss", "what", "runtime", "fitted"),
    [
        (60, 0.0, "exact", "openvino", ["exact"]),
        (20, 0.0, "exact", "openvino-int8", ["exact"]),
        (10, 0.02, "middle", "openvino-int8", ["exact", "middle"]),
        (5, 0.1, "quick", "openvino-int8", ["exact", "middle", "quick"]),
    ],
)
def test_the_most_exact_that_is_fast_enough_is_taken(
    latency: float, loss: float, what: str, runtime: str, fitted: list[str]
) -> None:
    """fp32 before int8 and the exact before the faster; nothing is fitted after it is found."""
    assert _choose(latency, loss) == (what, runtime, fitted)


def test_where_nothing_keeps_to_the_budget_all_that_was_measured_is_told() -> None:
    """Fast enough but worse than allowed counts as not kept."""
    with pytest.raises(ConfigError, match=r"nothing takes 5 ms .* quick on openvino-int8: 4.0 ms"):
        _choose(5, 0.05)


@given(
    latency=st.floats(0.1, 100),
    f1=st.floats(0, 1),
    reference=st.floats(0, 1),
    limit=st.floats(0.1, 100),
    loss=st.floats(0, 1),
)
def test_a_variant_fits_only_within_both_limits(
    latency: float, f1: float, reference: float, limit: float, loss: float
) -> None:
    """Better than the reference is no loss."""
    budget = Budget(limit, loss)
    found = fits(Trial("a", "r", latency, f1), Trial("b", "r", 1.0, reference), budget)
    assert found == (latency <= limit and (f1 >= reference or reference - f1 <= loss + 1e-12))


@pytest.mark.parametrize("head", ["published", "rewritten", "projected", "compact"])
def test_protoads_faster_forms_end_and_differ(head: str) -> None:
    """Each is another one, none is the scorer itself, and the exact heads come first."""
    scorer = scorer_named("protoad", head=head)
    assert isinstance(scorer, ProtoAD)
    forms = scorer.faster()
    assert len({str(form) for form in forms}) == len(forms)
    assert scorer not in forms
    assert forms[-1].head == "compact"
    heads = [form.head for form in forms]
    assert heads == sorted(heads, reverse=True)
