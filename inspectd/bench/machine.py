"""What the figures were measured on; nothing here changes anything."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import inspectd
from inspectd.core.errors import RuntimeUnavailableError
from inspectd.runtimes.nvidia import driver as drivers

PACKAGES = ("numpy", "onnxruntime", "openvino", "tensorrt", "pycuda", "torch", "onnx")
FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""Instructions that decide how fast a precision is."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, memory and GPU, and what is installed."""

    cpu: str
    cores: int
    """That this process may use."""
    flags: tuple[str, ...]
    """Of `FLAGS`."""
    memory_gib: float
    system: str
    gpus: tuple[str, ...]
    versions: dict[str, str]

    @property
    def title(self) -> str:
        """One line."""
        gpus = f", {', '.join(self.gpus)}" if self.gpus else ", no NVIDIA GPU"
        return f"{self.cpu}, {self.cores} cores{gpus}"


def this_machine() -> Machine:
    """Asks the kernel and NVIDIA's driver."""
    cpu, flags = parse_cpuinfo(_read("/proc/cpuinfo"))
    return Machine(
        cpu=cpu or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        flags=flags,
        memory_gib=os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        gpus=_gpus(),
        versions=_versions(),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """(model, flags that matter) from ``/proc/cpuinfo``; Arm calls them features."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    present = set((found.get("flags") or found.get("Features") or "").split())
    return found.get("model name", ""), tuple(flag for flag in FLAGS if flag in present)


def device_memory() -> int | None:
    """Bytes used on all NVIDIA GPUs together; None without one. Needs no context on them."""
    try:
        return _used(ctypes.CDLL("libnvidia-ml.so.1"))
    except (OSError, AttributeError):
        return None


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _used(nvml: Any) -> int | None:
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        count = ctypes.c_uint(0)
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        used = 0
        for index in range(count.value):
            device, memory = ctypes.c_void_p(), _Memory()
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
            nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
            used += memory.used
        return used
    finally:
        nvml.nvmlShutdown()


def _gpus() -> tuple[str, ...]:
    try:
        return tuple(device.name for device in drivers.probe().devices)
    except RuntimeUnavailableError:
        return ()


def _versions() -> dict[str, str]:
    found = {"inspectd": inspectd.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
