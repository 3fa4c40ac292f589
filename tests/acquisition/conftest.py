"""A virtual camera, opened in this process."""

from __future__ import annotations

import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspectd.acquisition.device import Device, harvester
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import VARIABLE, DeviceSpec, Rig


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """One small camera; skipped where harvesters or gcc is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's types have no module
        pytest.importorskip("harvesters.core")
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    with Rig(tmp_path / "rig", [DeviceSpec("A1", "left", 64, 48)]) as made:
        monkeypatch.setenv(VARIABLE, made.environment()[VARIABLE])
        yield made


@pytest.fixture
def device(rig: Rig) -> Iterator[Device]:
    """The camera, opened."""
    before = signal.getsignal(signal.SIGINT)
    with harvester([producer_path()]) as found, Device(found, 0) as opened:
        assert signal.getsignal(signal.SIGINT) is before
        yield opened


@pytest.fixture
def nodes(device: Device) -> Any:
    """Its node map."""
    return device.nodes
