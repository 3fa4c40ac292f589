"""``inspectd camera grab`` and ``capture``: pictures from the live camera, as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspectd.cli.options import JsonFlag, ProductOption
from inspectd.cli.output import (
    Interrupted,
    interruptible,
    note,
    out,
    show,
    show_json,
    stages,
)
from inspectd.cli.preview import Tally, preview
from inspectd.cli.selection import (
    CameraOption,
    ConfigOption,
    CtiOption,
    FeatureOption,
    RateOption,
    Selection,
    SerialOption,
    SimOption,
    TriggerName,
    TriggerOption,
    UserIdOption,
)
from inspectd.core.errors import CameraError, ConfigError, InspectdError

if TYPE_CHECKING:
    from inspectd.core.config import GenicamSection
    from inspectd.core.records import Frame, Loss, Notice

GRAB_EXAMPLES = (
    "inspectd camera grab -n 10 --out shots --serial 40012345 --feature ExposureTime=500",
    "inspectd camera grab -n 5 --out shots --serial 40012345 --trigger software --rate 2",
    "inspectd camera grab -n 20 --out shots --config inspectd.toml --json | jq .frame_id",
)
CAPTURE_EXAMPLES = (
    "inspectd camera capture --product bottle --count 200 --config inspectd.toml",
    "inspectd camera capture --product bottle --count 100 --serial 40012345 --every 10",
    "inspectd calibrate --product bottle --images bottle",
)
RECORDS = "frames.jsonl"
PATIENCE_S = 30.0
WAIT_S = 0.1
"""Between two looks at the preview while no picture comes."""
MEASURE_EVERY_S = 0.1
"""Of pictures that aren't kept, only so many are measured."""

Timeout = Annotated[
    float,
    typer.Option(min=0.1, max=86_400, help="Seconds without a picture after which to give up."),
]


def grab(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Pictures to save.")] = 1,
    folder: Annotated[Path, typer.Option("--out", help="Folder for them.")] = Path("shots"),
    config: ConfigOption = None,
    camera: CameraOption = "",
    cti: CtiOption = None,
    sim: SimOption = False,
    serial: SerialOption = "",
    user_id: UserIdOption = "",
    trigger: TriggerOption = None,
    rate: RateOption = None,
    feature: FeatureOption = None,
    timeout: Timeout = PATIENCE_S,
    as_json: JsonFlag = False,
) -> None:
    """Saves pictures as numbered PNG files, and a JSON line for each in frames.jsonl beside them.

    The camera is opened as the daemon does it: with --config just as there, else with its Default
    user set and what --feature says. With --json the lines go to stdout too. A frame that was lost
    has a line with the reason.
    """
    from inspectd.cli.stills import PictureFolder
    from inspectd.core.records import Loss

    section = Selection(cti, sim, serial, user_id, config, camera).section(trigger, rate, feature)
    tally = Tally(count, PictureFolder(folder))

    def tell(file: str | None, event: Frame | Loss) -> None:
        line = json.dumps(record(file, event))
        tally.folder.note_line(RECORDS, line)
        if as_json:
            out.print(line, soft_wrap=True)

    finish = note if as_json else show
    with (
        _accounted(tally, finish),
        interruptible() as check,
        stages() as report,
        closing(_pictures(section, timeout, check)) as events,
    ):
        for event in events:
            if event is None:
                continue
            if isinstance(event, Loss):
                _lose(tally, event)
                tell(None, event)
                continue
            tally.seen += 1
            tell(tally.folder.save(event.image), event)
            report("saving", tally.saved, count)
            if tally.saved >= count:
                break


def capture(
    product: ProductOption,
    count: Annotated[int, typer.Option(min=1, help="Pictures to save.")] = 200,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of the training pictures (default: ./PRODUCT).",
            show_default=False,
        ),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Keep every n-th picture.")] = 1,
    config: ConfigOption = None,
    camera: CameraOption = "",
    cti: CtiOption = None,
    sim: SimOption = False,
    serial: SerialOption = "",
    user_id: UserIdOption = "",
    trigger: TriggerOption = None,
    rate: RateOption = None,
    feature: FeatureOption = None,
    timeout: Timeout = PATIENCE_S,
    as_json: JsonFlag = False,
) -> None:
    """Collects pictures of good parts to calibrate on, in OUT/train/good.

    Shows meanwhile whether light and focus are right. Nothing is overwritten: pictures that are
    there stay, and the numbers go on behind them. Ctrl-C ends it and keeps what is saved.
    """
    from inspectd.cli.stills import PictureFolder
    from inspectd.core.store import PRODUCT_NAME

    if not PRODUCT_NAME.fullmatch(product):
        raise ConfigError(
            f"{product!r} is not a product's name: lower-case letters, digits, '_', '-' and '.'"
        )
    section = Selection(cti, sim, serial, user_id, config, camera).section(trigger, rate, feature)
    if config is None:
        note(
            "The daemon must take its pictures with the same settings as these; with --config they "
            "are taken as it does."
        )
    base = folder or Path(product)
    tally = Tally(count, PictureFolder(base / "train" / "good"))
    account = _summed_up(tally) if as_json else _accounted(tally, show)
    with (
        account,
        interruptible() as check,
        preview(tally) as refresh,
        closing(_pictures(section, timeout, check)) as events,
    ):
        _collect(tally, every, events, refresh)
    if not as_json:
        note(f"next: inspectd calibrate --product {product} --images {base}")


def _collect(
    tally: Tally,
    every: int,
    events: Iterator[Frame | Loss | None],
    refresh: Callable[[], None],
) -> None:
    from inspectd.core.records import Loss

    measured = 0.0
    for event in events:
        if isinstance(event, Loss):
            _lose(tally, event)
        elif event is not None:
            is_kept = tally.seen % every == 0
            if tally.seen == 0:
                tally.folder.require_size(event.image)
            tally.seen += 1
            if is_kept or monotonic() - measured >= MEASURE_EVERY_S:
                measured = monotonic()
                tally.look(event.image)
            if is_kept:
                tally.folder.save(event.image)
                tally.warned.update(tally.remarks.keys())
        refresh()
        if tally.saved >= tally.wanted:
            return


def _pictures(
    section: GenicamSection, patience_s: float, check: Callable[[], None]
) -> Generator[Frame | Loss | None, None, None]:
    """Frames and losses of a camera, open until this is closed; None where none came for a moment.

    Raises:
        CameraError: it can't be opened, or no frame came for too long.
    """
    from inspectd.cameras.genicam import GenicamCamera
    from inspectd.core.records import Frame, Notice

    note(f"opening camera {section.serial or section.user_id}")
    with GenicamCamera(section) as camera:
        last = monotonic()
        while True:
            check()
            event = camera.next_event(WAIT_S)
            if isinstance(event, Frame):
                last = monotonic()
            elif monotonic() - last > patience_s:
                raise CameraError(
                    f"no picture came in {patience_s:g} s; {_remedy(section.trigger)}"
                )
            if isinstance(event, Notice):
                _tell(event)
            else:
                yield event  # type: ignore[misc]  # a camera has no end of stream


def _remedy(trigger: str) -> str:
    if trigger in (TriggerName.LINE, TriggerName.ENCODER):
        return (
            f"let parts pass, check the {trigger} trigger's wiring, or take pictures without it: "
            f"--trigger {TriggerName.FREE_RUN}"
        )
    return "check cable and power; inspectd camera list shows whether it can be seen"


def _lose(tally: Tally, loss: Loss) -> None:
    """Counts it, and says so when it is the first for its reason."""
    tally.lost[loss.reason.value] += 1
    if tally.lost[loss.reason.value] == 1:
        note(f"lost a frame: {loss.reason.value} ({loss.detail})", "yellow")


def _tell(notice: Notice) -> None:
    if notice.kind != "missed_trigger":  # that is told as a loss
        note(f"{notice.kind.replace('_', ' ')}: {notice.text}", "yellow")


def record(file: str | None, event: Frame | Loss) -> dict[str, Any]:
    """One line of frames.jsonl: what the camera told with the picture, or why there is none."""
    from inspectd.core.records import Loss

    trigger = event.trigger
    facts: dict[str, Any] = {
        "file": file,
        "part_id": trigger.part_id,
        "frame_id": trigger.frame_id,
        "captured_at": trigger.captured_at.isoformat(),
        "device_ns": trigger.device_ns,
        "trigger_count": trigger.trigger_count,
        "encoder": trigger.encoder,
        "exposure_us": trigger.exposure_us,
        "line_status": trigger.line_status,
    }
    if isinstance(event, Loss):
        return {**facts, "lost": event.reason.value, "detail": event.detail}
    return {**facts, "shape": list(event.image.shape)}


@contextmanager
def _accounted(tally: Tally, tell: Callable[[str], None]) -> Iterator[None]:
    """Says at any end what is saved."""
    try:
        yield
    except Interrupted as stop:
        tally.ended = "interrupted"
        note("interrupted", "yellow")
        raise typer.Exit(stop.exit_status) from stop
    except (InspectdError, OSError) as error:
        tally.ended = str(error)
        raise
    finally:
        for line in _account(tally):
            tell(line)


@contextmanager
def _summed_up(tally: Tally) -> Iterator[None]:
    """The same for another program."""
    try:
        with _accounted(tally, note):
            yield
    finally:
        show_json(tally.as_dict())


def _account(tally: Tally) -> Iterator[str]:
    """The end in words."""
    names = tally.folder.names
    which = f": {names[0]} to {names[-1]}" if len(names) > 1 else f": {names[0]}" if names else ""
    of = f" of {tally.wanted}" if tally.saved < tally.wanted else ""
    yield f"saved {tally.saved}{of} picture(s) in {tally.folder.path}{which}"
    if tally.lost:
        yield "lost frames: " + ", ".join(f"{n} {reason}" for reason, n in tally.lost.items())
    if tally.lost["overrun"] or tally.lost["frame_lost"]:
        yield "if the camera is faster than this computer, lower its rate"
    for word, count in tally.warned.items():
        yield f"{count} of the saved pictures are {word}"
