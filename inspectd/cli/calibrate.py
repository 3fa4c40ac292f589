"""``inspectd calibrate``: from a folder of pictures to a product revision."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspectd.cli.calibrated import as_json, revision_table, show_next
from inspectd.cli.framing import (
    Ignore,
    MinArea,
    MmPerPixel,
    Overlap,
    RecipeFile,
    Roi,
    Tile,
    framing_of,
    tiling_of,
)
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
    Report,
    interruptible,
    needs_calibration,
    note,
    require_writable,
    show,
    stages,
    write_json,
)
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
    show_remarks,
)
from inspectd.cli.training import (
    Batch,
    Budget,
    Device,
    DeviceName,
    Epochs,
    LearningRate,
    MPFNetBlend,
    MPFNetFusion,
    MPFNetNoise,
    MPFNetScale,
    Patience,
    PRNKinds,
    PRNModules,
    PRNResidual,
    PRNSeen,
    PRNTextures,
    PRNUnchanged,
    PrototypeRatio,
    Resume,
    given,
    tell_resumable,
)
from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from calibration.backbones import Backbone
    from inspectd.core.bundle import Bundle
    from inspectd.core.store import ProductStore

EXAMPLES = (
    "inspectd calibrate --product bottle --images bottle",
    "inspectd calibrate --product bottle --images good_parts --holdout labelled_parts",
    "inspectd calibrate --product bottle --images bottle --backbone resnet18 --crop 224",
    "inspectd calibrate --product bottle --images bottle --backbone weights.safetensors",
    "inspectd calibrate --product bottle --images bottle --backbone resnet18 --latency-budget 20",
    "inspectd calibrate --product bottle --images good_parts --holdout labelled_parts "
    "--backbone resnet18 --scorer mpfnet --budget 10",
    "inspectd calibrate --product bottle --images good_parts --holdout labelled_parts "
    "--policy max-escapes --max-escape-rate 0.05",
    "inspectd calibrate --product bottle --images good_parts --holdout more_good_parts "
    "--policy sigma --false-alarm-rate 0.01",
    "inspectd calibrate --product bottle --images good_parts --holdout labelled_parts "
    "--backbone resnet18 --scorer prn --budget 60",
    "inspectd calibrate --product bottle --images bottle --roi inspected.png --min-area 0.5mm2 "
    "--mm-per-pixel 0.1",
    "inspectd calibrate --product panel --images panel --tile 256",
)
INPUT_SIZE = 256
BUILTIN = "builtin"
BUILTIN_NOTE = (
    "note: backbone 'builtin' is a fixed bank of filters, not a trained network. It needs no "
    "download and is a stop-gap: a trained one finds clearly more. Better: --backbone resnet18 "
    "(fetched once, 45 MB) or --backbone FILE.safetensors"
)
MODEL, PROTOAD = "Model", "Model, protoad"
"""Panels of the help."""


class Head(StrEnum):
    """The values of ``--head``."""

    PROJECTED = "projected"
    REWRITTEN = "rewritten"
    PUBLISHED = "published"
    COMPACT = "compact"


def calibrate(
    product: ProductOption,
    images: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Pictures of good parts: a plain folder, or one with train/good/."
        ),
    ],
    holdout: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Labelled pictures to find the threshold on: a folder {WITH_HOLDOUT_LAYOUT}; "
            "masks in ground_truth/ (good/ is enough for --policy sigma and max-overkill). Without "
            "it some good pictures are kept apart and defects are simulated on them.",
            show_default=False,
        ),
    ] = None,
    scorer: Annotated[
        str,
        typer.Option(
            help="Scoring method: protoad (learns prototypes, in one pass), mpfnet (trains a "
            "network on features with noise) or prn (trains one on a few masked defects).",
            rich_help_panel=MODEL,
        ),
    ] = "protoad",
    backbone: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="builtin, a network's name (resnet18, resnet34, resnet50, wide_resnet50_2: "
            "fetched once), a .safetensors or .pth file, or NAME:FILE.",
            rich_help_panel=MODEL,
        ),
    ] = BUILTIN,
    input_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            max=4096,
            help=f"Pixels a side pictures are scaled to (default: {INPUT_SIZE}, with --tile: their "
            "own size).",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
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
        int,
        typer.Option(
            min=0,
            help="Of every random choice: the same seed and pictures give the same revision.",
            rich_help_panel=MODEL,
        ),
    ] = 0,
    max_patches: Annotated[
        int | None,
        typer.Option(
            min=100,
            help="Patches that are clustered (default: what keeps calibration below 4 GiB).",
            show_default=False,
            rich_help_panel=PROTOAD,
        ),
    ] = None,
    max_prototypes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="protoad: clustering stops below so many (default: 10000). mpfnet and prn: "
            "whole maps, at most (default: 32 and 40).",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    partition: Annotated[
        int | None,
        typer.Option(
            help="0: where clustering stops (default); -1, -2 ...: coarser (faster on the line); "
            "1, 2 ...: counted from the finest.",
            show_default=False,
            rich_help_panel=PROTOAD,
        ),
    ] = None,
    coverage: Annotated[
        int | None,
        typer.Option(
            min=-1,
            help="Patches added to the prototypes, those that they cover worst: finds finer "
            "defects, takes longer. -1 (default): none (as in the paper), 2,000 with --head "
            "compact.",
            show_default=False,
            rich_help_panel=PROTOAD,
        ),
    ] = None,
    head: Annotated[
        Head | None,
        typer.Option(
            help="rewritten (default), published: the paper's function, to the digit; projected: "
            "on the main directions, up to 1.7 times faster; compact: another one, "
            "coarser and fastest. See --latency-budget.",
            show_default=False,
            rich_help_panel=PROTOAD,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=8,
            help="Channels that projected and compact compare (default: 128).",
            show_default=False,
            rich_help_panel=PROTOAD,
        ),
    ] = None,
    fusion: MPFNetFusion = None,
    blend: MPFNetBlend = None,
    prototype_ratio: PrototypeRatio = None,
    scale: MPFNetScale = None,
    noise: MPFNetNoise = None,
    modules: PRNModules = None,
    residual: PRNResidual = None,
    kinds: PRNKinds = None,
    textures: PRNTextures = None,
    unchanged: PRNUnchanged = None,
    seen: PRNSeen = None,
    learning_rate: LearningRate = None,
    epochs: Epochs = None,
    batch: Batch = None,
    patience: Patience = None,
    budget: Budget = None,
    resume: Resume = False,
    device: Device = DeviceName.AUTO,
    roi: Roi = None,
    ignore: Ignore = None,
    recipe: RecipeFile = None,
    min_area: MinArea = None,
    mm_per_pixel: MmPerPixel = None,
    tile: Tile = None,
    overlap: Overlap = None,
    policy: Policy = PolicyName.F1,
    max_escape_rate: MaxEscapeRate = None,
    max_overkill_rate: MaxOverkillRate = None,
    cost_ratio: CostRatio = None,
    prevalence: Prevalence = None,
    false_alarm_rate: FalseAlarmRate = None,
    review_band: ReviewBand = False,
    latency_budget: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="MS",
            help="Take the most exact form of the scorer that takes at most so long for a picture "
            "on this machine, by measuring (fits several: takes minutes). The result says which "
            "runtime to set.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    max_f1_loss: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="What --latency-budget may cost of F1 on the hold-out set.",
            rich_help_panel=MODEL,
        ),
    ] = 0.02,
    precisions: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="In which the model is written beside fp32, for GPUs (fp16, int8) and CPUs (int8: "
            "--runtime openvino-int8), if it decides alike; fp32: none.",
            rich_help_panel=MODEL,
        ),
    ] = "fp16,int8",
    runtime: RuntimeOption = RuntimeName.AUTO,
    threads: Threads = 0,
    state_dir: StateDir = None,
    json_file: JsonFile = None,
) -> None:
    """Learn a product from pictures of good parts and make a revision of it for the line.

    The threshold is found on the hold-out pictures; a folder called test/ is never read. The new
    revision becomes the active one. Interrupting changes nothing; a training that was interrupted
    goes on with the same command and --resume.
    """
    started = monotonic()
    require_writable(json_file)
    tiles = tiling_of(tile, overlap)
    side = input_size or (INPUT_SIZE if tiles is None else None)
    require_meant(side, crop, runtime)
    limits = (max_escape_rate, max_overkill_rate, cost_ratio, prevalence, false_alarm_rate)
    with needs_calibration():
        wanted = policy_of(policy, *limits, review_band)
        framing = framing_of(roi, ignore, recipe, min_area, mm_per_pixel, tiles)
    store = open_store(state_dir)
    before = store.revisions(product)
    if backbone == BUILTIN:
        note(BUILTIN_NOTE, "yellow")
    options = given(
        max_patches=max_patches,
        max_prototypes=max_prototypes,
        partition=partition,
        coverage=coverage,
        head=head,
        channels=channels,
        fusion=fusion,
        blend=blend,
        ratio=prototype_ratio,
        scale=scale,
        noise=noise,
        modules=modules,
        residual=residual,
        kinds=kinds,
        textures=None if textures is None else str(textures.resolve()),
        unchanged=unchanged,
        seen_limit=seen,
        learning_rate=learning_rate,
        epochs=epochs,
        batch=batch,
        patience=patience,
    )
    checkpoints = store.root.parent / "training" / product
    request = {
        "product": product,
        "images": images,
        "holdout": holdout,
        "resize": None if side is None else (side, side),
        "crop": None if crop is None else (crop, crop),
        "seed": seed,
        "runtime": runtime.value,
        "threads": threads,
        "policy": wanted,
        "precisions": _precisions(precisions),
        "checkpoints": checkpoints,
        "is_resumed": resume,
        "budget_s": None if budget is None else 60 * budget,
        "device": device.value,
        "framing": framing,
    }
    limit = None if latency_budget is None else (latency_budget, max_f1_loss)
    try:
        with interruptible() as check, stages() as progress:
            bundle = _make(
                store, request, limit, scorer, options, backbone, checked(progress, check)
            )
    except Interrupted as stop:
        tell_interrupted(store, product, before)
        tell_resumable(checkpoints)
        raise typer.Exit(stop.exit_status) from stop
    write_json(json_file, as_json(bundle, monotonic() - started))
    show(revision_table(bundle))
    show_remarks(bundle.manifest.remarks)
    show_next(bundle, state_dir)


def _make(
    store: ProductStore,
    request: dict[str, Any],
    limit: tuple[float, float] | None,
    scorer_name: str,
    options: dict[str, Any],
    backbone_name: str,
    report: Report,
) -> Bundle:
    """Checks what is cheap to check, loads the libraries, and calibrates."""
    with store.staging(request["product"]):
        pass  # Whether it can be written is better known now than after minutes
    with needs_calibration():
        from calibration.dataset import find_good, find_good_holdout, find_labelled
        from calibration.policies import GOOD_ONLY

        find_good(request["images"])
        if request["holdout"] is not None:
            find = find_good_holdout if request["policy"].name in GOOD_ONLY else find_labelled
            find(request["holdout"])
        report("loading libraries", 0, 1)
        from calibration.budget import Budget
        from calibration.calibrate import Request
        from calibration.calibrate import calibrate as make_revision
        from calibration.scorers import scorer_named

        scorer = scorer_named(scorer_name, **options)
        use_threads(request["threads"])
    report("loading libraries", 1, 1)
    backbone = backbone_named(backbone_name, report)
    budget = None if limit is None else Budget(*limit)
    return make_revision(Request(**request, latency=budget), scorer, backbone, store, report)


def require_meant(side: int | None, crop: int | None, runtime: RuntimeName) -> None:
    """Refuses a crop of more than there is, and a runtime that no threshold is found in.

    Raises:
        ConfigError: one of them was asked for.
    """
    if crop is not None and side is not None and crop > side:
        raise ConfigError(f"--crop {crop} is larger than --input-size {side}; make it smaller")
    if runtime.value.endswith(("bf16", "fp16", "int8")):
        raise ConfigError(
            f"--runtime: a threshold is found in fp32; evaluate and run may use {runtime.value}"
        )


def backbone_named(name: str, report: Report) -> Backbone:
    """A backbone by name or file; tells how far its download is."""
    from calibration.backbones import load_backbone

    stage = f"downloading {name} (KiB)"
    return load_backbone(name, lambda done, total: report(stage, done >> 10, total >> 10))


def _precisions(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip() not in ("", "fp32"))
    if unknown := sorted(set(names) - {"fp16", "int8"}):
        raise ConfigError(f"--precisions: {', '.join(unknown)} is none of fp32, fp16, int8")
    return names


def use_threads(threads: int) -> None:
    """Holds torch to so many threads; 0 takes every core this process may use."""
    import torch

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def checked(report: Report, check: Callable[[], None]) -> Report:
    """Progress that is also where an interruption is noticed."""

    def reported(stage: str, done: int, total: int) -> None:
        check()
        report(stage, done, total)

    return reported


def tell_interrupted(store: ProductStore, product: str, before: list[str]) -> None:
    """Says what an interrupted command left: nothing, or a complete revision."""
    made = [revision for revision in store.revisions(product) if revision not in before]
    if not made:
        note("interrupted; nothing was changed", "yellow")
    else:
        note(
            f"interrupted at the very end; revision {made[-1]} is complete. To use it: inspectd "
            f"product activate {product} {made[-1]}",
            "yellow",
        )
