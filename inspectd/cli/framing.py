"""The options that say what of a picture counts: region of interest, least area, tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from calibration.framing import Framing
    from inspectd.core.preprocess import Tiling

PANEL = "What counts"
"""Of the help."""


def _file(text: str) -> Any:
    return typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help=text,
        show_default=False,
        rich_help_panel=PANEL,
    )


Roi = Annotated[
    Path | None,
    _file("Region of interest: a mask as large as the pictures, white where they are inspected."),
]
Ignore = Annotated[
    Path | None, _file("The same the other way round: white where nothing is inspected.")
]
RecipeFile = Annotated[
    Path | None,
    _file(
        "TOML with polygons, \\[\\[roi]] and \\[\\[ignore]], each with points = "
        "\\[\\[x, y], ...]: column and row in pixels of the pictures."
    ),
]
MinArea = Annotated[
    str | None,
    typer.Option(
        metavar="AREA",
        help="A defect is at least that large: 12px (of the pictures) or 0.5mm2.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
MmPerPixel = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Side of a pixel of the pictures on the part: areas are then told in mm2 too.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        min=32,
        max=4096,
        help="Inspect large pictures in overlapping tiles of so many pixels a side, so that small "
        "defects stay visible. Pictures keep their own size unless --input-size is given.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Pixels that neighbouring tiles share (default: a quarter of a tile).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


def framing_of(
    roi: Path | None,
    ignore: Path | None,
    recipe: Path | None,
    min_area: str | None,
    mm_per_pixel: float | None,
    tiles: Tiling | None,
) -> Framing:
    """What the options ask for, as far as it can be checked without a picture.

    Raises:
        ConfigError: an area or a scale can't be meant, or the recipe is wrong.
    """
    from calibration.framing import Framing, read_recipe
    from inspectd.core.scope import area_in_pixels

    if mm_per_pixel is not None and not 0 < mm_per_pixel < float("inf"):
        raise ConfigError(f"--mm-per-pixel {mm_per_pixel}: give millimetres above 0, as 0.05")
    if recipe is not None:
        read_recipe(recipe)
    return Framing(
        roi=roi,
        ignore=ignore,
        recipe=recipe,
        min_area_px=0.0 if min_area is None else area_in_pixels(min_area, mm_per_pixel),
        mm_per_pixel=mm_per_pixel,
        tiles=tiles,
    )


def tiling_of(tile: int | None, overlap: int | None) -> Tiling | None:
    """Square tiles; None where none are asked for.

    Raises:
        ConfigError: an overlap without tiles, or of more than half a tile.
    """
    from inspectd.core.preprocess import Tiling

    if tile is None:
        if overlap is not None:
            raise ConfigError("--overlap is of tiles; add --tile")
        return None
    shared = tile // 4 if overlap is None else overlap
    if 2 * shared > tile:
        raise ConfigError(f"--overlap {shared} is more than half of --tile {tile}; make it smaller")
    return Tiling(size=(tile, tile), overlap=shared)
