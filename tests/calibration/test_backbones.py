"""Backbones: torchvision's names and shapes, honest refusals, a download that can be trusted."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import calibration.backbones
from calibration.backbones import FILES, NAMES, load_backbone, read_weights
from calibration.backbones.resnet import SHAPES, ResNet
from inspectd.core.errors import BackboneError

State = dict[str, torch.Tensor]

# torchvision's numbers of parameters, less those of layer4 and fc.
PARAMETERS = {
    "resnet18": 11_689_512 - 8_393_728 - 513_000,
    "resnet34": 21_797_672 - 13_114_368 - 513_000,
    "resnet50": 25_557_032 - 14_964_736 - 2_049_000,
    "resnet50_v1": 25_557_032 - 14_964_736 - 2_049_000,
    "wide_resnet50_2": 68_883_240 - 41_971_712 - 2_049_000,
}
CHANNELS = {
    "resnet18": (64, 128, 256),
    "resnet34": (64, 128, 256),
    "resnet50": (256, 512, 1024),
    "resnet50_v1": (256, 512, 1024),
    "wide_resnet50_2": (256, 512, 1024),
}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{key}": (width,) for key in names} | {f"{name}.num_batches_tracked": ()}


def _torchvision(name: str) -> dict[str, tuple[int, ...]]:
    """Key to shape of torchvision's state dictionary up to layer3, written down from its source."""
    blocks = (2, 2, 2) if name == "resnet18" else (3, 4, 6)
    is_basic = name in ("resnet18", "resnet34")
    keys = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    inputs = 64
    for stage, (count, planes) in enumerate(zip(blocks, (64, 128, 256), strict=True), 1):
        width = planes * 2 if name.startswith("wide") else planes
        outputs = planes if is_basic else planes * 4
        for block in range(count):
            if is_basic:
                convolutions = [(planes, inputs, 3), (planes, planes, 3)]
            else:
                convolutions = [(width, inputs, 1), (width, width, 3), (outputs, width, 1)]
            prefix = f"layer{stage}.{block}"
            for index, (out, into, kernel) in enumerate(convolutions, 1):
                keys[f"{prefix}.conv{index}.weight"] = (out, into, kernel, kernel)
                keys |= _norm(f"{prefix}.bn{index}", out)
            if block == 0 and not (is_basic and stage == 1):
                keys[f"{prefix}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                keys |= _norm(f"{prefix}.downsample.1", outputs)
            inputs = outputs
    return keys


def _state(name: str) -> State:
    """Weights of the right shapes that take no room in a file: each one number, repeated."""
    return {key: torch.full((), 0.01).expand(shape) for key, shape in _torchvision(name).items()}


def _saved(path: Path, state: State) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(params=SHAPES)
def name(request: pytest.FixtureRequest) -> str:
    """Each network."""
    return str(request.param)


def test_keys_and_shapes_are_torchvisions(name: str) -> None:
    """A file of torchvision fits, key by key, and no parameter is too many or too few."""
    with torch.device("meta"):
        network = ResNet(SHAPES[name])
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes == _torchvision(name)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


def test_stages_have_their_channels_and_strides(name: str) -> None:
    """Three maps at strides 4, 8 and 16, also of sizes that 16 doesn't divide."""
    with torch.device("meta"):
        network = ResNet(SHAPES[name])
        stages = network(torch.empty(2, 3, 64, 100))
    assert network.channels == CHANNELS[name]
    assert [stage.shape[1] for stage in stages] == list(CHANNELS[name])
    assert [tuple(stage.shape[2:]) for stage in stages] == [(16, 25), (8, 13), (4, 7)]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("resnet50", 1, 2), ("wide_resnet50_2", 1, 2), ("resnet50_v1", 2, 1)],
)
def test_v1_and_v15_differ_in_what_carries_the_stride(name: str, first: int, second: int) -> None:
    """v1.5 (torchvision) strides in the 3x3, v1 (the paper) in the first 1x1; stage 1 nowhere."""
    with torch.device("meta"):
        network = ResNet(SHAPES[name])
    for stage in (network.layer2, network.layer3):
        assert stage[0].conv1.stride == (first, first)
        assert stage[0].conv2.stride == (second, second)
        assert stage[1].conv1.stride == stage[1].conv2.stride == (1, 1)
    assert network.layer1[0].conv1.stride == network.layer1[0].conv2.stride == (1, 1)


def test_a_file_tells_its_network(name: str, tmp_path: Path) -> None:
    """From .pth the network is recognised; only v1 needs its name, as strides have no weights."""
    backbone = load_backbone(str(_saved(tmp_path / f"{name}_x.pth", _state(name))))
    assert backbone.name == name
    assert not backbone.network.training
    assert not any(p.requires_grad for p in backbone.network.parameters())
    assert backbone.sha256 == hashlib.sha256((tmp_path / f"{name}_x.pth").read_bytes()).hexdigest()


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    """A file without the batch counters and with a classifier, as many are, loads."""
    state = {key: value.contiguous() for key, value in _state("resnet18").items()}
    state = {key: value for key, value in state.items() if "num_batches" not in key}
    state["fc.weight"] = torch.zeros(10, 512)
    state["layer4.0.conv1.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "weights.safetensors")
    backbone = load_backbone(f"resnet18:{tmp_path / 'weights.safetensors'}")
    assert backbone.name == "resnet18"
    assert float(backbone.network.state_dict()["conv1.weight"].mean()) == pytest.approx(0.01)


def test_a_named_file_is_taken_as_named(tmp_path: Path) -> None:
    """``resnet50_v1:FILE`` gives v1's strides to weights that could be either's."""
    path = _saved(tmp_path / "weights.pth", _state("resnet50"))
    assert load_backbone(str(path)).name == "resnet50"
    assert load_backbone(f"resnet50_v1:{path}").name == "resnet50_v1"


@pytest.mark.parametrize(
    ("named", "real", "match"),
    [
        ("resnet34", "resnet18", "lacks layer1.2.conv1.weight"),
        ("resnet18", "resnet34", "layer1.2.conv1.weight is none of resnet18's"),
        ("resnet50", "wide_resnet50_2", r"\(128, 64, 1, 1\), resnet50 has \(64, 64, 1, 1\)"),
        ("resnet50", "resnet34", "lacks layer1.0.conv3.weight"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, named: str, real: str, match: str) -> None:
    """Weights of another network are refused, even where a part of them would fit."""
    path = _saved(tmp_path / "weights.pth", _state(real))
    with pytest.raises(BackboneError, match=match):
        load_backbone(f"{named}:{path}")


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """A file of something else is not taken for a ResNet."""
    path = _saved(tmp_path / "weights.pth", {"encoder.weight": torch.zeros(3)})
    with pytest.raises(BackboneError, match="not the weights of a ResNet"):
        load_backbone(str(path))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """Those of a training that diverged."""
    state = _state("resnet18")
    state["layer2.0.conv1.weight"] = torch.full_like(state["layer2.0.conv1.weight"], torch.nan)
    path = _saved(tmp_path / "weights.pth", state)
    with pytest.raises(BackboneError, match=r"layer2\.0\.conv1\.weight has values that are no num"):
        load_backbone(str(path))


@pytest.mark.parametrize("spec", ["resnet19", "", "builtin2", "efficientnet"])
def test_an_unknown_name_is_refused(spec: str) -> None:
    """The refusal lists the names there are."""
    with pytest.raises(BackboneError, match=f"known: {', '.join(NAMES)}, or a file"):
        load_backbone(spec)


@pytest.mark.parametrize("spec", ["./gone.pth", "resnet18:gone.safetensors"])
def test_a_missing_file_is_refused(spec: str) -> None:
    """The refusal names the file."""
    with pytest.raises(BackboneError, match=r"gone.*: no such file"):
        load_backbone(spec)


class _Malice:
    """What runs when an ordinary unpickler meets it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, by: str) -> None:
    """The code in it does not run, though it would with an ordinary unpickler."""
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    content = {"conv1.weight": torch.zeros(1), "evil": _Malice(marker)}
    if by == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(BackboneError, match="refused, it holds more than weights"):
        load_backbone(str(path))
    assert not marker.exists()
    torch.load(path, weights_only=False) if by == "torch" else pickle.loads(path.read_bytes())  # noqa: S301 - ours
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", "cut"])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, content: bytes | str) -> None:
    """An empty file, a text and a cut download are refused by name."""
    path = tmp_path / f"weights{suffix}"
    if content == "cut":
        state = {"conv1.weight": torch.ones(100)}
        torch.save(state, path) if suffix == ".pth" else save_file(state, path)
        content = path.read_bytes()[:300]
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=rf"weights\{suffix}: (damaged|refused)"):
        read_weights(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, {"state_dict": {}}])
def test_what_is_no_state_dictionary_is_refused(tmp_path: Path, content: object) -> None:
    """A list, numbers and a checkpoint's wrapping are refused with the remedy."""
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match=r"save model\.state_dict\(\)"):
        read_weights(tmp_path / "weights.pth")


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word; one called ``cut`` ends before its stated length."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """A file, or half of one."""
        if not self.path.endswith("cut-00000000.pth"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")


Publish = Callable[[bytes, str | None], str]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of backbones, and no proxy between us and the server."""
    monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "backbones"


@pytest.fixture
def served(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a web server on this machine that stands in for torchvision's address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(calibration.backbones, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def _published(folder: Path, monkeypatch: pytest.MonkeyPatch, prefix: str | None = None) -> str:
    """Publishes weights of resnet18 under their sha256's prefix, or a wrong one."""
    content = _saved(folder / "weights", _state("resnet18")).read_bytes()
    file = f"resnet18-{prefix or hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / "weights").rename(folder / file)
    monkeypatch.setitem(FILES, "resnet18", file)
    return file


def test_weights_are_fetched_once(
    served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name they are downloaded, checked, cached, and from then on no network is needed."""
    file = _published(served, monkeypatch)
    size = (served / file).stat().st_size
    seen: list[tuple[int, int]] = []
    first = load_backbone("resnet18", lambda done, total: seen.append((done, total)))
    assert [path.name for path in cache.iterdir()] == [file]
    assert seen[-1] == (size, size)
    (served / file).unlink()
    assert load_backbone("resnet18").sha256 == first.sha256


def test_a_wrong_hash_is_refused_and_nothing_kept(
    served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose sha256 isn't its name's is neither used nor cached."""
    _published(served, monkeypatch, prefix="00000000")
    with pytest.raises(BackboneError, match=r"sha256 .* instead of 00000000.*Bring the file by h"):
        load_backbone("resnet18")
    assert list(cache.iterdir()) == []


def test_a_cut_download_is_refused_and_nothing_kept(
    served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends early doesn't leave half a file behind."""
    monkeypatch.setitem(FILES, "resnet18", "cut-00000000.pth")
    with pytest.raises(BackboneError, match="Bring the file by hand"):
        load_backbone("resnet18")
    assert list(cache.iterdir()) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib leaves a 404's answer open
def test_a_file_that_is_gone_is_explained(served: Path, cache: Path) -> None:
    """A 404 says how to bring the file by hand."""
    with pytest.raises(BackboneError, match=r"can't be fetched \(HTTP Error 404.*by hand"):
        load_backbone("resnet34")
    assert list(cache.iterdir()) == []


def test_without_network_the_message_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the address, the place for the file, the option, and the built-in backbone."""
    monkeypatch.setattr(calibration.backbones, "ADDRESS", "http://127.0.0.1:1/")
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet18")
    for part in (
        f"http://127.0.0.1:1/{FILES['resnet18']} can't be fetched",
        str(cache / FILES["resnet18"]),
        "--backbone resnet18:FILE",
        "--backbone builtin",
    ):
        assert part in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_file_brought_by_hand_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put where the message says, the file loads without a network."""
    monkeypatch.setattr(calibration.backbones, "ADDRESS", "http://127.0.0.1:1/")
    cache.mkdir(parents=True)
    _published(cache, monkeypatch)
    assert load_backbone("resnet18").name == "resnet18"


def test_a_cache_that_can_not_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way without the cache is said there too."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(BackboneError, match="--backbone resnet18:FILE"):
        load_backbone("resnet18")


def test_v1_has_no_public_weights() -> None:
    """torchvision has v1.5 only, so v1 needs a file."""
    with pytest.raises(BackboneError, match="no public weights; give a file: resnet50_v1:FILE"):
        load_backbone("resnet50_v1")


def test_the_public_files_carry_their_hash() -> None:
    """Every downloadable network is known, and its file name ends in eight hex digits."""
    assert set(FILES) <= set(SHAPES)
    for name, file in FILES.items():
        stem, _, digits = file.removesuffix(".pth").rpartition("-")
        assert stem == name
        assert len(bytes.fromhex(digits)) == 4


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("resnet18_imagenet1k.safetensors", "resnet18"),
        ("resnet50_v1_imagenet1k.safetensors", "resnet50_v1"),
    ],
)
def test_real_weights_load(shared_weights: Path, file: str, name: str) -> None:
    """Real ImageNet weights are recognised and give finite, lively features."""
    backbone = load_backbone(str(shared_weights / file))
    assert backbone.name == name
    with torch.inference_mode():
        stages = backbone.network(torch.randn(1, 3, 64, 64, generator=torch.manual_seed(0)))
    for stage, channels in zip(stages, CHANNELS[name], strict=True):
        assert stage.shape[1] == channels
        assert bool(stage.isfinite().all())
        assert float(stage.std()) > 0.05
