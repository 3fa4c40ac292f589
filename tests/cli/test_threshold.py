"""``inspectd threshold`` and the policy's options of ``inspectd calibrate``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from typer.testing import Result

from calibration.policies import OPTIONS, POLICIES
from inspectd.cli.policy import PolicyName
from inspectd.core.bundle import (
    HOLDOUT,
    MODEL,
    REPORT,
    Bundle,
    open_bundle,
    sha256_of,
    write_manifest,
)
from inspectd.core.holdout import HoldoutPicture, HoldoutScores, read_holdout, write_holdout
from inspectd.core.store import ProductStore
from inspectd.pipeline.inspector import Inspector
from inspectd.runtimes import open_runtime

Invoke = Callable[..., Result]
ESCAPES = ("--policy", "max-escapes", "--max-escape-rate", 0.05)
BAND = ("--review-band", "--max-overkill-rate", 0.05)


def _rewritten(bundle: Bundle, **update: object) -> Bundle:
    """The bundle with the hold-out scores that lie there now, properly sealed."""
    files = {**bundle.manifest.files, HOLDOUT: sha256_of(bundle.path / HOLDOUT)}
    manifest = bundle.manifest.model_copy(update={"files": files, **update})
    write_manifest(bundle.path, manifest)
    return open_bundle(bundle.path)


@pytest.fixture
def rich(state: Path) -> ProductStore:
    """The drawn product with 100 made-up good and 100 defective hold-out scores, overlapping."""
    store, rng = ProductStore(state / "products"), np.random.default_rng(0)
    bundle = store.open("flange")
    centre = bundle.threshold.image
    rows = [("good", float(score)) for score in rng.normal(centre - 0.1, 0.05, 100)]
    rows += [("dent", float(score)) for score in rng.normal(centre + 0.1, 0.05, 100)]
    pictures = tuple(
        HoldoutPicture(name=f"{label}/{at}", label=label, score=score, peak=score)
        for at, (label, score) in enumerate(rows)
    )
    write_holdout(bundle.path, HoldoutScores(pictures=pictures, pixel_f1=bundle.threshold.pixel))
    _rewritten(bundle)
    return store


def run(invoke: Invoke, *arguments: object) -> Result:
    """The command on the drawn product."""
    return invoke("threshold", "--product", "flange", *arguments)


def test_the_options_are_those_of_the_policies() -> None:
    """Every policy is on the command line, and every limit has an option."""
    from inspectd.cli import policy

    assert [name.value for name in PolicyName] == list(POLICIES)
    text = Path(policy.__file__).read_text()
    assert all(f'"{name}": {name},' in text for name in OPTIONS)


def test_a_new_threshold_is_a_new_revision_of_the_same_model(
    invoke: Invoke, rich: ProductStore
) -> None:
    """Model and golden pictures are shared, threshold and report are new, the parent is named."""
    parent = rich.open("flange")
    before = {path: path.read_bytes() for path in parent.path.rglob("*") if path.is_file()}
    result = run(invoke, *ESCAPES)
    assert result.exit_code == 0, result.output
    made = rich.open("flange")
    assert made.manifest.revision.startswith("r0002-")
    assert made.manifest.parent == parent.manifest.revision
    assert made.manifest.files[MODEL] == parent.manifest.files[MODEL]
    assert (made.path / MODEL).stat().st_ino == (parent.path / MODEL).stat().st_ino
    assert made.manifest.golden == parent.manifest.golden
    of_policy = {name for name in parent.manifest.metrics if name.startswith("simulated_")}
    assert made.manifest.metrics.keys() == parent.manifest.metrics.keys() - of_policy
    assert of_policy
    assert made.threshold.policy == "max-escapes"
    assert made.threshold.image < parent.threshold.image
    assert made.manifest.policy is not None
    assert made.manifest.policy.limits == {"max_escape_rate": 0.05}
    report = (made.path / REPORT).read_text()
    assert f"{parent.manifest.revision} with another threshold" in report
    assert "at most 5 % of defective parts pass" in report
    assert before == {path: path.read_bytes() for path in before}
    assert rich.previous("flange") == parent.manifest.revision
    for text in ("SIGHUP", "inspectd command activate flange", "inspectd product rollback flange"):
        assert text in result.stderr
    for text in ("old: r0001-", "new: r0002-", "max escape rate 0.05", "at 95 %"):
        assert text in result.stdout


def test_the_new_revision_decides(invoke: Invoke, state: Path) -> None:
    """Its golden pictures reproduce on a runtime, by the new threshold too."""
    result = run(invoke, "--policy", "cost", "--cost-ratio", 50, "--prevalence", 0.02)
    assert result.exit_code == 0, result.output
    bundle = ProductStore(state / "products").open("flange")
    with open_runtime(bundle.graph, "onnxruntime", threads=1) as runtime:
        assert Inspector(bundle, runtime).verify() < 1e-4


def test_the_same_policy_again_makes_nothing(invoke: Invoke, state: Path) -> None:
    """From the stored scores comes the very threshold that calibrate found, so no revision."""
    result = run(invoke)
    assert result.exit_code == 0, result.output
    assert "has this threshold already" in result.stderr
    assert len(ProductStore(state / "products").revisions("flange")) == 1


def test_dry_run_makes_nothing(invoke: Invoke, rich: ProductStore) -> None:
    """Old and new are shown side by side, with their intervals, and the store stays as it is."""
    result = run(invoke, *ESCAPES, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "new: not made" in result.stdout
    assert result.stdout.count("at 95 %)") == 4
    assert "nothing was made" in result.stderr
    assert len(rich.revisions("flange")) == 1


def test_no_activate_leaves_the_active_one(invoke: Invoke, rich: ProductStore) -> None:
    """The revision is there, and how it is activated is said."""
    first = rich.current("flange")
    result = run(invoke, *ESCAPES, "--no-activate")
    assert result.exit_code == 0, result.output
    assert rich.current("flange") == first
    assert f"inspectd product activate flange {rich.revisions('flange')[1]}" in result.stderr


def test_json(invoke: Invoke, rich: ProductStore) -> None:
    """One JSON object: both thresholds, the policy with its promise, what was made."""
    first = rich.current("flange")
    result = run(invoke, *ESCAPES, *BAND, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["parent"], said["revision"]) == (first, rich.current("flange"))
    assert said["active"] is True
    assert said["old"]["policy"] == "f1"
    assert said["new"] == json.loads(json.dumps(said["new"]))
    assert said["new"]["review_below"] is None or said["new"]["review_below"] > said["new"]["image"]
    assert "with 95 % confidence" in said["policy"]["promise"]


def test_a_review_band_is_stored(invoke: Invoke, rich: ProductStore) -> None:
    """Where classes overlap, the second threshold is in the manifest and on the page."""
    bundle = rich.open("flange")
    scores = read_holdout(bundle)
    shifted = tuple(
        picture.model_copy(update={"score": picture.score - 0.1 * (picture.label != "good")})
        for picture in scores.pictures
    )
    write_holdout(bundle.path, scores.model_copy(update={"pictures": shifted}))
    _rewritten(bundle)
    result = run(invoke, *ESCAPES, *BAND)
    assert result.exit_code == 0, result.output
    made = rich.open("flange")
    assert made.threshold.review_below is not None
    assert made.threshold.review_good > 0 < made.threshold.review_defect
    assert "a person decides" in (made.path / REPORT).read_text()
    assert "Review band: from" in result.stdout
    shown = invoke("product", "show", "flange").stdout
    assert "max-escapes, max escape rate 0.05, max overkill rate 0.05, review band" in shown
    assert f"{made.threshold.image:.6g} to below {made.threshold.review_below:.6g}" in shown
    assert str(made.manifest.parent) in shown


def test_rethresholding_twice_keeps_to_the_same_scores(invoke: Invoke, rich: ProductStore) -> None:
    """From a rethresholded revision one gets the same as from its parent."""
    first = rich.current("flange")
    assert run(invoke, *ESCAPES).exit_code == 0
    sigma = ("--policy", "sigma", "--false-alarm-rate", 0.02, "--json", "--no-activate")
    one = json.loads(run(invoke, *sigma).stdout)
    other = json.loads(run(invoke, *sigma, "--revision", first).stdout)
    assert one["new"] == other["new"]
    assert one["parent"] != other["parent"]


def test_a_revision_of_version_1_serves_too(invoke: Invoke, state: Path) -> None:
    """Its plain list of scores is enough for an image threshold; the pixel threshold stays."""
    store = ProductStore(state / "products")
    bundle = store.open("flange")
    rows = [
        {"name": p.name, "label": p.label, "score": p.score} for p in read_holdout(bundle).pictures
    ]
    (bundle.path / HOLDOUT).write_text(json.dumps(rows))
    _rewritten(bundle, schema_version=1, policy=None)
    result = run(invoke, "--policy", "cost", "--cost-ratio", 50, "--prevalence", 0.02)
    assert result.exit_code == 0, result.output
    made = store.open("flange")
    assert made.manifest.schema_version == 3
    assert made.threshold.pixel == bundle.threshold.pixel
    assert len(read_holdout(made).pictures) == len(rows)


def test_a_revision_without_scores_is_refused_with_the_remedy(invoke: Invoke, state: Path) -> None:
    """What was never stored can't be used: calibrate anew."""
    bundle = ProductStore(state / "products").open("flange")
    (bundle.path / HOLDOUT).write_text("[]")
    _rewritten(bundle)
    result = run(invoke)
    assert result.exit_code == 1
    assert "holds no score; calibrate the product anew" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--policy", "max-escapes"), "needs --max-escape-rate"),
        (("--policy", "f2"), "--policy"),
        (("--policy", "cost", "--cost-ratio", 5), "needs --prevalence"),
        (("--max-escape-rate", 0.1), "not for --policy f1"),
        (("--policy", "max-escapes", "--max-escape-rate", 5), "between 0 and 1"),
        (("--policy", "max-escapes", "--max-escape-rate", "nan"), "between 0 and 1"),
        (("--policy", "cost", "--cost-ratio", "inf", "--prevalence", 0.1), "--cost-ratio"),
        (ESCAPES, "4 defects in the hold-out set can't prove"),
        (("--policy", "sigma", "--false-alarm-rate", 0.01), "at least 30 good parts"),
        (("--revision", "r0009-00000000"), "has no revision"),
    ],
)
def test_what_can_not_be_done_is_refused(
    invoke: Invoke, state: Path, arguments: tuple[object, ...], expected: str
) -> None:
    """A wrong option or too small a hold-out set ends with status 2 and makes nothing."""
    result = run(invoke, *arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert len(ProductStore(state / "products").revisions("flange")) == 1


def test_calibrate_takes_the_policy(calibrate: Invoke, dataset: Path, tmp_path: Path) -> None:
    """The same options choose the first threshold; JSON and manifest carry the word."""
    arguments = ("--policy", "cost", "--cost-ratio", 50, "--prevalence", 0.02)
    made_file = tmp_path / "made.json"
    result = calibrate(*arguments, "--holdout", dataset / "holdout", "--json", made_file)
    assert result.exit_code == 0, result.output
    made = json.loads(made_file.read_text())
    assert made["policy"] == "cost"
    assert "if an escape costs 50 times an overkill" in made["promise"]
    assert "Expected cost" in result.stdout


def test_calibrate_refuses_an_unsupported_policy_before_it_learns(
    calibrate: Invoke, dataset: Path
) -> None:
    """What four defects can't prove is told at once."""
    result = calibrate(*ESCAPES, "--holdout", dataset / "holdout")
    assert result.exit_code == 2
    assert "Add 55" in result.stderr
    assert "extracting features" not in result.stderr


def test_it_takes_about_a_second_and_no_torch(state: Path, rich: ProductStore) -> None:
    """The whole program, from start to activated revision, without importing torch."""
    code = (
        "import sys; from inspectd.cli import app\n"
        "try: app(sys.argv[1:], prog_name='inspectd')\n"
        "finally: assert not {'torch', 'onnxruntime', 'scipy'} & set(sys.modules)"
    )
    arguments = ["threshold", "--product", "flange", *map(str, ESCAPES), "--state-dir", str(state)]
    started = monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert monotonic() - started < 10.0  # about 1 s on an idle machine
    assert len(rich.revisions("flange")) == 2
