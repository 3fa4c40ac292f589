"""``inspectd doctor``: what works, what doesn't, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from inspectd.cli import doctor
from inspectd.core.bundle import MODEL
from inspectd.core.store import ProductStore
from inspectd.runtimes.nvidia.fake import FakeMachine

Invoke = Callable[..., Result]


def checks_of(result: Result) -> dict[str, dict[str, Any]]:
    """The checks by name."""
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_healthy(invoke: Invoke, state: Path) -> None:
    """On a machine that works all is named, the runtimes have run, and the exit status is 0."""
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    for name in ("python", "inspectd", "runtime onnxruntime", "torch", "product flange"):
        assert name in result.stdout
    assert "a test graph runs" in result.stdout


def test_json(invoke: Invoke, state: Path) -> None:
    """The JSON has every check with a status, and a remedy for all that isn't in order."""
    result = invoke("doctor", "--json")
    assert json.loads(result.stdout)["ok"] is True
    checks = checks_of(result)
    for name in ("nvidia", "mosquitto", "systemd", "clock", "timezone", "state directory"):
        assert name in checks
    for check in checks.values():
        assert check["status"] in set(doctor.Status)
        assert (check["remedy"] == "") == (check["status"] == "ok")


def test_damaged_product_fails(invoke: Invoke, state: Path) -> None:
    """A product whose active revision doesn't open fails with the way back as its remedy."""
    with (ProductStore(state / "products").open("flange").path / MODEL).open("ab") as file:
        file.write(b"x")
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    check = checks_of(result)["product flange"]
    assert check["status"] == "fail"
    assert MODEL in check["detail"]
    assert check["remedy"] == "inspectd product rollback flange"


def test_runtime_that_does_not_run(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference runtime that can't run the test graph is a failure, not a traceback."""
    monkeypatch.setattr(doctor, "TINY_GRAPH", b"not a graph")
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    assert checks_of(result)["runtime onnxruntime"]["status"] == "fail"


def test_optional_packages_may_be_absent(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages for calibration a machine is still fit for the line."""
    names = {package.module for package in doctor.OPTIONAL}
    present = doctor._is_present
    monkeypatch.setattr(doctor, "_is_present", lambda name: name not in names and present(name))
    result = invoke("doctor", "--json")
    assert result.exit_code == 0
    check = checks_of(result)["torch"]
    assert check["status"] == "absent"
    assert check["remedy"] == "pip install 'inspectd[calibration]'"


def test_required_packages_may_not(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """A required package that is missing is named, and the exit status is 1."""
    present = doctor._is_present
    monkeypatch.setattr(doctor, "_is_present", lambda name: name != "structlog" and present(name))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "missing: structlog" in result.stdout


def test_state_directory_that_cannot_be_written(invoke: Invoke, tmp_path: Path) -> None:
    """A file in the state directory's place is a failure, and the doctor makes nothing."""
    (tmp_path / "state").write_text("")
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    assert checks_of(result)["state directory"]["status"] == "fail"
    assert not (tmp_path / "cache").exists()


def test_left_over_of_a_killed_calibration(invoke: Invoke, state: Path) -> None:
    """What a killed calibration left behind is named, with what to do."""
    (state / "products" / "flange" / ".making-abc").mkdir()
    check = checks_of(invoke("doctor", "--json"))["left over"]
    assert check["status"] == "warn"
    assert ".making-abc" in check["detail"]


def test_wrong_timezone(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TZ that names no zone is warned about."""
    monkeypatch.setenv("TZ", "Mars/Olympus")
    check = checks_of(invoke("doctor", "--json"))["timezone"]
    assert check["status"] == "warn"
    assert "Mars/Olympus" in check["detail"]


def test_gpu_and_engines(
    invoke: Invoke, state: Path, install_gpu: Callable[..., FakeMachine]
) -> None:
    """Driver, GPU, compute capability, TensorRT, and whether engines are proven."""
    machine = install_gpu("8.6.1", has_graphs=False)
    checks = checks_of(invoke("doctor", "--json"))
    assert "Fake GPU, 1 GiB, compute capability 8.9" in checks["nvidia"]["detail"]
    assert "TensorRT 8.6.1, without CUDA graphs" in checks["runtime tensorrt"]["detail"]
    assert checks["engines"]["remedy"] == "inspectd build --product NAME"
    assert invoke("build", "--product", "flange").exit_code == 0
    assert "proven" in checks_of(invoke("doctor", "--json"))["engine"]["detail"]
    machine.shift["fp16"] = 1.0
    assert invoke("build", "--product", "flange", "--rebuild").exit_code == 1
    assert checks_of(invoke("doctor", "--json"))["engine"]["status"] == "warn"
