"""A virtual GenICam camera: a GenTL producer in C, and the rig that sets its cameras up.

`build.producer_path` compiles ``inspectd.cti``, `rig.Rig` makes the cameras that it shows and plays
the line: it feeds pictures, edges and faults. Any GenICam consumer can open the producer; without a
rig (``INSPECTD_SIMCAM`` unset) it shows one camera with a moving test picture.
"""
