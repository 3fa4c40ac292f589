"""``inspectd calibrate``: from pictures to a revision, or to an explanation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import Result

from inspectd.cli import output
from inspectd.core.store import ProductStore

Invoke = Callable[..., Result]
KEYS = {
    "product", "revision", "path", "report", "threshold", "pixel_threshold", "basis", "f1",
    "review_below", "policy", "promise", "precision", "recall", "escapes", "overkill", "n_good",
    "n_defect", "image_auroc",
    "pixel_auroc", "pixel_ap", "aupro", "runtime", "remarks", "seconds", "simulated_threshold",
    "simulated_defects", "simulated_f1", "simulated_escapes", "simulated_overkill",
}  # fmt: skip
HANGS = """
import sys, time
import calibration.calibrate as module
def hang(*_):
    sys.stderr.write("READY\\n")
    sys.stderr.flush()
    time.sleep(60)
module.check_parity = hang
from inspectd.cli import main
main()
"""
"""Calibrates until the model is exported and scored, then hangs with a half-made revision."""


def contents(state: Path) -> list[str]:
    """All files of the product store."""
    return sorted(str(path) for path in (state / "products").rglob("*"))


def good_folder(folder: Path, source: Path, count: int) -> Path:
    """A plain folder with so many of the drawn good parts."""
    folder.mkdir()
    for path in sorted((source / "train" / "good").iterdir())[:count]:
        shutil.copy(path, folder)
    return folder


def test_real_defects(calibrated: tuple[Path, Result]) -> None:
    """With a hold-out folder the figures, the report and the next commands are shown."""
    state, result = calibrated
    store = ProductStore(state / "products")
    assert store.products() == ["flange"]
    for text in ("threshold", "F1", "escapes", "overkill", "AUROC", "rests on real defects"):
        assert text in result.stdout
    assert str(store.open("flange").path / "report.html") in result.stdout
    assert "by simulated defects" in result.stdout
    assert "inspectd evaluate --product flange" in result.stdout
    assert "inspectd run" in result.stdout


def test_json_says_what_was_made(calibrated: tuple[Path, Result]) -> None:
    """The JSON file has the figures of the revision that is active now."""
    state, _ = calibrated
    made = json.loads((state / "made.json").read_text())
    bundle = ProductStore(state / "products").open("flange")
    assert made.keys() == KEYS
    assert made["revision"] == bundle.manifest.revision
    assert made["threshold"] == bundle.threshold.image
    assert made["basis"] == "real"
    assert (made["n_good"], made["n_defect"]) == (4, 4)
    assert Path(made["report"]).is_file()
    assert not [path for path in state.iterdir() if path.name.startswith(".")]


def test_progress_goes_to_stderr(calibrated: tuple[Path, Result]) -> None:
    """Stages are told on stderr, one plain line each where there is no terminal."""
    _, result = calibrated
    for stage in ("extracting features", "exporting", "scoring the hold-out set"):
        assert f"{stage}: done in" in result.stderr
        assert stage not in result.stdout


def test_builtin_is_called_a_stop_gap(calibrated: tuple[Path, Result]) -> None:
    """Who uses the built-in backbone reads what it is and what is better."""
    _, result = calibrated
    assert "not a trained network" in result.stderr
    assert "--backbone resnet18" in result.stderr


def test_simulated_defects_reproducible_by_seed(
    calibrate: Invoke, tmp_path: Path, dataset: Path
) -> None:
    """Without a hold-out folder defects are simulated, said so, and the same for the same seed."""
    first = calibrate("--seed", 3, "--json", tmp_path / "a.json", product="first")
    second = calibrate("--seed", 3, "--json", tmp_path / "b.json", product="second")
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a["basis"] == "simulated"
    assert "rests on simulated defects" in first.stdout
    assert a["revision"].split("-")[1] == b["revision"].split("-")[1]


def test_test_folder_is_never_read(calibrate: Invoke, dataset: Path, tmp_path: Path) -> None:
    """A folder called test with unreadable pictures in it doesn't matter to calibrate."""
    images = tmp_path / "images"
    good_folder(images, dataset, 0)
    good_folder(images / "train", dataset, 0)
    good_folder(images / "train" / "good", dataset, 12)
    (images / "test" / "good").mkdir(parents=True)
    (images / "test" / "good" / "000.png").write_bytes(b"not a picture")
    result = calibrate(images=images)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["extracting features", "scoring the hold-out set"])
def test_interrupting_changes_nothing(
    calibrate: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
    stage: str,
) -> None:
    """Ctrl-C or SIGTERM at any stage says so, exits 130 or 143 and leaves no half-made product."""
    told = output._Lines.__call__

    def tell(self: output._Lines, name: str, done: int, total: int) -> None:
        told(self, name, done, total)
        if name == stage and done:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(output._Lines, "__call__", tell)
    before = signal.getsignal(number)
    result = calibrate("--json", tmp_path / "made.json")
    assert result.exit_code == 128 + number
    assert "interrupted; nothing was changed" in result.stderr
    assert contents(tmp_path / "state") == []
    assert not (tmp_path / "made.json").exists()
    assert signal.getsignal(number) is before


def test_signal_to_the_program(dataset: Path, tmp_path: Path) -> None:
    """The program, stopped while a half-made revision lies on disk, removes it and says so."""
    arguments = ["calibrate", "--product", "flange", "--images", str(dataset)]
    small = ["--input-size", "96", "--threads", "1", "--state-dir", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, *arguments, *small], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("READY" in line for line in process.stderr)
        assert any(".making-" in name for name in contents(tmp_path))
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted; nothing was changed" in rest
    assert "Traceback" not in rest
    assert contents(tmp_path) == []


def empty(folder: Path, dataset: Path) -> Path:
    """A folder without pictures."""
    return good_folder(folder, dataset, 0)


def missing(folder: Path, dataset: Path) -> Path:
    """No folder at all."""
    return folder


def one_picture(folder: Path, dataset: Path) -> Path:
    """A folder with a single picture."""
    return good_folder(folder, dataset, 1)


def identical(folder: Path, dataset: Path) -> Path:
    """A folder with eight copies of one picture."""
    good_folder(folder, dataset, 1)
    for number in range(7):
        shutil.copy(folder / "000.png", folder / f"copy{number}.png")
    return folder


def corrupt(folder: Path, dataset: Path) -> Path:
    """A folder with a text file that is called a picture."""
    good_folder(folder, dataset, 8)
    (folder / "003.png").write_bytes(b"not a picture")
    return folder


def truncated(folder: Path, dataset: Path) -> Path:
    """A folder with a picture whose second half is missing."""
    good_folder(folder, dataset, 8)
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (empty, "no pictures"),
        (missing, "no such folder"),
        (one_picture, "at least 4"),
        (identical, "identical"),
        (corrupt, "003.png"),
        (truncated, "003.png"),
    ],
)
def test_bad_pictures(
    calibrate: Invoke,
    dataset: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], Path],
    expected: str,
) -> None:
    """Pictures that can't serve are refused in one line that says why, and nothing is made."""
    result = calibrate(images=make(tmp_path / "images", dataset))
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert expected in result.stderr
    assert contents(tmp_path / "state") == []


def test_grey_16_bit_and_transparent_pictures(
    calibrate: Invoke, dataset: Path, tmp_path: Path
) -> None:
    """Grey, 16-bit and RGBA pictures among the others are read like any."""
    folder = good_folder(tmp_path / "images", dataset, 12)
    colour: Any = cv2.imread(str(folder / "000.png"))
    grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(folder / "000.png"), grey)
    cv2.imwrite(str(folder / "001.png"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "002.png"), cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA))
    result = calibrate(images=folder)
    assert result.exit_code == 0, result.output


def test_holdout_without_defects(calibrate: Invoke, dataset: Path, tmp_path: Path) -> None:
    """A hold-out folder with good parts only is refused: no threshold can be found on it."""
    shutil.copytree(dataset / "holdout" / "good", tmp_path / "holdout" / "good")
    result = calibrate("--holdout", tmp_path / "holdout")
    assert result.exit_code == 2
    assert "no defective picture" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--backbone", "resnet1800"), "known: builtin"),
        (("--backbone", "absent.safetensors"), "absent.safetensors: no such file"),
        (("--scorer", "magic"), "known: protoad"),
        (("--scorer", "mpfnet", "--coverage", "9"), "mpfnet has no coverage; it has fusion"),
        (("--noise", "0.1"), "protoad has no noise"),
        (("--resume",), "protoad is not trained"),
        (("--resume", "--scorer", "mpfnet"), "no interrupted training is kept there"),
        (("--budget", "0"), "--budget"),
        (("--device", "tpu"), "--device"),
        (("--crop", "128"), "larger than --input-size 96"),
        (("--json", "absent/made.json"), "existing folder"),
        (("--partition", "99"), "partitions"),
        (("--head", "other"), "--head"),
        (("--input-size", "8"), "--input-size"),
        (("--runtime", "tensor"), "--runtime"),
    ],
)
def test_bad_options(
    calibrate: Invoke, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    """An option that can't be meant is refused with what would do, and nothing is made."""
    result = calibrate(*arguments)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert contents(tmp_path / "state") == []


def test_an_interrupted_training_is_resumed(
    calibrate: Invoke, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle says how to go on; then it does, to the very model of one run."""
    import calibration.training as training
    from calibration.scorers.mpfnet import _Course as Course

    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0)
    monkeypatch.setattr(training, "WRITING_SHARE", 1e9)
    losses = Course.losses

    def interrupted(course: Course, step: int, rng: np.random.Generator) -> Any:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return losses(course, step, rng)

    options = ("--scorer", "mpfnet", "--epochs", "1", "--batch", "64", "--holdout")
    command = (*options, dataset / "holdout", "--device", "cpu", "--threads", "1")
    whole = calibrate(*command, product="whole")
    with monkeypatch.context() as patch:
        patch.setattr(Course, "losses", interrupted)
        stopped = calibrate(*command)
    assert stopped.exit_code == 130
    assert "the same command with --resume goes on" in stopped.stderr
    store = ProductStore(tmp_path / "state" / "products")
    assert store.products() == ["whole"]
    changed = calibrate(*command, "--noise", "0.2", "--resume")
    assert "another request" in changed.stderr
    resumed = calibrate(*command, "--resume")
    assert whole.exit_code == resumed.exit_code == 0, whole.output + resumed.output
    models = [store.open(name).manifest.files["model.onnx"] for name in ("whole", "flange")]
    assert models[0] == models[1]
    assert not (tmp_path / "state" / "training" / "flange").exists()


def test_bad_product_name(calibrate: Invoke) -> None:
    """A product's name that could leave the store is refused before anything is done."""
    result = calibrate(product="../elsewhere")
    assert result.exit_code == 2
    assert "is not a product's name" in result.stderr


def test_store_that_cannot_be_written(calibrate: Invoke, tmp_path: Path) -> None:
    """A state directory that can't be written is told at once, not after the work."""
    (tmp_path / "state").write_text("a file where a folder should be")
    result = calibrate()
    assert result.exit_code == 2
    assert "--state-dir" in result.stderr
    assert "extracting" not in result.stderr


def test_weights_that_cannot_be_fetched(
    calibrate: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a network a backbone's name ends in how to bring the file by hand."""
    monkeypatch.setattr("calibration.backbones.ADDRESS", "http://127.0.0.1:9/")
    result = calibrate("--backbone", "resnet18")
    assert result.exit_code == 2
    assert "Bring the file by hand" in result.stderr
    assert "stop-gap" not in result.stderr
    assert contents(tmp_path / "state") == []


def test_missing_packages(calibrate: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the calibration extra isn't installed the answer is the command that installs it."""
    monkeypatch.setitem(sys.modules, "calibration.calibrate", None)
    result = calibrate()
    assert result.exit_code == 1
    assert "pip install 'inspectd[calibration]'" in result.stderr


def test_debug_shows_where(invoke: Invoke, tmp_path: Path) -> None:
    """A traceback is printed only with --debug or INSPECTD_DEBUG, and the status is the same."""
    arguments = ("calibrate", "--product", "flange", "--images", tmp_path / "absent")
    plain = invoke(*arguments)
    debug = invoke("--debug", *arguments)
    by_environment = invoke(*arguments, env={"INSPECTD_DEBUG": "1"})
    assert plain.exit_code == debug.exit_code == by_environment.exit_code == 2
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert "Traceback" in by_environment.stderr


def test_precisions_lie_in_the_bundle_and_are_proven_here(calibrated: tuple[Path, Result]) -> None:
    """Each file is hashed; the manifest has what was compared."""
    state, _ = calibrated
    bundle = ProductStore(state / "products").open("flange")
    for part in bundle.manifest.precisions.values():
        assert part.file in bundle.manifest.files
        assert part.n_compared > 0
    assert "fp16" in bundle.manifest.precisions


def test_a_latency_budget_takes_what_keeps_to_it(
    calibrate: Invoke, dataset: Path, tmp_path: Path
) -> None:
    """A generous one takes the scorer as it is and says on which runtime."""
    options = ("--holdout", dataset / "holdout", "--latency-budget", 60_000, "--precisions", "fp32")
    result = calibrate(*options, product="budget")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "Latency budget 60000 ms: protoad rewritten takes" in said
    assert "set runtime to it" in said


def test_a_latency_budget_that_nothing_keeps_to(
    calibrate: Invoke, dataset: Path, tmp_path: Path
) -> None:
    """What was measured is listed, the fastest first, and nothing is left behind."""
    options = ("--holdout", dataset / "holdout", "--latency-budget", 0.1)
    result = calibrate(*options, product="hopeless")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "nothing takes 0.1 ms here" in said
    assert "protoad compact" in said
    assert "Raise --latency-budget" in said


def test_a_precision_that_does_not_exist(calibrate: Invoke) -> None:
    """The three there are are named."""
    result = calibrate("--precisions", "int4", product="odd")
    assert result.exit_code == 2
    assert "int4 is none of fp32, fp16, int8" in " ".join(result.stderr.split())
