"""``inspectd threshold``: another threshold for a calibrated product, from its hold-out scores."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inspectd.cli.calibrated import rate
from inspectd.cli.options import (
    JsonFlag,
    ProductOption,
    StateDir,
    complete_revision,
    open_store,
)
from inspectd.cli.output import needs_calibration, note, show, show_json
from inspectd.cli.policy import (
    CostRatio,
    FalseAlarmRate,
    MaxEscapeRate,
    MaxOverkillRate,
    Policy,
    PolicyName,
    Prevalence,
    ReviewBand,
    policy_of,
    policy_text,
    show_remarks,
)

if TYPE_CHECKING:
    from calibration.policies import Choice
    from inspectd.core.bundle import Bundle
    from inspectd.core.records import Threshold

EXAMPLES = (
    "inspectd threshold --product bottle --policy max-escapes --max-escape-rate 0.05",
    "inspectd threshold --product bottle --policy cost --cost-ratio 50 --prevalence 0.01 --dry-run",
    "inspectd threshold --product bottle --policy sigma --false-alarm-rate 0.01",
    "inspectd threshold --product bottle --policy max-escapes --max-escape-rate 0.05 "
    "--review-band --max-overkill-rate 0.05",
)


def threshold(
    product: ProductOption,
    revision: Annotated[
        str | None,
        typer.Option(
            help="The revision whose model and hold-out scores are taken (default: the active).",
            show_default=False,
            autocompletion=complete_revision,
        ),
    ] = None,
    policy: Policy = PolicyName.F1,
    max_escape_rate: MaxEscapeRate = None,
    max_overkill_rate: MaxOverkillRate = None,
    cost_ratio: CostRatio = None,
    prevalence: Prevalence = None,
    false_alarm_rate: FalseAlarmRate = None,
    review_band: ReviewBand = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the new threshold and make nothing.")
    ] = False,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Make the revision, but leave the active one.")
    ] = False,
    as_json: JsonFlag = False,
    state_dir: StateDir = None,
) -> None:
    """Choose another threshold for a product, from its stored hold-out scores, in about a second.

    Makes a new revision with the same model and activates it. A running daemon goes on with the
    old one until it is told.
    """
    with needs_calibration():
        from calibration.policies import choose
    from inspectd.core.holdout import read_holdout

    limits = (max_escape_rate, max_overkill_rate, cost_ratio, prevalence, false_alarm_rate)
    wanted = policy_of(policy, *limits, review_band)
    store = open_store(state_dir)
    parent = store.open(product, revision)
    holdout = read_holdout(parent)
    choice = choose(wanted, holdout)
    made: Bundle | None = None
    is_new = (choice.threshold, choice.policy) != (parent.threshold, parent.manifest.policy)
    if is_new and not dry_run:
        with needs_calibration():
            from calibration.rethreshold import rethreshold
        made = rethreshold(store, parent, choice, holdout)
        if not no_activate:
            store.activate(product, made.manifest.revision)
    if as_json:
        show_json(_as_json(parent, choice, made, made is not None and not no_activate))
    else:
        show(_side_by_side(parent, choice, made))
        show_remarks(choice.remarks)
        if is_new:
            _tell_next(product, made, no_activate)
        else:
            note(f"{parent.manifest.revision} has this threshold already; nothing was made")


def _as_json(
    parent: Bundle, choice: Choice, made: Bundle | None, is_active: bool
) -> dict[str, Any]:
    return {
        "product": parent.manifest.product,
        "parent": parent.manifest.revision,
        "revision": None if made is None else made.manifest.revision,
        "active": is_active,
        "policy": choice.policy.model_dump(),
        "old": asdict(parent.threshold),
        "new": asdict(choice.threshold),
        "remarks": list(choice.remarks),
    }


def _side_by_side(parent: Bundle, choice: Choice, made: Bundle | None) -> Table:
    from inspectd.core.bundle import PolicyPart

    new = "not made" if made is None else made.manifest.revision
    old_policy = parent.manifest.policy or PolicyPart(name=parent.threshold.policy)
    texts = [policy_text(policy) for policy in (old_policy, choice.policy)]
    table = Table("", f"old: {parent.manifest.revision}", f"new: {new}")
    table.title = parent.manifest.product
    old_rows, new_rows = (
        {"policy": text, **_rows(record)}
        for text, record in zip(texts, (parent.threshold, choice.threshold), strict=True)
    )
    for name, old in old_rows.items():
        table.add_row(name, old, new_rows[name])
    return table


def _rows(t: Threshold) -> dict[str, str]:
    band = "none" if t.review_below is None else f"up to {t.review_below:.6g}"
    if t.review_below is not None:
        band += f" ({t.review_good} good, {t.review_defect} defective)"
    overkill = rate(t.overkill, t.n_good, t.overkill_rate_interval)
    escapes = rate(t.escapes, t.n_defect, t.escape_rate_interval)
    return {
        "threshold": f"{t.image:.6g}",
        "per pixel": "none" if t.pixel is None else f"{t.pixel:.6g}",
        "review band": band,
        "escapes": escapes if t.n_defect else "not known: no defect",
        "overkill": overkill,
        "F1": f"{t.f1:.3f}" if t.n_defect else "-",
    }


def _tell_next(product: str, made: Bundle | None, no_activate: bool) -> None:
    if made is None:
        note("nothing was made; leave --dry-run out to make it a revision")
        return
    name = made.manifest.revision
    show(f"report  {made.path / 'report.html'}")
    if no_activate:
        note(f"{name} is not active; inspectd product activate {product} {name} makes it so")
        return
    note(
        f"{product}: {name} is active. A daemon that runs takes it over on SIGHUP (systemctl "
        f"reload inspectd) or by: inspectd command activate {product}. The way back: inspectd "
        f"product rollback {product}"
    )
