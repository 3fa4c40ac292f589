"""Options of ``inspectd calibrate`` for scorers that are trained."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from inspectd.cli.output import note

MPFNET, PRN, TRAINING = "Model, mpfnet", "Model, prn", "Training"
"""Panels of the help."""


class DeviceName(StrEnum):
    """The values of ``--device``."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class FusionName(StrEnum):
    """The values of ``--fusion``."""

    RESIDUAL = "residual"
    PROTOTYPE = "prototype"
    NONE = "none"


class ScaleName(StrEnum):
    """The values of ``--scale``."""

    COMMON = "common"
    CHANNEL = "channel"
    RAW = "raw"


class ResidualName(StrEnum):
    """The values of ``--residual``."""

    ABSOLUTE = "absolute"
    SQUARED = "squared"


MPFNetFusion = Annotated[
    FusionName | None,
    typer.Option(
        "--fusion",
        help="How prototypes of whole maps enter: not at all (none: found more, so default), as "
        "the residual to the nearest one, or as that prototype itself.",
        show_default=False,
        rich_help_panel=MPFNET,
    ),
]
MPFNetBlend = Annotated[
    float | None,
    typer.Option(
        "--blend",
        min=0.0,
        help="Weight of the other scale in the fusion block, whose weights are fixed (default: 0, "
        "which leaves mixing the scales to the adapter).",
        show_default=False,
        rich_help_panel=MPFNET,
    ),
]
PrototypeRatio = Annotated[
    float | None,
    typer.Option(
        "--prototype-ratio",
        min=0.001,
        max=1.0,
        help="Prototypes per good picture (default: 0.12 for mpfnet, 0.1 for prn).",
        show_default=False,
        rich_help_panel="Model",
    ),
]
MPFNetScale = Annotated[
    ScaleName | None,
    typer.Option(
        "--scale",
        help="Features get a mean deviation of 1 (common, default), each channel gets 1, or they "
        "stay as they come (raw).",
        show_default=False,
        rich_help_panel=MPFNET,
    ),
]
MPFNetNoise = Annotated[
    float | None,
    typer.Option(
        "--noise",
        min=0.0,
        help="Deviation of the noise on features (default: 0.16; with scale channel 0.3, with raw "
        "0.018).",
        show_default=False,
        rich_help_panel=MPFNET,
    ),
]
PRNModules = Annotated[
    str | None,
    typer.Option(
        "--modules",
        metavar="LIST",
        help="Modules of the network, with commas between: prototypes,fusion,attention (default), "
        "or none.",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
PRNResidual = Annotated[
    ResidualName | None,
    typer.Option(
        "--residual",
        help="Difference of each element to the nearest prototype's (default: absolute).",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
PRNKinds = Annotated[
    str | None,
    typer.Option(
        "--kinds",
        metavar="LIST",
        help="Kinds of anomalies that are taught: extended,heterologous,homologous (default).",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
PRNTextures = Annotated[
    Path | None,
    typer.Option(
        "--textures",
        metavar="DIR",
        help="Pictures of textures, such as DTD, for heterologous anomalies (default: drawn by "
        "procedure).",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
PRNUnchanged = Annotated[
    float | None,
    typer.Option(
        "--unchanged",
        min=0.0,
        max=1.0,
        help="Share of the extended anomalies that are seen defects as they are (default: 0.5; "
        "the paper's: 0).",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
PRNSeen = Annotated[
    int | None,
    typer.Option(
        "--seen",
        min=0,
        help="Defects with masks of the hold-out folder that are learned from, at most half of "
        "them (default: 10).",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        min=0.0,
        help="Of prn (default: 0.0001 on a GPU, 0.001 with the short schedule of a CPU).",
        show_default=False,
        rich_help_panel=PRN,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Epochs at most (default: the scorer's).",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="What a step learns from: rows of features for mpfnet, pictures for prn (default: the "
        "scorer's).",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Looks at the hold-out set without a better figure after which training stops "
        "(default: the scorer's).",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        metavar="MINUTES",
        help="Time that training may take; what that gave away stands in the report (default: as "
        "long as it takes).",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the interrupted training of the same command.",
        rich_help_panel=TRAINING,
    ),
]
Device = Annotated[
    DeviceName,
    typer.Option(
        help="Where training computes; auto takes a CUDA device where there is one.",
        rich_help_panel=TRAINING,
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, as plain values."""
    return {
        name: value.value if isinstance(value, StrEnum) else value
        for name, value in options.items()
        if value is not None
    }


def tell_resumable(folder: Path) -> None:
    """Says how to go on, where an interrupted training left a checkpoint."""
    if any(folder.glob("checkpoint.*")):
        note(
            "the training is kept up to its last checkpoint; the same command with --resume goes "
            "on from there",
            "yellow",
        )
