"""The course that takes a network from random weights to a backbone; see `calibration.training`.

The learning rate rises for a while, then falls to nothing along a cosine, by the share of the time
that has passed (of the steps, where no time is given): a training of ten minutes and one of a day
both end well. Averages of the weights are what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import numpy as np
import torch
from torch import nn

from calibration.averaging import Averaged
from calibration.backbones.packed import blank_network
from calibration.backbones.resnet import ResNet
from calibration.pretraining.bank import Bank
from calibration.pretraining.dice import Dice
from calibration.pretraining.formulas import CURVES, drawn_formulas
from calibration.pretraining.losses import Names, Stages, naming, telling
from calibration.pretraining.scenes import Batch, Scenes, draw_scenes
from calibration.scorers import Material, Report
from calibration.training import Outcome, Plan, is_mixed, train

HASTE = 0.25
"""Of what names materials: its learning rate in terms of the network's."""
WARM_UP = 0.04
"""Share of the training."""
SETTLING = 40
"""Batches over which the statistics of the averaged network are taken at the end."""
MOST_GAP_S = 60.0
"""A pause between two steps that is longer is no training (a machine that slept)."""
SMALL = Batch(products=8, good=1, defective=1, side=96)
"""Pictures of a step on a CPU."""
LARGE = Batch(products=64, good=2, defective=2, side=128)
"""Pictures of a step on a GPU."""
STAGES = ("stage 1", "stage 2", "stage 3")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the weights, but for the time."""

    seed: int = 0
    materials: int = 64
    """Formulas that are told apart."""
    batch: Batch = SMALL
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    telling: float = 2.0
    """Weight of telling defects; naming weighs 1 in all."""
    steps: int = 100_000
    """At most; the budget ends the training earlier."""


class Pupil(nn.Module):
    """All that is learned and all that a checkpoint must keep."""

    seconds: torch.Tensor
    refreshes: torch.Tensor

    def __init__(self, recipe: Recipe) -> None:
        """Starts from random weights."""
        super().__init__()
        network = initialised(blank_network())
        self.trunk = Averaged(network)
        formulas = drawn_formulas(recipe.materials, recipe.seed)
        self.names = Names(network.channels, formulas.kind * len(CURVES) + formulas.curve)
        self.register_buffer("seconds", torch.zeros((), dtype=torch.float64))
        self.register_buffer("refreshes", torch.zeros((), dtype=torch.int64))


class Pretraining:
    """The course: see `calibration.training.Course`."""

    def __init__(
        self,
        recipe: Recipe,
        device: str,
        budget_s: float | None,
        report: Report,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Takes the recipe, where to compute, and the seconds that the training may take."""
        self.recipe, self.device, self.budget_s, self.report = recipe, device, budget_s, report
        self.clock = clock
        self.model = Pupil(recipe).to(device)
        self.model.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [p for p in self.model.trunk.network.parameters() if p.ndim > 1]
        others = [p for p in self.model.trunk.network.parameters() if p.ndim <= 1]
        self._adam = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay, "share": 1.0},
                {"params": others, "weight_decay": 0.0, "share": 1.0},
                {
                    "params": list(self.model.names.parameters()),
                    "weight_decay": 0.0,
                    "share": HASTE,
                },
            ],
            lr=recipe.learning_rate,
        )
        self.optimisers: Mapping[str, torch.optim.Optimizer] = {"adam": self._adam}
        self.bank: Bank | None = None
        self._last = clock()

    def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """Of one batch: naming by stage, and telling."""
        self._note_time()
        self._set_rate(step)
        if step:
            self.model.trunk.update()
        dice = Dice(self.device, self.recipe.seed, 3, step)
        scenes = self._scenes(dice)
        stages = self._seen(self.model.trunk.network, scenes)
        with torch.autocast(self.device, enabled=False):
            named = naming(self.model.names, stages, scenes, dice)
            told = telling(stages, scenes, self.recipe.batch.good, dice)
        parts = {name: loss / len(named) for name, loss in zip(STAGES, named, strict=True)}
        return {**parts, "defects": self.recipe.telling * told}

    def judge(self) -> Mapping[str, float]:
        """Nothing: it is the end of the training that counts."""
        return {}

    def settle(self) -> ResNet:
        """The averaged network with statistics of its own, in evaluation mode on the CPU."""
        self.model.trunk.update()
        network = self.model.trunk.average
        norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        with torch.no_grad():
            for index in range(SETTLING):
                scenes = self._scenes(Dice(self.device, self.recipe.seed, 4, index))
                self._seen(network, scenes)
                self.report("settling statistics", index + 1, SETTLING)
        network.eval().cpu()
        return network

    def _scenes(self, dice: Dice) -> Scenes:
        """The next batch; the bank's sheets are drawn when they are first needed."""
        done = int(self.model.refreshes)
        if self.bank is None:
            self.bank = Bank(self.recipe.materials, self.recipe.seed, self.device)
            self.bank.fill(done, lambda n, total: self.report("drawing materials", n, total))
            self._last = self.clock()
        self.bank.refresh(done)
        self.model.refreshes += 1
        return draw_scenes(self.bank, self.recipe.batch, dice)

    def _seen(self, network: ResNet, scenes: Scenes) -> Stages:
        """What a network makes of the pictures, in half precision where that is quicker."""
        mean = torch.tensor(network.mean, device=self.device)[:, None, None]
        std = torch.tensor(network.std, device=self.device)[:, None, None]
        pictures = (scenes.pictures.flatten(0, 1) - mean) / std
        with torch.autocast(self.device, torch.bfloat16, enabled=is_mixed(self.device)):
            stages: Stages = network(pictures.contiguous(memory_format=torch.channels_last))
        return stages

    def _note_time(self) -> None:
        now = self.clock()
        self.model.seconds += min(now - self._last, MOST_GAP_S)
        self._last = now

    def _set_rate(self, step: int) -> None:
        share = step / self.recipe.steps
        if self.budget_s is not None:
            share = max(share, float(self.model.seconds) / self.budget_s)
        for group in self._adam.param_groups:
            group["lr"] = self.recipe.learning_rate * rate_at(share) * group["share"]


def recipe_for(device: str, seed: int, materials: int) -> Recipe:
    """The recipe with as many pictures a step as suit the device."""
    batch = LARGE if device == "cuda" else SMALL
    return Recipe(seed=seed, materials=materials, batch=batch)


def pretrain(recipe: Recipe, material: Material, report: Report) -> tuple[ResNet, Outcome]:
    """Trains a backbone; of the material only folder, budget, device and request are heeded."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        course = Pretraining(recipe, material.device, material.budget_s, report)
    plan = Plan(1, recipe.steps, judged_every=recipe.steps, patience=recipe.steps)
    outcome = train(course, plan, material, recipe.seed, report)
    return course.settle(), outcome


def rate_at(share: float) -> float:
    """The learning rate's share of its highest, at a share of the training."""
    if share < WARM_UP:
        return (share + 0.1 * WARM_UP) / (1.1 * WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def initialised(network: ResNet) -> ResNet:
    """Random weights after He et al. (2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
