"""inspectd: visual inspection beside a production line.

::

    calibration/   offline, torch                 inspectd/   beside the line, never torch
    dataset > backbone > scorer.fit               camera's child process: harvesters > decode
                  |                                        | shared-memory ring, records
            ONNX graph > runtime > threshold               v
                  |                               pump: Frame | Loss > ledger row (Ticket)
                  v                                        |            > book of answers > queue
      bundle: model.onnx, manifest, golden                 v                                  v
      set, report; immutable, hashed  -----> inspector: preprocess > runtime > decide  <------+
                                                           | Decision
                                                           v
                                      answers: one verdict per part, by the inspector, by the
                                      timer just before its deadline, or at the end
                                                           v
                                                  ledger (SQLite): one row per trigger
                                                           |
                                                           v
                                                  publisher: live first, then backlog > MQTT

A station has one such lane for each camera (`inspectd.daemon.lane`); lanes with the same model may
share its runtime and put their pictures into one batch (`inspectd.daemon.sharing`). The main thread
(`inspectd.daemon.station`) takes signals, commands from the publisher (`inspectd.daemon.operator`)
and prepared products (`inspectd.daemon.changeover`), one after the other, and feeds the watchdog.

Layers, checked by import-linter: ``cli > simulate > demo > bench > gate, remote, daemon >
cameras, runtimes, publishers, simcam > acquisition, ledger, pipeline > core``. ``calibration`` uses
``core``, ``pipeline`` and ``runtimes`` (a threshold is found with the runtime that will apply it);
only the CLI, the demo and the simulation import it, lazily. ``simcam`` is a camera for tests and
demonstrations, a GenTL producer in C; ``simulate`` is a whole line around the real daemon.
"""

__version__ = "0.1.0"
