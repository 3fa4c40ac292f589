"""``inspectd pretrain``: a backbone from drawn pictures and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspectd.cli.options import JsonFile
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
from inspectd.cli.training import Device, DeviceName, Resume, tell_resumable
from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from calibration.pretraining.recipe import Recipe
    from calibration.training import Outcome

EXAMPLES = (
    "inspectd pretrain --out backbone.safetensors --budget 60",
    "inspectd pretrain --out backbone.safetensors --budget 60 --resume",
    "inspectd pretrain --preview sheet.png",
)
WEIGHTS = ".safetensors"
SHEETS = (".jpg", ".jpeg", ".png")


def pretrain(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The weights: .safetensors, float16.", show_default=False
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only draw a contact sheet of the pictures: .png or .jpg.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(min=0.01, metavar="MINUTES", help="How long training may take.")
    ] = 60.0,
    resume: Resume = False,
    device: Device = DeviceName.AUTO,
    seed: Annotated[int, typer.Option(min=0, help="Of every random choice.")] = 0,
    materials: Annotated[
        int, typer.Option(min=4, max=65_536, help="Drawn materials that are told apart.")
    ] = 64,
    threads: Annotated[int, typer.Option(min=0, help="Cores to use; 0: all that there are.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Train a backbone from random weights on drawn pictures alone (for experts).

    The result is used by calibrate --backbone FILE. A useful one takes hours of a whole CPU, or a
    GPU. An interrupted training goes on with the same command and --resume. Nobody's pictures and
    no other network's weights take part.
    """
    require_writable(json_file)
    if (out is None) == (preview is None):
        raise ConfigError("pass --out FILE to train, or --preview FILE to look at the pictures")
    if preview is not None:
        _require_file(preview, "--preview", SHEETS)
        with interruptible(), needs_calibration():
            _preview(preview, seed)
        return
    assert out is not None  # noqa: S101 - for the type checker
    _require_file(out, "--out", (WEIGHTS,))
    folder = out.with_suffix(".training")
    try:
        with interruptible() as check, stages() as progress, needs_calibration():
            content = _train(
                out,
                folder,
                (seed, materials),
                60 * budget,
                resume,
                device.value,
                threads,
                _checked(progress, check),
            )
    except Interrupted as stop:
        note("interrupted", "yellow")
        tell_resumable(folder)
        raise typer.Exit(stop.exit_status) from stop
    write_json(json_file, content)
    show(
        f"{out}: {content['steps']:,} steps in {content['minutes']:.0f} min; "
        f"inspectd calibrate --backbone {out}"
    )


def _train(
    out: Path,
    folder: Path,
    choice: tuple[int, int],
    budget_s: float,
    is_resumed: bool,
    device: str,
    threads: int,
    report: Report,
) -> dict[str, Any]:
    """Trains, writes the weights, and says how it went."""
    import torch

    from calibration.backbones.packed import packed
    from calibration.checkpoints import forget_checkpoint
    from calibration.pretraining.recipe import pretrain as trained
    from calibration.pretraining.recipe import recipe_for
    from calibration.scorers import Material
    from calibration.training import device_named
    from inspectd.core.files import sha256_of, write_atomically

    if threads:
        torch.set_num_threads(threads)
    place = device_named(device)
    recipe = recipe_for(place, *choice)
    material = Material(
        (),
        folder=folder,
        request=str(recipe),
        is_resumed=is_resumed,
        budget_s=budget_s,
        device=place,
    )
    started = monotonic()
    network, outcome = trained(recipe, material, report)
    content = _account(recipe, outcome, place, monotonic() - started)
    write_atomically(out, packed(network, {key: str(value) for key, value in content.items()}))
    forget_checkpoint(folder)
    return {"weights": str(out), "sha256": sha256_of(out), **content}


def _account(recipe: Recipe, outcome: Outcome, device: str, seconds: float) -> dict[str, Any]:
    """What the weights' metadata say."""
    import inspectd

    batch = recipe.batch
    pictures = outcome.steps * batch.products * batch.views
    return {
        "made_by": f"inspectd pretrain {inspectd.__version__}",
        "licence": "Apache-2.0",
        "recipe": str(recipe),
        "device": device,
        "steps": outcome.steps,
        "pictures": pictures,
        "minutes": round(max(seconds, outcome.spent_s) / 60, 2),
        "losses": {name: round(loss, 3) for name, loss in outcome.losses[-1][1].items()},
    }


def _preview(path: Path, seed: int) -> None:
    import cv2

    from calibration.pretraining.sheet import draw_sheet
    from inspectd.core.files import write_atomically

    sheet = draw_sheet(seed)
    _, encoded = cv2.imencode(path.suffix.lower(), sheet[:, :, ::-1])  # OpenCV says BGR
    write_atomically(path, encoded.tobytes())
    note(f"{path}: drawn materials, and products of which the last two pictures are defective")


def _require_file(path: Path, option: str, endings: tuple[str, ...]) -> None:
    """Refuses a file that can't be written, before the work.

    Raises:
        ConfigError: wrong ending, or no such folder.
    """
    if path.suffix.lower() not in endings:
        raise ConfigError(f"{path}: {option} takes a file that ends in {', '.join(endings)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: can't be written; {option} takes a file in an existing folder")


def _checked(report: Report, check: Callable[[], None]) -> Report:
    def reported(stage: str, done: int, total: int) -> None:
        check()
        report(stage, done, total)

    return reported
