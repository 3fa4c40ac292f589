"""Region, least area and tiles on the command line, from calibrate to product show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import Result

from inspectd.core.scope import ROI
from inspectd.core.store import ProductStore

Invoke = Callable[..., Result]


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Path, Path]:
    """A mask that leaves out 8 pixels on each side, and a recipe that ignores a corner."""
    mask = np.zeros((96, 96), np.uint8)
    mask[8:88, 8:88] = 255
    cv2.imwrite(str(tmp_path / "roi.png"), mask)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[[ignore]]\npoints = [[0, 0], [20, 0], [0, 20]]\n")
    return tmp_path / "roi.png", recipe


def test_all_of_it_at_once(
    calibrate: Invoke, invoke: Invoke, drawn: tuple[Path, Path], tmp_path: Path, dataset: Path
) -> None:
    """The product says what counts; show, verify, threshold and evaluate go by it."""
    roi, recipe = drawn
    options = ("--min-area", "2mm2", "--mm-per-pixel", 0.5, "--tile", 64, "--overlap", 16)
    holdout = dataset / "holdout"
    made = calibrate("--holdout", holdout, "--roi", roi, "--recipe", recipe, *options)
    assert made.exit_code == 0, made.output
    bundle = ProductStore(tmp_path / "state" / "products").open("flange")
    assert bundle.scope().min_pixels == 8
    assert bundle.graph.size == (64, 64)
    shown = invoke("product", "show", "flange")
    for text in ("region of interest", "8 px = 2 mm2", "0.5 mm a pixel", "64 x 64", ROI):
        assert text in shown.stdout
        assert text in made.stdout
    here = ("--runtime", "onnxruntime", "--threads", 1)
    for command in (
        ("verify", "--product", "flange", *here, "--images", holdout),
        ("product", "verify", "flange", *here),
        ("evaluate", "--product", "flange", *here, "--images", holdout),
        ("threshold", "--product", "flange", "--policy", "cost", "--cost-ratio", 50,
         "--prevalence", 0.1),
    ):  # fmt: skip
        result = invoke(*command)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-area", "0.5mm2"), "add --mm-per-pixel"),
        (("--min-area", "big"), "12px or 0.5mm2"),
        (("--mm-per-pixel", "0"), "above 0"),
        (("--mm-per-pixel", "nan"), "above 0"),
        (("--overlap", 8), "add --tile"),
        (("--tile", 64, "--overlap", 40), "more than half"),
        (("--tile", 128), "larger than what is inspected, 96 x 96"),
        (("--min-area", "9217px"), "lower --min-area"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    calibrate: Invoke, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    """In an instant, with the remedy, and nothing is made."""
    result = calibrate(*options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list((tmp_path / "state").rglob("manifest.json"))


def test_a_mask_of_another_size_is_refused(calibrate: Invoke, tmp_path: Path) -> None:
    """Both sizes are told, (H, W)."""
    cv2.imwrite(str(tmp_path / "small.png"), np.full((48, 96), 255, np.uint8))
    result = calibrate("--ignore", tmp_path / "small.png")
    assert result.exit_code != 0
    assert "the mask is 48 x 96 (H x W), the pictures are 96 x 96" in result.stderr
