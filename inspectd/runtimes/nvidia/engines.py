"""The cache of engines: one per model, TensorRT version, GPU and precision; never shipped.

Below ``engines/`` of the cache directory lie ``<stem>.json``, the side-car that says what an engine
is and which file holds it, and ``<stem>-<hash>.plan``. The side-car is replaced last and at once:
a reader finds the old engine or the new one, never a half. What doesn't fit its side-car counts as
missing, and the error has the command that builds it anew. Beside them, for each version and GPU,
lies TensorRT's timing cache, which makes the next build fast.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inspectd.core.errors import EngineError
from inspectd.core.files import write_atomically
from inspectd.runtimes.nvidia.driver import Device

SCHEMA = 1
PRECISIONS = ("fp16", "fp32", "int8")


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine depends on; another one doesn't fit."""

    model: str
    """sha256 of the ONNX file."""
    tensorrt: str
    capability: str
    """Compute capability, `9.0`."""
    device: str
    """The GPU's name: engines are tuned for one, and only run well on it."""
    precision: str

    @property
    def stem(self) -> str:
        """Of its files' names."""
        return f"{self.model[:16]}-{self.machine}-{self.precision}"

    @property
    def machine(self) -> str:
        """TensorRT and GPU, as they stand in a file's name."""
        device = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        return f"trt{self.tensorrt}-sm{self.capability.replace('.', '')}-{device}"


@dataclass(frozen=True, slots=True)
class SideCar:
    """What is known of an engine without loading it."""

    key: EngineKey
    plan: str
    """File with the engine, in the same folder."""
    sha256: str
    size: int
    """Bytes."""
    layers: int
    build_s: float
    built_at: str
    """UTC, with zone."""
    driver: str
    """The newest CUDA that the driver served at the build."""
    inspectd: str
    batch: int = 1
    """Pictures in its largest batch."""

    @property
    def label(self) -> str:
        """The runtime's name with this engine: what runs where."""
        key = self.key
        return f"tensorrt-{key.tensorrt} {key.precision} {key.device} (engine {self.sha256[:8]})"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gives."""

    plan: bytes
    layers: int
    seconds: float
    timing_cache: bytes
    batch: int = 1
    """Pictures in its largest batch."""


class EngineCache:
    """All engines below a cache directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        """The cache directory; engines lie in `engines/` there."""
        self.folder = root / "engines"

    def find(self, key: EngineKey) -> SideCar | None:
        """The engine for a key; None where there is none or its side-car says another thing."""
        found = self._read(self.folder / f"{key.stem}.json")
        return found if found is not None and found.key == key else None

    def all(self) -> list[SideCar]:
        """Every engine with a readable side-car, newest first."""
        if not self.folder.is_dir():
            return []
        found = (self._read(path) for path in self.folder.glob("*.json"))
        return sorted(
            (one for one in found if one is not None), key=lambda one: one.built_at, reverse=True
        )

    def load(self, side_car: SideCar) -> bytes:
        """The engine itself, checked.

        Raises:
            EngineError: it is missing, or not the one that was built.
        """
        path = self.folder / side_car.plan
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path}: the engine can't be read ({error})") from error
        if hashlib.sha256(plan).hexdigest() != side_car.sha256:
            raise EngineError(f"{path}: the engine is damaged: its sha256 is not its side-car's")
        return plan

    def store(self, key: EngineKey, built: Built, *, driver: str, inspectd: str) -> SideCar:
        """Keeps an engine and the timing cache; an earlier engine for the key goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(built.plan).hexdigest()
        side_car = SideCar(
            key=key,
            plan=f"{key.stem}-{digest[:8]}.plan",
            sha256=digest,
            size=len(built.plan),
            layers=built.layers,
            build_s=round(built.seconds, 2),
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            driver=driver,
            inspectd=inspectd,
            batch=built.batch,
        )
        write_atomically(self.folder / side_car.plan, built.plan)
        text = json.dumps({"schema": SCHEMA, **asdict(side_car)}, indent=2)
        write_atomically(self.folder / f"{key.stem}.json", text.encode())
        for old in self.folder.glob(f"{key.stem}-*.plan"):
            if old.name != side_car.plan:
                old.unlink(missing_ok=True)
        if built.timing_cache:
            write_atomically(self._timing(key), built.timing_cache)
        return side_car

    def timing_cache(self, key: EngineKey) -> bytes:
        """TensorRT's measurements from earlier builds on this machine; empty where there are none.

        A damaged one does no harm: TensorRT refuses it, and the build starts without.
        """
        try:
            return self._timing(key).read_bytes()
        except OSError:
            return b""

    def _timing(self, key: EngineKey) -> Path:
        return self.folder / f"{key.machine}.timing"

    def _read(self, path: Path) -> SideCar | None:
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            if content.pop("schema") != SCHEMA:
                return None
            return SideCar(key=EngineKey(**content.pop("key")), **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def key_of(model: str, version: str, device: Device, precision: str) -> EngineKey:
    """The key for a model, by its sha256, on a GPU."""
    capability = ".".join(map(str, device.capability))
    return EngineKey(model, version, capability, device.name, precision)
