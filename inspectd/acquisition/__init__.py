"""Acquisition from GenICam cameras: one child process for each, and the shared memory between.

::

    child process (child.py)                          daemon
    producer > harvesters > decode into a ring slot   host.py: starts, watches, kills, restarts it
         device.py  features.py  pixels.py                |
                        |                             counting.py: every trigger a frame or a loss
                        `--- record on a socket --------> |
                             ring.py (memfd)          inspectd/cameras/genicam.py

harvesters holds the interpreter's lock while it waits for a frame, and a producer may wedge for
good: both stay in the child, which can be killed at any time. The ring is an anonymous file passed
through the socket, so that nothing is left behind whoever dies.
"""
