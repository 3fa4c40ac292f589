"""What ``inspectd compare`` makes of its contenders: a page, a table, JSON, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from inspectd.cli.output import note, show, write_json

if TYPE_CHECKING:
    from calibration.comparison.contenders import Entry
    from calibration.comparison.record import Comparison
    from inspectd.core.store import ProductStore


def command_of(options: Mapping[str, Any], page: Path) -> str:
    """The command that makes the comparison again, with all that it was given."""
    return _command("compare", {**options, "--report": page})


def finish(
    comparison: Comparison,
    store: ProductStore | None,
    options: Mapping[str, Any],
    page: Path,
    json_file: Path | None,
    state_dir: Path | None,
) -> None:
    """Writes the page and the JSON, keeps the revisions where there is a store, and shows it."""
    from calibration.comparison.contenders import leader
    from calibration.comparison.contest import keep
    from calibration.comparison.report import render_comparison
    from inspectd.core.files import write_atomically

    write_atomically(page, render_comparison(comparison).encode())
    write_json(json_file, as_json(comparison, page, is_kept=store is not None))
    if store is not None:
        for entry in comparison.entries:
            keep(entry.outcome.bundle, store)
    show(comparison_table(comparison))
    for line in comparison.notes:
        note(f"note: {line}", "yellow")
    show(Text.assemble(("report  ", "bold"), str(page)))
    place = f" --state-dir {shlex.quote(str(state_dir))}" if state_dir else ""
    best = leader(comparison.entries)
    show(_favour(best, comparison.entries))
    show(Text("next", "bold"))
    if store is None:
        show(f"  {_calibrate_command(best, comparison, options)}{place}")
    else:
        _show_kept(comparison, best, place)


def comparison_table(comparison: Comparison) -> Table:
    """For the terminal: the figures of the page."""
    from calibration.comparison.report import cost_rows, figure_rows

    entries = comparison.entries
    halves = comparison.halves
    defects = int(halves.is_defect.sum())
    judged = f"judged on {len(halves.judged) - defects} good and {defects} defective parts"
    table = Table("", title=f"{comparison.product}, {judged}")
    for entry in entries:
        table.add_column(entry.name)
    for name, cells in (*figure_rows(entries), *cost_rows(entries)):
        texts = (Text("\n".join(filter(None, (cell.text, cell.fine)))) for cell in cells)
        table.add_row(Text(name, "bold"), *texts)
    return table


def as_json(comparison: Comparison, page: Path, *, is_kept: bool) -> dict[str, Any]:
    """What ``--json`` writes; the first contender is the one the others are compared with."""
    halves = comparison.halves
    return {
        "product": comparison.product,
        "created_at": comparison.created_at.isoformat(),
        "command": comparison.command,
        "report": str(page),
        "contenders": [_entry_json(entry, is_kept) for entry in comparison.entries],
        "failed": [{"name": one.name, "reason": one.reason} for one in comparison.failures],
        "judged": [{"name": one.name, "label": one.label} for one in halves.judged],
        "holdout": [{"name": one.name, "label": one.label} for one in halves.holdout],
        "notes": list(comparison.notes),
        "facts": dict(comparison.facts),
    }


def _entry_json(entry: Entry, is_kept: bool) -> dict[str, Any]:
    outcome, gained = entry.outcome, entry.difference
    contender, manifest = outcome.contender, outcome.bundle.manifest
    return {
        "name": entry.name,
        "scorer": contender.scorer.name,
        "options": manifest.recipe.options,
        "backbone": contender.backbone.name,
        "backbone_sha256": contender.backbone.sha256,
        **entry.evaluation.as_json(),
        "revision": manifest.revision if is_kept else None,
        "image_ap": entry.image_ap,
        "auroc_difference": None if gained is None else gained.value,
        "auroc_difference_95": None if gained is None else [gained.low, gained.high],
        "auroc_verdict": "reference" if gained is None else gained.verdict,
        "verdicts_better": None if entry.changes is None else entry.changes.better,
        "verdicts_worse": None if entry.changes is None else entry.changes.worse,
        "verdicts_p": None if entry.changes is None else entry.changes.p_value,
        "latency_ms_p50": entry.latency.p50_ms,
        "latency_ms_p99": entry.latency.p99_ms,
        "latency_samples": entry.latency.n,
        "model_mb": outcome.size_mb,
        "calibrated_s": round(outcome.seconds, 3),
        "facts": dict(outcome.facts),
        "remarks": list(manifest.remarks),
        "scores": outcome.scores.tolist(),
    }


def _show_kept(comparison: Comparison, best: Entry, place: str) -> None:
    for entry in comparison.entries:
        show(f"  {entry.outcome.bundle.manifest.revision}  {entry.name}, not active")
    revision = best.outcome.bundle.manifest.revision
    show(f"  inspectd product activate {comparison.product} {revision}{place}")


def _favour(best: Entry, entries: Sequence[Entry]) -> str:
    """Whom the figures favour, and of whom that one isn't told apart."""
    first = entries[0]
    level = [
        one.name
        for one in entries
        if one.difference is not None and one.difference.verdict == "not told apart"
    ]
    if best is not first:
        level = [first.name] if best.name in level else []
    apart = f", but by AUROC not told apart from {', '.join(level)}" if level else ""
    return f"best by AUROC, then F1, then latency: {best.name}{apart}"


def _calibrate_command(best: Entry, comparison: Comparison, options: Mapping[str, Any]) -> str:
    """That makes the best contender for good; with test/ only keeping it does."""
    from calibration.comparison.halves import is_test

    if is_test(comparison.halves):
        return f"{comparison.command} --keep"
    contender = best.outcome.contender
    chosen = {"--scorer": contender.scorer.name, "--backbone": contender.spec}
    same = ("--input-size", "--crop", "--seed", "--runtime", "--threads")
    trained = ("--budget", "--device") if contender.scorer.is_trained else ()
    return _command(
        "calibrate",
        {
            "--product": comparison.product,
            "--images": options["--images"],
            "--holdout": options["--labelled"],
            **chosen,
            **{name: options[name] for name in (*same, *trained)},
        },
    )


def _command(name: str, options: Mapping[str, Any]) -> str:
    given = ((option, str(value)) for option, value in options.items() if value is not None)
    return shlex.join(("inspectd", name, *(word for pair in given for word in pair)))
