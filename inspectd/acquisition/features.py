"""SFNC features of a camera: written in order, each read back and compared; or listed.

A node map is GenApi's, as harvesters gives it. A feature that needs a selector is written as
``Feature[Selector=Value]``, which sets the selector first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from inspectd.core.errors import CameraError

Value = bool | int | float | str
SELECTED = re.compile(r"^(\w+)\[(\w+)=([\w.-]+)\]$")
RELATIVE_TOLERANCE = 0.01
"""A camera rounds to what its sensor can do; a float read back further off than this is refused."""
EXECUTE = "execute"
"""Written to a command, such as ``UserSetLoad``."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature as `inspectd camera show` lists it."""

    name: str
    kind: str
    """`integer`, `float`, `boolean`, `enumeration`, `string` or `command`."""
    access: str
    """`rw`, `ro` or `wo`."""
    value: Value | None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class FeatureMismatchError(CameraError):
    """A camera keeps another value than it was told."""

    def __init__(self, feature: str, wanted: Value, got: Value | None, why: str = "") -> None:
        self.feature = feature
        self.wanted = wanted
        self.got = got
        super().__init__(
            f"feature {feature}: wanted {wanted!r}, got {got!r}{why}; set [camera] features to "
            "what `inspectd camera show` says the camera can do"
        )


def apply_features(nodes: Any, features: Iterable[tuple[str, Value]]) -> None:
    """Writes the features in order and reads each back.

    Raises:
        FeatureMismatchError: one can't be set or keeps another value; names feature, wanted, got.
        CameraError: no such feature.
    """
    for name, wanted in features:
        if selected := SELECTED.match(name):
            name, selector, choice = selected.groups()
            apply_feature(nodes, selector, choice)
        apply_feature(nodes, name, wanted)


def apply_feature(nodes: Any, name: str, wanted: Value) -> None:
    """Writes one feature and reads it back; see `apply_features`."""
    from genicam import genapi

    node = find(nodes, name)
    if node is None:
        raise CameraError(
            f"the camera has no feature {name}; SFNC's spelling counts, and `inspectd camera show` "
            "lists those it has"
        )
    if isinstance(node, genapi.ICommand):
        _execute(node, name, wanted)
        return
    try:
        node.value = _converted(node, name, wanted)
        got = node.value
    except genapi.GenericException as error:
        raise FeatureMismatchError(name, wanted, _value(node), f" ({_reason(error)})") from error
    if not _equal(wanted, got):
        raise FeatureMismatchError(name, wanted, got)


def find(nodes: Any, name: str) -> Any | None:
    """A feature's node, or None where the camera hasn't got it or has it disabled."""
    from genicam import genapi

    node = nodes.get_node(name) if nodes.has_node(name) else None
    missing = (genapi.EAccessMode.NI, genapi.EAccessMode.NA)
    return None if node is None or node.get_access_mode() in missing else node


def read(nodes: Any, name: str) -> Value | None:
    """A feature's value from the camera itself, or None where there is no such feature.

    Raises:
        genicam.genapi.GenericException: the camera doesn't answer.
    """
    node = find(nodes, name)
    if node is None:
        return None
    node.node.invalidate_node()
    value: Value = node.value
    return value


def describe(nodes: Any) -> list[Feature]:
    """The camera's features with their values and ranges, by name."""
    from genicam import genapi

    found = []
    for node in nodes.nodes:
        inner = node.node
        if inner.is_feature() and inner.visibility <= genapi.EVisibility.Guru:
            feature = _described(nodes, inner.name)
            if feature is not None:
                found.append(feature)
    return sorted(found, key=lambda feature: feature.name)


def _described(nodes: Any, name: str) -> Feature | None:
    from genicam import genapi

    node = find(nodes, name)
    kinds = (
        (genapi.ICommand, "command"),
        (genapi.IBoolean, "boolean"),
        (genapi.IEnumeration, "enumeration"),
        (genapi.IInteger, "integer"),
        (genapi.IFloat, "float"),
        (genapi.IString, "string"),
    )
    kind = next((word for known, word in kinds if isinstance(node, known)), None)
    if node is None or kind is None:
        return None
    access = {genapi.EAccessMode.RO: "ro", genapi.EAccessMode.WO: "wo"}
    facts: dict[str, Any] = {}
    try:
        if kind in ("integer", "float"):
            facts = {"least": node.min, "most": node.max, "unit": node.unit}
        elif kind == "enumeration":
            facts = {"choices": tuple(node.symbolics)}
    except genapi.GenericException:
        facts = {}
    return Feature(name, kind, access.get(node.get_access_mode(), "rw"), _value(node), **facts)


def _value(node: Any) -> Value | None:
    from genicam import genapi

    if isinstance(node, genapi.ICommand):
        return None
    try:
        value: Value = node.value
    except genapi.GenericException:
        return None
    return value


def _execute(node: Any, name: str, wanted: Value) -> None:
    from genicam import genapi

    if wanted not in (EXECUTE, True):
        raise CameraError(f'{name} is a command: write {name} = "{EXECUTE}"')
    try:
        node.execute()
    except genapi.GenericException as error:
        raise FeatureMismatchError(name, wanted, None, f" ({_reason(error)})") from error


def _converted(node: Any, name: str, wanted: Value) -> Value:
    """Numbers in the node's own kind: TOML's 1000 is a float where the camera wants one."""
    from genicam import genapi

    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if isinstance(node, genapi.IFloat) and number:
        return float(wanted)
    if isinstance(node, genapi.IInteger) and number and float(wanted).is_integer():
        return int(wanted)
    kinds = (
        (genapi.IBoolean, bool, "true or false"),
        (genapi.IEnumeration, str, "a word in quotes"),
        (genapi.IString, str, "a text in quotes"),
        (genapi.IInteger, (), "a whole number"),
        (genapi.IFloat, (), "a number"),
    )
    for known, python, meant in kinds:
        if isinstance(node, known) and not isinstance(wanted, python):
            raise FeatureMismatchError(name, wanted, _value(node), f" (it takes {meant})")
    return wanted


def _equal(wanted: Value, got: Value) -> bool:
    if isinstance(wanted, float) or isinstance(got, float):
        return math.isclose(float(wanted), float(got), rel_tol=RELATIVE_TOLERANCE)
    return wanted == got


def _reason(error: Exception) -> str:
    """GenApi's messages carry the place in its own source; only the sentence is of use."""
    text = str(error).split(" (file ", maxsplit=1)[0]
    text = re.sub(r"\.? : \w+ thrown in node .*", "", text, flags=re.DOTALL)
    return re.sub(r"^Feature '\w+' : ", "", text).strip()
