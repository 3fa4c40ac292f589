"""Who is compared with whom, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.backbones import Backbone, load_backbone
from calibration.comparison.contenders import (
    Contender,
    Entry,
    Latency,
    Outcome,
    check_names,
    choose_parts,
    contenders,
    entries,
    latency_of,
    leader,
)
from calibration.comparison.paired import Changes
from calibration.evaluate import Evaluation
from calibration.metrics import auroc, average_precision, confusion
from calibration.scorers import scorer_named
from inspectd.core.bundle import Bundle
from inspectd.core.errors import ConfigError

LABELS = ("good", "good", "good", "dent", "dent", "chip")
IS_DEFECT = np.array([label != "good" for label in LABELS])
MakeOutcome = Callable[..., Outcome]


def evaluation(scores: np.ndarray, threshold: float) -> Evaluation:
    """With the figures of whole parts that the scores give."""
    counts = confusion(scores, IS_DEFECT, threshold)
    return Evaluation(
        image_auroc=auroc(scores, IS_DEFECT),
        f1=counts.f1,
        best_f1=1.0,
        precision=counts.precision,
        recall=counts.recall,
        escapes=counts.escapes,
        overkill=counts.overkill,
        threshold=threshold,
        policy="f1",
        promise="",
        found="",
        review_good=0,
        review_defect=0,
        n_good=3,
        n_defect=3,
        pixel_auroc=None,
        pixel_ap=None,
        aupro=None,
        latency_ms_p50=1.0,
        runtime="none",
        product="flange",
        revision="r0001-0123abcd",
    )


@pytest.fixture(scope="module")
def builtin() -> Backbone:
    """The backbone without a file."""
    return load_backbone("builtin")


@pytest.fixture
def outcome(tmp_path: Path, make_bundle: Callable[..., Bundle], builtin: Backbone) -> MakeOutcome:
    """Makes an outcome with these scores of the six parts; its threshold is 0.5."""
    bundle = make_bundle(tmp_path / "bundle")

    def make(*scores: float, name: str = "protoad") -> Outcome:
        found = np.array(scores)
        rival = Contender(name, scorer_named("protoad"), builtin, "builtin")
        return Outcome(rival, bundle, evaluation(found, 0.5), found, 1.0, {})

    return make


def entry(made: Outcome, p50_ms: float = 1.0) -> Entry:
    """Of no difference to anyone."""
    return Entry(made, Latency(p50_ms, None, 10), 1.0, None, None)


def test_every_scorer_on_every_backbone(builtin: Backbone) -> None:
    """Named by what differs: the scorer, the network, or both."""
    scorers = [scorer_named(name) for name in ("protoad", "mpfnet")]
    one, two = ("builtin", builtin), ("resnet18", Backbone("resnet18", builtin.network, "1" * 64))
    assert [r.name for r in contenders(scorers, [one])] == ["protoad", "mpfnet"]
    assert [r.name for r in contenders(scorers[:1], [one, two])] == ["builtin", "resnet18"]
    both = contenders(scorers, [one, two])
    assert [r.name for r in both] == [
        "protoad builtin",
        "protoad resnet18",
        "mpfnet builtin",
        "mpfnet resnet18",
    ]
    assert [r.spec for r in both] == ["builtin", "resnet18"] * 2


def test_two_files_of_one_network(builtin: Backbone) -> None:
    """Own weights of the same network are named by their files, and if those are alike, by all."""
    scorers = [scorer_named("protoad")]
    stems = [("a/first.pth", builtin), ("a/second.pth", builtin)]
    assert [r.name for r in contenders(scorers, stems)] == ["first", "second"]
    alike = [("a/own.pth", builtin), ("b/own.pth", builtin)]
    assert [r.name for r in contenders(scorers, alike)] == ["a/own.pth", "b/own.pth"]


@pytest.mark.parametrize(
    ("scorers", "backbones", "what"),
    [
        (["protoad"], ["builtin"], "fewer than two"),
        ([], ["builtin", "resnet18"], "fewer than two"),
        (["protoad", "prn", "protoad"], ["builtin"], "protoad would be compared with itself"),
        (["protoad"], ["resnet18", "resnet18"], "resnet18 would be compared with itself"),
    ],
)
def test_what_is_no_comparison(scorers: list[str], backbones: list[str], what: str) -> None:
    """A single contender, or the same one twice, is refused."""
    with pytest.raises(ConfigError, match=what):
        check_names(scorers, backbones)


def test_entries_are_against_the_first(outcome: MakeOutcome) -> None:
    """The first is the reference; the others have the difference to it and its interval."""
    made = [outcome(0, 0.1, 0.9, 0.8, 0.7, 0.6), outcome(0, 0.1, 0.2, 0.8, 0.7, 0.6)]
    first, second = entries(made, [Latency(1.0, None, 10)] * 2, IS_DEFECT, 0)
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.value == pytest.approx(1 / 3)
    assert first.changes is None
    assert second.changes == Changes(better=1, worse=0)
    assert first.image_ap == average_precision(made[0].scores, IS_DEFECT)


def test_the_leader(outcome: MakeOutcome) -> None:
    """The highest AUROC leads; of equal ones the higher F1, and then the faster."""
    low = entry(outcome(0, 0.1, 0.9, 0.8, 0.7, 0.6))
    shifted = entry(outcome(0, 0.1, 0.2, 0.4, 0.45, 0.6))
    slow, fast = (entry(outcome(0, 0.1, 0.2, 0.8, 0.7, 0.6), p50_ms=ms) for ms in (2.0, 1.0))
    assert leader([low, shifted]) is shifted
    assert leader([shifted, slow]) is slow
    assert leader([slow, fast]) is fast


def test_latency_tells_no_tail_of_few() -> None:
    """A 99th percentile needs 100 samples."""
    few, many = latency_of(np.arange(99.0)), latency_of(np.arange(101.0))
    assert (few.p50_ms, few.p99_ms, few.n) == (49.0, None, 99)
    assert (many.p50_ms, many.p99_ms, many.n) == (50.0, 99.0, 101)


def test_parts_they_disagree_about_are_shown(outcome: MakeOutcome) -> None:
    """What some fail and others pass, what all misjudge, and one of each kind; none twice."""
    made = [
        outcome(0.1, 0.2, 0.9, 0.8, 0.4, 0.9),
        outcome(0.1, 0.6, 0.9, 0.8, 0.3, 0.4),
    ]
    chosen = choose_parts(made, LABELS, 9)
    assert chosen["disagreement"] == [1, 5]
    assert chosen["wrong"] == [2, 4]
    assert chosen["typical"] == [3]
    shown = [index for some in chosen.values() for index in some]
    assert len(shown) == len(set(shown))


def test_kinds_take_turns(outcome: MakeOutcome) -> None:
    """With room for few, each kind has one before any has two."""
    made = [outcome(*[0.9] * 6), outcome(*[0.1] * 6)]
    assert choose_parts(made, LABELS, 3)["disagreement"] == [0, 3, 5]
    assert choose_parts(made, LABELS, 4)["disagreement"] == [0, 3, 5, 1]


def test_where_they_agree_one_of_each_kind_is_shown(outcome: MakeOutcome) -> None:
    """Good parts first, the one in the middle by rank, whatever the unit of the scores."""
    made = [outcome(0, 0.1, 0.2, 0.8, 0.7, 0.6), outcome(-9, -8, -7, 60, 50, 40)]
    chosen = choose_parts(made, LABELS, 3)
    assert chosen["disagreement"] == chosen["wrong"] == []
    assert chosen["typical"] == [1, 5, 3]
