"""Builds an engine from an ONNX file, with the API that TensorRT 8.6, 10 and 11 share.

Where precision comes from differs by version and is asked for by name:

- fp32: TF32 is switched off, so that it is what it says.
- fp16: a flag allows fp16 kernels up to TensorRT 10 while the model is fp32; what normalises the
  patches (sums, roots, products, quotients) is kept in fp32. A model that is typed fp16 itself is
  taken as it is (10: STRONGLY_TYPED), and from 11 on there is nothing else.
- int8: the model has Q/DQ nodes; there is no calibrator here.

For batches an engine has one profile for each batch size that will run (`inspectd.core.batches`),
the first for one picture: each is tuned for its very shape, so that a picture alone loses nothing.
A range of sizes in one profile would not do: its kernels are tuned for one of them, and TensorRT
8.6 lets only one execution context at a time use a profile, while each captured graph needs its
own context.

A build takes minutes in which the vendor's code holds no lock of Python's: it runs in a thread of
its own, so that progress is told and Ctrl-C is heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from inspectd.core.batches import sizes
from inspectd.core.errors import EngineError
from inspectd.runtimes.nvidia.engines import PRECISIONS, Built
from inspectd.runtimes.nvidia.vendor import Vendor, explained

Report = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all, 0 where that isn't known)."""
TICK_S = 0.5
CANCEL_S = 30.0
"""How long a build may take to notice that it is no longer wanted."""
MIB = 2**20
FP32_OPERATIONS = ("PROD", "DIV", "POW", "SUB")
"""Elementwise ones that normalise; the others are the backbone's, or exact."""
FP32_REDUCTIONS = ("SUM", "AVG", "PROD")


def build_engine(
    vendor: Vendor,
    device: int,
    model: Path,
    precision: str,
    *,
    input_name: str,
    size: tuple[int, int],
    workspace_mib: int,
    timing_cache: bytes,
    report: Report,
    batch: int = 1,
) -> Built:
    """Builds an engine for pictures of (H, W), one at a time and up to `batch` at once.

    Raises:
        EngineError: the model or the precision can't be built here; the message says why.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"no precision {precision!r}; known: {', '.join(PRECISIONS)}")
    shapes = [(count, *size, 3) for count in sizes(batch)]
    work = _Build(vendor, precision, input_name, shapes, workspace_mib, timing_cache)
    outcome: list[Built | BaseException] = []

    def run() -> None:
        try:
            with vendor.current(device):
                outcome.append(work(model))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=run, name="engine-build", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(TICK_S)
            report(*work.progress())
    except BaseException:
        work.is_cancelled = True
        thread.join(CANCEL_S)
        raise
    (made,) = outcome
    if isinstance(made, EngineError):
        raise made
    if isinstance(made, BaseException):
        raise EngineError(f"the build failed: {explained(made)}") from made
    stage, done, total = work.progress()
    report(stage, total or max(done, 1), total or max(done, 1))
    return made


class _Build:
    """One build; `progress` may be asked from another thread."""

    def __init__(
        self,
        vendor: Vendor,
        precision: str,
        input_name: str,
        shapes: Sequence[tuple[int, ...]],
        workspace_mib: int,
        timing_cache: bytes,
    ) -> None:
        self._vendor = vendor
        self._precision = precision
        self._input = input_name
        self._shapes = shapes
        self._workspace = workspace_mib * MIB
        self._timing = timing_cache
        self._began = monotonic()
        self.phase: tuple[str, int, int] | None = None
        self.is_cancelled = False

    def progress(self) -> tuple[str, int, int]:
        """Stage, done, total: by TensorRT's own phases, or by the seconds that it takes."""
        return self.phase or ("building the engine, seconds", int(monotonic() - self._began), 0)

    def __call__(self, model: Path) -> Built:
        vendor, trt = self._vendor, self._vendor.trt
        vendor.log.kept.clear()
        builder = trt.Builder(vendor.log)
        network = self._parsed(builder, model, is_typed=False)
        is_quantised, is_half = _types(trt, network)
        self._require(model, is_quantised=is_quantised, is_half=is_half)
        if (is_quantised or is_half) and hasattr(
            trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"
        ):
            network = self._parsed(builder, model, is_typed=True)
            flags: tuple[str, ...] = ()
        else:
            flags = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}[self._precision]
        config = self._config(builder, network, flags)
        cache = config.create_timing_cache(self._timing) or config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
        started = monotonic()
        plan = builder.build_serialized_network(network, config)
        if self.is_cancelled:
            raise EngineError("the build was interrupted")
        if plan is None:
            raise EngineError(f"TensorRT can't build it: {explained(vendor.log.taken())}")
        seconds = monotonic() - started
        timing = bytes(config.get_timing_cache().serialize())
        largest = self._shapes[-1][0]
        return Built(bytes(plan), network.num_layers, seconds, timing, largest)

    def _parsed(self, builder: Any, model: Path, *, is_typed: bool) -> Any:
        vendor, flag = self._vendor, self._vendor.trt.NetworkDefinitionCreationFlag
        flags = 0
        if vendor.major < 10:
            flags |= 1 << int(flag.EXPLICIT_BATCH)
        elif is_typed:
            flags |= 1 << int(flag.STRONGLY_TYPED)
        network = builder.create_network(flags)
        parser = vendor.trt.OnnxParser(network, vendor.log)
        if not parser.parse_from_file(str(model.absolute())):
            said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise EngineError(f"{model}: TensorRT's parser refuses it: {said}")
        return network

    def _require(self, model: Path, *, is_quantised: bool, is_half: bool) -> None:
        precision, trt = self._precision, self._vendor.trt
        if precision == "int8" and not is_quantised:
            raise EngineError(
                f"{model}: int8 needs a model with Q/DQ nodes, and this one has none; build with "
                "--precision fp16"
            )
        if precision != "int8" and is_quantised:
            raise EngineError(f"{model}: has Q/DQ nodes; build it with --precision int8")
        if precision == "fp32" and is_half:
            raise EngineError(f"{model}: is typed fp16; build it with --precision fp16")
        if precision == "fp16" and not is_half and not hasattr(trt.BuilderFlag, "FP16"):
            raise EngineError(
                f"{model}: is fp32, and TensorRT {trt.__version__} takes a model's types as they "
                "are; build with --precision fp32"
            )

    def _config(self, builder: Any, network: Any, flags: tuple[str, ...]) -> Any:
        trt = self._vendor.trt
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace)
        if self._vendor.major < 10:
            # Never cuBLAS or cuDNN: they may be stubs, and nothing here needs them.
            sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
            config.set_tactic_sources(sum(1 << int(source) for source in sources))
        if self._precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)
        for flag in flags:
            config.set_flag(getattr(trt.BuilderFlag, flag))
        if "FP16" in flags:
            config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
            _keep_norms_exact(trt, network)
        for shape in self._shapes:
            profile = builder.create_optimization_profile()
            profile.set_shape(self._input, shape, shape, shape)
            config.add_optimization_profile(profile)
        if hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = _monitor(trt, self)
        return config


def _types(trt: Any, network: Any) -> tuple[bool, bool]:
    """Whether a network has Q/DQ, and whether it computes in fp16 by its own types.

    A convolution's weights are no layer of their own, so what layers give is looked at.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    is_quantised = any(layer.type == trt.LayerType.QUANTIZE for layer in layers)
    return is_quantised, any(layer.get_output(0).dtype == trt.DataType.HALF for layer in layers)


def _keep_norms_exact(trt: Any, network: Any) -> None:
    """A patch's length is a sum of up to 1,792 squares: fp16 has too few digits, and overflows."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        # A layer is only seen as its base class, whose `op` isn't there: its class must be set.
        if layer.type == trt.LayerType.REDUCE:
            layer.__class__ = trt.IReduceLayer
            is_exact = layer.op.name in FP32_REDUCTIONS
        elif layer.type == trt.LayerType.ELEMENTWISE:
            layer.__class__ = trt.IElementWiseLayer
            is_exact = layer.op.name in FP32_OPERATIONS
        else:
            is_exact = layer.type == trt.LayerType.UNARY
        kind = trt.DataType.FLOAT
        if is_exact and layer.get_output(0).dtype == kind:  # not the arithmetic of shapes
            layer.precision = kind
            layer.set_output_type(0, kind)


def _monitor(trt: Any, build: _Build) -> Any:
    """TensorRT 10's progress: its outermost phases, and the way to stop it."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outermost[phase_name] = num_steps
                build.phase = phase_name, 0, num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.outermost:
                build.phase = phase_name, step + 1, self.outermost[phase_name]
            return not build.is_cancelled

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.outermost:
                total = self.outermost.pop(phase_name)
                build.phase = phase_name, total, total

    return Monitor()
