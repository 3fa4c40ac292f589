"""``inspectd anomalies preview``: a sheet to look at, or an explanation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import Result

from calibration.anomalies import Kind
from inspectd.cli.anomalies import KindName, chosen_kinds
from inspectd.core.images import read_image

Invoke = Callable[..., Result]
SMALL = ("--input-size", "64", "--count", "4")


@pytest.fixture
def preview(invoke: Invoke, dataset: Path, tmp_path: Path) -> Invoke:
    """A preview of the drawn parts, on ``sheet.jpg``, with whatever else is asked for."""

    def run(*arguments: object) -> Result:
        fixed = ("--images", dataset, "--output", tmp_path / "sheet.jpg", *SMALL)
        return invoke("anomalies", "preview", *fixed, *arguments)

    return run


def test_kinds_are_the_generators() -> None:
    """What the option spells out, so that help needs no heavy import, is what there is."""
    assert [kind.value for kind in KindName] == [kind.value for kind in Kind]


def test_a_sheet_is_drawn(preview: Invoke, dataset: Path, tmp_path: Path) -> None:
    """All three kinds by turns, on a picture that can be read; what was written is said."""
    result = preview("--seen", dataset / "holdout", "--json", tmp_path / "made.json")
    assert result.exit_code == 0, result.output
    sheet = read_image(tmp_path / "sheet.jpg")
    assert sheet.shape[1] > 6 * 160
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["kinds"] == {"extended": 2, "heterologous": 1, "homologous": 1}
    assert made["per_second"] > 0
    assert f"{tmp_path / 'sheet.jpg'}: 2 extended" in result.stdout
    assert "a second" in result.stdout


def test_a_seed_repeats(preview: Invoke, tmp_path: Path) -> None:
    """The same seed writes the same bytes, another seed others."""
    sheets = []
    for seed in (0, 0, 1):
        assert preview("--seed", seed).exit_code == 0
        sheets.append((tmp_path / "sheet.jpg").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_textures_of_a_folder_are_used(preview: Invoke, tmp_path: Path) -> None:
    """A folder of textures changes heterologous anomalies; an empty one is refused."""
    (tmp_path / "textures").mkdir()
    textures = ("--kinds", "heterologous", "--textures", tmp_path / "textures")
    refused = preview(*textures)
    assert refused.exit_code == 2
    assert "put textures there" in refused.stderr
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "textures" / "noise.png"), noise)
    assert preview(*textures).exit_code == 0
    first = (tmp_path / "sheet.jpg").read_bytes()
    assert preview("--kinds", "heterologous").exit_code == 0
    assert (tmp_path / "sheet.jpg").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kinds", "extended"), "needs --seen"),
        (("--kinds", "odd"), "'odd' is unknown; known: extended, heterologous, homologous"),
        (("--crop", "65"), "larger than --input-size"),
        (("--output", "sheet.pdf"), "ends in .jpg, .jpeg, .png"),
        (("--output", "absent/sheet.jpg"), "existing folder"),
        (("--images", "absent"), "no such folder"),
        (("--seen", "absent"), "no such folder"),
        (("--textures", "absent"), "no such folder"),
        (("--seen", "test"), "kept for inspectd evaluate"),
    ],
)
def test_what_cannot_be_is_explained(
    preview: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str],
    message: str,
) -> None:
    """One line that says what to do, status 2, and no sheet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test").mkdir()
    result = preview(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "sheet.jpg").exists()


def test_a_broken_picture_is_named(invoke: Invoke, dataset: Path, tmp_path: Path) -> None:
    """An unreadable good picture stops it, and a sheet from before stays as it was."""
    shutil.copytree(dataset / "train" / "good", tmp_path / "good")
    (tmp_path / "good" / "000.png").write_bytes(b"no picture")
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"old")
    result = invoke("anomalies", "preview", "--images", tmp_path / "good", "--output", sheet)
    assert result.exit_code == 2
    assert "000.png" in result.stderr
    assert sheet.read_bytes() == b"old"


def test_a_mask_of_another_size_is_named(preview: Invoke, dataset: Path, tmp_path: Path) -> None:
    """The message has the mask's path and both sizes."""
    shutil.copytree(dataset / "holdout", tmp_path / "seen")
    mask = next(iter(sorted((tmp_path / "seen" / "ground_truth").rglob("*.png"))))
    cv2.imwrite(str(mask), np.full((10, 12), 255, np.uint8))
    result = preview("--seen", tmp_path / "seen")
    assert result.exit_code == 2
    assert str(mask) in result.stderr
    assert "96 x 96 but its mask 10 x 12" in result.stderr


def test_kinds_may_be_spaced_and_repeated() -> None:
    """Order and repetition don't matter; without seen defects all means both others."""
    both = [KindName.HETEROLOGOUS, KindName.HOMOLOGOUS]
    assert chosen_kinds("homologous, heterologous,homologous", has_seen=False) == both
    assert chosen_kinds("", has_seen=False) == both
    assert chosen_kinds("", has_seen=True) == list(KindName)
