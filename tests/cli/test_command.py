"""The command line as a whole: help, choices, completion, what it may import; shared output."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import Result

import inspectd
from inspectd.cli import COMMANDS, anomalies, options, output, product
from inspectd.core.errors import ConfigError
from inspectd.runtimes import CHOICES

Invoke = Callable[..., Result]
HEAVY = ("torch", "cv2", "numpy", "matplotlib", "openvino", "onnxruntime", "calibration")
NAMES = [
    *((name,) for name, _, _ in COMMANDS),
    ("product",),
    *(("product", name) for name, _, _ in product.COMMANDS),
    ("anomalies",),
    *(("anomalies", name) for name, _, _ in anomalies.COMMANDS),
]


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_help(invoke: Invoke, names: tuple[str, ...]) -> None:
    """Every command has a help text that ends with examples."""
    result = invoke(*names, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert f"inspectd {' '.join(names)}" in result.stdout.split("Examples")[1]


def test_importing_is_cheap() -> None:
    """Help and completion need not wait for what a command needs: nothing heavy is imported."""
    code = f"import sys, inspectd.cli; sys.exit(','.join(set({HEAVY!r}) & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.stderr.strip() == ""


def test_module_and_version() -> None:
    """``python -m inspectd`` is the program, and knows its version."""
    result = subprocess.run(
        [sys.executable, "-m", "inspectd", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert result.stdout == f"inspectd {inspectd.__version__}\n"


def test_runtime_choices() -> None:
    """The values of --runtime are the runtimes there are."""
    assert set(options.RuntimeName) == set(CHOICES)


def test_completes_products_and_revisions(invoke: Invoke, state: Path) -> None:
    """Tab completes a product's name and, after it, its revisions."""

    def completed(*words: str) -> list[str]:
        line = " ".join(("inspectd", *words))
        variables = {
            "_INSPECTD_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
        }
        return invoke(env=variables, prog_name="inspectd").stdout.split()

    assert completed("product", "show", "fl") == ["flange"]
    (revision,) = completed("product", "activate", "flange", "r")
    assert (state / "products" / "flange" / revision).is_dir()


def test_unexpected_operating_system_error(invoke: Invoke, state: Path) -> None:
    """A full disk or a missing right ends a command with one line, not with a trace."""
    link = state / "products" / "flange" / "current"
    target = state / "products" / "flange" / link.readlink()
    link.unlink()
    link.mkdir()
    result = invoke("product", "activate", "flange", target.name)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each stage has a bar with its name and steps."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(output, "err", console)
    with output.stages() as report:
        report("extracting [features]", 1, 4)
        report("extracting [features]", 4, 4)
        report("exporting", 0, 0)
    assert "extracting [features]" in screen.getvalue()
    assert "4/4" in screen.getvalue()


def test_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal a long stage tells every few seconds how far it is."""
    now = iter([0.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(output, "monotonic", lambda: next(now))
    with output.stages() as report:
        for done in (0, 1, 2, 4):
            report("clustering", done, 4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "clustering: 4 to do",
        "clustering: 1 of 4, about 18 s left",
        "clustering: done in 8.0 s",
    ]


def test_interrupted_once() -> None:
    """The first signal is raised; a second can't cut the cleaning up short, and `check` repeats."""
    with output.interruptible() as check:
        with pytest.raises(output.Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(output.Interrupted) as caught:
            check()
    assert caught.value.exit_status == 143


def test_interruptible_outside_the_main_thread() -> None:
    """In another thread, where signals can't be caught, the work is done all the same."""
    done = []

    def work() -> None:
        with output.interruptible() as check:
            check()
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_json_is_written_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed write leaves the old file and no temporary one; NaN becomes null."""
    path = tmp_path / "figures.json"
    output.write_json(path, {"f1": float("nan"), "n": [1.5, float("inf")]})
    assert json.loads(path.read_text()) == {"f1": None, "n": [1.5, None]}

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        output.write_json(path, {"f1": 1.0})
    assert json.loads(path.read_text())["f1"] is None
    assert list(tmp_path.iterdir()) == [path]


def test_json_target_is_checked_first(tmp_path: Path) -> None:
    """A result file that can't be written is refused before the work."""
    with pytest.raises(ConfigError, match="existing folder"):
        output.require_writable(tmp_path / "absent" / "figures.json")
    output.require_writable(tmp_path / "figures.json")
    output.require_writable(None)
