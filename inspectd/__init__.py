"""inspectd: visual inspection beside a production line.

::

    calibration/   offline, torch                 inspectd/   beside the line, never torch
    dataset > backbone > scorer.fit               camera's child process: harvesters > decode
                  |                                        | shared-memory ring, records
            ONNX graph > runtime > threshold               v
                  |                               pump: Frame | Loss > ledger row (Ticket) > queue
                  v                                                                  v
      bundle: model.onnx, manifest, golden  ----> inspector: preprocess > runtime > decide
      set, report; immutable, hashed                  |            Inspection
                                                      v
                                                  ledger (SQLite): one row per trigger
                                                      |
                                                      v
                                                  publisher: live first, then backlog > MQTT

A station has one such lane for each camera (`inspectd.daemon.lane`).

Layers, checked by import-linter: ``cli, demo > daemon > cameras, runtimes, publishers, simcam >
acquisition, ledger, pipeline > core``. ``calibration`` uses ``core``, ``pipeline`` and ``runtimes``
(a threshold is found with the runtime that will apply it); only the CLI and the demo import it,
lazily. ``simcam`` is a camera for tests and demonstrations: a GenTL producer in C.
"""

__version__ = "0.1.0"
