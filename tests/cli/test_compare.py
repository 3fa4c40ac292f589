"""``inspectd compare``: contenders side by side, on a small drawn product."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from calibration.comparison import contest
from inspectd.cli import compare as command
from inspectd.cli import output
from inspectd.core.store import ProductStore
from inspectd.demo.product import render_dataset

Invoke = Callable[..., Result]
SAME = ("f1", "best_f1", "image_auroc", "escapes", "overkill", "threshold", "pixel_auroc")
SAME = (*SAME, "pixel_ap", "aupro", "n_good", "n_defect", "runtime", "revision")
SMALL = ("--input-size", 96, "--threads", 1, "--runtime", "onnxruntime")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 good parts to learn from; holdout/ has 4 good ones and two of each kind of defect."""
    folder = tmp_path_factory.mktemp("product")
    render_dataset(folder, seed=1, n_train=8, n_good=4, n_per_defect=2, size=(96, 96))
    return folder


@pytest.fixture
def compare(invoke: Invoke, product: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs compare on the product in a folder of the test's own."""
    folder = Path(os.environ["INSPECTD_STATE_DIR"]).parent / "here"
    folder.mkdir()
    (folder / "tmp").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    monkeypatch.setattr(contest, "ROUNDS", 10)

    def run(*arguments: object, labelled: Path | None = product / "holdout") -> Result:
        given = ("--product", "flange", "--images", product)
        pictures = () if labelled is None else ("--labelled", labelled)
        return invoke("compare", *given, *pictures, *SMALL, *arguments)

    return run


def left(folder: Path) -> list[str]:
    """Everything in a folder, but for what torch leaves among the temporary files."""
    return sorted(str(path) for path in folder.rglob("*") if "torchinductor" not in str(path))


def figures(path: Path) -> dict[str, Any]:
    """A JSON file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_side_by_side(compare: Invoke, invoke: Invoke, product: Path, state: Path) -> None:
    """The page, the table and the JSON hold every contender; kept ones are as evaluate says."""
    store = ProductStore(state / "products")
    active, before = store.current("flange"), store.revisions("flange")
    asked = ("--scorers", "protoad,mpfnet", "--budget", 0.02, "--keep", "--json", "a.json")
    result = compare(*asked)
    assert result.exit_code == 0, result.output
    assert store.current("flange") == active
    found = figures(Path("a.json"))
    assert [one["name"] for one in found["contenders"]] == ["protoad", "mpfnet"]
    assert found["failed"] == []
    kept = [one["revision"] for one in found["contenders"]]
    assert store.revisions("flange") == [*before, *kept]
    page = Path("compare-flange.html").read_text()
    for one in found["contenders"]:
        assert one["name"] in result.stdout
        assert f"{one['image_auroc']:.3f}" in result.stdout
        assert f"{one['image_auroc']:.3f}" in page
        assert one["facts"]
    assert "mpfnet: extracting features" in result.stderr
    assert "inspectd product activate flange r00" in result.stdout
    assert not list(Path("tmp").glob("inspectd-*"))
    _judge_again(invoke, product, found)


def _judge_again(invoke: Invoke, product: Path, found: dict[str, Any]) -> None:
    """Evaluates each kept revision on a copy of the judged half."""
    for one in found["judged"]:
        source, target = product / "holdout" / one["name"], Path("judged") / one["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copytree(product / "holdout" / "ground_truth", "judged/ground_truth")
    for one in found["contenders"]:
        asked = ("--images", "judged", "--revision", one["revision"], "--json", "b.json")
        again = invoke("evaluate", "--product", "flange", *asked, *SMALL[2:])
        assert again.exit_code == 0, again.output
        judged = figures(Path("b.json"))
        assert {key: one[key] for key in SAME} == {key: judged[key] for key in SAME}


def test_backbones(compare: Invoke, product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several are compared under one scorer; one that fails is told, the other goes on."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from calibration.backbones.resnet import SHAPES, ResNet

    weights = ResNet(SHAPES["resnet18"]).state_dict()
    save_file({key: value * 1e30 for key, value in weights.items()}, "own.safetensors")
    threads = torch.get_num_threads()
    result = compare("--backbones", "builtin,own.safetensors", "--json", "a.json")
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    found = figures(Path("a.json"))
    assert [one["name"] for one in found["contenders"]] == ["builtin"]
    assert [one["name"] for one in found["failed"]] == ["resnet18"]
    assert "resnet18 failed: " in result.stderr
    assert "resnet18 could not be compared" in Path("compare-flange.html").read_text()
    assert found["contenders"][0]["revision"] is None
    assert "inspectd calibrate --product flange" in result.stdout
    assert "--holdout" in result.stdout


def test_test_folder_is_spent(compare: Invoke, product: Path, tmp_path: Path) -> None:
    """Without --labelled test/ is split, and the page says what that means."""
    images = tmp_path / "images"
    shutil.copytree(product / "train", images / "train")
    shutil.copytree(product / "holdout", images / "test")
    result = compare(
        "--images", images, "--scorers", "protoad,mpfnet", "--budget", 0.02, labelled=None
    )
    assert result.exit_code == 0, result.output
    assert "they are spent" in result.stderr
    assert "they are spent" in Path("compare-flange.html").read_text()
    assert "--keep" in result.stdout


@pytest.mark.parametrize("stage", ["protoad: exporting", "mpfnet: extracting features"])
def test_interrupting_leaves_nothing(
    compare: Invoke, state: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Ctrl-C while a contender is made leaves no page, no revision and no scratch folder."""
    told = output._Lines.__call__

    def tell(self: output._Lines, name: str, done: int, total: int) -> None:
        told(self, name, done, total)
        if name == stage and done:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(output._Lines, "__call__", tell)
    before = left(state), left(Path.cwd())
    result = compare("--scorers", "protoad,mpfnet", "--keep", "--json", "a.json")
    assert result.exit_code == 130
    assert "interrupted; nothing was changed" in result.stderr
    assert (left(state), left(Path.cwd())) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scorers", "protoad"), "fewer than two"),
        (("--scorers", "protoad,protoad"), "compared with itself"),
        (("--scorers", "protoad,patchcore"), "no scorer is called 'patchcore'"),
        (("--backbones", "builtin,nothing"), "no backbone is called 'nothing'"),
        (("--backbones", "builtin,resnet18", "--budget", 1), "none of these scorers is trained"),
        (("--crop", 128), "larger than --input-size"),
        (("--report", "nowhere/page.html"), "--report takes a file in an existing folder"),
    ],
)
def test_what_cannot_be_meant(compare: Invoke, arguments: tuple[object, ...], said: str) -> None:
    """A command that makes no comparison is refused at once, with what to do."""
    result = compare(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert left(Path.cwd()) == [str(Path.cwd() / "tmp")]


def test_labelled_pictures_are_needed(compare: Invoke, dataset: Path) -> None:
    """No labelled folder, or one that can't be halved, is refused with the remedy."""
    none = compare(labelled=None)
    assert none.exit_code == 2
    assert "--labelled" in none.stderr
    few = compare(labelled=dataset / "holdout")
    assert few.exit_code == 2
    assert "2 pictures of some kind of defect" in few.stderr


def test_completes_scorers() -> None:
    """Tab adds to a list what isn't in it yet."""
    assert command.complete_scorers("") == ["protoad", "prn", "mpfnet"]
    assert command.complete_scorers("prn,p") == ["prn,protoad"]
