"""``inspectd calibrate``: from a folder of pictures to a product revision."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

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
    "--policy max-escapes --max-escape-rate 0.05",
    "inspectd calibrate --product bottle --images good_parts --holdout more_good_parts "
    "--policy sigma --false-alarm-rate 0.01",
)
BUILTIN = "builtin"
BUILTIN_NOTE = (
    "note: backbone 'builtin' is a fixed bank of filters, not a trained network. It needs no "
    "download and is a stop-gap: a trained one finds clearly more. Better: --backbone resnet18 "
    "(fetched once, 45 MB) or --backbone FILE.safetensors"
)
MODEL, MACHINE = "Model", "Machine"
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
    scorer: Annotated[str, typer.Option(help="Scoring method.", rich_help_panel=MODEL)] = "protoad",
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
        int,
        typer.Option(
            min=32, max=4096, help="Pixels a side pictures are scaled to.", rich_help_panel=MODEL
        ),
    ] = 256,
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
            rich_help_panel=MODEL,
        ),
    ] = None,
    max_prototypes: Annotated[
        int, typer.Option(min=2, help="Clustering stops below so many.", rich_help_panel=MODEL)
    ] = 10_000,
    partition: Annotated[
        int,
        typer.Option(
            help="0: where clustering stops; -1, -2 ...: coarser (faster on the line); 1, 2 ...: "
            "counted from the finest.",
            rich_help_panel=MODEL,
        ),
    ] = 0,
    coverage: Annotated[
        int,
        typer.Option(
            min=-1,
            help="Patches added to the prototypes, those that they cover worst: finds finer "
            "defects, takes longer. -1: none (as in the paper), 2,000 with --head compact.",
            rich_help_panel=MODEL,
        ),
    ] = -1,
    head: Annotated[
        Head,
        typer.Option(
            help="rewritten, published: the paper's function, to the digit; projected: on the "
            "directions that matter, twice as fast and nearly as good; compact: another one, "
            "coarser and fastest. See --latency-budget.",
            rich_help_panel=MODEL,
        ),
    ] = Head.REWRITTEN,
    channels: Annotated[
        int,
        typer.Option(
            min=8, help="Channels that projected and compact compare.", rich_help_panel=MODEL
        ),
    ] = 128,
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
    revision becomes the active one. Interrupting changes nothing.
    """
    started = monotonic()
    require_writable(json_file)
    if crop is not None and crop > input_size:
        raise ConfigError(
            f"--crop {crop} is larger than --input-size {input_size}; make it smaller"
        )
    if runtime.value.endswith(("bf16", "fp16", "int8")):
        raise ConfigError(
            f"--runtime: a threshold is found in fp32; evaluate and run may use {runtime.value}"
        )
    limits = (max_escape_rate, max_overkill_rate, cost_ratio, prevalence, false_alarm_rate)
    with needs_calibration():
        wanted = policy_of(policy, *limits, review_band)
    store = open_store(state_dir)
    before = store.revisions(product)
    if backbone == BUILTIN:
        note(BUILTIN_NOTE, "yellow")
    options = {
        "max_patches": max_patches or 0,
        "max_prototypes": max_prototypes,
        "partition": partition,
        "head": head.value,
        "channels": channels,
        "coverage": coverage,
    }
    request = {
        "product": product,
        "images": images,
        "holdout": holdout,
        "resize": (input_size, input_size),
        "crop": (crop or input_size, crop or input_size),
        "seed": seed,
        "runtime": runtime.value,
        "threads": threads,
        "policy": wanted,
        "precisions": _precisions(precisions),
    }
    limit = None if latency_budget is None else (latency_budget, max_f1_loss)
    try:
        with interruptible() as check, stages() as progress:
            bundle = _make(
                store, request, limit, scorer, options, backbone, _checked(progress, check)
            )
    except Interrupted as stop:
        _tell_interrupted(store, product, before)
        raise typer.Exit(stop.exit_status) from stop
    write_json(json_file, as_json(bundle, monotonic() - started))
    show(_table(bundle))
    show_remarks(bundle.manifest.remarks)
    _show_next(bundle, state_dir)


def as_json(bundle: Bundle, seconds: float) -> dict[str, Any]:
    """What ``--json`` writes."""
    from inspectd.core.bundle import REPORT

    threshold = bundle.threshold
    return {
        "product": bundle.manifest.product,
        "revision": bundle.manifest.revision,
        "path": str(bundle.path),
        "report": str(bundle.path / REPORT),
        "threshold": threshold.image,
        "pixel_threshold": threshold.pixel,
        "review_below": threshold.review_below,
        "policy": threshold.policy,
        "promise": "" if bundle.manifest.policy is None else bundle.manifest.policy.promise,
        "basis": threshold.basis,
        "f1": threshold.f1,
        "precision": threshold.precision,
        "recall": threshold.recall,
        "escapes": threshold.escapes,
        "overkill": threshold.overkill,
        "n_good": threshold.n_good,
        "n_defect": threshold.n_defect,
        **bundle.manifest.metrics,
        "runtime": bundle.manifest.tools.get("runtime"),
        "remarks": list(bundle.manifest.remarks),
        "seconds": round(seconds, 3),
    }


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
        _use_threads(request["threads"])
    report("loading libraries", 1, 1)
    backbone = _backbone(backbone_name, report)
    budget = None if limit is None else Budget(*limit)
    return make_revision(Request(**request, budget=budget), scorer, backbone, store, report)


def _backbone(name: str, report: Report) -> Backbone:
    from calibration.backbones import load_backbone

    stage = f"downloading {name} (KiB)"
    return load_backbone(name, lambda done, total: report(stage, done >> 10, total >> 10))


def _precisions(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip() not in ("", "fp32"))
    if unknown := sorted(set(names) - {"fp16", "int8"}):
        raise ConfigError(f"--precisions: {', '.join(unknown)} is none of fp32, fp16, int8")
    return names


def _use_threads(threads: int) -> None:
    """Holds torch to so many threads; 0 takes every core this process may use."""
    import torch

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def _checked(report: Report, check: Callable[[], None]) -> Report:
    def reported(stage: str, done: int, total: int) -> None:
        check()
        report(stage, done, total)

    return reported


def _tell_interrupted(store: ProductStore, product: str, before: list[str]) -> None:
    made = [revision for revision in store.revisions(product) if revision not in before]
    if not made:
        note("interrupted; nothing was changed", "yellow")
    else:
        note(
            f"interrupted at the very end; revision {made[-1]} is complete. To use it: inspectd "
            f"product activate {product} {made[-1]}",
            "yellow",
        )


def _table(bundle: Bundle) -> Table:
    threshold, metrics = bundle.threshold, bundle.manifest.metrics
    table = Table(title=f"{bundle.manifest.product} {bundle.manifest.revision}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    basis = f"{threshold.n_good} good, {threshold.n_defect} with {threshold.basis} defects"
    pixel = "none" if threshold.pixel is None else f"{threshold.pixel:.6g}"
    table.add_row("hold-out pictures", basis)
    table.add_row("threshold", f"{threshold.image:.6g}, per pixel {pixel}")
    table.add_row("policy", threshold.policy)
    if threshold.review_below is not None:
        table.add_row("review band", f"up to {threshold.review_below:.6g}")
    if threshold.n_defect:
        table.add_row("F1", f"{threshold.f1:.3f}")
        table.add_row("precision, recall", f"{threshold.precision:.3f}, {threshold.recall:.3f}")
    escapes = rate(threshold.escapes, threshold.n_defect, threshold.escape_rate_interval)
    overkill = rate(threshold.overkill, threshold.n_good, threshold.overkill_rate_interval)
    table.add_row("escapes", escapes)
    table.add_row("overkill", overkill)
    for key, name in METRICS.items():
        if key in metrics:
            table.add_row(name, f"{metrics[key]:.3f}")
    if SIMULATED_THRESHOLD in metrics:
        f1 = f"F1 {metrics['simulated_f1']:.3f} on the real ones"
        table.add_row("by simulated defects", f"{metrics[SIMULATED_THRESHOLD]:.6g}, {f1}")
    return table


SIMULATED_THRESHOLD = "simulated_threshold"
"""Key of a manifest's metrics where real defects were compared with simulated ones."""


METRICS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "PRO to FPR 0.3",
}
"""Keys of a manifest's metrics and of an evaluation to their names for people."""


def rate(count: int, n: int, interval: tuple[float, float]) -> str:
    """A count with its rate's 95 % interval: ``1 of 20 (0.9 to 23.6 % at 95 %)``."""
    low, high = (100 * end for end in interval)
    return f"{count} of {n} (rate {low:.1f} to {high:.1f} % at 95 %)"


def _show_next(bundle: Bundle, state_dir: Path | None) -> None:
    from inspectd.core.bundle import REPORT
    from inspectd.core.paths import cache_dir

    product = bundle.manifest.product
    place = f" --state-dir {shlex.quote(str(state_dir))}" if state_dir else ""
    show(Text.assemble(("report  ", "bold"), str(bundle.path / REPORT)))
    show(Text("next", "bold"))
    show(Text(f"  inspectd evaluate --product {product} --images FOLDER{place}"))
    show(Text("  inspectd run --config FILE"))
    part = bundle.manifest.precisions.get("int8")
    if part is not None:
        name = part.runtime.partition("-")[0]
        proof = f"proven on this machine, in {cache_dir()}"
        show(Text(f'  runtime = "{name}-int8" in it takes the int8 model ({proof})'))
