"""One loop for every scorer that is trained: `train` takes a `Course` through its steps.

A course is what differs between methods: the model, its optimisers, the loss of a step, and the
figures on the hold-out set. The loop does the rest: progress, curves, early stopping with the best
weights kept, checkpoints and resuming, mixed precision, and a budget of time.

Every step draws from a generator of its own, made of the seed and the step's number, and torch's
generators are kept in the checkpoint; so a training that was interrupted and resumed gives the
same weights on the CPU as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from calibration.checkpoints import (
    Checkpoint,
    State,
    forget_checkpoint,
    optimiser_state,
    prefixed,
    read_checkpoint,
    restore_optimiser,
    under,
    write_checkpoint,
)
from calibration.scorers import Material, Report
from inspectd.core.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
CHECKPOINT_EVERY_S = 20.0
"""Seconds of training that an interruption costs at most, while writing is quick."""
WRITING_SHARE = 0.05
"""Of the time that may go into checkpoints."""
MEASURED_STEPS = 3
"""Steps after which the time a step takes is known well enough to plan by."""
LOSS_ROWS = 200
"""Points of the loss curve, about, if the plan is done in full."""
STAGE = "training (steps)"
UNKEPT = "training, no room for checkpoints (steps)"

End = Literal["planned", "patience", "budget"]
"""What ended a training."""


class Course(Protocol):
    """What is trained; see the module."""

    @property
    def model(self) -> nn.Module:
        """All that is learned, on the device it is trained on."""
        ...

    @property
    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        """By name, over the model's parameters."""
        ...

    def losses(self, step: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """The parts of the loss of one batch by name; their sum is minimised.

        What the batch consists of is drawn from `rng`; torch's own generator is seeded too.
        """
        ...

    def judge(self) -> Mapping[str, float]:
        """Figures on the hold-out set, higher is better; empty where there is none to judge by.

        Called in evaluation mode and without gradients.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a training lasts."""

    epochs: int
    """At most."""
    steps_per_epoch: int
    judged_every: int
    """Steps between two looks at the hold-out set; the last step is always followed by one."""
    patience: int
    """Looks without a better figure after which the training ends."""

    @property
    def steps(self) -> int:
        """In all."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training went; the model has the best weights and is in evaluation mode."""

    steps: int
    """Done."""
    end: End
    spent_s: float
    """Seconds, those before an interruption included."""
    looks: tuple[tuple[int, Mapping[str, float]], ...]
    """(steps done, figures on the hold-out set), in order; empty without a hold-out set."""
    best_step: int
    """After which the weights that were kept were looked at; the last one without a look."""
    losses: tuple[tuple[int, Mapping[str, float]], ...]
    """(steps done, mean of each part of the loss since the row before)."""
    resumed_at: int | None = None
    """Steps that were done before the interruption."""
    unwritten: str | None = None
    """Why the last checkpoint could not be written; None: it could."""


@dataclass(slots=True)
class _Run:
    """What changes from step to step, and what a checkpoint keeps of it."""

    course: Course
    step: int = 0
    spent_s: float = 0.0
    losses: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    pending: list[dict[str, float]] = field(default_factory=list)
    """Losses of steps that are in no row yet."""
    looks: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    best_step: int = 0
    best: State = field(default_factory=dict)
    """The weights then, on the CPU."""

    def learn(self, seed: int) -> None:
        """One step; mixed precision on a GPU that has bfloat16."""
        device = next(self.course.model.parameters()).device.type
        rng = np.random.default_rng((seed, self.step))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and is_mixed(device)):
            parts = self.course.losses(self.step, rng)
        total = torch.stack([part.float() for part in parts.values()]).sum()
        if not torch.isfinite(total):
            raise ConfigError(
                f"the training diverged in step {self.step + 1}: its loss is no number; try "
                "another --seed, or a smaller learning rate or noise"
            )
        for optimiser in self.course.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.course.optimisers.values():
            optimiser.step()
        self.step += 1
        self.pending.append({name: float(part.detach()) for name, part in parts.items()})

    def note_losses(self) -> None:
        """Makes a row of the curve of what was not in one yet."""
        if self.pending:
            names = self.pending[0]
            row = {name: fmean(parts[name] for parts in self.pending) for name in names}
            self.losses.append((self.step, row))
            self.pending.clear()

    def look(self) -> None:
        """Judges the weights and keeps them if they are the best so far."""
        with _evaluated(self.course.model):
            figures = dict(self.course.judge())
        if not figures:
            return
        best = max((fmean(row.values()) for _, row in self.looks), default=float("-inf"))
        self.looks.append((self.step, figures))
        if fmean(figures.values()) > best:
            self.best_step = self.step
            state = self.course.model.state_dict()
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    @property
    def looks_since_best(self) -> int:
        """Without a better figure."""
        return sum(step > self.best_step for step, _ in self.looks)

    def checkpoint(self, request: str) -> Checkpoint:
        """All of it."""
        tensors = {
            **prefixed("model", self.course.model.state_dict()),
            **prefixed("best", self.best),
            **prefixed("generator", _generators()),
        }
        for name, optimiser in self.course.optimisers.items():
            tensors |= prefixed(f"optimiser/{name}", optimiser_state(optimiser))
        keys = ("step", "spent_s", "losses", "pending", "looks", "best_step")
        return Checkpoint(request, {key: getattr(self, key) for key in keys}, tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to where it was taken."""
        for key, value in checkpoint.progress.items():
            is_rows = key in ("losses", "looks")
            setattr(self, key, [(row[0], row[1]) for row in value] if is_rows else value)
        self.course.model.load_state_dict(under("model", checkpoint.tensors))
        self.best = under("best", checkpoint.tensors)
        for name, optimiser in self.course.optimisers.items():
            restore_optimiser(optimiser, under(f"optimiser/{name}", checkpoint.tensors))
        _set_generators(under("generator", checkpoint.tensors))


def train(
    course: Course,
    plan: Plan,
    material: Material,
    seed: int,
    report: Report,
    *,
    used_s: float = 0.0,
    clock: Callable[[], float] = monotonic,
) -> Outcome:
    """Takes the course's model through the plan and leaves the best weights in it.

    Args:
        course: what is trained.
        plan: how long, at most.
        material: of its pictures nothing is read here; its folder, budget and device are heeded.
        seed: of every draw.
        report: called with (stage, steps done, steps in all).
        used_s: seconds of the budget that preparing took.
        clock: seconds that only ever grow.

    Raises:
        ConfigError: there is no checkpoint to go on from, or the loss is no number.
    """
    with _seeded(seed):
        run, resumed_at = _Run(course), None
        if material.is_resumed:
            run.restore(_found(material))
            resumed_at = run.step
        elif material.folder is not None:
            forget_checkpoint(material.folder)
        course.model.train()
        loop = _Loop(run, plan, material, seed, report, clock, clock() - used_s - run.spent_s)
        end = loop.go()
        if run.best:
            course.model.load_state_dict(run.best)
    course.model.eval()
    return Outcome(
        steps=run.step,
        end=end,
        spent_s=run.spent_s,
        looks=tuple(run.looks),
        best_step=run.best_step if run.looks else run.step,
        losses=tuple(run.losses),
        resumed_at=resumed_at,
        unwritten=loop.unwritten,
    )


@dataclass(slots=True)
class _Loop:
    """The run against plan and clock."""

    run: _Run
    plan: Plan
    material: Material
    seed: int
    report: Report
    clock: Callable[[], float]
    began: float
    """On the clock, less what was spent before."""
    look_s: float = 0.0
    """Seconds that the last look took."""
    written_s: float = 0.0
    """On the clock: when the last checkpoint was done."""
    writing_s: float = 0.0
    """Seconds that it took."""
    unwritten: str | None = None
    """Why the last checkpoint could not be written."""

    def go(self) -> End:
        """Steps until the plan, the patience or the budget ends it."""
        run, plan = self.run, self.plan
        first, started = run.step, self.clock()
        self.written_s = started
        is_over = run.step >= plan.steps or run.looks_since_best >= plan.patience
        while not is_over:
            run.learn(self.seed)
            if run.step % max(1, plan.steps // LOSS_ROWS) == 0:
                run.note_losses()
            is_over = run.step >= self._steps(first, started)
            if is_over or run.step % plan.judged_every == 0:
                self._look()
            is_over = is_over or run.looks_since_best >= plan.patience
            run.spent_s = self.clock() - self.began
            planned = self._steps(first, started)
            stage = STAGE if self.unwritten is None else UNKEPT
            self.report(stage, run.step, run.step if is_over else max(run.step + 1, planned))
            self._keep()
        run.note_losses()
        if run.step >= plan.steps:
            return "planned"
        return "patience" if run.looks_since_best >= plan.patience else "budget"

    def _steps(self, first: int, started: float) -> int:
        """In all, as far as the budget reaches at the pace so far."""
        done = self.run.step - first
        if self.material.budget_s is None or done < min(MEASURED_STEPS, self.plan.steps - first):
            return self.plan.steps
        left = self.material.budget_s - (self.clock() - self.began) - self.look_s
        pace = (self.clock() - started) / done
        return min(self.plan.steps, affordable_steps(self.run.step, pace, left))

    def _look(self) -> None:
        began = self.clock()
        self.run.look()
        self.look_s = self.clock() - began

    def _keep(self) -> None:
        """Writes a checkpoint when one is due."""
        wait = max(CHECKPOINT_EVERY_S, self.writing_s / WRITING_SHARE)
        began = self.clock()
        if self.material.folder is None or began - self.written_s < wait:
            return
        try:
            write_checkpoint(self.material.folder, self.run.checkpoint(self.material.request))
        except OSError as error:  # a full disk, say: hours of training are worth more than this
            self.unwritten = str(error)
        else:
            self.unwritten = None
        self.written_s = self.clock()
        self.writing_s = self.written_s - began


def affordable_steps(done: int, pace_s: float, left_s: float) -> int:
    """Steps in all, at so many seconds a step, that what is left of the budget pays for."""
    return done + (max(0, int(left_s / pace_s)) if pace_s > 0 else 1)


def device_named(name: str) -> str:
    """`cpu` or `cuda`; `auto` takes the GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name not in DEVICES:
        raise ConfigError(f"no device is called {name!r}; known: {', '.join(DEVICES)}")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError("no CUDA device is usable here; pass --device cpu, or auto")
    return "cuda" if has_gpu and name != "cpu" else "cpu"


@cache
def is_mixed(device: str) -> bool:
    """Whether bfloat16 is faster than float32 there."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    about = Path("/proc/cpuinfo")
    return about.is_file() and "avx512_bf16" in about.read_text()


def _found(material: Material) -> Checkpoint:
    if material.folder is None:
        raise ConfigError("there is no folder for checkpoints, so nothing can be resumed")
    return read_checkpoint(material.folder, material.request)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds torch's generators and restores them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; then training mode again."""
    model.eval()
    with torch.inference_mode():
        yield
    model.train()


def _generators() -> State:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_generators(state: State) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
