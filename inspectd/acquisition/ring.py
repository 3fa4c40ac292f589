"""A bounded ring of pictures in shared memory between a camera's child and the daemon.

The child makes it once it knows the picture's size, as an anonymous file that it passes through
the socket: nothing has a name, so nothing is left behind. Each slot has one byte that says whether
the picture in it is in use. The child alone sets it, before the record goes out; the daemon alone
clears it, when the last reference to the picture is gone. A frame that finds no free slot is not
written: nothing is overwritten under the inspector's hands.
"""

from __future__ import annotations

import mmap
import os
import weakref

import numpy as np

from inspectd.core.records import ImageArray

PAGE = mmap.PAGESIZE


class RingWriter:
    """The child's side: makes the memory and fills slots."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.handle = os.memfd_create("inspectd-ring", os.MFD_CLOEXEC)
        """To be passed to the daemon."""
        os.ftruncate(self.handle, ring_bytes(slots, slot_bytes))
        self._memory = mmap.mmap(self.handle, ring_bytes(slots, slot_bytes))
        self._next = 0

    def claim(self) -> int | None:
        """A free slot, now in use; None where the daemon holds them all."""
        for step in range(self.slots):
            slot = (self._next + step) % self.slots
            if self._memory[slot] == 0:
                self._memory[slot] = 1
                self._next = (slot + 1) % self.slots
                return slot
        return None

    def release(self, slot: int) -> None:
        """Gives a claimed slot up again: its picture couldn't be decoded."""
        self._memory[slot] = 0

    def picture(self, slot: int, shape: tuple[int, ...]) -> ImageArray:
        """The slot as a writeable picture, (H, W) or (H, W, 3)."""
        return np.ndarray(
            shape, np.uint8, buffer=self._memory, offset=PAGE + slot * self.slot_bytes
        )


class RingReader:
    """The daemon's side: pictures as read-only views, each slot freed with its last reference."""

    def __init__(self, handle: int, slots: int, slot_bytes: int) -> None:
        self._slot_bytes = slot_bytes
        self._memory = mmap.mmap(handle, ring_bytes(slots, slot_bytes))
        os.close(handle)

    def picture(self, slot: int, shape: tuple[int, ...]) -> ImageArray:
        """The picture of a record, (H, W) or (H, W, 3), uncopied and read-only."""
        memory = self._memory
        image: ImageArray = np.ndarray(
            shape, np.uint8, buffer=memory, offset=PAGE + slot * self._slot_bytes
        )
        image.flags.writeable = False
        # Views keep this array alive, and it keeps the memory: the last one's end frees the slot.
        weakref.finalize(image, memory.__setitem__, slot, 0).atexit = False
        return image


def ring_bytes(slots: int, slot_bytes: int) -> int:
    """One page of flags, then the slots."""
    if slots > PAGE:
        raise ValueError(f"a ring has at most {PAGE} slots")
    return PAGE + slots * slot_bytes
