"""``inspectd simulate``: a virtual line with scripted faults, and the account of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inspectd.cli.options import JsonFile
from inspectd.cli.output import (
    err,
    interruptible,
    needs_calibration,
    note,
    require_writable,
    show,
    stages,
    write_json,
)
from inspectd.core.errors import CameraError, ConfigError

if TYPE_CHECKING:
    from inspectd.simulate.account import Account
    from inspectd.simulate.run import Outcome
    from inspectd.simulate.run import Progress as Course
    from inspectd.simulate.scenario import Scenario

EXAMPLES = (
    "inspectd simulate --list",
    "inspectd simulate --scenario everything",
    "inspectd simulate --scenario deploy/scenarios/broker.toml --json account.json",
    "inspectd simulate --scenario soak --parts 5000 --rate 50",
)
TELL_EVERY = 20
"""Without a terminal: lines about progress in all."""


def complete_scenario(incomplete: str) -> list[str]:
    """Shipped scenarios that begin so."""
    from inspectd.simulate.scenario import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def simulate(
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            "-s",
            metavar="FILE",
            help="What happens: a TOML file, or the name of a shipped one.",
            show_default=False,
            autocompletion=complete_scenario,
        ),
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Name the shipped scenarios.")] = False,
    folder: Annotated[
        Path,
        typer.Option(
            "--dir", help="Folder for products, logs, ledger and results.", file_okay=False
        ),
    ] = Path("simulate-out"),
    parts: Annotated[
        int | None,
        typer.Option(min=1, help="So many parts instead of the file's.", show_default=False),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=1000, help="Parts per second instead of the file's.", show_default=False
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="mosquitto, embedded, or HOST:PORT of one that runs, instead of the file's.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws other parts.", show_default=False)
    ] = None,
    json_file: JsonFile = None,
    plot: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Draw latency and memory over time.")
    ] = True,
) -> None:
    """Runs a virtual line with known truth and scripted faults, and adds up what came of it.

    The camera is simulated; daemon, broker and reject gate are the real ones. Products are drawn
    and calibrated at the first run and kept below the folder. Exit status 1 where an expectation
    of the scenario isn't met. Ctrl-C ends the run in order, with the account so far.
    """
    from inspectd.simulate.scenario import load_scenario, shipped

    if list_them:
        show(_scenarios({name: load_scenario(str(path)) for name, path in shipped().items()}))
        return
    if scenario is None:
        raise ConfigError("which scenario? give --scenario; --list names the shipped ones")
    require_writable(json_file)
    wanted = load_scenario(scenario, parts=parts, rate=rate, broker=broker, seed=seed)
    _require_camera()
    with needs_calibration():
        from inspectd.simulate.plot import plot_course
        from inspectd.simulate.run import run_scenario
        from inspectd.simulate.stage import prepare_stage

        folder.mkdir(parents=True, exist_ok=True)
        run = folder / "run"
        with interruptible() as check:
            with stages() as report:

                def step(stage: str, done: int, total: int) -> None:
                    check()
                    report(stage, done, total)

                stage = prepare_stage(folder, wanted, step)
            note(f"{wanted.title}: {wanted.parts} parts at {wanted.rate:g}/s")
            with _progress(wanted.parts) as tell:

                def hear(course: Course) -> None:
                    check()
                    tell(course)

                outcome = run_scenario(wanted, stage, run, hear)
    _show(outcome, wanted)
    content = outcome.as_json(wanted)
    account_file = folder / "account.json"
    write_json(account_file, content)
    write_json(json_file, content)
    note(f"account  {account_file}\nlog      {run / 'daemon.log'}")
    if plot:
        plot_course(outcome.events, wanted.title, folder / "course.png")
        note(f"plot     {folder / 'course.png'}")
    if outcome.was_interrupted:
        note("interrupted: the account is of the parts that had passed", "yellow")
        raise typer.Exit(130)
    for sentence in outcome.unmet:
        note(f"not as expected: {sentence}", "bold red")
    if outcome.unmet:
        raise typer.Exit(1)


def _require_camera() -> None:
    from inspectd.demo.parts import simulated_camera_problem

    problem = simulated_camera_problem()
    if problem is not None:
        raise CameraError(problem)


def _scenarios(found: dict[str, Scenario]) -> Table:
    table = Table(title="shipped scenarios", title_justify="left")
    for column in ("name", "parts", "rate/s", "about"):
        table.add_column(column, justify="right" if column in ("parts", "rate/s") else "left")
    for name, scenario in found.items():
        table.add_row(name, str(scenario.parts), f"{scenario.rate:g}", scenario.title)
    return table


@contextmanager
def _progress(parts: int) -> Iterator[Callable[[Course], None]]:
    """A bar, with a line above it for each fault; plain lines without a terminal."""
    if not err.is_terminal:
        yield _Lines(parts)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=err) as progress:
        passed = progress.add_task("parts passed", total=parts)
        answered = progress.add_task("answered", total=parts)

        def tell(course: Course) -> None:
            if course.fault:
                progress.console.print(course.fault)
            progress.update(passed, completed=course.passed)
            progress.update(answered, completed=course.answered)

        yield tell


class _Lines:
    """A line for each fault, and one now and then."""

    def __init__(self, parts: int) -> None:
        self._step = max(1, parts // TELL_EVERY)
        self._next = self._step

    def __call__(self, course: Course) -> None:
        if course.fault:
            note(course.fault)
        if course.passed >= self._next:
            self._next = course.passed + self._step
            note(f"{course.passed} of {course.parts} passed, {course.answered} answered")


def _show(outcome: Outcome, scenario: Scenario) -> None:
    account = outcome.account
    show(_figures(account))
    show(_latencies(account))
    if account.faults:
        show(_faults(account))
    for line in outcome.notes:
        note(line, "yellow")
    note(
        f"{len(outcome.events.is_defective)} pictures on the line; {outcome.left_out} more were "
        "left out, which the scorer itself decides wrongly or narrowly"
    )


def _figures(account: Account) -> Table:
    table = Table(title="the line's account", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    reasons = {f"  {name}": count for name, count in account.undecided_by_reason.items()}
    growth = account.growth
    rows: dict[str, object] = {
        "triggers": account.triggers,
        "answered": account.answered,
        "  of these lost in the killed broker": account.lost_in_broker,
        "unanswered": account.unanswered,
        "pass": account.passed,
        "fail": account.failed,
        "undecided": account.undecided,
        **reasons,
        "marked late": account.late,
        "arrived after the deadline unmarked": account.stale,
        "duplicates": account.duplicates,
        "repeated messages": account.repeated,
        "answers without a count": account.uncounted,
        "answers of no trigger": account.surplus,
        "out of order": account.out_of_order,
        "escapes": f"{account.escapes} of {account.defective}",
        "  caused by faults": account.escapes_by_faults,
        "overkill": f"{account.overkill} of {account.good}",
        "  overkill caused by faults": account.overkill_by_faults,
        "good parts diverted undecided": account.diverted,
        "let through by the gate": account.let_through,
        "  too late": account.let_through_late,
        "starts of the daemon": account.daemon_starts,
        "  after an end nobody asked for": account.daemon_deaths,
    }
    if growth is not None:
        rows["daemon's longest life"] = f"{growth.life_s:g} s"
        rows["  memory, MiB"] = f"{growth.rss_mb_first:g} to {growth.rss_mb_last:g}"
        rows["  descriptors"] = f"{growth.descriptors_first} to {growth.descriptors_last}"
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def _latencies(account: Account) -> Table:
    table = Table(title="latency, ms", title_justify="left")
    for column in ("stage", "parts", "p50", "p99", "p99.9", "most"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, found in account.latency_ms.items():
        figures = (found.p50, found.p99, found.p999, found.most)
        table.add_row(name, str(found.count), *(f"{figure:.2f}" for figure in figures))
    return table


def _faults(account: Account) -> Table:
    table = Table(title="faults", title_justify="left")
    for column in ("kind", "times", "parts affected", "recovery s, median", "most"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, found in account.faults.items():
        times = (found.recovery_s_median, found.recovery_s_most)
        table.add_row(
            kind, str(found.times), str(found.affected), *(f"{value:.2f}" for value in times)
        )
    return table
