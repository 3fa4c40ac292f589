"""The single graph: from a uint8 picture to anomaly map and image score, and its export to ONNX.

Everything that belongs to the model is inside (cast, normalisation, backbone, head, upsampling,
smoothing, image score), so that a runtime can only run it, not reinterpret it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn import functional

from calibration.backbones import Backbone
from calibration.lint import OPSET as OPSET
from calibration.lint import require_portable
from inspectd.core.bundle import ModelPart
from inspectd.core.errors import ConfigError

SIGMA = 4.0
"""ProtoAD, section 4.2: pixels of the model's input."""
TOP_MOST = 3840
"""Values that TensorRT's TopK takes at most."""


class ScoringGraph(nn.Module):
    """Backbone and head between a camera's bytes and a score."""

    scale: torch.Tensor
    shift: torch.Tensor
    window: torch.Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        size: tuple[int, int],
        sigma: float = SIGMA,
        top_pixels: int = 1,
    ) -> None:
        """Takes the (H, W) of the input; `head` maps the stages to (B, 1, h, w) patch scores.

        `sigma` and `top_pixels` as `Fitted` has them.
        """
        super().__init__()
        if not 1 <= top_pixels <= min(TOP_MOST, size[0] * size[1]):
            raise ConfigError(f"top_pixels is 1 to {TOP_MOST} and no more than there are pixels")
        self.network = backbone.network
        self.head = head
        self.size = size
        mean = torch.tensor(backbone.network.mean)[None, :, None, None]
        std = torch.tensor(backbone.network.std)[None, :, None, None]
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.top_pixels = top_pixels
        self.register_buffer("window", gaussian_window(sigma))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, H, W, 3) uint8 RGB to the map (B, H, W) and the image scores (B,)."""
        x = image.to(torch.float32).permute(0, 3, 1, 2)  # Cast first: TensorRT rejects the other
        patches = self.head(self.network(x * self.scale + self.shift))  # (B, 1, h, w)
        full = functional.interpolate(patches, size=self.size, mode="bilinear", align_corners=False)
        smooth = self._smoothed(full)[:, 0]  # (B, H, W)
        return smooth, self._highest(smooth)

    def _highest(self, smooth: torch.Tensor) -> torch.Tensor:
        """(B, H, W) to the image scores, (B,)."""
        if self.top_pixels == 1:
            return smooth.amax(dim=(1, 2))
        return smooth.flatten(1).topk(self.top_pixels, dim=1).values.mean(dim=1)

    def _smoothed(self, x: torch.Tensor) -> torch.Tensor:
        """Separable Gaussian, (B, 1, H, W) to the same, borders reflected."""
        reach = self.window.shape[-1] // 2
        if not reach:
            return x
        x = functional.pad(x, (reach, reach, reach, reach), mode="reflect")
        x = functional.conv2d(x, self.window[None, None, None, :])
        return functional.conv2d(x, self.window[None, None, :, None])


def gaussian_window(sigma: float) -> torch.Tensor:
    """(2 round(4 sigma) + 1,) weights that sum to 1, as scipy's with ``truncate=4``; 0: (1,)."""
    reach = int(4 * sigma + 0.5)
    if not reach:
        return torch.ones(1)
    positions = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-(positions**2) / (2 * sigma**2))
    return weights / weights.sum()


def export_onnx(graph: ScoringGraph, path: Path) -> None:
    """Writes the graph with a batch axis of any length, opset 17, IR 8, and checks it.

    Raises:
        BundleError: some runtime couldn't read it.
    """
    names = ModelPart()
    example = torch.zeros((1, *graph.size, 3), dtype=torch.uint8)
    batch = {0: "batch"}
    with warnings.catch_warnings(), torch.inference_mode():
        # The TorchScript exporter is the one that writes opset 17; torch calls it deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[names.input],
            output_names=[names.anomaly_map, names.score],
            dynamic_axes={names.input: batch, names.anomaly_map: batch, names.score: batch},
        )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    require_portable(model, path)
    onnx.save(model, path)
