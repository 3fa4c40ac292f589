"""``inspectd pretrain``: a backbone, a sheet, or an explanation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import Result

from calibration.backbones import load_backbone
from inspectd.core.images import read_image

Invoke = Callable[..., Result]


def test_weights_are_made(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment's training writes a backbone that says how it was made, and leaves nothing else."""
    monkeypatch.setattr("calibration.pretraining.recipe.SETTLING", 2)
    out, account = tmp_path / "mine.safetensors", tmp_path / "made.json"
    result = invoke(
        *("pretrain", "--out", out, "--budget", "0.01", "--materials", "4"),
        *("--device", "cpu", "--json", account),
    )
    assert result.exit_code == 0, result.output
    made = json.loads(account.read_text())
    assert made["steps"] > 0
    assert load_backbone(str(out)).sha256 == made["sha256"]
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["licence"] == "Apache-2.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.json", "mine.safetensors"]


def test_a_preview_is_drawn(invoke: Invoke, tmp_path: Path) -> None:
    """The contact sheet is a picture; nothing is trained."""
    result = invoke("pretrain", "--preview", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "sheet.png").shape[1] > 1000


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((), "pass --out FILE"),
        (("--out", "a.safetensors", "--preview", "a.png"), "pass --out FILE"),
        (("--out", "weights.pth"), "ends in .safetensors"),
        (("--out", "absent/weights.safetensors"), "an existing folder"),
        (("--preview", "sheet.txt"), "ends in .jpg"),
    ],
)
def test_bad_arguments_are_explained(
    invoke: Invoke, arguments: tuple[str, ...], match: str
) -> None:
    """Before any work."""
    result = invoke("pretrain", *arguments)
    assert result.exit_code == 2
    assert match in result.output
