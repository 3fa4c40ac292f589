"""``inspectd check-config``: what a configuration comes to, said before the line runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Invoke = Callable[..., Result]
CAMERAS = '[[cameras]]\nname = "left"\npath = "."\n[[cameras]]\nname = "right"\npath = "."\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CAMERAS, "off: each camera has its own engine"),
        (f"{CAMERAS}[batching]\nmax_batch = 4\n", "up to 4 pictures, which wait 2 ms at most"),
        (
            '[camera]\npath = "."\n[batching]\nmax_batch = 4\n',
            "no effect: no two cameras have the same model",
        ),
    ],
    ids=["default", "two cameras", "one camera"],
)
def test_it_says_what_batching_comes_to(
    invoke: Invoke, state: Path, tmp_path: Path, text: str, said: str
) -> None:
    """Off by default; of use only where cameras have the same model."""
    config = tmp_path / "inspectd.toml"
    config.write_text(f'product = "flange"\n{text}')
    result = invoke("check-config", "--config", config)
    assert result.exit_code == 0, result.output
    assert f"batching  {said}" in result.stdout


@pytest.mark.parametrize("line", ["max_batch = 0", "max_wait_ms = -1", "max_size = 2"])
def test_a_bad_setting_is_named(invoke: Invoke, state: Path, tmp_path: Path, line: str) -> None:
    """With its section and its name."""
    config = tmp_path / "inspectd.toml"
    config.write_text(f'product = "flange"\n{CAMERAS}[batching]\n{line}\n')
    result = invoke("check-config", "--config", config)
    assert result.exit_code == 2
    assert f"batching.{line.split()[0]}" in result.stderr
