"""The options of a threshold policy, the same for ``calibrate`` and ``threshold``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from inspectd.cli.output import show

if TYPE_CHECKING:
    from inspectd.core.bundle import PolicyPart

PANEL = "Threshold"
"""Of the help."""


class PolicyName(StrEnum):
    """The values of ``--policy``; a test compares them with `calibration.policies`."""

    F1 = "f1"
    MAX_ESCAPES = "max-escapes"
    MAX_OVERKILL = "max-overkill"
    COST = "cost"
    SIGMA = "sigma"


def _limit(text: str) -> Any:
    return typer.Option(metavar="X", help=text, show_default=False, rich_help_panel=PANEL)


Policy = Annotated[
    PolicyName,
    typer.Option(
        help="How the threshold is chosen. f1: the best F1. max-escapes, max-overkill: a rate that "
        "is kept with 95 % confidence. cost: what costs least. sigma: from good parts only, by the "
        "tail of their scores.",
        rich_help_panel=PANEL,
    ),
]
MaxEscapeRate = Annotated[
    float | None, _limit("Of max-escapes: share of defective parts that may pass, as 0.05.")
]
MaxOverkillRate = Annotated[
    float | None,
    _limit("Of max-overkill and --review-band: share of good parts that may fail, as 0.05."),
]
CostRatio = Annotated[
    float | None, _limit("Of cost: price of an escape over price of an overkill, as 50.")
]
Prevalence = Annotated[
    float | None, _limit("Of cost: share of the line's parts that are defective, as 0.01.")
]
FalseAlarmRate = Annotated[
    float | None, _limit("Of sigma: share of good parts that may fail, as 0.01.")
]
ReviewBand = Annotated[
    bool,
    typer.Option(
        "--review-band",
        help="Two thresholds: a part passes below --policy's, fails from max-overkill's on (at "
        "--max-overkill-rate), and in between is undecided: a person reviews it.",
        rich_help_panel=PANEL,
    ),
]


def policy_of(
    name: PolicyName,
    max_escape_rate: float | None,
    max_overkill_rate: float | None,
    cost_ratio: float | None,
    prevalence: float | None,
    false_alarm_rate: float | None,
    review_band: bool,
) -> PolicyPart:
    """What the options ask for, checked.

    Raises:
        ConfigError: a limit is missing, of another policy, or impossible.
    """
    from calibration.policies import check
    from inspectd.core.bundle import PolicyPart

    limits = {
        "max_escape_rate": max_escape_rate,
        "max_overkill_rate": max_overkill_rate,
        "cost_ratio": cost_ratio,
        "prevalence": prevalence,
        "false_alarm_rate": false_alarm_rate,
    }
    given = {key: value for key, value in limits.items() if value is not None}
    policy = PolicyPart.model_construct(name=name.value, limits=given, review_band=review_band)
    check(policy)  # before validation, which knows NaN only as no number
    return PolicyPart(name=name.value, limits=given, review_band=review_band)


def policy_text(policy: PolicyPart) -> str:
    """In a few words, for a table."""
    limits = [f"{name.replace('_', ' ')} {value:g}" for name, value in policy.limits.items()]
    band = ["review band"] if policy.review_band else []
    return ", ".join([policy.name, *limits, *band])


def show_remarks(remarks: tuple[str, ...]) -> None:
    """A line each, those that need somebody's attention in yellow."""
    for remark in remarks:
        is_warning = remark.startswith("Warning") or "simulated" in remark
        show(Text(remark, "yellow" if is_warning else ""))
