"""``inspectd simulate``: what it lists, and what it refuses before anything is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Invoke = Callable[..., Result]


def test_lists_the_shipped_scenarios(invoke: Invoke) -> None:
    """Names, sizes and titles, on stdout."""
    result = invoke("simulate", "--list")
    assert result.exit_code == 0
    assert "everything" in result.stdout
    assert "100000" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--list names the shipped ones"),
        (("--scenario", "earthquake"), "no scenario is called 'earthquake'; there are: "),
        (("--scenario", "absent.toml"), "absent.toml: no such file"),
        (("--scenario", "quiet", "--broker", "nowhere"), "HOST:PORT"),
        (("--scenario", "broker", "--broker", "localhost:1883"), "isn't ours to stop"),
        (("--scenario", "quiet", "--json", "absent/account.json"), "existing folder"),
    ],
)
def test_a_wrong_command_is_refused(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """One line with the remedy, exit status 2, and no folder is made."""
    result = invoke("simulate", "--dir", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_a_camera(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where harvesters or a compiler are missing it says so."""
    monkeypatch.setattr("inspectd.demo.parts.simulated_camera_problem", lambda: "no compiler")
    result = invoke("simulate", "--scenario", "quiet", "--dir", tmp_path / "out")
    assert result.exit_code == 1
    assert "no compiler" in result.stderr


def test_what_the_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the plant is put up."""
    from inspectd.simulate.plant import problems
    from inspectd.simulate.scenario import load_scenario

    monkeypatch.setattr("inspectd.simulate.plant.clock_problem", lambda: "no compiler")
    assert problems(load_scenario("clock")) == ["no compiler"]
    assert problems(load_scenario("quiet")) == []
