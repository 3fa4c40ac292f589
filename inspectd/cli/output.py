"""What every command shares: two consoles, progress, errors as one line, interruption, JSON files.

Results go to `out` (stdout), progress, notes and errors to `err` (stderr). Nothing here imports
more than rich and typer, so that ``inspectd --help`` answers at once.
"""

from __future__ import annotations

import errno
import inspect
import json
import math
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typer.core import TyperGroup

from inspectd.core.errors import (
    BackboneError,
    ConfigError,
    DatasetError,
    ImageError,
    InspectdError,
    ProductError,
)

USER_ERRORS = (ConfigError, DatasetError, ImageError, ProductError, BackboneError)
"""What the user can mend in the command or its files: exit status 2, as for a wrong option."""
PIPE_WIDTH = 160
"""Columns of a table that is not shown on a terminal: paths must not be broken."""
LINE_EVERY_S = 5.0
"""Seconds between two lines of progress where there is no terminal."""

Report = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""

_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""A path may hold brackets or colons, and is data."""
out = Console(**_PLAIN)
err = Console(stderr=True, **_PLAIN)
_pipe = Console(width=PIPE_WIDTH, **_PLAIN)


class Commands(TyperGroup):
    """The root group: ends every command that fails with one line and the right status."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer vendors click
        """Runs a command; an error on purpose becomes ``error: ...``, others keep their trace."""
        try:
            return super().invoke(ctx)
        except InspectdError as error:
            _fail(str(error), 2 if isinstance(error, USER_ERRORS) else 1, ctx)
        except Interrupted as stop:
            note("interrupted", "yellow")
            raise typer.Exit(stop.exit_status) from stop
        except KeyboardInterrupt as stop:
            note("interrupted", "yellow")
            raise typer.Exit(128 + signal.SIGINT) from stop
        except ImportError as error:
            _fail(f"{error}; inspectd doctor says what is installed", 1, ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `inspectd ... | head`
                raise
            _fail(str(error), 1, ctx)


def _fail(message: str, status: int, ctx: typer.Context) -> NoReturn:
    if ctx.params.get("debug"):
        err.print(traceback.format_exc(), soft_wrap=True)
    err.print(Text.assemble(("error:", "bold red"), " ", (message, "red")), soft_wrap=True)
    raise typer.Exit(status)


def note(message: str, style: str = "") -> None:
    """One line for people on stderr."""
    err.print(Text(message, style), soft_wrap=True)


def show(result: RenderableType) -> None:
    """A result on stdout; without a terminal no line is broken."""
    if out.is_terminal:
        out.print(result)
    else:
        _pipe.print(result, soft_wrap=isinstance(result, str | Text))


def show_json(content: Any) -> None:
    """A result on stdout for another program."""
    out.print(_as_text(content), soft_wrap=True)


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(("[bold]Examples[/bold]", *(f"  {escape(line)}" for line in lines)))


def register(
    app: typer.Typer, name: str, function: Callable[..., Any], lines: tuple[str, ...]
) -> None:
    """Adds a command: its help is the function's docstring, reflowed, and its examples."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, help=escape(text), epilog=examples(*lines))(function)


@contextmanager
def needs_calibration() -> Iterator[None]:
    """Imports of the offline half belong inside: says what to install where something is missing.

    Raises:
        InspectdError: a package is missing or doesn't load.
    """
    try:
        yield
    except ImportError as error:
        raise InspectdError(
            f"calibration needs more packages: pip install 'inspectd[calibration]' ({error})"
        ) from error


# --- progress ---------------------------------------------------------------------------------


@contextmanager
def stages() -> Iterator[Report]:
    """Shows named stages: a bar each with the time left, or plain lines without a terminal."""
    if not err.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=err) as progress:
        yield _Bars(progress)


class _Bars:
    """One bar per stage, in the order in which the stages come."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total or None)
        self._progress.update(self._tasks[stage], completed=done, total=total or None)


class _Lines:
    """A line when a stage begins, one every few seconds, and one when it is done."""

    def __init__(self) -> None:
        self._stage = ""
        self._began = self._told = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = monotonic()
        if stage != self._stage:
            self._stage, self._began, self._told = stage, now, now
            note(f"{stage}: {total} to do" if total > 1 else stage)
        if 0 < total <= done:
            note(f"{stage}: done in {now - self._began:.1f} s")
            self._stage = ""
        elif done and now - self._told >= LINE_EVERY_S:
            self._told = now
            left = (now - self._began) / done * (total - done)
            how_far = f"{done} of {total}, about {left:.0f} s left" if total else f"{done} so far"
            note(f"{stage}: {how_far}")


# --- interruption -----------------------------------------------------------------------------


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`: nobody shall take it for a failure and go on."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Of the signal."""
        super().__init__(signal.Signals(number).name)

    @property
    def exit_status(self) -> int:
        """What a shell expects of a program ended by a signal: 130 or 143."""
        return 128 + self.number


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Makes Ctrl-C and SIGTERM raise `Interrupted`, and restores the handlers.

    It is raised once: a second signal must not cut the cleaning up short. Yields a function that
    raises it again where the first was lost (in a callback from C, say); call it now and then.
    Outside the main thread signals can't be caught and nothing is changed.
    """
    caught: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) == 1:
            raise Interrupted(number)

    def check() -> None:
        if caught:
            raise Interrupted(caught[0])

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- JSON files -------------------------------------------------------------------------------


def require_writable(path: Path | None, option: str = "--json") -> None:
    """Refuses a result file that can't be written, before the work instead of after it.

    Raises:
        ConfigError: its folder doesn't exist or can't be written.
    """
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{path}: can't be written; {option} takes a file in an existing folder")


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Writes a result file at once or not at all; nothing where no file was asked for."""
    if path is None:
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_as_text(content) + "\n")
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_text(content: Any) -> str:
    return json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False, default=str)


def _finite(content: Any) -> Any:
    """JSON has no NaN and no infinity: null says that there is no figure."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
