"""inspectd: visual inspection beside a production line.

::

    calibration/   offline, torch                 inspectd/   beside the line, never torch
    dataset > backbone > scorer.fit               camera (thread) --- Frame | Loss --.
                  |                                                                  v
            ONNX graph > runtime > threshold      pump: ledger row (Ticket) > bounded queue
                  |                                                                  v
                  v                               inspector: preprocess > runtime > decide
      bundle: model.onnx, manifest, golden  ----->    |            Inspection
      set, report; immutable, hashed                  v
                                                  ledger (SQLite): one row per trigger
                                                      |
                                                      v
                                                  publisher: live first, then backlog > MQTT

Layers, checked by import-linter: ``cli, demo > daemon > cameras, runtimes, publishers >
ledger, pipeline > core``. ``calibration`` uses ``core``, ``pipeline`` and ``runtimes`` (a threshold
is found with the runtime that will apply it); only the CLI and the demo import it, lazily.
"""

__version__ = "0.1.0"
