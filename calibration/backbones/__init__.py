"""Backbones by name or file.

`load_backbone` takes ``builtin`` or ``filterbank`` (the same today, no file), a known network's
name (its ImageNet weights are fetched once from torchvision's public address and kept in the
cache), a weights file (``.safetensors`` or ``.pth``), or ``NAME:FILE`` where the file alone doesn't
say which network.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from calibration.backbones.filterbank import FilterBank
from calibration.backbones.packed import is_packed, unpacked
from calibration.backbones.resnet import SHAPES, ResNet, shape_of
from inspectd.core.bundle import sha256_of
from inspectd.core.errors import BackboneError
from inspectd.core.paths import cache_dir

ADDRESS = "https://download.pytorch.org/models/"
FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
}
"""torchvision's file names: the eight digits begin the file's sha256."""
BUILTIN, FILTERBANK = "builtin", "filterbank"
NAMES = (BUILTIN, FILTERBANK, *SHAPES)

Report = Callable[[int, int], None]
Network = FilterBank | ResNet


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network in evaluation mode that returns three stages, and where it comes from."""

    name: str
    network: Network
    """(B, 3, H, W) to three maps; has `channels`, `strides`, `mean` and `std`."""
    sha256: str
    """Of the weights file, or of the weights where there is no file."""


def load_backbone(spec: str, report: Report | None = None) -> Backbone:
    """Loads a backbone.

    Args:
        spec: ``builtin``, ``filterbank``, a name, a file, or ``NAME:FILE``.
        report: called with (bytes so far, bytes in all) while a file is downloaded.

    Raises:
        BackboneError: unknown name, missing or damaged file, other network, failed download.
    """
    if spec in (BUILTIN, FILTERBANK):
        bank = FilterBank().eval()
        return Backbone(spec, bank, hashlib.sha256(save(bank.state_dict())).hexdigest())
    name, file = _parsed(spec)
    path = file if file is not None else _downloaded(str(name), report)
    state = read_weights(path)
    if name is None and is_packed(state):
        return Backbone(path.stem, unpacked(state), sha256_of(path))
    shape = name or _named_by_file(path, state)
    network = ResNet(SHAPES[shape])
    _load(network, state, path, shape)
    return Backbone(shape, network.eval().requires_grad_(False), sha256_of(path))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads a state dictionary without running anything that a file may contain.

    Raises:
        BackboneError: not there, damaged, or of another kind.
    """
    if not path.is_file():
        raise BackboneError(f"{path}: no such file; give a backbone's name ({', '.join(NAMES)})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise BackboneError(f"{path}: damaged or not a weights file ({error})") from error
    except Exception as error:  # weights_only refuses by pickle.UnpicklingError, among others
        raise BackboneError(f"{path}: refused, it holds more than weights ({error})") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise BackboneError(f"{path}: not a state dictionary; save model.state_dict()")
    return state


def _parsed(spec: str) -> tuple[str | None, Path | None]:
    """(name, file), at least one of which is given."""
    head, colon, tail = spec.partition(":")
    if colon and head in SHAPES:
        return head, Path(tail).expanduser()
    if spec in SHAPES:
        return spec, None
    if not any(mark in spec for mark in ("/", ".", os.sep)):
        raise BackboneError(f"no backbone is called {spec!r}; known: {', '.join(NAMES)}, or a file")
    return None, Path(spec).expanduser()


def _named_by_file(path: Path, state: dict[str, torch.Tensor]) -> str:
    shape = shape_of(state)
    if shape is None:
        raise BackboneError(
            f"{path}: not the weights of a ResNet with torchvision's key names; known networks: "
            f"{', '.join(SHAPES)}"
        )
    return "resnet50_v1" if shape == "resnet50" and "resnet50_v1_" in path.name else shape


def _load(network: ResNet, state: dict[str, torch.Tensor], path: Path, shape: str) -> None:
    wanted = network.state_dict()
    built = tuple(f"{name}." for name, _ in network.named_children())
    surplus = [k for k in state if str(k).startswith(built) and k not in wanted]
    if surplus:
        raise BackboneError(f"{path}: {surplus[0]} is none of {shape}'s; name the right network")
    state = {key: value for key, value in state.items() if key in wanted}
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise BackboneError(f"{path}: lacks {missing[0]} and {len(missing) - 1} more of {shape}")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise BackboneError(
                f"{path}: {key} is {tuple(value.shape)}, {shape} has {tuple(wanted[key].shape)}"
            )
        if not torch.isfinite(value).all():
            raise BackboneError(f"{path}: {key} has values that are no numbers; train or save anew")
    network.load_state_dict(state, strict=False)


def _downloaded(name: str, report: Report | None) -> Path:
    """The cached file of a network, fetched if it isn't there."""
    if name not in FILES:
        raise BackboneError(f"{name} has no public weights; give a file: {name}:FILE")
    target = cache_dir() / "backbones" / FILES[name]
    if target.is_file():
        return target
    partial = target.with_suffix(f".{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = _fetch(ADDRESS + FILES[name], partial, report)
        prefix = FILES[name].rsplit("-", 1)[1].removesuffix(".pth")
        if not digest.startswith(prefix):
            raise BackboneError(
                f"{ADDRESS}{FILES[name]} came with sha256 {digest[:8]}… instead of {prefix}…, "
                f"damaged or not the real file; nothing was kept. {_by_hand(name, target)}"
            )
        partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise BackboneError(
            f"{ADDRESS}{FILES[name]} can't be fetched ({error}). {_by_hand(name, target)}"
        ) from error
    finally:
        if partial.is_file():
            partial.unlink()
    return target


def _by_hand(name: str, target: Path) -> str:
    return (
        f"Bring the file by hand: put it at {target}, or pass --backbone {name}:FILE. Without a "
        f"network --backbone {BUILTIN} works at once, less accurately"
    )


def _fetch(address: str, target: Path, report: Report | None) -> str:
    """Downloads to a file and returns its sha256."""
    digest = hashlib.sha256()
    request = urllib.request.urlopen(address, timeout=30)  # noqa: S310 - always below `ADDRESS`
    with request as answer, target.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while block := answer.read(1 << 20):
            file.write(block)
            digest.update(block)
            done += len(block)
            if report is not None:
                report(done, total)
    return digest.hexdigest()
