"""``inspectd bench``: runtimes measured beside each other on one model, in one run."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.bench_setup import (
    Asked,
    complete_contender,
    contenders_for,
    offline_for,
    synthetic_subject,
    without_gpu,
)
from inspectd.cli.bench_tables import absent_table, cost_table, latency_table, parity_table
from inspectd.cli.options import JsonFile, RevisionOption, StateDir, Threads, complete_product
from inspectd.cli.output import (
    Interrupted,
    interruptible,
    note,
    require_writable,
    show,
    stages,
    write_json,
)
from inspectd.core.errors import ConfigError, RuntimeUnavailableError

if TYPE_CHECKING:
    from inspectd.bench.contenders import Contender
    from inspectd.bench.course import Course, Plan
    from inspectd.bench.report import Context
    from inspectd.bench.rung import Rung

EXAMPLES = (
    "inspectd bench --product bottle",
    "inspectd bench --product bottle --runtime openvino --runtime onnxruntime --rate 20",
    "inspectd bench --synthetic wide_resnet50_2 --prototypes 4096 --plot bench.png",
    "inspectd bench --model model.onnx --seconds 120 --batch 4 --json bench.json",
)
PANEL = "Measuring"


def bench(
    product: Annotated[
        str | None,
        typer.Option(
            help="The product (default: the only one there is).",
            show_default=False,
            autocompletion=complete_product,
        ),
    ] = None,
    revision: RevisionOption = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Any ONNX file like a product's instead.", show_default=False
        ),
    ] = None,
    synthetic: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="A network of random weights instead: resnet18, resnet34, resnet50, "
            "wide_resnet50_2.",
            show_default=False,
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            max=4096,
            help="Side of --synthetic's picture (default: 224).",
            show_default=False,
        ),
    ] = None,
    prototypes: Annotated[
        int | None,
        typer.Option(min=1, help="Of --synthetic (default: 4096).", show_default=False),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="Of --synthetic: projected (default), rewritten or published; the last two are "
            "the same function, the paper's.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this one; may be given several times (default: all that run here).",
            show_default=False,
            autocompletion=complete_contender,
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(min=0.1, max=1000, help="The line's parts per second.", rich_help_panel=PANEL),
    ] = 5.0,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Per runtime, half back to back, half at the line's rate. p99.9 needs 1,000 "
            "pictures.",
            rich_help_panel=PANEL,
        ),
    ] = 40.0,
    rounds: Annotated[
        int, typer.Option(min=1, help="Turns of each runtime.", rich_help_panel=PANEL)
    ] = 10,
    gap: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=3600,
            help="Seconds for which the line stands still.",
            rich_help_panel=PANEL,
        ),
    ] = 2.0,
    gaps: Annotated[
        int,
        typer.Option(min=0, help="So many times, at most once a round.", rich_help_panel=PANEL),
    ] = 3,
    batch: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Also measure so many pictures in one go, where a runtime can; 1 doesn't.",
            rich_help_panel=PANEL,
        ),
    ] = 1,
    threads: Threads = 0,
    state_dir: StateDir = None,
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the distributions to this .png or .svg file.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
) -> None:
    """Measure every runtime that runs here beside torch, on one model, in one run.

    Each lives in its own process; they take turns in shuffled order, so that a busy spell of the
    machine strikes all. Measured are latency back to back and at the line's rate with stand-stills,
    throughput, memory, time to load and to build, how far each is from the machine's arithmetic
    limit, and how far scores are from ONNX Runtime's in fp32. Ctrl-C shows what there is so far.
    """
    from inspectd.bench.course import Course, Plan

    require_writable(json_file)
    _require_plottable(plot)
    plan = Plan(seconds, rounds, rate, gap, gaps, threads, batch)
    asked = Asked(product, revision, model, synthetic, state_dir)
    asked.require_one()
    if synthetic is None and (input_size, prototypes, head) != (None, None, None):
        raise ConfigError("--input-size, --prototypes and --head are --synthetic's; give it, too")
    with tempfile.TemporaryDirectory(prefix="inspectd-bench-") as scratch:
        folder = Path(scratch)
        if synthetic is not None:
            form = head or "projected"
            subject, published = synthetic_subject(
                folder, synthetic, input_size or 224, prototypes or 4096, form
            )
        else:
            subject, published = asked.subject(), None
        contenders = contenders_for(subject.graph, published, head or "projected", runtime or [])
        course = Course(subject, plan)
        context, rung, interrupted = _measured(course, contenders, folder)
    _report(course, context, rung, json_file, plot)
    if interrupted is not None:
        note("interrupted: these are the turns that were finished", "yellow")
        raise typer.Exit(interrupted.exit_status)
    if not course.samples:
        raise RuntimeUnavailableError("none of the runtimes can run here; see why above")


def _require_plottable(plot: Path | None) -> None:
    from inspectd.bench.plot import require_plottable

    if plot is not None:
        require_writable(plot, "--plot")
        require_plottable(plot)


# --- the measurement --------------------------------------------------------------------------


def _measured(
    course: Course, contenders: list[Contender], folder: Path
) -> tuple[Context, Rung, Interrupted | None]:
    """Fills the course, to its end or until it is interrupted."""
    from inspectd.bench.course import measure
    from inspectd.bench.machine import this_machine
    from inspectd.bench.report import Context, facts_of
    from inspectd.bench.rung import rung_of

    machine, started_at = this_machine(), datetime.now(UTC).isoformat(timespec="seconds")
    note(f"{course.subject.title}\n{machine.title}\n{_length(course.plan)}")
    contenders = without_gpu(course, contenders)
    offline, load = offline_for(folder, contenders), os.getloadavg()[0]
    interrupted = None
    try:
        with interruptible() as check, stages() as progress:

            def report(stage: str, done: int, total: int) -> None:
                check()
                progress(stage, done, total)

            measure(course, contenders, offline.probe_for, report)
    except Interrupted as stop:
        interrupted = stop
    context = Context(
        machine=machine,
        command=("inspectd", *sys.argv[1:]),
        started_at=started_at,
        flops=offline.flops,
        build_s=_build_times(),
        load_average=(load, os.getloadavg()[0]),
    )
    return context, rung_of(facts_of(course, offline.lint)), interrupted


def _build_times() -> dict[str, float]:
    """Seconds that the engines here took, by their runtime's name."""
    from inspectd.core.paths import cache_dir
    from inspectd.runtimes.nvidia.engines import EngineCache

    return {engine.label: engine.build_s for engine in EngineCache(cache_dir()).all()}


def _length(plan: Plan) -> str:
    whole = plan.seconds + min(plan.gaps, plan.rounds) * plan.gap_s
    whole += plan.seconds / 2 if plan.batch > 1 else 0
    return f"about {whole:.0f} s per runtime, in {plan.rounds} rounds"


# --- the answer -------------------------------------------------------------------------------


def _report(
    course: Course, context: Context, rung: Rung, json_file: Path | None, plot: Path | None
) -> None:
    from inspectd.bench.plot import plot_course
    from inspectd.bench.report import as_json, figures_of, rates_of

    figures = figures_of(course, context)
    title = course.subject.title if course.is_complete else f"{course.subject.title} (incomplete)"
    if figures:
        show(latency_table(title, figures, course.plan.rate))
        show(cost_table(figures, course.plan.batch))
        show(parity_table(figures))
    if course.absent:
        show(absent_table(course.absent))
    for (precision, device), shown in rates_of(course).items():
        rate = f"{shown.flops_per_s / 1e9:.0f} GFLOP/s in {precision}"
        note(f"the machine's rate: {rate} on {device} (by {shown.contender})")
    for one in figures:
        if one.failure:
            note(f"{one.name} dropped out: {one.failure}", "bold red")
    show(rung.title)
    for sentence in rung.missing:
        note(f"not shown for the next rung: {sentence}")
    before, after = context.load_average
    note(f"load average of the machine {before:.1f} before, {after:.1f} after")
    write_json(json_file, as_json(course, context, rung))
    if plot is not None:
        plot_course(course, figures, f"{title}\n{context.machine.title}", plot)
        note(f"plot     {plot}")
