"""Contenders calibrated alike and judged on the same parts, on small rendered pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from calibration.backbones import Backbone, load_backbone
from calibration.comparison import contest as module
from calibration.comparison.contenders import Contender, Failure, Outcome
from calibration.comparison.contest import (
    Terms,
    contest,
    counting_on,
    infer_in_turn,
    keep,
    time_in_turn,
)
from calibration.comparison.halves import link_samples, split_halves
from calibration.dataset import find_labelled
from calibration.evaluate import arrays, score_samples, summarise
from calibration.scorers import Fitted, Material, Report, scorer_named
from inspectd.core.holdout import read_holdout
from inspectd.core.store import ProductStore
from inspectd.demo.product import render_dataset
from inspectd.runtimes import open_runtime


def quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Two that were made, and all that was there for it."""

    terms: Terms
    store: ProductStore
    backbone: Backbone
    made: tuple[Outcome, ...]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    """ProtoAD in two sizes on 8 good parts, with 4 good and 8 defective labelled ones."""
    folder = tmp_path_factory.mktemp("contest")
    render_dataset(folder, seed=1, n_train=8, n_good=4, n_per_defect=2, size=(96, 96))
    halves = split_halves(find_labelled(folder / "holdout"))
    link_samples(halves.holdout, folder / "half")
    terms = Terms(
        product="tiny",
        images=folder,
        labelled=folder / "holdout",
        halves=halves,
        holdout=folder / "half",
        resize=(96, 96),
        crop=None,
        seed=0,
        runtime="onnxruntime",
        threads=1,
        budget_s=60.0,
        device="cpu",
    )
    store = counting_on(folder / "products", "tiny", "r0007-0123abcd")
    backbone = load_backbone("builtin")
    made = []
    for name, most in (("fine", 300), ("coarse", 20)):
        scorer = scorer_named("protoad", max_prototypes=most)
        found = contest(Contender(name, scorer, backbone, "builtin"), terms, store, quiet)
        assert isinstance(found, Outcome)
        made.append(found)
    return Contest(terms, store, backbone, tuple(made))


def test_figures_are_those_of_evaluate(held: Contest) -> None:
    """Scored once more as ``inspectd evaluate`` does, the judged half has the same figures."""
    for one in held.made:
        manifest, scope = one.bundle.manifest, one.bundle.scope()
        with open_runtime(one.bundle.graph, "onnxruntime", 1) as runtime:
            scored = score_samples(
                held.terms.halves.judged, manifest.preprocessing, scope, runtime, lambda *_: None
            )
            again = summarise(scored, manifest, runtime.name, scope)
        assert replace(again, latency_ms_p50=0) == replace(one.evaluation, latency_ms_p50=0)
        assert np.array_equal(arrays(scored)[0], one.scores)


def test_the_same_split_for_all(held: Contest) -> None:
    """Every threshold rests on the same parts, and none of those is judged."""
    halves = held.terms.halves
    for one in held.made:
        names = read_holdout(one.bundle).names
        assert sorted(names) == sorted(sample.name for sample in halves.holdout)
        assert not set(names) & {sample.name for sample in halves.judged}
        assert len(one.scores) == len(halves.judged) == 6


def test_what_was_made_is_told(held: Contest) -> None:
    """Size, time and the scorer's own facts."""
    fine, coarse = held.made
    assert fine.size_mb > coarse.size_mb > 0
    assert fine.seconds > 0
    assert fine.facts != coarse.facts
    assert fine.bundle.manifest.recipe.options["max_prototypes"] == 300


def test_revisions_are_counted_on(held: Contest) -> None:
    """They follow the product's newest, so that they can be put beside it."""
    names = [one.bundle.manifest.revision.partition("-")[0] for one in held.made]
    assert names == ["r0008", "r0009"]


def test_keeping_activates_nothing(held: Contest, tmp_path: Path) -> None:
    """Kept revisions are whole, under their own names; which one is active stays as it is."""
    store = ProductStore(tmp_path)
    fine, coarse = held.made
    keep(fine.bundle, store)
    assert store.revisions("tiny") == [fine.bundle.manifest.revision]
    store.activate("tiny", fine.bundle.manifest.revision)
    keep(coarse.bundle, store)
    assert store.current("tiny") == fine.bundle.manifest.revision
    assert store.previous("tiny") is None
    kept = store.open("tiny", coarse.bundle.manifest.revision)
    assert kept.manifest == coarse.bundle.manifest


def test_a_contender_that_fails_is_told(held: Contest) -> None:
    """One that can't learn from these pictures says why and leaves no revision."""
    without = replace(held.terms, holdout=_without_masks(held))
    scorer = scorer_named("prn", kinds="extended")
    before = held.store.revisions("tiny")
    found = contest(Contender("prn", scorer, held.backbone, "builtin"), without, held.store, quiet)
    assert isinstance(found, Failure)
    assert found.name == "prn"
    assert "seen defects" in found.reason
    assert held.store.revisions("tiny") == before


def test_running_out_of_memory_is_a_failure_too(held: Contest) -> None:
    """What nobody raises on purpose ends one contender too, not all of them."""

    @dataclass(frozen=True)
    class Greedy:
        name: str = "greedy"
        seen_limit: int = 0
        is_trained: bool = False

        def options(self) -> dict[str, str | int | float | bool]:
            return {}

        def fit(self, material: Material, backbone: Backbone, seed: int, report: Report) -> Fitted:
            raise RuntimeError("CUDA out of memory")

    rival = Contender("greedy", Greedy(), held.backbone, "builtin")
    found = contest(rival, held.terms, held.store, quiet)
    assert found == Failure("greedy", "RuntimeError: CUDA out of memory")


def test_a_budget_is_for_training_only(held: Contest) -> None:
    """A scorer that learns in one pass is given no budget and no device, a trained one both."""
    terms = replace(held.terms, device="cuda")
    once, trained = (terms.request(scorer_named(name)) for name in ("protoad", "mpfnet"))
    assert (once.budget_s, once.device) == (None, "cpu")
    assert (trained.budget_s, trained.device) == (60.0, "cuda")


def test_turns(held: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contender is timed as often, and maps the parts that are shown."""
    monkeypatch.setattr(module, "ROUNDS", 12)
    turns = infer_in_turn(held.made, held.terms, [5, 0], quiet)
    assert [one.n for one in turns.latencies] == [12, 12]
    for found, one in zip(turns.maps, held.made, strict=True):
        assert set(found) == {0, 5}
        assert found[5].shape == (96, 96)
        assert found[5].max() == pytest.approx(one.scores[5], rel=1e-5)


def test_each_runs_twice_on_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a round all take one picture, each twice in a row, in another order each time."""
    monkeypatch.setattr(module, "ROUNDS", 3)
    images = [np.full((1, 1, 3), value, np.uint8) for value in (10, 20)]
    said: list[tuple[str, int]] = []

    def run(name: str) -> Callable[[np.ndarray], None]:
        return lambda image: said.append((name, int(image[0, 0, 0])))

    times = time_in_turn([run("a"), run("b")], images, quiet)
    assert [len(one) for one in times] == [3, 3]
    assert said == [
        *[("a", 10)] * 2, *[("b", 10)] * 2,
        *[("b", 20)] * 2, *[("a", 20)] * 2,
        *[("a", 10)] * 2, *[("b", 10)] * 2,
    ]  # fmt: skip


def test_slow_contenders_take_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time is up only the least rounds are done."""
    now = iter(range(0, 10_000, 1000))
    monkeypatch.setattr(module, "monotonic", lambda: next(now))
    monkeypatch.setattr(module, "LEAST_ROUNDS", 4)
    told: list[tuple[int, int]] = []
    times = time_in_turn(
        [lambda image: None],
        [np.zeros((1, 1, 3), np.uint8)],
        lambda stage, done, total: told.append((done, total)),
    )
    assert len(times[0]) == 4
    assert told[-1] == (module.ROUNDS, module.ROUNDS)


def _without_masks(held: Contest) -> Path:
    """The hold-out half as a folder without ground_truth/."""
    folder = held.terms.holdout.with_name("bare")
    link_samples([replace(one, mask=None) for one in held.terms.halves.holdout], folder)
    return folder
