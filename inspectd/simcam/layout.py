"""``rig.bin`` as ctypes see it: the mirror of ``producer/rig_layout.h``.

`tests/simcam/test_layout.py` compares every offset with the C compiler's.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

MAGIC = 0x4D41435350534E49
"""``INSPSCAM`` in little-endian order."""
VERSION = 1
MAX_DEVICES = 8
REGISTERS = 64


class Fault(IntEnum):
    """What can be asked to go wrong a number of times: an index into `asked` and `done`."""

    DROP = 0
    INCOMPLETE = 1
    WRONG_SIZE = 2
    NO_FRAME = 3
    LATE = 4
    BAD_CHUNK = 5


class DeviceRecord(ctypes.Structure):
    """``struct rig_device``."""

    _fields_ = (
        ("serial", ctypes.c_char * 64),
        ("user_id", ctypes.c_char * 64),
        ("model", ctypes.c_char * 64),
        ("tl_type", ctypes.c_char * 16),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("wake", ctypes.c_uint32),
        ("powered", ctypes.c_uint32),
        ("power_ups", ctypes.c_uint32),
        ("linked", ctypes.c_uint32),
        ("frozen", ctypes.c_uint32),
        ("slow_ms", ctypes.c_uint32),
        ("late_ms", ctypes.c_uint32),
        ("pictures", ctypes.c_uint32),
        ("line_edges", ctypes.c_uint32),
        ("encoder_ticks", ctypes.c_uint32),
        ("temperature", ctypes.c_int32),
        ("asked", ctypes.c_uint32 * len(Fault)),
        ("done", ctypes.c_uint32 * len(Fault)),
        ("other_parts", ctypes.c_uint32),
        ("triggers", ctypes.c_uint32),
        ("delivered", ctypes.c_uint32),
        ("dropped", ctypes.c_uint32),
        ("frame_id", ctypes.c_uint32),
        ("owner", ctypes.c_uint32),
        ("registers_of", ctypes.c_uint32),
        ("saved", ctypes.c_uint32),
        ("power_up_set", ctypes.c_uint32),
        ("line_base", ctypes.c_uint32),
        ("encoder_base", ctypes.c_uint32),
        ("software_base", ctypes.c_uint32),
        ("software_triggers", ctypes.c_uint32),
        ("powered_at", ctypes.c_uint64),
        ("registers", ctypes.c_uint64 * REGISTERS),
        ("user_set", ctypes.c_uint64 * REGISTERS),
    )


class RigRecord(ctypes.Structure):
    """``struct rig_file``: the whole of ``rig.bin``."""

    _fields_ = (
        ("magic", ctypes.c_uint64),
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("devices", DeviceRecord * MAX_DEVICES),
    )
