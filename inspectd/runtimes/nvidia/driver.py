"""Asks NVIDIA's driver what there is, through ctypes alone.

Some versions of TensorRT crash without a driver instead of raising, and importing pycuda's driver
fails: so this comes first, always.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from inspectd.core.errors import RuntimeUnavailableError

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*."""
REMEDIES = {
    3: "start the process anew",
    34: "a stub libcuda.so.1 is found before the driver's; mend LD_LIBRARY_PATH",
    46: "another process holds it in exclusive mode; see nvidia-smi",
    100: "see nvidia-smi; CUDA_VISIBLE_DEVICES may hide it; in a container pass --gpus all",
    101: "see nvidia-smi; CUDA_VISIBLE_DEVICES may hide it",
    803: "driver and its library are of different versions; reboot after a driver's update",
    804: "the driver is too old for this CUDA; update it",
    999: "reload the driver (nvidia-smi, dmesg) or reboot",
}
DEFAULT_REMEDY = "run nvidia-smi; reboot after a driver's update; in a container pass --gpus all"


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU."""

    index: int
    """As CUDA counts, within CUDA_VISIBLE_DEVICES."""
    name: str
    capability: tuple[int, int]
    """Compute capability."""
    memory: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver and its GPUs."""

    cuda: tuple[int, int]
    """The newest CUDA that it serves."""
    devices: tuple[Device, ...]

    def device(self, index: int) -> Device:
        """A GPU by its number.

        Raises:
            RuntimeUnavailableError: there is none of that number.
        """
        if not 0 <= index < len(self.devices):
            known = ", ".join(f"{one.index} ({one.name})" for one in self.devices)
            raise RuntimeUnavailableError(f"no GPU {index}; there are: {known}")
        return self.devices[index]


def probe(library: Any = None) -> Driver:
    """The driver, initialised; `library` stands in for libcuda in tests.

    Raises:
        RuntimeUnavailableError: no driver, one that refuses, or no GPU.
    """
    try:
        cuda = library or ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise RuntimeUnavailableError(
            f"no NVIDIA driver ({error}); install it, or choose a runtime for the CPU"
        ) from error
    _check(cuda, "cuInit", cuda.cuInit(0))
    version = _number(cuda, "cuDriverGetVersion")
    count = _number(cuda, "cuDeviceGetCount")
    if count == 0:
        raise RuntimeUnavailableError(f"the driver sees no GPU; {REMEDIES[100]}")
    devices = tuple(_device(cuda, index) for index in range(count))
    return Driver((version // 1000, version % 1000 // 10), devices)


def _device(cuda: Any, index: int) -> Device:
    handle = _number(cuda, "cuDeviceGet", index)
    name = ctypes.create_string_buffer(256)
    _check(cuda, "cuDeviceGetName", cuda.cuDeviceGetName(name, 256, handle))
    memory = ctypes.c_size_t(0)
    total = cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    _check(cuda, "cuDeviceTotalMem", total)
    major = _number(cuda, "cuDeviceGetAttribute", CAPABILITY_MAJOR, handle)
    minor = _number(cuda, "cuDeviceGetAttribute", CAPABILITY_MINOR, handle)
    return Device(index, name.value.decode(), (major, minor), memory.value)


def _number(cuda: Any, function: str, *arguments: int) -> int:
    """What a function of libcuda writes to its first argument."""
    value = ctypes.c_int(0)
    _check(cuda, function, getattr(cuda, function)(ctypes.byref(value), *arguments))
    return value.value


def _check(cuda: Any, function: str, status: int) -> None:
    if status == 0:
        return
    name = ctypes.c_char_p()
    cuda.cuGetErrorName(status, ctypes.byref(name))
    said = name.value.decode() if name.value else "an unknown error"
    remedy = REMEDIES.get(status, DEFAULT_REMEDY)
    raise RuntimeUnavailableError(f"NVIDIA's driver: {function} gives {status} ({said}); {remedy}")
