"""Hold-out sets: simulated where there are no real defects, compared where there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from calibration import holdout as module
from calibration.anomalies import UNSEEN, Kind
from calibration.dataset import Sample, find_good, find_holdout
from calibration.evaluate import arrays
from calibration.holdout import (
    Holdout,
    compared,
    holdout_scores,
    score_holdout,
    simulated_beside,
)
from calibration.material import PreparedSamples, SimulatedSamples
from calibration.metrics import confusion
from calibration.placing import STYLE
from calibration.policies import choose
from calibration.scorers import Report
from inspectd.core.bundle import PolicyPart
from inspectd.core.contracts import Runtime
from inspectd.core.preprocess import Preprocessing
from inspectd.core.scope import WHOLE
from inspectd.core.store import ProductStore
from inspectd.runtimes import open_runtime

SIZE = Preprocessing(resize=(96, 96), crop=(96, 96))
F1 = PolicyPart(name="f1")
Steps = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def runtime(tiny_store: ProductStore) -> Iterator[Runtime]:
    """The small product's model."""
    with open_runtime(tiny_store.open("tiny").graph, "onnxruntime", 1) as opened:
        yield opened


@pytest.fixture(scope="module")
def real(tiny_data: Path, runtime: Runtime) -> Holdout:
    """Four good and four defective parts."""
    return score_holdout(_labelled(tiny_data), "real", WHOLE, runtime, lambda *_: None)


def _labelled(tiny_data: Path) -> PreparedSamples:
    return PreparedSamples(find_holdout(tiny_data / "holdout"), SIZE)


def _simulated(samples: Sequence[Sample], runtime: Runtime, seed: int, report: Report) -> Holdout:
    pictures = SimulatedSamples(PreparedSamples(samples, SIZE), WHOLE, seed)
    return score_holdout(pictures, "simulated", WHOLE, runtime, report)


def _samples(tiny_data: Path) -> Sequence[Sample]:
    return [Sample(path, "good") for path in find_good(tiny_data)]


def test_every_good_part_gets_a_simulated_defect(tiny_data: Path, runtime: Runtime) -> None:
    """As many defects as good parts, of both simulated kinds, each on its own good part."""
    steps: Steps = []
    made = _simulated(_samples(tiny_data), runtime, 0, lambda *one: steps.append(one))
    good, defects = made.scored[::2], made.scored[1::2]
    assert made.basis == "simulated"
    assert {one.label for one in good} == {"good"}
    assert {one.label for one in defects} == {"simulated"}
    assert steps[-1][1:] == (16, 16)
    for before, after in zip(good, defects, strict=True):
        assert after.name == f"simulated/{before.name.removeprefix('good/')}"
        change = np.abs(before.image.astype(int) - after.image).max(axis=2)
        assert after.mask is not None
        np.testing.assert_array_equal(change >= STYLE.visible, after.mask > 0)
    assert {UNSEEN.kind_of(i) for i in range(8)} == {Kind.HETEROLOGOUS, Kind.HOMOLOGOUS}


def test_a_seed_repeats_simulated_scores(tiny_data: Path, runtime: Runtime) -> None:
    """The same seed gives the same scores, whose origin is said; another seed gives others."""

    def scores(seed: int) -> list[float]:
        made = _simulated(_samples(tiny_data)[:3], runtime, seed, lambda *_: None)
        kept = holdout_scores(made)
        origins = [picture.origin for picture in kept.pictures]
        assert origins == ["real", "simulated"] * 3
        return [picture.score for picture in kept.pictures]

    first = scores(0)
    assert first == scores(0)
    other = scores(1)
    assert first[::2] == other[::2]
    assert first[1::2] != other[1::2]


def test_simulated_defects_are_judged_by_the_real_ones(
    real: Holdout, runtime: Runtime, tiny_data: Path
) -> None:
    """The comparison's counts are those of its threshold on the real hold-out set."""
    found = simulated_beside(real, _labelled(tiny_data), F1, runtime, 0, lambda *_: None)
    assert found is not None
    assert found.n_simulated == 4
    assert found.counts == confusion(*arrays(real.scored), found.image)
    threshold = choose(F1, holdout_scores(real)).threshold.image
    facts, figures = compared(found, threshold, real)
    assert figures["simulated_threshold"] == found.image
    assert figures["simulated_f1"] == found.counts.f1
    assert figures["simulated_defects"] == 4
    assert f"{found.image:.6g}" in facts["threshold from simulated defects"]
    assert f"{threshold:.6g}" in facts["threshold from real defects"]


def test_the_comparison_is_bounded(
    real: Holdout, runtime: Runtime, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many good parts some, evenly spread, get a simulated defect."""
    monkeypatch.setattr(module, "MOST_SIMULATED", 3)
    steps: Steps = []
    found = simulated_beside(
        real, _labelled(tiny_data), F1, runtime, 0, lambda *one: steps.append(one)
    )
    assert found is not None
    assert found.n_simulated == 3
    assert [done for _, done, _ in steps] == [1, 2, 3]


@pytest.mark.parametrize(
    "policy",
    [
        PolicyPart(name="sigma", limits={"false_alarm_rate": 0.05}),
        PolicyPart(name="max-escapes", limits={"max_escape_rate": 0.05}),
    ],
    ids=lambda policy: policy.name,
)
def test_what_cannot_be_compared_is_left_out(
    real: Holdout, runtime: Runtime, policy: PolicyPart, tiny_data: Path
) -> None:
    """A policy that looks at no defect, or needs more of them, has no figures and no facts."""
    assert simulated_beside(real, _labelled(tiny_data), policy, runtime, 0, lambda *_: None) is None
    assert compared(None, 0.5, real) == ({}, {})


def test_simulated_defects_are_not_compared_with_themselves(
    tiny_data: Path, runtime: Runtime, real: Holdout
) -> None:
    """Without real defects nothing is scored a second time."""
    simulated = _simulated(_samples(tiny_data)[:2], runtime, 0, lambda *_: None)
    good = Holdout(tuple(one for one in real.scored if not one.is_defect), "real")
    steps: Steps = []

    def told(*step: str | int) -> None:
        steps.append(step)  # type: ignore[arg-type]

    for one in (simulated, good):
        assert simulated_beside(one, _labelled(tiny_data), F1, runtime, 0, told) is None
    assert steps == []
