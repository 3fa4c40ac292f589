"""The loop that trains: resuming, stopping early, and keeping to a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import calibration.training
from calibration.scorers import Material
from calibration.trained import curves_of, facts_of, gain_of_last_third, remarks_of
from calibration.training import Outcome, Plan, affordable_steps, device_named, train
from inspectd.core.errors import ConfigError

PLAN = Plan(epochs=4, steps_per_epoch=5, judged_every=5, patience=10)
MATERIAL = Material(good=(), request="this one")


class Line:
    """Learns a line with batch norm before it, from noisy points: all kinds of state there are."""

    def __init__(
        self,
        figures: Callable[[nn.Module], Mapping[str, float]] = lambda _: {},
        stop_at: int | None = None,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
        self.optimisers = {"all": torch.optim.Adam(self.model.parameters(), lr=0.05)}
        self._figures, self._stop_at = figures, stop_at

    def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """Of eight points."""
        if step == self._stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))
        wanted = x.sum(dim=1) + 0.1 * torch.randn(8)
        return {"square": (self.model(x)[:, 0] - wanted).square().mean()}

    def judge(self) -> Mapping[str, float]:
        """As the test has it."""
        return self._figures(self.model)


def falling(after: int) -> Callable[[nn.Module], Mapping[str, float]]:
    """A figure that rises for so many looks and falls from then on."""
    looks = 0

    def figures(_: nn.Module) -> Mapping[str, float]:
        nonlocal looks
        looks += 1
        return {"image AUROC": 1 - abs(looks - after) / 100}

    return figures


def weights(course: Line) -> dict[str, torch.Tensor]:
    """Of the model."""
    return {name: tensor.clone() for name, tensor in course.model.state_dict().items()}


def learn(course: Line, material: Material = MATERIAL, plan: Plan = PLAN) -> Outcome:
    """Trains without showing it."""
    return train(course, plan, material, 3, lambda *_: None)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether both are the same to the last bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop_at", [1, 7, 19])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Stopped in the middle of an epoch and resumed: the same weights, looks and losses."""
    monkeypatch.setattr(calibration.training, "CHECKPOINT_EVERY_S", 0)
    monkeypatch.setattr(calibration.training, "WRITING_SHARE", 1e9)

    def figures(model: nn.Module) -> Mapping[str, float]:
        return {"image AUROC": -float(model[1].weight.sub(1).square().sum())}  # type: ignore[index]

    whole, first, second = Line(figures), Line(figures, stop_at), Line(figures)
    wanted = learn(whole)
    material = replace(MATERIAL, folder=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        learn(first, material)
    outcome = learn(second, replace(material, is_resumed=True))
    assert outcome.resumed_at == stop_at
    assert equal(weights(second), weights(whole))
    assert outcome.looks == wanted.looks
    assert outcome.losses == wanted.losses
    assert "resumed" in facts_of(PLAN, outcome, "cpu")


def test_training_leaves_torchs_generator_alone() -> None:
    """What is drawn after it is what would have been drawn without it."""
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    learn(Line())
    assert torch.equal(torch.rand(3), wanted)


def test_a_checkpoint_of_another_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other pictures or options: the message says what to repeat; nothing is trained."""
    monkeypatch.setattr(calibration.training, "CHECKPOINT_EVERY_S", 0)
    material = replace(MATERIAL, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        learn(Line(stop_at=6), material)
    other = replace(material, request="another one", is_resumed=True)
    with pytest.raises(ConfigError, match=r"another request .* repeat the command"):
        learn(Line(), other)


def test_a_new_training_forgets_the_interrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without resuming, an older checkpoint can't be taken for this training's."""
    monkeypatch.setattr(calibration.training, "CHECKPOINT_EVERY_S", 0)
    material = replace(MATERIAL, folder=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        learn(Line(stop_at=6), material)
    with pytest.raises(KeyboardInterrupt):
        learn(Line(stop_at=0), material)
    with pytest.raises(ConfigError, match="no interrupted training"):
        learn(Line(), replace(material, is_resumed=True))


def test_training_stops_when_the_holdout_figure_falls() -> None:
    """After so many looks without a better one, and the best weights are those kept."""
    kept = []
    rise_and_fall = falling(after=2)

    def figures(model: nn.Module) -> Mapping[str, float]:
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return rise_and_fall(model)

    course = Line(figures)
    plan = Plan(epochs=100, steps_per_epoch=5, judged_every=5, patience=3)
    outcome = learn(course, plan=plan)
    assert (outcome.end, outcome.steps, outcome.best_step) == ("patience", 25, 10)
    assert equal(weights(course), kept[1])
    assert not equal(kept[1], kept[-1])
    assert not course.model.training
    assert "stopped early" in facts_of(plan, outcome, "cpu")["training"]


def test_without_a_holdout_set_the_plan_is_done() -> None:
    """There is nothing to stop by, and the last weights are kept."""
    course = Line()
    outcome = learn(course)
    assert (outcome.end, outcome.steps, outcome.looks) == ("planned", 20, ())
    assert remarks_of(PLAN, outcome) == ()
    assert float(weights(course)["1.weight"].mean()) > 0.3  # it did learn


class Clock:
    """Seconds that pass only when something is learned or looked at."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_kept_and_accounted_for() -> None:
    """Steps of a second and looks of ten: sixty seconds end it in time, after a last look."""
    clock = Clock()

    class Slow(Line):
        def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
            clock.now += 1
            return super().losses(step, rng)

        def judge(self) -> Mapping[str, float]:
            clock.now += 10
            return {"image AUROC": 0.9 + clock.now / 1000}

    plan = Plan(epochs=10, steps_per_epoch=20, judged_every=20, patience=5)
    material = replace(MATERIAL, budget_s=60)
    told: list[tuple[int, int]] = []
    outcome = train(
        Slow(),
        plan,
        material,
        0,
        lambda _, done, total: told.append((done, total)),
        used_s=5,
        clock=clock,
    )
    assert outcome.end == "budget"
    assert 40 <= outcome.spent_s <= 60
    assert outcome.looks[-1][0] == outcome.steps < plan.steps
    assert told[-1] == (outcome.steps, outcome.steps)
    assert all(done <= total for done, total in told)
    (flatters, shortened) = remarks_of(plan, outcome)
    assert "flatter" in flatters
    assert f"after {outcome.steps / 20:.1f} of 10 epochs" in shortened
    assert "a larger --budget promises more" in shortened


def test_an_unlimited_training_is_not_shortened() -> None:
    """A budget that is large enough changes nothing."""
    assert learn(Line(), replace(MATERIAL, budget_s=3600)).end == "planned"


@pytest.mark.parametrize(
    ("left_s", "steps"), [(0.0, 10), (-5.0, 10), (1.9, 10), (2.0, 11), (21.0, 20)]
)
def test_what_is_left_of_a_budget_buys_whole_steps(left_s: float, steps: int) -> None:
    """Ten done at two seconds each."""
    assert affordable_steps(10, 2.0, left_s) == steps


def test_a_loss_that_is_no_number_ends_it() -> None:
    """With the step and a remedy."""

    class Diverging(Line):
        def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
            return {"square": super().losses(step, rng)["square"] * (np.nan if step == 2 else 1)}

    with pytest.raises(ConfigError, match="diverged in step 3"):
        learn(Diverging())


def test_curves_are_drawn_over_epochs() -> None:
    """A curve for each part of the loss and each figure; the last at the end."""
    outcome = learn(Line(falling(after=9)))
    curves = {curve.name: curve for curve in curves_of(PLAN, outcome)}
    assert set(curves) == {"loss, square", "hold-out figure, image AUROC"}
    assert curves["hold-out figure, image AUROC"].epochs == (1.0, 2.0, 3.0, 4.0)
    assert curves["loss, square"].epochs[-1] == 4.0
    assert curves["loss, square"].values[-1] < curves["loss, square"].values[0]


def test_a_flat_end_promises_little() -> None:
    """The gain is that of the best figure in the last third; with too few looks there is none."""
    looks = ((3, {"a": 0.5}), (6, {"a": 0.9}), (9, {"a": 0.8}))
    outcome = Outcome(9, "budget", 1.0, looks, 6, ())
    assert gain_of_last_third(outcome) == 0.0
    assert "promises little" in remarks_of(PLAN, outcome)[1]
    assert gain_of_last_third(replace(outcome, looks=looks[2:])) is None


def test_a_single_look_flatters_nothing() -> None:
    """Weights were not chosen by it; of several looks the best is."""
    looks = ((3, {"a": 0.5}), (6, {"a": 0.9}))
    chosen = Outcome(6, "planned", 1.0, looks, 6, ())
    (remark,) = remarks_of(PLAN, chosen)
    assert "sure to about 90 %" in remark
    assert remarks_of(PLAN, replace(chosen, looks=looks[1:])) == ()


def test_a_device_that_is_not_there_is_refused() -> None:
    """The message says what to pass; auto takes what there is."""
    if not torch.cuda.is_available():
        assert device_named("auto") == "cpu"
        with pytest.raises(ConfigError, match="pass --device cpu"):
            device_named("cuda")
    with pytest.raises(ConfigError, match="no device is called 'tpu'"):
        device_named("tpu")


def test_a_disk_that_is_full_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that can't be written is told while it goes on, and in the remarks."""
    monkeypatch.setattr(calibration.training, "CHECKPOINT_EVERY_S", 0)
    folder = tmp_path / "kept"

    class Blocked(Line):
        def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
            folder.touch()  # a file where the folder should be
            return super().losses(step, rng)

    told = set()
    course = Blocked()
    material = replace(MATERIAL, folder=folder)
    outcome = train(course, PLAN, material, 3, lambda stage, *_: told.add(stage))
    assert outcome.steps == PLAN.steps
    assert outcome.unwritten is not None
    assert "training, no room for checkpoints (steps)" in told
    assert any("checkpoints could not be written" in one for one in remarks_of(PLAN, outcome))
    whole = Line()
    assert learn(whole).unwritten is None
    assert equal(weights(course), weights(whole))


def test_what_ended_by_patience_ends_at_once_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between its end and the export: not one step more is learned."""
    monkeypatch.setattr(calibration.training, "CHECKPOINT_EVERY_S", 0)
    monkeypatch.setattr(calibration.training, "WRITING_SHARE", 1e9)
    plan = Plan(epochs=100, steps_per_epoch=5, judged_every=5, patience=3)
    material = replace(MATERIAL, folder=tmp_path / "kept")
    first, second = Line(falling(after=2)), Line(falling(after=2))
    wanted = learn(first, material, plan)
    again = learn(second, replace(material, is_resumed=True), plan)
    assert (again.end, again.steps, again.looks) == ("patience", 25, wanted.looks)
    assert again.losses == wanted.losses
    assert equal(weights(second), weights(first))


def test_the_best_weights_outlive_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were found before it, and nothing better came after."""
    monkeypatch.setattr(calibration.training, "CHECKPOINT_EVERY_S", 0)
    monkeypatch.setattr(calibration.training, "WRITING_SHARE", 1e9)
    figures = iter((0.9, 0.5, 0.5, 0.5) * 2)
    whole = Line(lambda _: {"image AUROC": next(figures)})
    assert learn(whole).best_step == 5
    material = replace(MATERIAL, folder=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        learn(Line(lambda _: {"image AUROC": next(figures)}, stop_at=8), material)
    second = Line(lambda _: {"image AUROC": next(figures)})
    assert learn(second, replace(material, is_resumed=True)).best_step == 5
    assert equal(weights(second), weights(whole))


def test_weights_are_judged_as_they_would_be_used() -> None:
    """Batch norm by its running statistics and no gradients; training goes on as before."""
    modes: list[tuple[bool, bool]] = []

    def figures(model: nn.Module) -> Mapping[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"image AUROC": 0.5}

    class Learning(Line):
        def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
            assert self.model.training
            return super().losses(step, rng)

    learn(Learning(figures))
    assert modes == [(False, False)] * 4
