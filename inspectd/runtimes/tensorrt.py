"""TensorRT on an NVIDIA GPU: runs an engine that ``inspectd build`` has made; never builds one.

The names mean:

- ``tensorrt``: the fp16 engine if there is one and it has passed the parity gate, else that of
  fp32. Who built an fp16 engine wants it used; int8 has to be asked for.
- ``tensorrt-fp16``, ``tensorrt-fp32``, ``tensorrt-int8``: that engine or none.

Any thread may enter, infer and leave, one at a time; several runtimes may be open at once, as at a
changeover. The GPU's context is current only inside a call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from inspectd.core import paths
from inspectd.core.batches import sizes
from inspectd.core.errors import EngineError, InferenceError, RuntimeUnavailableError
from inspectd.core.files import sha256_of
from inspectd.core.precisions import command_for
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.pipeline import verified
from inspectd.runtimes.nvidia import driver as drivers
from inspectd.runtimes.nvidia import vendor as vendors
from inspectd.runtimes.nvidia.driver import Device
from inspectd.runtimes.nvidia.engines import EngineCache, SideCar, key_of
from inspectd.runtimes.nvidia.loaded import Loaded
from inspectd.runtimes.nvidia.vendor import explained

if TYPE_CHECKING:
    from inspectd.core.bundle import Graph

BEST = "best"
"""fp16 if proven, else fp32."""
ROUNDING = {"fp32": 0.0, "fp16": 2e-3, "int8": 5e-3}
"""How far a precision may move a score: the parity gate holds it to that."""


class TensorRtRuntime:
    """An engine for one graph; entering loads it. It is looked up when this is made."""

    def __init__(
        self, graph: Graph, precision: str = BEST, device: int | None = None, batch: int = 1
    ) -> None:
        """Looks the engine up.

        Args:
            graph: the model.
            precision: `BEST` or one of the engines'.
            device: the GPU's number; by default the first one that an engine is there for.
            batch: pictures that are to go into one inference, as far as the engine takes them.

        Raises:
            RuntimeUnavailableError: no driver, GPU or package.
            EngineError: there is no engine; the message has the command that builds it.
        """
        engines = EngineCache(paths.cache_dir())
        driver = drivers.probe()
        devices = driver.devices if device is None else (driver.device(device),)
        self._vendor = vendors.load()
        found = _found(graph, precision, engines, self._vendor.version, devices)
        if found is None:
            wanted = "fp16" if precision == BEST else precision
            raise EngineError(
                f"{graph.path}: no {'' if precision == BEST else wanted + ' '}engine for TensorRT "
                f"{self._vendor.version} on {devices[0].name} in {engines.folder}; build it "
                f"with: {build_command(graph, engines.root, wanted)}"
            )
        self._side_car, self._device = found
        self._engines = engines
        self._graph = graph
        self._loaded: Loaded | None = None
        self._lock = threading.Lock()
        built = self._side_car.key.precision
        self.largest_batch = min(batch, self._side_car.batch)
        self.name = self._side_car.label
        self.rounding = ROUNDING[built]
        self.proof_command = command_for(
            "verify", graph, engines.root, f"--runtime tensorrt-{built} --images HOLDOUT"
        )

    @property
    def is_captured(self) -> bool:
        """Whether pictures run as one CUDA graph; without the package cuda-bindings they don't."""
        return self._loaded is not None and self._loaded.is_captured

    def __enter__(self) -> Self:
        names = self._graph.names
        try:
            plan = self._engines.load(self._side_car)
            with self._vendor.loading, self._current():
                self._loaded = Loaded(
                    self._vendor,
                    plan,
                    (names.input, names.anomaly_map, names.score),
                    self._graph.size,
                    _needed(sizes(self._side_car.batch), self.largest_batch),
                )
        except Exception as error:  # pycuda's and TensorRT's share no base but Exception
            said = explained(error)
            if said == str(error):  # no other remedy is known
                rebuild = _rebuild_command(self._graph, self._engines.root, self._side_car)
                said = f"{said}; build it anew with: {rebuild} --rebuild"
            raise EngineError(
                f"{self.name} can't load the engine of {self._graph.path}: {said}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        try:
            with self._current():
                loaded.close()
        except Exception as lost:  # its memory goes with the process
            if error is None:
                raise InferenceError(f"{self.name}: {explained(lost)}") from lost

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one (H, W, 3) uint8 RGB picture; see `Runtime.infer`."""
        return self.infer_batch((image,))[0]

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Scores several pictures at once; see `Batched`."""
        try:
            with self._current():
                return [AnomalyMap(*found) for found in self._entered().run(images)]
        except Exception as error:  # pycuda's and TensorRT's share no base but Exception
            raise InferenceError(f"{self.name}: {explained(error)}") from error

    def keep_warm(self) -> None:
        """Runs the last picture again, so that the GPU's clocks stay up; see `Warmable`."""
        try:
            with self._current():
                self._entered().run_again()
        except Exception as error:  # pycuda's and TensorRT's share no base but Exception
            raise InferenceError(f"{self.name}: {explained(error)}") from error

    def _entered(self) -> Loaded:
        if self._loaded is None:
            raise InferenceError("not entered")
        return self._loaded

    @contextmanager
    def _current(self) -> Iterator[None]:
        with self._lock, self._vendor.current(self._device.index):
            yield


def proven_engine(graph: Graph) -> bool:
    """Whether this machine's GPU has an engine for a graph that has passed the gate: for `auto`.

    Asks the file system first, the driver next, and imports TensorRT only where both agree.
    """
    engines = EngineCache(paths.cache_dir())
    if not engines.all() or vendors.packages():
        return False
    try:
        devices = drivers.probe().devices
        version = vendors.load().version
        found = _found(graph, BEST, engines, version, devices)
    except RuntimeUnavailableError:
        return False
    return found is not None and _is_proven(found[0], engines)


def model_file(graph: Graph, precision: str) -> Path:
    """The ONNX file that an engine of a precision is built from.

    fp16 is also built from the fp32 model, where there is no typed one.

    Raises:
        RuntimeUnavailableError: there is no int8 model.
    """
    if precision == "int8":
        return graph.file(precision)
    return graph.precisions.get(precision, graph.path)


def model_hash(graph: Graph, precision: str) -> str:
    """Its sha256.

    Raises:
        EngineError: it can't be read.
        RuntimeUnavailableError: see `model_file`.
    """
    path = model_file(graph, precision)
    try:
        return sha256_of(path)
    except OSError as error:
        raise EngineError(f"{path}: can't be read ({error})") from error


def build_command(graph: Graph, cache: Path, precision: str) -> str:
    """What to type for an engine."""
    return command_for("build", graph, cache, f"--precision {precision}")


def _rebuild_command(graph: Graph, cache: Path, side_car: SideCar) -> str:
    command = build_command(graph, cache, side_car.key.precision)
    return command if side_car.batch == 1 else f"{command} --batch {side_car.batch}"


def _needed(counts: tuple[int, ...], largest: int) -> tuple[int, ...]:
    """Of an engine's batch sizes those up to the first that is large enough."""
    return counts[: 1 + sum(count < largest for count in counts)]


def _found(
    graph: Graph, precision: str, engines: EngineCache, version: str, devices: tuple[Device, ...]
) -> tuple[SideCar, Device] | None:
    """The engine to run and its GPU: of the best, one that is proven comes first."""
    wanted = ("fp16", "fp32") if precision == BEST else (precision,)
    models = {name: model_hash(graph, name) for name in wanted}
    found = [
        (side_car, device)
        for device in devices
        for name in wanted
        if (side_car := engines.find(key_of(models[name], version, device, name))) is not None
    ]
    proven = [one for one in found if _is_proven(one[0], engines)]
    return next(iter(proven or found), None)


def _is_proven(side_car: SideCar, engines: EngineCache) -> bool:
    record = verified.find(engines.root, side_car.label)
    return record is not None and record.proves(ROUNDING[side_car.key.precision])
