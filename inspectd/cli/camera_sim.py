"""``inspectd camera sim``: a simulated camera to play with, and what can happen to it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.options import JsonFlag
from inspectd.cli.output import examples, note, register, show, show_json
from inspectd.core.errors import CameraError, ConfigError
from inspectd.simcam.commands import COMMANDS

if TYPE_CHECKING:
    from inspectd.core.records import ImageArray
    from inspectd.simcam.rig import Rig

VARIABLE = "INSPECTD_SIMCAM"
GENTL_PATH = "GENICAM_GENTL64_PATH"
SENSOR = (480, 640)
"""(H, W) where neither the options nor pictures say another."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Make a simulated camera, trigger it, and let it fail in many ways.",
    epilog=examples(
        'eval "$(inspectd camera sim start --dir rig --serial A1 --images bottle/train/good)"',
        "inspectd camera list --sim",
        "inspectd camera sim line 5",
        "inspectd camera sim drop 2 --serial A1",
        "inspectd camera sim unplug --dir rig",
    ),
)


def complete_serial(ctx: typer.Context, incomplete: str) -> list[str]:
    """Serial numbers of the rig's cameras that begin so."""
    try:
        with _attached(ctx.params.get("directory")) as rig:
            return [spec.serial for spec in rig.specs if spec.serial.startswith(incomplete)]
    except (CameraError, ConfigError):
        return []


Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help=f"The simulated cameras' directory (default: ${VARIABLE}).",
        show_default=False,
        file_okay=False,
    ),
]
Serial = Annotated[
    str,
    typer.Option(
        help="Which camera (default: the only one).",
        show_default=False,
        autocompletion=complete_serial,
    ),
]


def start(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the cameras are to live.", file_okay=False)
    ],
    serial: Annotated[
        list[str] | None,
        typer.Option(help="A camera's serial number (default: A1); may be given several times."),
    ] = None,
    user_id: Annotated[str, typer.Option(help="Their own name, DeviceUserID.")] = "",
    width: Annotated[
        int | None, typer.Option(help="Of the sensor, pixels.", show_default=False)
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Of the sensor, pixels.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures that it shows, scaled to its sensor (default: generated ones).",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Makes simulated cameras, and prints what to put into the environment to see them.

    The sensor's size is by default that of the first picture, else 640 x 480. The cameras live in
    files below the directory until it is removed: no process stays behind. What is printed is for
    a shell: eval "$(inspectd camera sim start ...)".
    """
    from inspectd.simcam.build import producer_path
    from inspectd.simcam.rig import DeviceSpec, Rig

    producer = producer_path()
    size = _sensor(width, height, images)
    serials = list(dict.fromkeys(serial or ["A1"]))
    try:
        specs = [DeviceSpec(name, user_id, size[1], size[0]) for name in serials]
        with Rig(directory, specs) as rig:
            for name in serials:
                rig.load(name, _shown(images, size))
            environment = rig.environment()
    except CameraError as error:
        raise ConfigError(str(error)) from error
    if as_json:
        show_json({"environment": environment, "producer": str(producer), "serials": serials})
        return
    for name, value in environment.items():
        show(f"export {name}={shlex.quote(value)}")
    folder = shlex.quote(str(producer.parent))
    show(f"export {GENTL_PATH}={folder}${{{GENTL_PATH}:+:${GENTL_PATH}}}")
    note(f"producer  {producer}")
    note(f"cameras   {', '.join(serials)}, {size[0]} x {size[1]} (H x W)")
    note(f"next      inspectd camera grab --serial {serials[0]}")


def _sensor(width: int | None, height: int | None, images: Path | None) -> tuple[int, int]:
    """(H, W)."""
    from inspectd.core.images import image_size, list_images

    size = SENSOR
    if images is not None:
        pictures = list_images(images)
        if not pictures:
            raise ConfigError(f"{images}: no pictures in it; name another folder with --images")
        high, wide = image_size(pictures[0])
        size = (high // 2 * 2, wide // 4 * 4)  # what a sensor can be
    return (height or size[0], width or size[1])


def _shown(images: Path | None, size: tuple[int, int]) -> Iterator[ImageArray]:
    """The folder's pictures, cut or scaled to (H, W)."""
    import cv2

    from inspectd.core.images import list_images, read_image

    for path in list_images(images) if images else ():
        image = read_image(path)
        high, wide = image.shape[0] - size[0], image.shape[1] - size[1]
        if 0 <= high < 2 and 0 <= wide < 4:
            yield image[: size[0], : size[1]]
        else:
            yield cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)  # type: ignore[misc]


def _attached(directory: Path | str | None) -> Rig:
    from inspectd.simcam.rig import RIG_BIN, Rig

    place = directory or os.environ.get(VARIABLE)
    if not place:
        raise ConfigError(
            f"which simulated camera? give --dir, or set ${VARIABLE} as "
            "`inspectd camera sim start` says"
        )
    if not (Path(place) / RIG_BIN).is_file():
        raise ConfigError(
            f"{place}: no simulated camera there; inspectd camera sim start --dir {place} makes one"
        )
    return Rig.attach(Path(place))


def _run(name: str, arguments: list[str], directory: Path | None, serial: str) -> None:
    try:
        with _attached(directory) as rig:
            serials = [spec.serial for spec in rig.specs]
            if not serial and len(serials) > 1:
                raise ConfigError(
                    f"there are the cameras {', '.join(serials)}; name one with --serial"
                )
            show(rig.command(serial or serials[0], " ".join([name, *arguments])))
    except CameraError as error:
        raise ConfigError(str(error)) from error


def _command(name: str, words: str, meaning: str) -> Callable[..., None]:
    """The function of one of the simulated camera's own commands."""

    def command(
        directory: Directory = None,
        serial: Serial = "",
    ) -> None:
        _run(name, [], directory, serial)

    def command_with(
        arguments: list[str] = typer.Argument(metavar=words),
        directory: Directory = None,
        serial: Serial = "",
    ) -> None:
        _run(name, arguments, directory, serial)

    made = command_with if words else command
    made.__doc__ = f"{words}: {meaning}." if words else f"{meaning[0].upper()}{meaning[1:]}."
    return made


register(
    app,
    "start",
    start,
    (
        "inspectd camera sim start --dir rig --serial A1 --width 1280 --height 960",
        'eval "$(inspectd camera sim start --dir rig --serial A1 --images bottle/train/good)"',
    ),
)
for _name, _known in COMMANDS.items():
    _example = " ".join(
        [_name, *({"on|off": "on", "MS": "40"}.get(w, "2") for w in _known.arguments.split())]
    )
    register(
        app,
        _name,
        _command(_name, _known.arguments, _known.meaning),
        (f"inspectd camera sim {_example} --dir rig --serial A1",),
    )
