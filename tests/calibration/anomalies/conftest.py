"""Pictures that the tests of the anomaly generator share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.anomalies import AnomalyGenerator, SeenDefect


def part(size: tuple[int, int] = (96, 120), seed: int = 0) -> np.ndarray:
    """A grey disc with grain on a black belt."""
    image = np.full((*size, 3), 10, np.uint8)
    cv2.circle(image, (size[1] // 2, size[0] // 2), min(size) // 3, (140, 150, 160), -1)
    grain = np.random.default_rng(seed).integers(0, 8, (*size, 1), dtype=np.uint8)
    return image + grain


def bright_bar() -> SeenDefect:
    """A seen defect: a white bar across a grey disc."""
    image, mask = part((80, 80)), np.zeros((80, 80), np.uint8)
    mask[36:44, 25:55] = 255
    image[mask > 0] = (250, 240, 230)
    return SeenDefect(image, mask, "bar")


PICTURES = {
    "part": part(),
    "black": np.zeros((64, 48, 3), np.uint8),
    "white": np.full((64, 48, 3), 255, np.uint8),
    "noise": np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8),
    "small": part((32, 32)),
    "odd": part((61, 45)),
}


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    """Good pictures of several sorts by name."""
    return PICTURES


@pytest.fixture(scope="session")
def generator() -> AnomalyGenerator:
    """Three good parts and one seen defect."""
    return AnomalyGenerator([part(seed=seed) for seed in range(3)], [bright_bar()], seed=4)
