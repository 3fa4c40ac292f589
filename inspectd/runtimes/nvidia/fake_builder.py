"""The half of the fake ``tensorrt`` that builds: parser, network, configuration, builder."""

from __future__ import annotations

import json
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspectd.runtimes.nvidia.fake import FakeMachine

LayerType = IntEnum("LayerType", "CONSTANT QUANTIZE REDUCE ELEMENTWISE UNARY CONVOLUTION")
DataType = IntEnum("DataType", "FLOAT HALF UINT8")
ReduceOperation = IntEnum("ReduceOperation", "SUM MAX AVG PROD")
AllocationStrategy = IntEnum("AllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED")
ElementWiseOperation = IntEnum("ElementWiseOperation", "SUM PROD MAX SUB DIV POW")


class FakeLogger:
    """Base of a logger."""

    INTERNAL_ERROR, ERROR, WARNING = range(3)


class FakeMonitor:
    """Base of a progress monitor."""


class FakeLayer:
    """As TensorRT gives it: seen as the base class, it hides what its kind has."""

    def __init__(self, kind: LayerType, dtype: DataType = DataType.FLOAT, op: Any = None) -> None:
        self.type = kind
        self._op = op
        self._output = SimpleNamespace(dtype=dtype)
        self.precision: DataType | None = None
        self.output_type: DataType | None = None

    def get_output(self, index: int) -> Any:
        """See TensorRT."""
        return self._output

    def set_output_type(self, index: int, dtype: DataType) -> None:
        """See TensorRT."""
        self.output_type = dtype


class FakeOperationLayer(FakeLayer):
    """A layer seen as what it is."""

    @property
    def op(self) -> Any:
        """See TensorRT."""
        return self._op


class FakeNetwork:
    """What was parsed. Its layers are those that the building code looks for, by what it reads."""

    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model = b""
        self.layers: list[FakeLayer] = []

    @property
    def num_layers(self) -> int:
        """See TensorRT."""
        return len(self.layers)

    def get_layer(self, index: int) -> FakeLayer:
        """See TensorRT."""
        return self.layers[index]

    def read(self, model: bytes) -> None:
        """Takes a model in."""
        self.model = model
        self.layers = [
            FakeLayer(LayerType.CONVOLUTION),
            FakeLayer(LayerType.REDUCE, op=ReduceOperation.SUM),
            FakeLayer(LayerType.REDUCE, op=ReduceOperation.MAX),
            FakeLayer(LayerType.ELEMENTWISE, op=ElementWiseOperation.SUM),
            FakeLayer(LayerType.ELEMENTWISE, op=ElementWiseOperation.DIV),
            FakeLayer(LayerType.UNARY),
        ]
        if b"QuantizeLinear" in model:
            self.layers.append(FakeLayer(LayerType.QUANTIZE))
        if b"half-typed" in model or b"/float16" in model:
            self.layers.append(FakeLayer(LayerType.CONVOLUTION, DataType.HALF))


class FakeConfig:
    """What was asked for."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self.flags = {"TF32"}
        self.workspace = 0
        self.sources: int | None = None
        self.profiles: list[tuple[tuple[int, ...], ...]] = []
        """Smallest, usual and largest shape of the input, each."""
        self.progress_monitor: Any = None
        self.timing = b""

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        """See TensorRT."""
        self.workspace = size

    def set_tactic_sources(self, sources: int) -> None:
        """See TensorRT."""
        self.sources = sources

    def set_flag(self, flag: Any) -> None:
        """See TensorRT."""
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        """See TensorRT."""
        self.flags.discard(flag.name)

    def add_optimization_profile(self, profile: Any) -> int:
        """See TensorRT."""
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        """A damaged one is refused."""
        return None if content and not content.startswith(b"timing") else content or b"timing"

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> None:
        """See TensorRT."""
        self.timing = cache

    def get_timing_cache(self) -> Any:
        """One build more."""
        return SimpleNamespace(serialize=lambda: self.timing + b"+")

    @property
    def precision(self) -> str:
        """Of the kernels."""
        return "int8" if "INT8" in self.flags else "fp16" if "FP16" in self.flags else "fp32"


class FakeBuilder:
    """Builds at once."""

    def __init__(self, machine: FakeMachine, magic: bytes) -> None:
        machine.current("createInferBuilder")
        self._machine = machine
        self._magic = magic
        self.configs: list[FakeConfig] = []

    def create_network(self, flags: int) -> FakeNetwork:
        """See TensorRT."""
        return FakeNetwork(flags)

    def create_builder_config(self) -> FakeConfig:
        """See TensorRT."""
        return FakeConfig(self._machine)

    def create_optimization_profile(self) -> Any:
        """Smallest, usual and largest shape."""
        profile = SimpleNamespace(shapes=())

        def set_shape(name: str, least: Any, usual: Any, most: Any) -> None:
            if not all(low <= mid <= high for low, mid, high in zip(least, usual, most)):  # noqa: B905
                raise ValueError("a profile's shapes must ascend")
            profile.shapes = least, usual, most

        profile.set_shape = set_shape
        return profile

    def build_serialized_network(self, network: FakeNetwork, config: FakeConfig) -> bytes | None:
        """The plan; None where a failure was ordered or the monitor says stop."""
        machine = self._machine
        machine.last_build = network, config
        if message := machine.failure("build_serialized_network"):
            machine.vendor.log.log(FakeLogger.ERROR, message)
            return None
        if config.progress_monitor is not None and not _told(config.progress_monitor):
            return None
        is_half = any(layer.get_output(0).dtype == DataType.HALF for layer in network.layers)
        typed = "fp16" if is_half else config.precision
        precision = "int8" if b"QuantizeLinear" in network.model else typed
        header = {"version": machine.version, "precision": precision, "profiles": config.profiles}
        return self._magic + json.dumps(header).encode() + b"\n" + network.model


def _told(monitor: Any) -> bool:
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Timing", "Building Engine", 1)
    for step in range(2):
        if not monitor.step_complete("Building Engine", step):
            return False
    monitor.phase_finish("Timing")
    monitor.phase_finish("Building Engine")
    return True


class FakeParser:
    """Refuses what ONNX Runtime can't read."""

    def __init__(self, network: FakeNetwork, log: Any) -> None:
        self._network = network
        self._errors: list[str] = []

    @property
    def num_errors(self) -> int:
        """See TensorRT."""
        return len(self._errors)

    def get_error(self, index: int) -> str:
        """See TensorRT."""
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        """See TensorRT."""
        import onnxruntime

        model = Path(path).read_bytes()
        try:
            onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - its exceptions share no base but that
            self._errors.append(str(error))
            return False
        self._network.read(model)
        return True


def builder_module(machine: FakeMachine, magic: bytes) -> Any:
    """What the version has, and nothing else."""
    major = int(machine.version.split(".")[0])
    flags = ["TF32", "PREFER_PRECISION_CONSTRAINTS"] + (["FP16", "INT8"] if major < 11 else [])
    creation = {8: ["EXPLICIT_BATCH"], 10: ["EXPLICIT_BATCH", "STRONGLY_TYPED"]}
    names = creation.get(major, ["STRONGLY_TYPED"])
    module = SimpleNamespace(
        __version__=machine.version,
        ILogger=FakeLogger,
        LayerType=LayerType,
        DataType=DataType,
        IReduceLayer=FakeOperationLayer,
        IElementWiseLayer=FakeOperationLayer,
        BuilderFlag=IntEnum("BuilderFlag", flags, start=0),
        NetworkDefinitionCreationFlag=IntEnum("NetworkDefinitionCreationFlag", names, start=0),
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        TacticSource=SimpleNamespace(EDGE_MASK_CONVOLUTIONS=3, JIT_CONVOLUTIONS=4),
        Builder=lambda log: FakeBuilder(machine, magic),
        OnnxParser=FakeParser,
    )
    if major >= 10:
        module.IProgressMonitor = FakeMonitor
        module.ExecutionContextAllocationStrategy = AllocationStrategy
    return module
