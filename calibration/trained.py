"""What is said to people of a training: how far it came, and what its curves still promise."""

from __future__ import annotations

from statistics import fmean

from calibration.scorers import Curve
from calibration.training import Outcome, Plan

RISING = 0.005
"""A gain of the hold-out figure in the last third of the steps that promises more."""


def facts_of(plan: Plan, outcome: Outcome, device: str) -> dict[str, str]:
    """For the report's table."""
    epochs = outcome.steps / plan.steps_per_epoch
    ends = {
        "planned": "as planned",
        "patience": f"stopped early: no better in {plan.patience} looks at the hold-out set",
        "budget": "ended by the budget",
    }
    facts = {
        "training": f"{epochs:.1f} of {plan.epochs} epochs ({outcome.steps:,} of {plan.steps:,} "
        f"steps), {ends[outcome.end]}",
        "trained in": f"{outcome.spent_s:.0f} s on {device}",
    }
    if outcome.looks:
        figures = dict(outcome.looks)[outcome.best_step]
        best = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        at = outcome.best_step / plan.steps_per_epoch
        facts["weights kept"] = f"after {at:.1f} epochs, the best of {len(outcome.looks)}: {best}"
    if outcome.resumed_at is not None:
        facts["resumed"] = f"after step {outcome.resumed_at:,}"
    return facts


def remarks_of(plan: Plan, outcome: Outcome) -> tuple[str, ...]:
    """Sentences: by what the weights were chosen, and what a shortened training gave away."""
    remarks = []
    if len(outcome.looks) > 1:  # of one nothing is chosen
        remarks.append(
            f"The weights are the best of {len(outcome.looks)} by the hold-out parts that the "
            "threshold rests on. Those were not learned from, but their figures flatter a little: "
            "a rate that is promised with 95 % confidence is sure to about 90 %."
        )
    if outcome.unwritten is not None:
        remarks.append(
            f"Warning: checkpoints could not be written ({outcome.unwritten}), so an interruption "
            "would have cost the training; make room on the disk."
        )
    if outcome.end == "budget":
        done = outcome.steps / plan.steps_per_epoch
        remarks.append(
            f"Warning: the budget ended the training after {done:.1f} of {plan.epochs} epochs, "
            f"and more was not learned from. {_promise(outcome)}"
        )
    return tuple(remarks)


def curves_of(plan: Plan, outcome: Outcome) -> tuple[Curve, ...]:
    """The parts of the loss and the figures on the hold-out set, over the epochs."""
    curves = []
    for group, rows in (("loss", outcome.losses), ("hold-out figure", outcome.looks)):
        epochs = tuple(step / plan.steps_per_epoch for step, _ in rows)
        for name in rows[0][1] if rows else ():
            values = tuple(row[name] for _, row in rows)
            curves.append(Curve(f"{group}, {name}", epochs, values))
    return tuple(curves)


def gain_of_last_third(outcome: Outcome) -> float | None:
    """By how much the best hold-out figure rose in the last third; None with too few looks."""
    split = outcome.steps * 2 / 3
    before = [fmean(row.values()) for step, row in outcome.looks if step <= split]
    after = [fmean(row.values()) for step, row in outcome.looks if step > split]
    if not before or not after:
        return None
    return max(0.0, max(after) - max(before))


def _promise(outcome: Outcome) -> str:
    gain = gain_of_last_third(outcome)
    if gain is None:
        return "There were too few looks at the hold-out set to say what more would bring."
    if gain >= RISING:
        return (
            f"The hold-out figure still rose by {gain:.3f} in the last third: a larger --budget "
            "promises more."
        )
    return (
        f"The hold-out figure rose by {gain:.3f} in the last third: a larger --budget promises "
        "little."
    )
