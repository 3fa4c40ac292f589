"""``inspectd anomalies``: look at the defects that are drawn into good pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspectd.cli.options import WITH_HOLDOUT_LAYOUT, JsonFile
from inspectd.cli.output import (
    Report,
    examples,
    interruptible,
    needs_calibration,
    register,
    require_writable,
    show,
    stages,
    write_json,
)
from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from calibration.anomalies import AnomalyGenerator, SimulatedDefect, TextureSource
    from inspectd.core.preprocess import Preprocessing
    from inspectd.core.records import ImageArray

FORMATS = (".jpg", ".jpeg", ".png")
"""What a sheet can be written as."""
TILE = (160, 160)
"""(H, W) in pixels of a picture on the sheet."""
MOST = 300
"""Anomalies on a sheet; a JPEG has 65,535 lines at most."""
MOST_GOOD = 64
"""Good pictures that are read, evenly spread: as many as anyone will look at."""


class KindName(StrEnum):
    """The words of ``--kinds``; a test compares them with `calibration.anomalies.Kind`."""

    EXTENDED = "extended"
    HETEROLOGOUS = "heterologous"
    HOMOLOGOUS = "homologous"


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Look at the defects that training and simulated hold-out sets are made of.",
    epilog=examples(
        "inspectd anomalies preview --images bottle",
        "inspectd anomalies preview --images bottle --seen bottle/holdout --output bottle.jpg",
    ),
)


def preview(
    images: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Pictures of good parts: a plain folder, or one with train/good/."
        ),
    ],
    seen: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Pictures of defects with masks, for extended anomalies: a folder "
            f"{WITH_HOLDOUT_LAYOUT} (good/ isn't needed), masks in ground_truth/.",
            show_default=False,
        ),
    ] = None,
    textures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures of textures, such as DTD, for heterologous anomalies (default: drawn "
            "by procedure).",
            show_default=False,
        ),
    ] = None,
    kinds: Annotated[
        str,
        typer.Option(
            metavar="KIND,…",
            help="extended, heterologous, homologous, by commas (default: all; extended only with "
            "--seen).",
            show_default=False,
        ),
    ] = "",
    count: Annotated[int, typer.Option(min=1, max=MOST, help="Anomalies on the sheet.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same.")] = 0,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The sheet: .jpg or .png.")] = Path(
        "anomalies.jpg"
    ),
    input_size: Annotated[
        int, typer.Option(min=32, max=4096, help="Pixels a side pictures are scaled to.")
    ] = 256,
    crop: Annotated[
        int | None,
        typer.Option(
            min=32,
            max=4096,
            help="Pixels a side of the centre that is kept (default: all).",
            show_default=False,
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Draw a contact sheet of anomalies: the good picture, what became of it, what is marked.

    Nothing is learned and no product is touched.
    """
    require_writable(json_file)
    _require_sheet(output)
    if crop is not None and crop > input_size:
        raise ConfigError(
            f"--crop {crop} is larger than --input-size {input_size}; make it smaller"
        )
    wanted = chosen_kinds(kinds, has_seen=seen is not None)
    sides = ((input_size, input_size), (crop or input_size,) * 2)
    with interruptible(), stages() as report:
        generator = _generator(images, seen, textures, seed, sides, report)
        report("drawing anomalies", 0, count)
        defects, seconds = _draw(generator, wanted, count)
        report("drawing anomalies", count, count)
        _write(output, _sheet(generator.good, defects))
    content = {
        "sheet": str(output),
        "anomalies": count,
        "kinds": {
            name.value: sum(one.kind.value == name.value for one in defects) for name in wanted
        },
        "spots": sum(one.is_fallback for one in defects),
        "per_second": round(count / seconds, 1),
    }
    write_json(json_file, content)
    show(_summary(content))


def chosen_kinds(text: str, has_seen: bool) -> list[KindName]:
    """What ``--kinds`` means.

    Raises:
        ConfigError: a word is unknown, or extended anomalies lack seen defects.
    """
    if not text:
        return [kind for kind in KindName if has_seen or kind is not KindName.EXTENDED]
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in [kind.value for kind in KindName]:
            raise ConfigError(f"--kinds: {word!r} is unknown; known: {', '.join(KindName)}")
    if KindName.EXTENDED in words and not has_seen:
        raise ConfigError(
            "--kinds extended needs --seen: extended anomalies are made from seen defects"
        )
    return [kind for kind in KindName if kind in words]


def _generator(
    images: Path,
    seen: Path | None,
    textures: Path | None,
    seed: int,
    sides: tuple[tuple[int, int], tuple[int, int]],
    report: Report,
) -> AnomalyGenerator:
    """Reads the folders; pictures are held in memory."""
    with needs_calibration():
        from calibration.anomalies import AnomalyGenerator, read_seen
        from calibration.dataset import find_good
    from inspectd.core.preprocess import Preprocessing

    preprocessing = Preprocessing(resize=sides[0], crop=sides[1])
    good = _read_good(find_good(images), preprocessing, report)
    defects = () if seen is None else read_seen(seen, preprocessing)
    return AnomalyGenerator(good, defects, _textures(textures), seed)


def _read_good(
    paths: Sequence[Path], preprocessing: Preprocessing, report: Report
) -> list[ImageArray]:
    from calibration.dataset import PreparedImages

    step = -(-len(paths) // MOST_GOOD)
    images = PreparedImages(paths[::step], preprocessing)
    good = []
    for index in range(len(images)):
        good.append(images[index])
        report("reading good pictures", index + 1, len(images))
    return good


def _textures(folder: Path | None) -> TextureSource:
    from calibration.anomalies import FolderTextures, ProceduralTextures

    return ProceduralTextures() if folder is None else FolderTextures(folder)


def _draw(
    generator: AnomalyGenerator, kinds: Sequence[KindName], count: int
) -> tuple[list[SimulatedDefect], float]:
    """The kinds by turns, and the seconds that took on one core."""
    from calibration.anomalies import Kind

    turns = [Kind(kinds[index % len(kinds)].value) for index in range(count)]
    with _one_core():
        for kind in set(turns):
            generator.sample(count, kind)  # what is worked out once shall not count
        started = perf_counter()
        defects = [generator.sample(index, kind) for index, kind in enumerate(turns)]
        return defects, perf_counter() - started


@contextmanager
def _one_core() -> Iterator[None]:
    """OpenCV without threads of its own, which cost more than they bring on small pictures."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _sheet(good: Sequence[ImageArray], defects: Sequence[SimulatedDefect]) -> ImageArray:
    from calibration.anomalies.sheet import draw_sheet

    return draw_sheet(good, defects, TILE)


def _require_sheet(path: Path) -> None:
    """Refuses a sheet that can't be written, before the work.

    Raises:
        ConfigError: it is no picture's name, or its folder doesn't exist or can't be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: --output takes a file that ends in {', '.join(FORMATS)}")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{path}: can't be written; --output takes a file in an existing folder")


def _write(path: Path, sheet: ImageArray) -> None:
    import cv2

    from inspectd.core.files import write_atomically

    _, encoded = cv2.imencode(path.suffix.lower(), sheet[:, :, ::-1])  # OpenCV says BGR
    write_atomically(path, encoded.tobytes())


def _summary(content: dict[str, Any]) -> str:
    kinds = ", ".join(f"{number} {name}" for name, number in content["kinds"].items())
    spots = f"; {content['spots']} plain spots in their place" if content["spots"] else ""
    rate = content["per_second"]
    return f"{content['sheet']}: {kinds}{spots}, drawn at {rate:.0f} a second on one core"


COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    (
        "preview",
        preview,
        (
            "inspectd anomalies preview --images bottle",
            "inspectd anomalies preview --images bottle --seen defects --kinds extended --count 24",
            "inspectd anomalies preview --images bottle --textures dtd/images --output sheet.png",
        ),
    ),
)
for _name, _function, _examples in COMMANDS:
    register(app, _name, _function, _examples)
