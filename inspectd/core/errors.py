"""Every error that inspectd raises on purpose, in one tree.

::

    InspectdError                 the root: ``except InspectdError`` catches them all
    ├── ConfigError               a setting is missing, misspelt or contradictory
    ├── ImageError                a picture can't be read or doesn't fit
    │   └── ImageSizeError        its size is not the one the product was calibrated for
    ├── DatasetError              a folder of pictures can't serve its purpose
    ├── BackboneError             weights are missing, damaged or of another network
    ├── BundleError               a product revision can't be used
    │   ├── BundleIntegrityError  a file in it is missing or not the one that was written
    │   └── BundleSchemaError     its manifest is of another schema version
    ├── ProductError              no such product or revision
    ├── RuntimeUnavailableError   an inference runtime isn't installed or doesn't start
    │   ├── EngineError           a TensorRT engine is missing, damaged or can't be built
    │   └── ParityError           a runtime hasn't been shown to reproduce the reference
    ├── InferenceError            the runtime failed on one picture
    ├── CameraError               a camera can't be opened or was lost
    ├── PublishError              a message couldn't be handed to the broker
    │   └── BrokerRefusedError    the broker said no (password, ACL, protocol)
    ├── LedgerError               the ledger of triggers can't be written
    └── CommandError              a command from the plant can't be obeyed

A message says what is wrong and, after a semicolon or a new sentence, what to do about it.
Data that a caller may want is an attribute, not only text.
"""

from __future__ import annotations

from pathlib import Path


class InspectdError(Exception):
    """Root of the tree."""


class ConfigError(InspectdError):
    """A setting is missing, misspelt or contradictory."""


class ImageError(InspectdError):
    """A picture can't be read or doesn't fit."""


class ImageSizeError(ImageError):
    """The picture's size is not the one the product was calibrated for."""

    def __init__(self, wanted: tuple[int, int], got: tuple[int, int]) -> None:
        self.wanted = wanted
        """(H, W) in pixels."""
        self.got = got
        """(H, W) in pixels."""
        super().__init__(
            f"the picture is {got[0]} x {got[1]} (H x W), the product was calibrated on "
            f"{wanted[0]} x {wanted[1]}; set the camera back or calibrate anew"
        )


class DatasetError(InspectdError):
    """A folder of pictures can't serve its purpose."""


class BackboneError(InspectdError):
    """Weights are missing, damaged or of another network."""


class BundleError(InspectdError):
    """A product revision can't be used."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing or not the one that was written."""

    def __init__(self, path: Path, name: str, problem: str) -> None:
        self.name = name
        super().__init__(path, f"{name} {problem}; restore the revision or calibrate anew")


class BundleSchemaError(BundleError):
    """The manifest is of a schema version that this program doesn't know."""


class ProductError(InspectdError):
    """No such product or revision."""


class RuntimeUnavailableError(InspectdError):
    """An inference runtime isn't installed or doesn't start."""


class EngineError(RuntimeUnavailableError):
    """A TensorRT engine is missing, damaged or can't be built."""


class ParityError(RuntimeUnavailableError):
    """A runtime hasn't been shown to reproduce the reference, or was shown not to."""


class InferenceError(InspectdError):
    """The runtime failed on one picture."""


class CameraError(InspectdError):
    """A camera can't be opened or was lost."""


class PublishError(InspectdError):
    """A message couldn't be handed to the broker."""


class BrokerRefusedError(PublishError):
    """The broker said no: a wrong password, an ACL, an unknown protocol version."""


class LedgerError(InspectdError):
    """The ledger of triggers can't be read or written."""


class CommandError(InspectdError):
    """A command from the plant can't be understood or obeyed; nothing was changed."""
