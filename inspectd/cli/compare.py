"""``inspectd compare``: scorers and backbones side by side, on the same split of the pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from inspectd.cli.calibrate import (
    BUILTIN,
    BUILTIN_NOTE,
    INPUT_SIZE,
    MODEL,
    checked,
    require_meant,
    tell_interrupted,
)
from inspectd.cli.compare_setup import (
    SCORERS,
    compared,
    contested,
    listed,
    methods_of,
    prepared,
    scratch_store,
)
from inspectd.cli.compared import command_of, finish
from inspectd.cli.options import (
    WITH_HOLDOUT_LAYOUT,
    JsonFile,
    ProductOption,
    RuntimeName,
    RuntimeOption,
    StateDir,
    Threads,
    open_store,
)
from inspectd.cli.output import (
    Interrupted,
    interruptible,
    note,
    require_writable,
    stages,
)
from inspectd.cli.training import Budget, Device, DeviceName

EXAMPLES = (
    "inspectd compare --product bottle --images bottle --labelled labelled_parts --budget 10",
    "inspectd compare --product bottle --images bottle --scorers protoad,mpfnet "
    "--backbones resnet18 --keep",
    "inspectd compare --product bottle --images good_parts --labelled labelled_parts "
    "--backbones resnet18,resnet50,own.safetensors --report backbones.html",
)
OUTPUT = "Output"


def complete_scorers(incomplete: str) -> list[str]:
    """The list so far with each scorer that isn't in it yet."""
    *before, begun = incomplete.split(",")
    left = (name for name in SCORERS if name.startswith(begun) and name not in before)
    return [",".join((*before, name)) for name in left]


def compare(
    product: ProductOption,
    images: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Pictures of good parts: a plain folder, or one with train/good/."
        ),
    ],
    labelled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Labelled pictures: a folder {WITH_HOLDOUT_LAYOUT}; masks in ground_truth/. The "
            "first half of each kind, in name order, is for the thresholds, the other half for "
            "judging (default: test/ in --images, which is spent by that).",
            show_default=False,
        ),
    ] = None,
    scorers: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Scoring methods, with commas between; the first is what the others are compared "
            f"with (default: {','.join(SCORERS)}; only {SCORERS[0]} with several --backbones).",
            show_default=False,
            autocompletion=complete_scorers,
            rich_help_panel=MODEL,
        ),
    ] = None,
    backbones: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE,…",
            help="Backbones, with commas between, as --backbone of calibrate takes them; every "
            "scorer is made on each.",
            rich_help_panel=MODEL,
        ),
    ] = BUILTIN,
    input_size: Annotated[
        int,
        typer.Option(
            min=32, max=4096, help="Pixels a side pictures are scaled to.", rich_help_panel=MODEL
        ),
    ] = INPUT_SIZE,
    crop: Annotated[
        int | None,
        typer.Option(
            min=32,
            max=4096,
            help="Pixels a side of the centre that is kept (default: all).",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of every random choice.", rich_help_panel=MODEL)
    ] = 0,
    budget: Budget = None,
    device: Device = DeviceName.AUTO,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Put the revisions (fp32 only) beside the product's own; none is activated.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page (default: compare-PRODUCT.html, here).",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    runtime: RuntimeOption = RuntimeName.AUTO,
    threads: Threads = 0,
    state_dir: StateDir = None,
    json_file: JsonFile = None,
) -> None:
    """Make revisions with several scorers or backbones and judge them on the same parts.

    Writes one page: what each finds and misses, how sure a difference is, how fast and large each
    is, and maps of the same parts by all. The product's active revision stays what it is. A
    contender that can't be made is told, and the others go on. --budget is for each training.
    """
    page = report or Path(f"compare-{product}.html")
    require_writable(json_file)
    require_writable(page, "--report")
    require_meant(input_size, crop, runtime)
    store = open_store(state_dir)
    before = store.revisions(product)
    specs, methods = listed(backbones), methods_of(scorers, backbones)
    given: dict[str, Any] = {
        "--product": product,
        "--images": images,
        "--labelled": labelled,
        "--scorers": ",".join(methods),
        "--backbones": ",".join(specs),
        "--input-size": input_size,
        "--crop": crop,
        "--seed": seed,
        "--budget": budget,
        "--device": device.value,
        "--runtime": runtime.value,
        "--threads": threads,
    }
    if BUILTIN in specs:
        note(BUILTIN_NOTE, "yellow")
    try:
        with interruptible() as check, tempfile.TemporaryDirectory(prefix="inspectd-") as folder:
            scratch = Path(folder)
            with stages() as progress:
                told = checked(progress, check)
                rivals, terms = prepared(given, methods, specs, scratch, told)
            own = scratch_store(scratch, product, before)
            made, failed = contested(rivals, terms, own, check)
            with stages() as progress:
                told = checked(progress, check)
                found = compared(made, failed, terms, command_of(given, page), told)
            finish(found, store if keep else None, given, page, json_file, state_dir)
    except Interrupted as stop:
        tell_interrupted(store, product, before)
        raise typer.Exit(stop.exit_status) from stop
