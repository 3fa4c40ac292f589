"""The runtime in which faults can be put: what its plan does to it, and where it is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspectd.core.bundle import Graph
from inspectd.core.config import load_settings
from inspectd.core.contracts import Runtime
from inspectd.core.errors import ConfigError, InferenceError, RuntimeUnavailableError
from inspectd.core.records import AnomalyMap
from inspectd.runtimes import CHOICES, open_runtime
from inspectd.runtimes.onnxruntime import OnnxRuntime
from inspectd.runtimes.simulated import VARIABLE, FaultPlan

PICTURE = np.zeros((8, 8, 3), np.uint8)
PATIENCE_S = 20.0


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultPlan:
    """The plan that the environment names."""
    made = FaultPlan(tmp_path / "plan")
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def runtime(plan: FaultPlan, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """One whose work is nothing, not yet entered."""
    monkeypatch.setattr(OnnxRuntime, "__enter__", lambda self: self)
    score = AnomalyMap(np.zeros((8, 8), np.float32), 0.0)
    monkeypatch.setattr(OnnxRuntime, "infer", lambda self, image: score)
    return open_runtime(Graph(Path("absent.onnx"), (8, 8)), "simulated")


def test_as_many_failures_as_were_asked(runtime: Runtime, plan: FaultPlan) -> None:
    """Then it goes well again, and another process knows how many are left."""
    with runtime:
        runtime.infer(PICTURE)
        plan.fail(2)
        for left in (1, 0):
            with pytest.raises(InferenceError, match="asked to fail"):
                runtime.infer(PICTURE)
            assert FaultPlan(plan.path).pending == left
        assert runtime.infer(PICTURE).score == 0.0


def test_a_delay(runtime: Runtime, plan: FaultPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each inference waits first."""
    waited: list[float] = []
    monkeypatch.setattr("inspectd.runtimes.simulated.sleep", waited.append)
    with runtime:
        plan.delay(150)
        runtime.infer(PICTURE)
        plan.delay(0)
        runtime.infer(PICTURE)
    assert waited == [0.15]


def test_it_hangs_until_it_is_resumed(runtime: Runtime, plan: FaultPlan) -> None:
    """Nothing comes before that."""
    done = threading.Event()

    def work() -> None:
        runtime.infer(PICTURE)
        done.set()

    with runtime:
        plan.hang()
        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert not done.wait(0.2)
        finally:
            plan.resume()
            thread.join()
        assert done.wait(PATIENCE_S)


def test_a_plan_that_is_missing_is_named(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better no daemon than one whose faults don't come."""
    monkeypatch.setenv(VARIABLE, "/nonexistent/plan")
    with pytest.raises(RuntimeUnavailableError, match=VARIABLE):
        runtime.__enter__()


def test_nobody_is_offered_it() -> None:
    """Neither `auto` nor calibrate and evaluate know it."""
    assert "simulated" not in CHOICES


@pytest.mark.parametrize("simulation", [True, False])
def test_only_in_a_simulation(tmp_path: Path, simulation: bool) -> None:
    """The configuration refuses it on a real line."""
    path = tmp_path / "inspectd.toml"
    path.write_text(
        f'product = "a"\nruntime = "simulated"\nsimulation = {str(simulation).lower()}\n'
        '[camera]\npath = "pictures"\n'
    )
    if simulation:
        settings: Any = load_settings(path)
        assert settings.runtime == "simulated"
    else:
        with pytest.raises(ConfigError, match="simulation = true"):
            load_settings(path)
