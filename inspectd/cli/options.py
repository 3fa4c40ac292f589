"""Options that several commands have, each defined once, and the completion of their values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inspectd.core.store import ProductStore

WITH_HOLDOUT_LAYOUT = "with good/ and one folder per kind of defect"


class RuntimeName(StrEnum):
    """The values of ``--runtime``; a test compares them with `inspectd.runtimes.CHOICES`."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO_INT8 = "openvino-int8"
    OPENVINO_BF16 = "openvino-bf16"
    ONNXRUNTIME_INT8 = "onnxruntime-int8"
    TENSORRT_FP16 = "tensorrt-fp16"
    TENSORRT_FP32 = "tensorrt-fp32"
    TENSORRT_INT8 = "tensorrt-int8"


def open_store(state_dir: Path | None) -> ProductStore:
    """The product store below a state directory, by default the configured one."""
    from inspectd.core import paths
    from inspectd.core.store import ProductStore

    return ProductStore((state_dir or paths.state_dir()) / "products")


def complete_product(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the products that begin so."""
    store = open_store(_state_dir_of(ctx))
    return [name for name in store.products() if name.startswith(incomplete)]


def complete_revision(ctx: typer.Context, incomplete: str) -> list[str]:
    """Revisions of the product that is on the command line already, newest first."""
    product = ctx.params.get("product")
    if not product:
        return []
    revisions = reversed(open_store(_state_dir_of(ctx)).revisions(product))
    return [name for name in revisions if name.startswith(incomplete)]


def _state_dir_of(ctx: typer.Context) -> Path | None:
    given = ctx.params.get("state_dir")
    return Path(given) if given else None


StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        help="Where products lie, in products/ (default: $INSPECTD_STATE_DIR, the service's "
        "StateDirectory, or ~/.local/state/inspectd).",
        show_default=False,
        rich_help_panel="Machine",
    ),
]
ProductOption = Annotated[
    str,
    typer.Option(
        "--product",
        help="The product's name: lower-case letters, digits, '_', '-', '.'.",
        autocompletion=complete_product,
    ),
]
ProductArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The product.", autocompletion=complete_product)
]
RevisionArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="REVISION",
        help="The revision (default: the active one).",
        show_default=False,
        autocompletion=complete_revision,
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        help="The revision (default: the active one).",
        show_default=False,
        autocompletion=complete_revision,
    ),
]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        help="Inference runtime; auto takes a proven TensorRT engine, else the fastest on the CPU "
        "in fp32.",
        rich_help_panel="Machine",
    ),
]
Threads = Annotated[
    int, typer.Option(min=0, help="CPU threads; 0 takes all cores.", rich_help_panel="Machine")
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the figures to this file too.",
        show_default=False,
        rich_help_panel="Output",
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
