"""The parity gate: what is within bounds passes, everything else is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from inspectd.core.errors import ParityError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.pipeline import verified
from inspectd.pipeline.parity import Bounds, Pair, auroc, judge

FP16 = Bounds.of(1e-3, 2e-3)
FP32 = Bounds.of(1e-3, 0.0)
GOOD = Pair("good/0", False, 0.2, 0.2)
BAD = Pair("scratch/0", True, 0.8, 0.8)


def test_the_same_scores_pass() -> None:
    """Golden and hold-out pictures are counted, and the AUROC is over the latter."""
    parity = judge([GOOD, BAD, Pair("g", False, 0.1, 0.1, True)], 0.5, FP32)
    assert parity.passed
    assert (parity.n_golden, parity.n_holdout, parity.difference) == (1, 2, 0.0)
    assert parity.auroc == (1.0, 1.0)


def test_bounds_are_the_precisions() -> None:
    """fp16 0.002, int8 0.005; fp32 has the golden tolerance and no margin."""
    assert Bounds(0.002, 0.002, 0.002) == FP16
    assert Bounds.of(1e-3, 5e-3) == Bounds(0.005, 0.005, 0.005)
    assert Bounds(0.001, 0.0, 0.001) == FP32


@pytest.mark.parametrize("score", [0.2021, 0.1979, math.nan, math.inf])
def test_a_score_out_of_bounds_fails(score: float) -> None:
    """The picture is named; what is no number never passes."""
    parity = judge([GOOD, BAD, Pair("good/1", False, 0.2, score)], 0.5, FP16)
    assert not parity.passed
    assert parity.worst == "good/1"
    assert "good/1 scores" in parity.problems[0]


def test_a_score_within_bounds_passes() -> None:
    """The largest difference and its picture are told."""
    parity = judge([GOOD, BAD, Pair("good/1", False, 0.2, 0.2019)], 0.5, FP16)
    assert parity.passed
    assert parity.worst == "good/1"
    assert parity.difference == pytest.approx(0.0019)


def test_a_verdict_near_the_threshold_is_listed() -> None:
    """Rounding alone moves it: it passes, and people see it."""
    parity = judge([GOOD, BAD, Pair("good/1", False, 0.4995, 0.5003)], 0.5, FP16)
    assert parity.passed
    assert [pair.name for pair in parity.near] == ["good/1"]
    assert parity.changed == ()


def test_a_verdict_that_changes_otherwise_fails() -> None:
    """In fp32 there is no margin; elsewhere it ends with the rounding."""
    flipped = Pair("good/1", False, 0.4995, 0.5003)
    assert not judge([GOOD, BAD, flipped], 0.5, FP32).passed
    wide = Bounds(score=0.1, margin=0.002, auroc=0.1)
    parity = judge([GOOD, BAD, Pair("good/1", False, 0.49, 0.51)], 0.5, wide)
    assert [pair.name for pair in parity.changed] == ["good/1"]
    assert "1 verdict(s) changed, good/1 first" in parity.problems


def test_a_drop_of_the_auroc_fails() -> None:
    """Scores may be within bounds and yet be out of order."""
    pairs = [Pair(f"good/{i}", False, 0.1000, 0.1019) for i in range(5)]
    pairs += [Pair(f"bad/{i}", True, 0.1010, 0.1000) for i in range(5)]
    parity = judge(pairs, 0.9, FP16)
    assert parity.auroc == (1.0, 0.0)
    assert "the AUROC fell from 1.0000 to 0.0000" in parity.problems[0]


def test_a_better_auroc_is_no_fault() -> None:
    """Only a drop counts."""
    pairs = [Pair("good/0", False, 0.1010, 0.1000), Pair("bad/0", True, 0.1000, 0.1010)]
    assert judge(pairs, 0.9, FP16).passed


def test_nothing_compared_is_nothing_proved() -> None:
    """Without a picture the gate stays shut."""
    assert "nothing was compared" in judge([], 0.5, FP16).problems[0]


def test_auroc_counts_a_tie_half() -> None:
    """As everybody's does."""
    assert auroc([0.1, 0.2, 0.2, 0.3], [False, False, True, True]) == pytest.approx(0.875)


class Runtime:
    """Has a name; may have to prove itself."""

    rounding = 0.0

    def __init__(self, name: str, proof: str | None = None) -> None:
        self.name = name
        if proof is not None:
            self.proof_command = proof

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, image: ImageArray) -> AnomalyMap:
        raise NotImplementedError


def test_a_record_is_found_by_model_and_runtime(tmp_path: Path) -> None:
    """Another model or another runtime has none; a damaged one is none."""
    path = verified.write(tmp_path, "a" * 64, "openvino-1 bf16 CPU", judge([GOOD, BAD], 0.5, FP16))
    record = verified.read(tmp_path, "a" * 64, "openvino-1 bf16 CPU")
    assert record is not None
    assert record.passed
    assert (record.n_golden, record.n_holdout) == (0, 2)
    assert verified.read(tmp_path, "b" * 64, "openvino-1 bf16 CPU") is None
    assert verified.read(tmp_path, "a" * 64, "openvino-2 bf16 CPU") is None
    path.write_text("{")
    assert verified.read(tmp_path, "a" * 64, "openvino-1 bf16 CPU") is None


def test_a_record_of_no_number_is_json(tmp_path: Path) -> None:
    """NaN becomes null, and the record says failed."""
    parity = judge([GOOD, Pair("x", True, 0.8, math.nan)], 0.5, FP16)
    path = verified.write(tmp_path, "a" * 64, "r", parity)
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["passed"] is False
    assert content["difference"] is None


def test_who_may_decide(tmp_path: Path) -> None:
    """What failed is refused; what must be proven and wasn't is refused with the command."""
    model, plain, must = "a" * 64, Runtime("plain"), Runtime("gpu", "inspectd verify --now")
    verified.admit(tmp_path, model, plain)
    with pytest.raises(ParityError, match="inspectd verify --now"):
        verified.admit(tmp_path, model, must)
    verified.write(tmp_path, model, "gpu", judge([GOOD, BAD], 0.5, FP16))
    verified.admit(tmp_path, model, must)
    verified.write(tmp_path, model, "plain", judge([], 0.5, FP16))
    with pytest.raises(ParityError, match="nothing was compared"):
        verified.admit(tmp_path, model, plain)


def test_who_rounds_must_have_seen_a_hold_out_set(tmp_path: Path) -> None:
    """Golden pictures alone prove fp32, and nothing that rounds; and they take no proof away."""
    golden = judge([Pair("golden/00.png", False, 0.1, 0.1, True)], 0.5, FP16)
    model, exact, coarse = "a" * 64, Runtime("exact", "do"), Runtime("coarse", "inspectd verify")
    coarse.rounding = 2e-3
    for runtime in (exact, coarse):
        verified.write(tmp_path, model, runtime.name, golden)
    verified.admit(tmp_path, model, exact)
    with pytest.raises(ParityError, match="on a hold-out set; do it with: inspectd verify"):
        verified.admit(tmp_path, model, coarse)
    verified.write(tmp_path, model, "coarse", judge([GOOD, BAD], 0.5, FP16))
    verified.write(tmp_path, model, "coarse", golden)
    verified.admit(tmp_path, model, coarse)


def test_an_engines_record_is_found_without_its_model(tmp_path: Path) -> None:
    """Its name says which engine it is."""
    assert verified.find(tmp_path, "tensorrt fp16 (engine 1)") is None
    verified.write(tmp_path, "a" * 64, "tensorrt fp16 (engine 1)", judge([GOOD, BAD], 0.5, FP16))
    found = verified.find(tmp_path, "tensorrt fp16 (engine 1)")
    assert found is not None
    assert found.proves(2e-3)
    assert verified.find(tmp_path, "tensorrt fp16 (engine 2)") is None
