"""The single graph and its ONNX file: what a runtime must be able to rely on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from scipy.ndimage import gaussian_filter

from calibration.backbones import load_backbone
from calibration.graph import OPSET, SIGMA, ScoringGraph, export_onnx, gaussian_window
from calibration.scorers.protoad import RewrittenHead
from inspectd.core.errors import ConfigError

SIZE = (64, 96)


@dataclass(frozen=True, slots=True)
class Exported:
    """The module and what was written of it."""

    module: ScoringGraph
    path: Path
    model: onnx.ModelProto


def _module(sigma: float = SIGMA, top_pixels: int = 1) -> ScoringGraph:
    backbone = load_backbone("filterbank")
    channels = backbone.network.channels
    prototypes = torch.rand((70, sum(channels)), generator=torch.manual_seed(0))
    head = RewrittenHead(torch.nn.functional.normalize(prototypes), channels, 32)
    return ScoringGraph(backbone, head, SIZE, sigma, top_pixels)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A small graph, exported once."""
    module, path = _module(), tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(module, path)
    return Exported(module, path, onnx.load(path))


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_input_is_the_cameras_bytes(exported: Exported) -> None:
    """One input, ``image``, uint8 (batch, H, W, 3)."""
    (image,) = exported.model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == TensorProto.UINT8
    assert _shape(image) == ["batch", *SIZE, 3]


def test_the_outputs_are_map_and_score(exported: Exported) -> None:
    """``anomaly_map`` float32 (batch, H, W) and ``score`` float32 (batch,)."""
    anomaly_map, score = exported.model.graph.output
    assert (anomaly_map.name, score.name) == ("anomaly_map", "score")
    assert _shape(score) == ["batch"]
    assert _shape(anomaly_map)[0] == "batch"
    for output in (anomaly_map, score):
        assert output.type.tensor_type.elem_type == TensorProto.FLOAT


def test_old_runtimes_can_read_it(exported: Exported) -> None:
    """Opset 17 and IR 8 at most, standard operators only, weights inside the file."""
    assert [(item.domain, item.version) for item in exported.model.opset_import] == [("", OPSET)]
    assert OPSET == 17
    assert exported.model.ir_version <= 8
    assert {node.domain for node in exported.model.graph.node} == {""}
    locations = {weights.data_location for weights in exported.model.graph.initializer}
    assert locations == {TensorProto.DEFAULT}
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]


def test_cast_comes_before_transpose(exported: Exported) -> None:
    """TensorRT takes uint8 only into a Cast: the picture is cast first and transposed after."""
    (first,) = [node for node in exported.model.graph.node if "image" in node.input]
    assert first.op_type == "Cast"
    (second,) = [node for node in exported.model.graph.node if first.output[0] in node.input]
    assert second.op_type == "Transpose"


def test_the_export_is_repeatable(exported: Exported, tmp_path: Path) -> None:
    """The same weights give the same bytes, so a revision's digest can be the model's."""
    export_onnx(_module(), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.path.read_bytes()


def test_a_batch_equals_its_pictures(exported: Exported) -> None:
    """Three pictures at once score as each does alone, in ONNX Runtime and in torch."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    maps, scores = session.run(None, {"image": pictures})
    with torch.inference_mode():
        torch_maps, torch_scores = exported.module(torch.from_numpy(pictures))
    assert maps.shape == (3, *SIZE)
    np.testing.assert_allclose(maps, torch_maps.numpy(), atol=1e-4)
    np.testing.assert_allclose(scores, torch_scores.numpy(), atol=1e-4)
    for index in range(3):
        values, score = session.run(None, {"image": pictures[index : index + 1]})
        np.testing.assert_allclose(values[0], maps[index], atol=1e-5)
        np.testing.assert_allclose(score[0], scores[index], atol=1e-5)


def test_the_score_is_the_maps_maximum(exported: Exported) -> None:
    """Equation 4, of the smoothed map."""
    picture = torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        values, scores = exported.module(picture)
    torch.testing.assert_close(scores, values.flatten(1).max(dim=1).values)


def test_the_window_is_scipys() -> None:
    """A point becomes scipy's Gaussian of sigma 4, cut at four sigma."""
    point = np.zeros(65)
    point[32] = 1
    expected = gaussian_filter(point, SIGMA, truncate=4)
    np.testing.assert_allclose(gaussian_window(SIGMA).numpy(), expected[16:49], atol=1e-7)
    assert float(gaussian_window(SIGMA).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("sigma", "top_pixels"), [(0.0, 1), (0.0, 100), (2.0, 7)])
def test_another_smoothing_and_score_are_exported_too(
    tmp_path: Path, sigma: float, top_pixels: int
) -> None:
    """Without smoothing, and with the mean of the highest pixels: numpy says the same."""
    module = _module(sigma, top_pixels)
    export_onnx(module, tmp_path / "model.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    maps, scores = session.run(None, {"image": picture})
    highest = np.sort(maps.reshape(2, -1), axis=1)[:, -top_pixels:]
    np.testing.assert_allclose(scores, highest.mean(axis=1), rtol=1e-6)
    if sigma == 0:
        with torch.inference_mode():
            rough = _module(0.0)(torch.from_numpy(picture))[0].numpy()
        smooth = [gaussian_filter(one, SIGMA, mode="mirror", truncate=4) for one in rough]
        with torch.inference_mode():
            expected = _module()(torch.from_numpy(picture))[0].numpy()
        np.testing.assert_allclose(smooth, expected, atol=1e-5)


@pytest.mark.parametrize("top_pixels", [0, 3841])
def test_a_mean_of_too_many_pixels_is_refused(top_pixels: int) -> None:
    """TensorRT sorts 3,840 at most."""
    with pytest.raises(ConfigError, match="top_pixels is 1 to 3840"):
        _module(top_pixels=top_pixels)


@pytest.mark.parametrize("size", [(64, 96), (32, 33)])
def test_smoothing_is_scipys_gaussian_filter(exported: Exported, size: tuple[int, int]) -> None:
    """Borders included: ``mode="mirror"`` reflects about the centre of the last pixel."""
    values = np.random.default_rng(0).random(size)
    smoothed = exported.module._smoothed(torch.tensor(values, dtype=torch.float32)[None, None])
    expected = gaussian_filter(values, SIGMA, mode="mirror", truncate=4)
    np.testing.assert_allclose(smoothed[0, 0].numpy(), expected, atol=1e-6)
