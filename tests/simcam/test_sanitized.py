"""The producer under the sanitizers, driven by a host in C: see ``driver.c``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from inspectd.core.errors import CameraError
from inspectd.simcam.build import SOURCES, producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

DRIVER = Path(__file__).parent / "driver.c"
SIDE = 256
"""Pixels: large enough that a buffer is often being filled when the host flushes."""


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_streaming_while_the_camera_comes_and_goes_is_clean(
    tmp_path: Path, compiler: str, sanitizer: str
) -> None:
    """No bad memory access, no leak, no undefined behaviour, no data race."""
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g", "-O1"]
    driver = tmp_path / "driver"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-pthread", *flags, f"-I{SOURCES}"]
    built = subprocess.run(
        [*command, str(DRIVER), "-o", str(driver), "-ldl"], capture_output=True, text=True
    )
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip(f"gcc has no libraries for -fsanitize={sanitizer}")
    assert built.returncode == 0, built.stderr
    try:
        producer = producer_path(extra_flags=flags)
    except CameraError as error:
        pytest.fail(str(error))
    random = np.random.default_rng(1)
    with Rig(tmp_path / "rig", [DeviceSpec("CAM1", width=SIDE, height=SIDE)]) as rig:
        rig.load("CAM1", [random.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(3)])
        done = subprocess.run(
            [str(driver), str(producer), str(rig.directory)],
            env={**os.environ, **rig.environment()},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert done.stdout.endswith(" frames\n")
