"""``inspectd evaluate``: figures of a calibrated product on labelled pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import Result

from calibration.evaluate import Evaluation
from inspectd.core.bundle import MANIFEST
from inspectd.core.store import ProductStore

Invoke = Callable[..., Result]


def evaluate_arguments(dataset: Path) -> tuple[object, ...]:
    """The command on the drawn product's labelled pictures."""
    return ("evaluate", "--product", "flange", "--images", dataset / "holdout", "--threads", 1)


def damage(path: Path) -> None:
    """Flips one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_json_keys_and_table(invoke: Invoke, dataset: Path, state: Path, tmp_path: Path) -> None:
    """The JSON has exactly the evaluation's keys; the table has a row per kind of defect."""
    target = tmp_path / "figures.json"
    result = invoke(*evaluate_arguments(dataset), "--json", target, "--runtime", "onnxruntime")
    assert result.exit_code == 0, result.output
    figures = json.loads(target.read_text())
    assert list(figures) == [field.name for field in fields(Evaluation)]
    assert (figures["n_good"], figures["n_defect"]) == (4, 4)
    assert figures["product"] == "flange"
    assert figures["revision"] == ProductStore(state / "products").current("flange")
    assert figures["runtime"].startswith("onnxruntime")
    assert figures["aupro"] is not None
    for text in ("image AUROC", "pixel AUROC", "scratch", "chip", "dent", "contamination"):
        assert text in result.stdout
    assert "scoring pictures: done" in result.stderr


def test_agrees_with_calibration(invoke: Invoke, dataset: Path, state: Path) -> None:
    """On the hold-out pictures themselves evaluate finds what calibrate wrote down."""
    target = state / "figures.json"
    assert invoke(*evaluate_arguments(dataset), "--json", target).exit_code == 0
    figures = json.loads(target.read_text())
    made = json.loads((state / "made.json").read_text())
    for key in ("f1", "precision", "recall", "escapes", "overkill", "threshold"):
        assert figures[key] == pytest.approx(made[key])


def test_the_promise_stands_beside_what_is_found(
    invoke: Invoke, dataset: Path, state: Path
) -> None:
    """A policy's promise and what these parts say of it are shown and in the JSON."""
    arguments = ("--policy", "cost", "--cost-ratio", 50, "--prevalence", 0.02)
    assert invoke("threshold", "--product", "flange", *arguments).exit_code == 0
    target = state / "figures.json"
    result = invoke(*evaluate_arguments(dataset), "--json", target)
    assert result.exit_code == 0, result.output
    figures = json.loads(target.read_text())
    assert figures["policy"] == "cost"
    assert figures["promise"].startswith("Expected cost: if an escape costs 50 times")
    assert figures["found"].startswith("found: 1,000 parts cost as much as")
    assert "Expected cost" in result.stdout


def test_without_masks(invoke: Invoke, dataset: Path, state: Path, tmp_path: Path) -> None:
    """Without masks there are no pixel figures: null in the JSON, said on the terminal."""
    shutil.copytree(
        dataset / "holdout", tmp_path / "labelled", ignore=shutil.ignore_patterns("ground_truth")
    )
    target = tmp_path / "figures.json"
    arguments = ("evaluate", "--product", "flange", "--images", tmp_path / "labelled")
    result = invoke(*arguments, "--threads", 1, "--json", target)
    assert result.exit_code == 0, result.output
    figures = json.loads(target.read_text())
    assert figures["pixel_auroc"] is figures["pixel_ap"] is figures["aupro"] is None
    assert "no masks" in result.stdout


def test_unknown_product_and_revision(invoke: Invoke, dataset: Path, state: Path) -> None:
    """A product or revision that isn't there is refused with what is."""
    unknown = invoke("evaluate", "--product", "gear", "--images", dataset / "holdout")
    assert unknown.exit_code == 2
    assert "flange" in unknown.stderr
    result = invoke(*evaluate_arguments(dataset), "--revision", "r0009-00000000")
    assert result.exit_code == 2
    assert ProductStore(state / "products").current("flange") in result.stderr


def test_no_labelled_pictures(invoke: Invoke, dataset: Path, state: Path) -> None:
    """A folder without good/ and kinds of defects is refused."""
    result = invoke("evaluate", "--product", "flange", "--images", dataset / "train")
    assert result.exit_code == 2
    assert "no defective picture" in result.stderr


@pytest.mark.parametrize("name", ["model.onnx", "golden/00.png", "report.html"])
def test_one_flipped_bit(invoke: Invoke, dataset: Path, state: Path, name: str) -> None:
    """A damaged revision is refused, and the damaged file is named."""
    damage(ProductStore(state / "products").open("flange").path / name)
    result = invoke(*evaluate_arguments(dataset))
    assert result.exit_code == 1
    assert f"{name} is damaged" in result.stderr
    assert "scoring" not in result.stderr


def test_newer_schema(invoke: Invoke, dataset: Path, state: Path) -> None:
    """A manifest of a newer schema is refused with the versions and what to do."""
    path = ProductStore(state / "products").open("flange").path / MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": 4}))
    result = invoke(*evaluate_arguments(dataset))
    assert result.exit_code == 1
    assert "schema version 4" in result.stderr
    assert "update inspectd" in result.stderr
