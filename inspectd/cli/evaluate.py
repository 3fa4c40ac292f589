"""``inspectd evaluate``: what a calibrated product does on labelled pictures it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from inspectd.cli.calibrated import METRICS, rate
from inspectd.cli.options import (
    WITH_HOLDOUT_LAYOUT,
    JsonFile,
    ProductOption,
    RuntimeName,
    RuntimeOption,
    StateDir,
    Threads,
    complete_revision,
    open_store,
)
from inspectd.cli.output import (
    Report,
    interruptible,
    needs_calibration,
    require_writable,
    show,
    stages,
    write_json,
)

if TYPE_CHECKING:
    from calibration.evaluate import Evaluation, Scored
    from inspectd.core.bundle import Bundle

EXAMPLES = (
    "inspectd evaluate --product bottle --images bottle",
    "inspectd evaluate --product bottle --images bottle --runtime onnxruntime --json figures.json",
)


def evaluate(
    product: ProductOption,
    images: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help=f"Labelled pictures: a folder {WITH_HOLDOUT_LAYOUT}, or one whose test/ has "
            "them; masks in ground_truth/.",
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            help="The revision (default: the active one).",
            show_default=False,
            autocompletion=complete_revision,
        ),
    ] = None,
    runtime: RuntimeOption = RuntimeName.AUTO,
    threads: Threads = 0,
    state_dir: StateDir = None,
    json_file: JsonFile = None,
) -> None:
    """Score labelled pictures through the line's own pipeline, at the calibrated threshold."""
    require_writable(json_file)
    bundle = open_store(state_dir).open(product, revision)
    with interruptible() as check, stages() as progress:

        def report(stage: str, done: int, total: int) -> None:
            check()
            progress(stage, done, total)

        result, scored = _score(bundle, images, runtime.value, threads, report)
    write_json(json_file, result.as_json())
    show(_figures(result))
    show(_kinds(scored, result.threshold))


def _score(
    bundle: Bundle, images: Path, runtime_name: str, threads: int, report: Report
) -> tuple[Evaluation, list[Scored]]:
    """Checks the golden pictures, then scores the labelled ones on the same runtime."""
    with needs_calibration():
        from calibration.dataset import find_labelled
        from calibration.evaluate import score_samples, summarise
    from inspectd.pipeline.inspector import Inspector
    from inspectd.runtimes import open_runtime

    samples = find_labelled(images)
    manifest, scope = bundle.manifest, bundle.scope()
    with open_runtime(bundle.graph, runtime_name, threads) as runtime:
        report("checking golden pictures", 0, 1)
        Inspector(bundle, runtime).verify()
        report("checking golden pictures", 1, 1)
        scored = score_samples(
            samples,
            manifest.preprocessing,
            scope,
            runtime,
            lambda done, total: report("scoring pictures", done, total),
        )
        name = runtime.name
    report("computing figures", 0, 1)
    result = summarise(scored, manifest, name, scope)
    report("computing figures", 1, 1)
    return result, scored


def _figures(result: Evaluation) -> Table:
    from calibration.intervals import wilson

    table = Table(title=f"{result.product} {result.revision}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("pictures", f"{result.n_good} good, {result.n_defect} defective")
    table.add_row("threshold", f"{result.threshold:.6g}")
    table.add_row("F1", f"{result.f1:.3f} (best any threshold could reach: {result.best_f1:.3f})")
    table.add_row("precision, recall", f"{result.precision:.3f}, {result.recall:.3f}")
    escapes, overkill = (
        rate(count, n, wilson(count, n))
        for count, n in ((result.escapes, result.n_defect), (result.overkill, result.n_good))
    )
    table.add_row("escapes", escapes)
    table.add_row("overkill", overkill)
    if result.review_good + result.review_defect:
        table.add_row(
            "of these to review",
            f"{result.review_defect} defective and {result.review_good} good, counted as failed",
        )
    table.add_row(
        "policy", f"{result.policy}. {result.promise}" if result.promise else result.policy
    )
    if result.found:
        table.add_row("found", result.found)
    for key, name in METRICS.items():
        value = result.as_json()[key]
        table.add_row(name, "no masks" if value is None else f"{value:.3f}")
    table.add_row("inference, median", f"{result.latency_ms_p50:.1f} ms")
    table.add_row("runtime", result.runtime)
    return table


def _kinds(scored: list[Scored], threshold: float) -> Table:
    """How many parts of each kind fail: defects should, good parts shouldn't."""
    table = Table("kind", title="failed at the threshold")
    for heading in ("parts", "failed", "share"):
        table.add_column(heading, justify="right")
    for label in sorted({one.label for one in scored}, key=lambda label: (label == "good", label)):
        scores = [one.score for one in scored if one.label == label]
        failed = sum(score >= threshold for score in scores)
        style = "red" if failed != (0 if label == "good" else len(scores)) else ""
        share = f"{100 * failed / len(scores):.0f} %"
        table.add_row(label, str(len(scores)), str(failed), share, style=style)
    return table
