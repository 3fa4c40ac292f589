"""``inspectd doctor``: what is installed, what works, and what to do about the rest.

Each check is a function that yields `Check`s, never raises for what it looks for, and changes
nothing on the machine.
"""

from __future__ import annotations

import base64
import ctypes
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import typer
from rich.table import Table
from rich.text import Text

import inspectd
from inspectd.cli.options import JsonFlag, StateDir, open_store
from inspectd.cli.output import show, show_json
from inspectd.core.errors import BundleError, InspectdError, ProductError

EXAMPLES = ("inspectd doctor", "inspectd doctor --json")
PYTHON = (3, 11)
FREE_WARN, FREE_FAIL = 5 * 2**30, 200 * 2**20
"""Bytes free in the state directory below which is warned, and below which nothing can work."""
UNSYNCHRONISED = 5
"""adjtimex(2) returns it while no time server disciplines the clock."""
TINY_SIZE = (32, 32)
"""(H, W) of `TINY_GRAPH`'s input."""
TINY_GRAPH = base64.b64decode(
    "CAg6+QEKGwoFaW1hZ2USAWYiBENhc3QqCQoCdG8YAaABAgo6CgFmEgthbm9tYWx5X21hcCIKUmVkdWNlTWVhbioLCgRh"
    "eGVzQAOgAQcqDwoIa2VlcGRpbXMYAKABAgo/Cgthbm9tYWx5X21hcBIFc2NvcmUiCVJlZHVjZU1heCoNCgRheGVzQAFA"
    "AqABByoPCghrZWVwZGltcxgAoAECEgFnWiAKBWltYWdlEhcKFQgCEhEKAxIBbgoCCCAKAgggCgIIA2IiCgthbm9tYWx5"
    "X21hcBITChEIARINCgMSAW4KAgggCgIIIGIUCgVzY29yZRILCgkIARIFCgMSAW5CBAoAEBE="
)
"""A model like a bundle's, of three nodes (cast, mean over colours, maximum): opset 17, IR 8."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """Works, but not as it should."""
    FAIL = "fail"
    """Required, and doesn't work: the exit status is 1."""
    ABSENT = "absent"
    """Optional, and not there."""


STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.ABSENT: "dim"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's answer."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


class Package(NamedTuple):
    """A package that something needs."""

    module: str
    purpose: str
    remedy: str


REQUIRED = (
    "cv2",
    "numpy",
    "paho.mqtt",
    "PIL",
    "pydantic",
    "pydantic_settings",
    "rich",
    "structlog",
    "typer",
)
"""Modules without which nothing works; ONNX Runtime has a check of its own."""
OPTIONAL = (
    Package("openvino", "the fastest runtime on a CPU", "pip install 'inspectd[openvino]'"),
    Package("torch", "calibration", "pip install 'inspectd[calibration]'"),
    Package("onnx", "calibration", "pip install 'inspectd[calibration]'"),
    Package("amqtt", "the demo's broker", "pip install 'inspectd[demo]'"),
    Package("harvesters", "GenICam cameras", "pip install 'inspectd[genicam]'"),
    Package("tensorrt", "NVIDIA GPUs", "pip install tensorrt"),
    Package("pycuda", "NVIDIA GPUs", "pip install pycuda"),
)


def doctor(as_json: JsonFlag = False, state_dir: StateDir = None) -> None:
    """Say what is installed, what works on this machine, and what to do about the rest.

    The exit status is 1 if something that is required doesn't work.
    """
    checks = [check for group in _groups(state_dir) for check in group()]
    sound = not any(check.status is Status.FAIL for check in checks)
    if as_json:
        show_json({"ok": sound, "checks": [asdict(check) for check in checks]})
    else:
        show(_table(checks))
        show("ready" if sound else "not ready: see what failed")
    raise typer.Exit(0 if sound else 1)


def _groups(state_dir: Path | None) -> tuple[Callable[[], Iterator[Check]], ...]:
    return (
        check_versions,
        check_required,
        check_runtimes,
        check_optional,
        check_nvidia,
        check_cameras,
        check_broker,
        partial(check_places, state_dir),
        partial(check_products, state_dir),
        check_systemd,
        check_clock,
    )


def check_versions() -> Iterator[Check]:
    """Python and inspectd itself."""
    yield Check("inspectd", Status.OK, inspectd.__version__)
    least = ".".join(map(str, PYTHON))
    is_new = sys.version_info >= PYTHON
    yield Check(
        "python",
        Status.OK if is_new else Status.FAIL,
        f"{platform.python_version()}, {sys.executable}",
        "" if is_new else f"install Python {least} or newer",
    )


def check_required() -> Iterator[Check]:
    """The packages that every command needs."""
    missing = [module for module in REQUIRED if not _is_present(module)]
    if missing:
        remedy = "pip install --force-reinstall inspectd"
        yield Check("packages", Status.FAIL, f"missing: {', '.join(missing)}", remedy)
    else:
        yield Check("packages", Status.OK, f"all {len(REQUIRED)} required ones are installed")


def check_runtimes() -> Iterator[Check]:
    """Runs a tiny graph on each runtime that is installed."""
    from inspectd.runtimes import PACKAGES, installed

    present = installed()
    for name in present:
        if name == "tensorrt":
            continue  # runs engines only; see `check_nvidia`
        yield _run_tiny(name, required=name == "onnxruntime")
    if "onnxruntime" not in present:
        detail = "not installed; the reference that every product can run on"
        remedy = f"pip install {PACKAGES['onnxruntime'][0]}"
        yield Check("runtime onnxruntime", Status.FAIL, detail, remedy)


def check_optional() -> Iterator[Check]:
    """Packages that parts of inspectd need, by presence: importing torch would take seconds."""
    for package in OPTIONAL:
        if _is_present(package.module):
            detail = f"{_version_of(package.module)} ({package.purpose})"
            yield Check(package.module, Status.OK, detail)
        else:
            detail = f"not installed; for {package.purpose}"
            yield Check(package.module, Status.ABSENT, detail, package.remedy)


def check_nvidia() -> Iterator[Check]:
    """The NVIDIA driver and its GPUs; then TensorRT, and which engines there are for them."""
    from inspectd.core.errors import RuntimeUnavailableError
    from inspectd.runtimes.nvidia import driver as drivers

    try:
        driver = drivers.probe()
    except RuntimeUnavailableError as error:
        is_absent = str(error).startswith("no NVIDIA driver")
        detail = "no driver; inspection runs on the CPU" if is_absent else str(error)
        remedy = "for a GPU: install NVIDIA's driver" if is_absent else "see nvidia-smi"
        yield Check("nvidia", Status.ABSENT if is_absent else Status.WARN, detail, remedy)
        return
    cuda = ".".join(map(str, driver.cuda))
    for gpu in driver.devices:
        capability = ".".join(map(str, gpu.capability))
        detail = f"GPU {gpu.index}: {gpu.name}, {gpu.memory / 2**30:.0f} GiB"
        found = f"{detail}, compute capability {capability}, driver for CUDA {cuda}"
        yield Check("nvidia", Status.OK, found)
    yield from _check_tensorrt()


def _check_tensorrt() -> Iterator[Check]:
    from inspectd.core import paths
    from inspectd.core.errors import RuntimeUnavailableError
    from inspectd.pipeline import verified
    from inspectd.runtimes.nvidia import vendor as vendors
    from inspectd.runtimes.nvidia.engines import EngineCache

    if missing := vendors.packages():
        detail = f"not installed: {', '.join(missing)}; inspection runs on the CPU"
        yield Check("runtime tensorrt", Status.ABSENT, detail, f"pip install {' '.join(missing)}")
        return
    try:
        vendor = vendors.load()
    except RuntimeUnavailableError as error:
        remedy = "install a TensorRT that fits the driver"
        yield Check("runtime tensorrt", Status.WARN, str(error), remedy)
        return
    if vendor.graphs is None:
        detail = f"TensorRT {vendor.version}, without CUDA graphs: parts take longer"
        yield Check("runtime tensorrt", Status.WARN, detail, "pip install cuda-bindings")
    else:
        yield Check("runtime tensorrt", Status.OK, f"TensorRT {vendor.version}, with CUDA graphs")
    engines = EngineCache(paths.cache_dir())
    found = [one for one in engines.all() if one.key.tensorrt == vendor.version]
    if not found:
        remedy = "inspectd build --product NAME"
        yield Check("engines", Status.ABSENT, f"none for it in {engines.folder}", remedy)
    for one in found:
        record = verified.find(engines.root, one.label)
        if record is not None and record.passed:
            yield Check("engine", Status.OK, f"{one.label} of model {one.key.model[:8]}, proven")
        else:
            detail = f"{one.label} of model {one.key.model[:8]} isn't proven"
            remedy = f"inspectd verify --product NAME --runtime tensorrt-{one.key.precision}"
            yield Check("engine", Status.WARN, detail, remedy)


def check_cameras() -> Iterator[Check]:
    """Whether there are GenTL producers, and a compiler for the simulated camera."""
    from inspectd.acquisition.device import GENTL_PATH, producers
    from inspectd.core.errors import CameraError

    try:
        names = ", ".join(path.name for path in producers())
    except CameraError:
        detail = "none; a camera's maker ships one as a .cti file"
        yield Check("GenTL producers", Status.ABSENT, detail, f"set {GENTL_PATH} to its directory")
    else:
        yield Check("GenTL producers", Status.OK, f"{names}; see inspectd camera list")
    compiler = shutil.which("gcc")
    if compiler:
        yield Check("gcc", Status.OK, f"{compiler} (compiles the simulated camera)")
    else:
        detail = "not installed; for the simulated camera"
        yield Check("gcc", Status.ABSENT, detail, "apt-get install gcc libc6-dev")


def check_broker() -> Iterator[Check]:
    """Whether a mosquitto is installed; one on another machine is as good."""
    found = shutil.which(
        "mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    if found:
        yield Check("mosquitto", Status.OK, found)
    else:
        detail = "not installed; a broker on another machine is as good"
        yield Check("mosquitto", Status.ABSENT, detail, "apt-get install mosquitto")


def check_places(state_dir: Path | None) -> Iterator[Check]:
    """State and cache directories: writable, and room left."""
    from inspectd.core import paths

    yield _place("state directory", state_dir or paths.state_dir(), Status.FAIL, "STATE")
    yield _place("cache directory", paths.cache_dir(), Status.WARN, "CACHE")


def check_products(state_dir: Path | None) -> Iterator[Check]:
    """Whether each product's active revision opens, and what dead calibrations left behind."""
    store = open_store(state_dir)
    try:
        products = store.products()
        leftovers = sorted(store.root.glob("*/.making-*"))
    except OSError as error:
        yield Check("products", Status.FAIL, str(error), f"make {store.root} readable")
        return
    if not products:
        remedy = "inspectd calibrate --product NAME --images DIR"
        yield Check("products", Status.ABSENT, f"none below {store.root}", remedy)
    for product in products:
        try:
            revision = store.open(product).manifest.revision
            yield Check(f"product {product}", Status.OK, f"{revision} is whole")
        except BundleError as error:
            remedy = f"inspectd product rollback {product}"
            yield Check(f"product {product}", Status.FAIL, str(error), remedy)
        except ProductError as error:
            remedy = f"inspectd product activate {product} {store.revisions(product)[-1]}"
            yield Check(f"product {product}", Status.WARN, str(error), remedy)
    for folder in leftovers:
        detail = f"{folder} is of a calibration that runs or was killed"
        remedy = "if none runs: remove that folder"
        yield Check("left over", Status.WARN, detail, remedy)


def check_systemd() -> Iterator[Check]:
    """Whether systemd runs this machine."""
    if Path("/run/systemd/system").is_dir():
        yield Check("systemd", Status.OK, "runs")
    else:
        remedy = "let another supervisor start and restart inspectd run"
        yield Check("systemd", Status.ABSENT, "doesn't run this machine", remedy)


def check_clock() -> Iterator[Check]:
    """Verdicts carry UTC times: the clock must be about right, and the zone known."""
    now = datetime.now(UTC)
    remedy = "timedatectl set-ntp true, or install chrony"
    built = datetime.fromtimestamp(Path(inspectd.__file__).stat().st_mtime, UTC)
    if now < built:
        detail = f"{now:%Y-%m-%d %H:%M} UTC is before this program was installed"
        yield Check("clock", Status.WARN, detail, remedy)
    elif _is_unsynchronised():
        yield Check("clock", Status.WARN, "no time server keeps it", remedy)
    else:
        yield Check("clock", Status.OK, f"{now:%Y-%m-%d %H:%M:%S} UTC")
    zone = os.environ.get("TZ", "").lstrip(":")
    try:
        known = str(ZoneInfo(zone)) if zone else now.astimezone().tzname()
        yield Check("timezone", Status.OK, f"{known} (verdicts carry UTC)")
    except (KeyError, ValueError, OSError):
        detail = f"TZ is {zone!r}, which isn't a zone; local times are wrong"
        yield Check("timezone", Status.WARN, detail, "unset TZ, or timedatectl set-timezone")


def _run_tiny(name: str, *, required: bool) -> Check:
    import numpy as np

    from inspectd.core.bundle import Graph
    from inspectd.runtimes import open_runtime

    try:
        with tempfile.TemporaryDirectory(prefix="inspectd-doctor-") as folder:
            path = Path(folder) / "tiny.onnx"
            path.write_bytes(TINY_GRAPH)
            with open_runtime(Graph(path, TINY_SIZE), name, threads=1) as runtime:
                score = runtime.infer(np.full((*TINY_SIZE, 3), 7, np.uint8)).score
                label = runtime.name
    except (InspectdError, ImportError, OSError) as error:
        status = Status.FAIL if required else Status.WARN
        remedy = f"pip install --force-reinstall {name}"
        return Check(f"runtime {name}", status, str(error), remedy)
    if score != 7:
        detail = f"computes {score} where 7 is right; it must not decide"
        return Check(f"runtime {name}", Status.FAIL, detail, f"install another version of {name}")
    return Check(f"runtime {name}", Status.OK, f"{label}: a test graph runs")


def _place(name: str, path: Path, worst: Status, variable: str) -> Check:
    """Judges a directory by itself or, where it isn't there yet, by where it would be made."""
    existing = next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = f"give this user the right to write there, or set INSPECTD_{variable}_DIR"
        return Check(name, worst, f"{path} can't be written", remedy)
    free = shutil.disk_usage(existing).free
    detail = f"{path}, {free / 2**30:.1f} GiB free"
    if free < FREE_FAIL:
        return Check(name, worst, detail, "make room")
    if free < FREE_WARN:
        return Check(name, Status.WARN, detail, "make room")
    return Check(name, Status.OK, detail)


def _is_present(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name
        return False


def _version_of(module: str) -> str:
    """Of the distribution, whatever its name: OpenCV comes under four."""
    for distribution in _distributions().get(module, ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "installed"


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _is_unsynchronised() -> bool:
    """Asks the kernel; False where it can't be asked."""
    try:
        timex = ctypes.create_string_buffer(512)  # struct timex, modes = 0: read only
        return bool(ctypes.CDLL(None).adjtimex(timex) == UNSYNCHRONISED)
    except (AttributeError, OSError):
        return False


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in checks:
        found = f"{check.detail}\n> {check.remedy}" if check.remedy else check.detail
        style = STYLES[check.status]
        table.add_row(Text(check.status.value, style), Text(check.name), Text(found))
    return table
