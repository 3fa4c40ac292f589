"""The checks of `checks.py` on the machine's GPU, and, for their own sake, on a fake one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from inspectd.core.errors import RuntimeUnavailableError
from inspectd.runtimes.nvidia.fake import FakeMachine

HERE = Path(__file__).parent


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tests_gpu_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


checks = _module("checks")
CHECKS = {check.__name__.removeprefix("check_"): check for check in checks.CHECKS}
SLOW = {"idle_gap"}
"""Waits for what a fake GPU hasn't got."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """A real GPU."""
    try:
        with checks.bench() as found:
            yield found
    except RuntimeUnavailableError as error:
        pytest.skip(f"no GPU that TensorRT can use: {error}")


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_on_the_gpu(bench: Any, name: str) -> None:
    """See the check."""
    CHECKS[name](bench)


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in SLOW])
def test_on_a_fake(
    name: str, install_gpu: Callable[..., FakeMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check passes on a machine that does what it should: it isn't the check that is wrong."""
    install_gpu(memory=2**28)
    monkeypatch.setattr(checks, "LOADS", 10)
    monkeypatch.setattr(checks, "BATCH_LOADS", 2)
    with checks.bench() as bench:
        CHECKS[name](bench)


def test_the_model_is_what_is_exported_now(tmp_path: Path) -> None:
    """A change of the export must reach the GPU's checks: run make_model.py and commit."""
    _module("make_model").make(tmp_path)
    with np.load(HERE / "expected.npz") as kept, np.load(tmp_path / "expected.npz") as fresh:
        assert np.array_equal(kept["pictures"], fresh["pictures"])
        np.testing.assert_allclose(kept["maps"], fresh["maps"], atol=1e-5)
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["anomaly_map", "score"]
