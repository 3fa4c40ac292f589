"""``inspectd verify``: whether a runtime reproduces the reference; recorded for the daemon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import nan
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
    from inspectd.core.records import ImageArray
    from inspectd.core.scope import Scope
    from inspectd.pipeline.parity import Pair, Parity

EXAMPLES = (
    "inspectd verify --product bottle --runtime tensorrt-fp16 --images bottle/holdout",
    "inspectd verify --product bottle --runtime openvino-bf16 --json parity.json",
    "inspectd verify --product bottle --runtime openvino --batch 4 --images bottle/holdout",
)
REFERENCE = "onnxruntime"
MOST_AT_ONCE = 64
"""Inputs of one inference, at most; an engine takes as many as it was built for."""
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
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Compare in every batch size up to this one, too: the configuration's [batching] "
            "max_batch (default: 1; of TensorRT what the engine takes).",
            show_default=False,
        ),
    ] = None,
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
    most = batch or (MOST_AT_ONCE if runtime.value.startswith("tensorrt") else 1)
    with open_runtime(bundle.graph, runtime.value, threads, most) as opened:
        parity = compared(bundle, opened, images, threads)
        name = opened.name
    write_json(json_file, {"runtime": name, **parity.as_json()})
    settle(bundle, name, parity)


def compared(bundle: Bundle, runtime: Runtime, images: Path | None, threads: int) -> Parity:
    """Scores golden and hold-out pictures on an entered runtime and judges them.

    Where the runtime was opened for batches, in every batch size: of each picture what speaks most
    against the runtime counts.
    """
    from inspectd.pipeline.parity import Bounds, Pair, judge

    manifest = bundle.manifest
    with interruptible() as check, stages() as progress:

        def report(stage: str, done: int, total: int) -> None:
            check()
            progress(stage, done, total)

        expected = (
            (image, Pair(golden.file, golden.label != "good", golden.score, nan, is_golden=True))
            for golden, image in bundle.golden_images()
        )
        done = (report, "comparing golden pictures", len(manifest.golden))
        pairs = _scored(runtime, expected, bundle, *done)
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

    def expected(reference: Runtime) -> Iterator[tuple[ImageArray, Pair]]:
        for sample in samples:
            try:
                image = prepare(read_image(sample.path), bundle.manifest.preprocessing)
            except ImageSizeError as error:
                raise DatasetError(f"{sample.path}: {error}") from error
            score = examine(reference, image, scope).score
            yield image, Pair(sample.name, sample.is_defect, score, nan)

    with open_runtime(bundle.graph, REFERENCE, threads) as reference:
        done = (report, "comparing the hold-out set", len(samples))
        return _scored(runtime, expected(reference), bundle, *done)


def _scored(
    runtime: Runtime,
    expected: Iterable[tuple[ImageArray, Pair]],
    bundle: Bundle,
    report: Report,
    stage: str,
    total: int,
) -> list[Pair]:
    """The pairs with the runtime's scores, a few pictures at a time."""
    from inspectd.core.contracts import Batched
    from inspectd.pipeline.parity import harshest

    scope, threshold = bundle.scope(), bundle.manifest.threshold.image
    largest = runtime.largest_batch if isinstance(runtime, Batched) else 1
    together = largest if scope.tiles is None else 1  # large pictures aren't held by the dozen
    pairs: list[Pair] = []
    remaining = iter(expected)
    while some := list(islice(remaining, together)):
        each = zip(*_in_every_size(runtime, [image for image, _ in some], scope), strict=True)
        for (_, pair), scores in zip(some, each, strict=True):
            pairs.append(harshest([replace(pair, score=score) for score in scores], threshold))
            report(stage, len(pairs), total)
    return pairs


def _in_every_size(
    runtime: Runtime, images: Sequence[ImageArray], scope: Scope
) -> Iterator[list[float]]:
    """The pictures' scores, one by one and then in each batch size that the runtime takes."""
    from inspectd.core.batches import sizes
    from inspectd.core.contracts import Batched
    from inspectd.pipeline.score import examine, examine_at_once

    yield [examine(runtime, image, scope).score for image in images]
    if isinstance(runtime, Batched):
        for count in sizes(runtime.largest_batch)[1:]:
            yield [one.score for one in examine_at_once(runtime, images, scope, count)]


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
