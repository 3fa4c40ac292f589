"""The two things that Python can't do to shared memory by itself: add atomically, and wake.

Linux' FUTEX_WAKE_OP does both in the kernel: it adds to one word and wakes the waiters of another.
See futex(2).
"""

from __future__ import annotations

import ctypes
import os
import platform

_SYSCALLS = {"x86_64": 202, "aarch64": 98}
_WAKE_OP = 5
_OP_ADD = 1
_MOST = 2047
"""The largest operand: it has 12 bits with its sign."""
_ALL = 0x7FFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)


def add_and_wake(word: int, amount: int, wake: int) -> None:
    """Adds to the 32-bit word at this address, then bumps the one at `wake` and wakes its waiters.

    Args:
        word: an address, 4 bytes aligned, in memory that is mapped shared.
        amount: 0 or more.
        wake: the address of the word that the camera waits for.
    """
    while amount > 0:
        step = min(amount, _MOST)
        _wake_op(word, step)
        amount -= step
    _wake_op(wake, 1)


def _wake_op(word: int, amount: int) -> None:
    operation = _OP_ADD << 28 | amount << 12
    result = _libc.syscall(
        ctypes.c_long(_SYSCALLS[platform.machine()]),
        ctypes.c_void_p(word),
        ctypes.c_int(_WAKE_OP),
        ctypes.c_int(_ALL),
        ctypes.c_void_p(0),
        ctypes.c_void_p(word),
        ctypes.c_uint(operation),
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"futex: {os.strerror(code)}")
