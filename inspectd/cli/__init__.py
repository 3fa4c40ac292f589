"""The command line. A command is a function in its own module; the table below names them all.

A command's module imports at its top only what is cheap (typer, rich, `inspectd.core.errors`);
torch, OpenCV, runtimes and the like are imported inside the function, so that ``--help`` and shell
completion answer at once. A test holds every module to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

import inspectd
from inspectd.cli import (
    anomalies,
    bench,
    build,
    calibrate,
    camera,
    command,
    compare,
    demo,
    doctor,
    evaluate,
    gate,
    parts,
    pretrain,
    product,
    run,
    simulate,
    threshold,
    verify,
)
from inspectd.cli.output import Commands, examples, out, register

COMMANDS: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    ("demo", demo.demo, demo.EXAMPLES),
    ("calibrate", calibrate.calibrate, calibrate.EXAMPLES),
    ("evaluate", evaluate.evaluate, evaluate.EXAMPLES),
    ("compare", compare.compare, compare.EXAMPLES),
    ("threshold", threshold.threshold, threshold.EXAMPLES),
    ("build", build.build, build.EXAMPLES),
    ("verify", verify.verify, verify.EXAMPLES),
    ("bench", bench.bench, bench.EXAMPLES),
    ("run", run.run, run.RUN_EXAMPLES),
    ("gate", gate.gate, gate.EXAMPLES),
    ("parts", parts.parts, parts.EXAMPLES),
    ("simulate", simulate.simulate, simulate.EXAMPLES),
    ("pretrain", pretrain.pretrain, pretrain.EXAMPLES),
    ("check-config", run.check_config, run.CHECK_EXAMPLES),
    ("doctor", doctor.doctor, doctor.EXAMPLES),
)
"""Name, function and examples, in the order of the help."""
GROUPS: tuple[tuple[str, typer.Typer], ...] = (
    ("product", product.app),
    ("camera", camera.app),
    ("anomalies", anomalies.app),
    ("command", command.app),
)
"""Commands that have commands of their own."""

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "inspectd demo",
        "inspectd doctor",
        "inspectd calibrate --product bottle --images bottle",
        "inspectd evaluate --product bottle --images bottle",
        "inspectd --install-completion",
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"inspectd {inspectd.__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="INSPECTD_DEBUG", help="Show where an error came from."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Visual inspection beside a production line: calibrate on good parts, inspect, publish."""


for _name, _function, _examples in COMMANDS:
    register(app, _name, _function, _examples)
for _name, _group in GROUPS:
    app.add_typer(_group, name=_name)


def main() -> None:
    """The ``inspectd`` program."""
    app(prog_name="inspectd")
