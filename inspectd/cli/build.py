"""``inspectd build``: makes a TensorRT engine for this machine's GPU, and proves it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

import inspectd
from inspectd.cli.options import ProductOption, RevisionOption, StateDir, open_store
from inspectd.cli.output import interruptible, note, show, stages
from inspectd.cli.verify import HoldoutOption, compared, settle

if TYPE_CHECKING:
    from inspectd.core.bundle import Bundle
    from inspectd.runtimes.nvidia.driver import Driver
    from inspectd.runtimes.nvidia.engines import EngineCache, EngineKey, SideCar
    from inspectd.runtimes.nvidia.vendor import Vendor

EXAMPLES = (
    "inspectd build --product bottle",
    "inspectd build --product bottle --precision fp32 --images bottle/holdout",
    "inspectd build --product bottle --batch 4",
)


class Precision(StrEnum):
    """The values of ``--precision``; a test compares them with those of the cache."""

    FP16 = "fp16"
    FP32 = "fp32"
    INT8 = "int8"


def build(
    product: ProductOption,
    revision: RevisionOption = None,
    precision: Annotated[
        Precision,
        typer.Option(help="fp16 takes what the GPU is fastest at; int8 needs a model with Q/DQ."),
    ] = Precision.FP16,
    batch: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Pictures of several cameras in one inference, beside one alone; see [batching].",
        ),
    ] = 1,
    device: Annotated[
        int, typer.Option(min=0, help="Number of the GPU.", rich_help_panel="Machine")
    ] = 0,
    images: HoldoutOption = None,
    workspace: Annotated[
        int,
        typer.Option(
            min=1, metavar="MIB", help="Memory for the GPU's kernels.", rich_help_panel="Machine"
        ),
    ] = 4096,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build even if there is an engine already.")
    ] = False,
    state_dir: StateDir = None,
) -> None:
    """Build a TensorRT engine of a product for this GPU, and prove that it decides alike.

    It takes minutes; a timing cache makes the next one faster. The engine is kept in the cache
    directory for this model, TensorRT version, GPU and precision; the daemon never builds one. The
    exit status is 1 if it can't be built or doesn't reproduce the reference.
    """
    from inspectd.core.paths import cache_dir
    from inspectd.pipeline.inspector import Inspector
    from inspectd.runtimes.nvidia import driver as drivers
    from inspectd.runtimes.nvidia import vendor as vendors
    from inspectd.runtimes.nvidia.engines import EngineCache, key_of
    from inspectd.runtimes.tensorrt import TensorRtRuntime, model_hash

    bundle = open_store(state_dir).open(product, revision)
    driver = drivers.probe()
    vendor = vendors.load()
    engines = EngineCache(cache_dir())
    gpu = driver.device(device)
    key = key_of(model_hash(bundle.graph, precision.value), vendor.version, gpu, precision.value)
    note(f"TensorRT {vendor.version}, {gpu.name}, compute capability {key.capability}")
    found = None if rebuild else _sound(engines, key, batch)
    if found is None:
        found = _built(bundle, vendor, driver, device, engines, key, workspace, batch)
        show(
            f"built in {found.build_s:.0f} s: {found.layers} layers, {found.size / 2**20:.1f} MiB, "
            f"{engines.folder / found.plan}"
        )
    else:
        show(f"there is one of {found.built_at}: {engines.folder / found.plan}")
    with TensorRtRuntime(bundle.graph, precision.value, device, batch) as runtime:
        note("a picture runs as one CUDA graph" if runtime.is_captured else "without CUDA graphs")
        parity = compared(bundle, runtime, images, 0)
        if parity.passed and batch > 1:
            Inspector(bundle, runtime).verify()  # the golden pictures in every batch size, too
        name = runtime.name
    settle(bundle, name, parity)


def _sound(engines: EngineCache, key: EngineKey, batch: int) -> SideCar | None:
    """The engine that is there, if it is the one that was built and takes such batches."""
    from inspectd.core.errors import EngineError

    found = engines.find(key)
    try:
        if found is not None:
            engines.load(found)
    except EngineError as error:
        note(f"{error}; building it anew", "yellow")
        return None
    if found is not None and found.batch < batch:
        note(f"the engine that is there takes {found.batch} at once; building it anew")
        return None
    return found


def _built(
    bundle: Bundle,
    vendor: Vendor,
    driver: Driver,
    device: int,
    engines: EngineCache,
    key: EngineKey,
    workspace: int,
    batch: int,
) -> SideCar:
    from inspectd.runtimes.nvidia.builder import build_engine
    from inspectd.runtimes.tensorrt import model_file

    graph = bundle.graph
    with interruptible() as check, stages() as progress:

        def report(stage: str, done: int, total: int) -> None:
            check()
            progress(stage, done, total)

        built = build_engine(
            vendor,
            device,
            model_file(graph, key.precision),
            key.precision,
            input_name=graph.names.input,
            size=graph.size,
            workspace_mib=workspace,
            timing_cache=engines.timing_cache(key),
            report=report,
            batch=batch,
        )
    cuda = ".".join(map(str, driver.cuda))
    return engines.store(key, built, driver=f"CUDA {cuda}", inspectd=inspectd.__version__)
