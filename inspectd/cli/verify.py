"""``inspectd verify``: whether a runtime reproduces the reference; recorded for the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from inspectd.cli.options import (
    WITH_HOLDOUT_LAYOUT,
    JsonFile,
    ProductOption,
    RevisionOption,
    RuntimeName,
    RuntimeOption,
    StateDir,
    Threads,
    open_store,
)
from inspectd.cli.output import (
    Report,
    interruptible,
    note,
    require_writable,
    show,
    stages,
    write_json,
)
from inspectd.core.errors import ParityError

if TYPE_CHECKING:
    from inspectd.core.bundle import Bundle
    from inspectd.core.contracts import Runtime
    from inspectd.pipeline.parity import Pair, Parity

EXAMPLES = (
    "inspectd verify --product bottle --runtime tensorrt-fp16 --images bottle/holdout",
    "inspectd verify --product bottle --runtime openvino-bf16 --json parity.json",
)
REFERENCE = "onnxruntime"
LISTED = 20
"""Parts with another verdict that the table names."""

HoldoutOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help=f"Labelled pictures to compare too: a folder {WITH_HOLDOUT_LAYOUT}.",
        show_default=False,
    ),
]


def verify(
    product: ProductOption,
    revision: RevisionOption = None,
    runtime: RuntimeOption = RuntimeName.AUTO,
    images: HoldoutOption = None,
    threads: Threads = 0,
    state_dir: StateDir = None,
    json_file: JsonFile = None,
) -> None:
    """Check that a runtime gives the verdicts of the reference, and record the outcome.

    Compared are the golden pictures with their scores in the bundle and, with --images, labelled
    ones with what ONNX Runtime computes in fp32 here. A failed outcome makes the daemon refuse the
    runtime; one on TensorRT is only accepted with a passed one. The exit status is 1 if it failed.
    """
    from inspectd.runtimes import open_runtime

    require_writable(json_file)
    bundle = open_store(state_dir).open(product, revision)
    note(f"{product} {bundle.manifest.revision}: all {len(bundle.manifest.files)} files are whole")
    with open_runtime(bundle.graph, runtime.value, threads) as opened:
        parity = compared(bundle, opened, images, threads)
        name = opened.name
    write_json(json_file, {"runtime": name, **parity.as_json()})
    settle(bundle, name, parity)


def compared(bundle: Bundle, runtime: Runtime, images: Path | None, threads: int) -> Parity:
    """Scores golden and hold-out pictures on an entered runtime and judges them."""
    from inspectd.pipeline.parity import Bounds, Pair, judge
    from inspectd.pipeline.score import examine

    manifest, scope = bundle.manifest, bundle.scope()
    with interruptible() as check, stages() as progress:

        def report(stage: str, done: int, total: int) -> None:
            check()
            progress(stage, done, total)

        pairs = []
        for index, (golden, image) in enumerate(bundle.golden_images()):
            score = examine(runtime, image, scope).score
            is_defect = golden.label != "good"
            pairs.append(Pair(golden.file, is_defect, golden.score, score, is_golden=True))
            report("comparing golden pictures", index + 1, len(manifest.golden))
        if images is not None:
            pairs += _holdout(bundle, runtime, images, threads, report)
    bounds = Bounds.of(manifest.golden_tolerance, runtime.rounding)
    return judge(pairs, manifest.threshold.image, bounds)


def settle(bundle: Bundle, runtime: str, parity: Parity) -> None:
    """Shows the outcome and records it.

    Raises:
        ParityError: it failed.
    """
    from inspectd.core.bundle import MODEL
    from inspectd.core.paths import cache_dir
    from inspectd.pipeline import verified

    manifest = bundle.manifest
    show(_table(f"{manifest.product} {manifest.revision} on {runtime}", parity))
    if parity.near or parity.changed:
        show(_changed(parity))
    path = verified.write(cache_dir(), manifest.files[MODEL], runtime, parity)
    note(f"recorded in {path}")
    if parity.passed and parity.bounds.margin and not parity.n_holdout:
        note("golden pictures alone don't prove what rounds; give --images HOLDOUT", "yellow")
    if not parity.passed:
        raise ParityError(
            f"{runtime} doesn't reproduce the reference: {'; '.join(parity.problems)}. The daemon "
            "refuses it; choose another runtime or precision"
        )


def _holdout(
    bundle: Bundle, runtime: Runtime, images: Path, threads: int, report: Report
) -> list[Pair]:
    """Each labelled picture on both runtimes."""
    from calibration.dataset import find_labelled
    from inspectd.core.errors import DatasetError, ImageSizeError
    from inspectd.core.images import read_image
    from inspectd.core.preprocess import prepare
    from inspectd.pipeline.parity import Pair
    from inspectd.pipeline.score import examine
    from inspectd.runtimes import open_runtime

    samples, scope = find_labelled(images), bundle.scope()
    pairs = []
    with open_runtime(bundle.graph, REFERENCE, threads) as reference:
        for index, sample in enumerate(samples):
            try:
                image = prepare(read_image(sample.path), bundle.manifest.preprocessing)
            except ImageSizeError as error:
                raise DatasetError(f"{sample.path}: {error}") from error
            expected = examine(reference, image, scope).score
            score = examine(runtime, image, scope).score
            pairs.append(Pair(sample.name, sample.is_defect, expected, score))
            report("comparing the hold-out set", index + 1, len(samples))
    return pairs


def _table(title: str, parity: Parity) -> Table:
    bounds = parity.bounds
    table = Table("compared", "found", "allowed", "", title=title)
    is_near = parity.difference <= bounds.score
    pictures = f"{parity.n_golden} golden, {parity.n_holdout} of the hold-out set"
    table.add_row("pictures", pictures, "", "")
    difference = f"{parity.difference:.2e} ({parity.worst})"
    _add(table, "largest difference of a score", difference, f"{bounds.score:g}", is_near)
    _add(table, "verdicts that differ", str(len(parity.changed)), "0", not parity.changed)
    near = f"{len(parity.near)} within {bounds.margin:g} of the threshold"
    table.add_row("of no account", near, "listed", "")
    if parity.auroc is not None:
        before, after = parity.auroc
        drop = before - after
        found = f"{before:.4f} to {after:.4f}"
        allowed = f"a drop of {bounds.auroc:g}"
        _add(table, "image AUROC", found, allowed, drop <= bounds.auroc)
    _add(table, "outcome", "passed" if parity.passed else "failed", "", parity.passed)
    return table


def _add(table: Table, name: str, found: str, allowed: str, is_good: bool) -> None:
    style = "" if is_good else "bold red"
    table.add_row(name, found, allowed, "ok" if is_good else "FAIL", style=style)


def _changed(parity: Parity) -> Table:
    """Parts with another verdict: those that matter first."""
    table = Table("part", "kind", title=f"other verdict at the threshold {parity.threshold:.6g}")
    for heading in ("reference", "here", ""):
        table.add_column(heading)
    both = [(pair, "") for pair in parity.near]
    both = [(pair, "must not differ") for pair in parity.changed] + both
    for pair, remark in both[:LISTED]:
        kind = "defective" if pair.is_defect else "good"
        table.add_row(pair.name, kind, f"{pair.reference:.5f}", f"{pair.score:.5f}", remark)
    if len(both) > LISTED:
        table.add_row(f"and {len(both) - LISTED} more", "", "", "", "")
    return table
