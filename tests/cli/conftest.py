"""A small drawn product, calibrated once, and a way to run commands on copies of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from inspectd.cli import app
from inspectd.demo.product import render_dataset

SMALL = ("--input-size", "96", "--threads", "1", "--runtime", "onnxruntime")
Invoke = Callable[..., Result]


def run_command(*arguments: object, **settings: Any) -> Result:
    """One command; an exception that no command expects goes through."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], **settings)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 good parts to learn from, and holdout/ with 4 good and 4 defective ones and masks."""
    folder = tmp_path_factory.mktemp("drawn")
    render_dataset(folder, seed=1, n_train=12, n_good=4, n_per_defect=1, size=(96, 96))
    return folder


@pytest.fixture(scope="session")
def calibrated(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A state directory with product ``flange`` of one revision, and what calibrate said."""
    state = tmp_path_factory.mktemp("state")
    arguments = ("--product", "flange", "--images", dataset, "--holdout", dataset / "holdout")
    result = run_command(
        "calibrate", *arguments, *SMALL, "--state-dir", state, "--json", state / "made.json"
    )
    assert result.exit_code == 0, result.output
    return state, result


@pytest.fixture
def state(calibrated: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of the calibrated state directory, free to be damaged."""
    return Path(shutil.copytree(calibrated[0], tmp_path / "state", symlinks=True))


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a command whose state directory is ``state`` in the test's own folder."""
    monkeypatch.setenv("INSPECTD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("INSPECTD_DEBUG", raising=False)
    return run_command


@pytest.fixture
def calibrate(invoke: Invoke, dataset: Path) -> Invoke:
    """Runs calibrate on a small input, by default on the drawn product."""

    def run(*arguments: object, images: Path = dataset, product: str = "flange") -> Result:
        return invoke("calibrate", "--product", product, "--images", images, *SMALL, *arguments)

    return run
