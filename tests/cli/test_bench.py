"""``inspectd bench``: what it measures, says and writes, and what it refuses before it starts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from typer.testing import Result

from calibration.synthetic import ProbeSize
from inspectd.bench import course
from inspectd.cli.bench_setup import contenders_for
from inspectd.core.bundle import Graph
from inspectd.core.errors import RuntimeUnavailableError
from inspectd.runtimes.nvidia import driver

Invoke = Callable[..., Result]
SHORT = (
    *("--seconds", "0.1", "--rounds", "2", "--rate", "100"),
    *("--gaps", "1", "--gap", "0.05", "--threads", "1"),
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, and small matrices to tell the machine's rate."""

    def missing() -> None:
        raise RuntimeUnavailableError("no NVIDIA driver (in this test)")

    monkeypatch.setattr(driver, "probe", missing)
    monkeypatch.setattr("calibration.synthetic.CPU_PROBE", ProbeSize(32, 32))


def test_a_product(invoke: Invoke, state: Path, tmp_path: Path) -> None:
    """The only one there is: tables beside torch, JSON, a plot, who can't run, and the rung."""
    figures, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    result = invoke(
        *("bench", *SHORT, "--json", figures, "--plot", plot, "--batch", 2),
        *("--runtime", "onnxruntime", "--runtime", "torch-cpu", "--runtime", "tensorrt-fp16"),
    )
    assert result.exit_code == 0, result.output
    assert "latency of one picture, ms" in result.stdout
    assert "no NVIDIA driver (in this test)" in result.stdout
    assert "rung 1 of 4" in result.stdout
    assert "a TensorRT engine gives the reference's scores" in result.stderr
    assert "measuring: done" in result.stderr
    assert cv2.imread(str(plot)) is not None
    content = json.loads(figures.read_text())
    assert content["complete"] is True
    assert content["absent"] == {"tensorrt-fp16": "no NVIDIA driver (in this test)"}
    assert content["model"]["title"].startswith("flange r0001-")
    assert [one["name"] for one in content["contenders"]] == ["onnxruntime", "torch-cpu"]
    batched = [one["batched_throughput"] for one in content["contenders"]]
    assert batched[0] > 0
    assert batched[1] is None, "torch takes one at a time"
    for one in content["contenders"]:
        assert one["back"]["count"] >= 6
        assert one["cadence"]["count"] == 2 * round(0.025 * 100)
        assert one["cadence"]["p999"] is None
        assert len(one["curves_ms"]["after_gap"]) == 1
        assert one["floor"]["ms"] > 0
        assert one["peak_mib"] >= one["memory_mib"] > one["own_memory_mib"] > 0
        assert one["parity"]["passed"] is True
        assert one["parity"]["n_golden"] > 0


def test_a_file(invoke: Invoke, state: Path, tmp_path: Path) -> None:
    """Any model like a product's, on pictures of noise: no verdicts, but scores to compare."""
    (model,) = (state / "products").rglob("model.onnx")
    figures = tmp_path / "bench.json"
    result = invoke(
        *("bench", "--model", model, "--runtime", "onnxruntime", *SHORT, "--json", figures)
    )
    assert result.exit_code == 0, result.output
    content = json.loads(figures.read_text())
    assert content["model"]["title"] == "model.onnx"
    assert content["contenders"][0]["parity"]["difference"] == 0.0
    assert "rung 0 of 4" in result.stdout


def test_a_synthetic_network(invoke: Invoke, tmp_path: Path) -> None:
    """In int8, too; beside torch on the paper's plain form, another function: not compared."""
    figures = tmp_path / "bench.json"
    result = invoke(
        *("bench", "--synthetic", "resnet18", "--input-size", 64, "--prototypes", 300, *SHORT),
        *("--runtime", "torch-cpu-published", "--runtime", "onnxruntime-int8", "--json", figures),
    )
    assert result.exit_code == 0, result.output
    assert "torch...-published: the paper's plain form, another function" in result.stderr
    assert "FAIL" not in result.stdout
    ours, theirs = json.loads(figures.read_text())["contenders"]
    assert ours["precision"] == "int8"
    assert ours["floor"]["ms"] > 0
    assert ours["parity"]["passed"] is True
    assert ours["gflop"] < theirs["gflop"]
    assert theirs["parity"] is None


@pytest.mark.parametrize(("head", "is_comparable"), [("projected", False), ("rewritten", True)])
def test_the_papers_form_is_compared_where_it_is_the_same(head: str, is_comparable: bool) -> None:
    """The rewritten head is its function."""
    graph, paper = Graph(Path("a.onnx"), (32, 32)), Graph(Path("b.onnx"), (32, 32))
    (found,) = contenders_for(graph, paper, head, ["torch-cpu-published"])
    assert (found.graph, found.is_comparable) == (paper, is_comparable)


def test_ctrl_c_shows_what_there_is(
    invoke: Invoke, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished turns are shown and written, marked as incomplete; exit status 130."""
    turn, turns = course._turn, []

    def interrupted(*arguments: object) -> None:
        turn(*arguments)  # type: ignore[arg-type]
        turns.append(arguments)
        if len(turns) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(course, "_turn", interrupted)
    figures = tmp_path / "bench.json"
    result = invoke(
        *("bench", *SHORT, "--rounds", 5, "--runtime", "onnxruntime", "--json", figures)
    )
    assert result.exit_code == 130, result.output
    assert "(incomplete)" in result.stdout
    assert "interrupted" in result.stderr
    content = json.loads(figures.read_text())
    assert content["complete"] is False
    assert content["contenders"][0]["back"]["count"] >= 6
    assert len(turns) == 2


def test_nobody_can_run(invoke: Invoke, state: Path) -> None:
    """Exit status 1, with the reason."""
    result = invoke("bench", *SHORT, "--runtime", "tensorrt")
    assert result.exit_code == 1
    assert "none of the runtimes can run here" in result.stderr
    assert "no NVIDIA driver (in this test)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which model? give --product"),
        (("--product", "flange"), "has no active revision"),
        (("--product", "a", "--synthetic", "resnet18"), "give one of --product, --model"),
        (("--synthetic", "alexnet"), "no network is called 'alexnet'; known: resnet18"),
        (("--synthetic", "resnet18", "--head", "best"), "no head is called 'best'"),
        (("--model", "absent.onnx"), "absent.onnx: no model that ONNX Runtime reads"),
        (("--json", "absent/bench.json"), "--json takes a file in an existing folder"),
        (("--plot", "absent/bench.png"), "--plot takes a file in an existing folder"),
        (("--plot", "bench.jpg"), "a plot's name ends in .png or .svg"),
    ],
)
def test_a_wrong_command_is_refused(invoke: Invoke, arguments: tuple[str, ...], said: str) -> None:
    """One line with the remedy, exit status 2, before anything is measured."""
    result = invoke("bench", *SHORT, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_an_unknown_runtime_is_refused(invoke: Invoke, state: Path) -> None:
    """With the names that are known, torch's among them."""
    result = invoke("bench", "--runtime", "onyx")
    assert result.exit_code == 2
    assert "torch-graph-fp16" in result.stderr


def test_a_file_that_is_no_model_of_ours(invoke: Invoke, tmp_path: Path) -> None:
    """Its inputs and outputs are compared with the contract."""
    from onnx import TensorProto, helper, save

    path = tmp_path / "other.onnx"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value], [other])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    result = invoke("bench", "--model", path)
    assert result.exit_code == 2
    assert "has x, y; a model has image, anomaly_map and score" in result.stderr
