"""Runs the little of IEC 61131-3 structured text that ``inspectd_gate.st`` is written in.

Translates a FUNCTION or a FUNCTION_BLOCK to Python line by line: enough to try the block's logic on
a simulated belt, no substitute for a controller's compiler.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

TOKEN = re.compile(r"'[^']*'|:=|<>|<=|>=|T#\w+|[A-Za-z_]\w*|\d+|\S")
WORDS = {"AND": "and", "OR": "or", "NOT": "not", "MOD": "%", "TRUE": "True", "FALSE": "False"}
SIGNS = {"=": "==", "<>": "!="}
FUNCTIONS: dict[str, Any] = {
    "FIND": lambda text, part: text.find(part) + 1,
    "LEFT": lambda text, count: text[:count],
    "RIGHT": lambda text, count: text[-count:],
    "LEN": len,
    "DELETE": lambda text, count, at: text[: at - 1] + text[at - 1 + count :],
    "CONCAT": lambda first, second: first + second,
    "STRING_TO_DINT": lambda text: int(text) if re.fullmatch(r"-?\d+", text) else 0,
}


class Clock:
    """The controller's time in seconds."""

    now = 0.0


class Ton:
    """TON: on-delay timer."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._since = clock, None
        self.Q = False

    def __call__(self, IN: bool, PT: float = 0.0) -> None:  # noqa: N803 - IEC's names
        if not IN:
            self._since, self.Q = None, False
            return
        self._since = self._clock.now if self._since is None else self._since
        self.Q = self._clock.now - self._since >= PT


class RTrig:
    """R_TRIG: rising edge."""

    def __init__(self) -> None:
        self.Q = self._was = False

    def __call__(self, CLK: bool) -> None:  # noqa: N803 - IEC's name
        self.Q, self._was = CLK and not self._was, CLK


def _seconds(literal: str) -> float:
    match = re.fullmatch(r"T#(\d+)(ms|s)", literal)
    assert match is not None, literal
    return int(match[1]) / (1000 if match[2] == "ms" else 1)


def _expression(symbols: list[str], names: set[str]) -> str:
    found, before = [], ""
    for symbol in symbols:
        if symbol == ":=":
            text = "="
        elif symbol in names and before != ".":
            text = f"v.{symbol}"
        elif symbol.startswith("ePART_"):
            text = repr(symbol)
        else:
            text = WORDS.get(symbol, SIGNS.get(symbol, symbol))
        found.append(text if text in (".", "(") or before == "." else f" {text}")
        before = symbol
    return "".join(found).strip()


def _python(body: str, names: set[str]) -> str:
    """Statements, one a line."""
    lines, depth, held = [], 1, []

    def write(text: str) -> None:
        lines.append("    " * depth + text)

    for symbol in TOKEN.findall(body):
        if symbol in (";", "THEN", "DO", "ELSE"):
            word = held[0] if held else symbol
            if symbol == "ELSE":
                depth -= 1
                write("else:")
                depth += 1
            elif word in ("END_IF", "END_FOR"):
                depth -= 1
            elif word in ("IF", "ELSIF"):
                depth -= word == "ELSIF"
                write(f"{'if' if word == 'IF' else 'elif'} {_expression(held[1:], names)}:")
                depth += 1
            elif word == "FOR":
                to = held.index("TO")
                first, last = _expression(held[3:to], names), _expression(held[to + 1 :], names)
                write(f"for v.{held[1]} in range({first}, {last} + 1):")
                depth += 1
            elif word == "RETURN":
                write("return")
            elif held:
                write(_expression(held, names))
            held = []
        else:
            held.append(symbol)
    return "\n".join(lines)


def _initial(kind: str, value: str | None, part: Any, clock: Clock) -> Any:
    if kind.startswith("ARRAY"):
        return [part() for _ in range(64)]
    if kind in ("TON", "R_TRIG"):
        return Ton(clock) if kind == "TON" else RTrig()
    if kind == "TIME":
        return _seconds(value or "T#0s")
    if kind.startswith("STRING"):
        return (value or "''").strip("'")
    return value == "TRUE" if kind == "BOOL" else int(value or 0)


class Block:
    """One instance of the file's function block; its variables are attributes of `v`."""

    def __init__(self, source: str, clock: Clock) -> None:
        text = re.sub(r"\(\*.*?\*\)", " ", source, flags=re.DOTALL)
        function = re.search(
            r"\bFUNCTION (\w+).*?END_VAR\n(?!VAR)(.*?)END_FUNCTION", text, re.DOTALL
        )
        block = re.search(
            r"\bFUNCTION_BLOCK (\w+)(.*)END_VAR(.*?)END_FUNCTION_BLOCK", text, re.DOTALL
        )
        assert function is not None
        assert block is not None
        self.v, functions = SimpleNamespace(), dict(FUNCTIONS)
        for name, kind, _, value in _declared(block[2]):
            setattr(self.v, name, _initial(kind, value, lambda: _part(clock), clock))
        own = {"nAt", "nEnd", "sKey", "sRest", "sJson", "sName", function[1]}
        functions[function[1]] = _function(function[1], _python(function[2], own), functions)
        code = f"def cycle(v):\n{_python(block[3], set(vars(self.v)))}\n"
        exec(code, functions)  # noqa: S102 - our own file, translated
        self._cycle = functions["cycle"]

    def cycle(self, **inputs: Any) -> SimpleNamespace:
        """One cycle of the task."""
        vars(self.v).update(inputs)
        self._cycle(self.v)
        return self.v


def _part(clock: Clock) -> SimpleNamespace:
    return SimpleNamespace(eState="ePART_NONE", nCount=0, bAlone=False, tAge=Ton(clock))


def _declared(text: str) -> list[tuple[str, ...]]:
    pattern = r"^\s+(\w+) : ([A-Z_]+(?:\[.*?\])?)(?: OF \w+)?( := ([^;]+))?;"
    return re.findall(pattern, text, re.MULTILINE)


def _function(name: str, body: str, functions: dict[str, Any]) -> Any:
    scope = functions
    exec(f"def call(v):\n{body}\n", scope)  # noqa: S102 - our own file, translated
    call = scope.pop("call")

    def run(*arguments: str) -> str:
        v = SimpleNamespace(sJson=arguments[0], sName=arguments[1])
        call(v)
        return str(getattr(v, name))

    return run
