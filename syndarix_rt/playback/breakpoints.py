"""`Breakpoint`: at which events a run stops; a small language of comparisons over an event's payload.

::

    duration_s > 600 and reason == "tests"
    gen_ai.usage.output_tokens >= 2000 or not (status == "ok")

========  ==============================================================================================
or        ``a or b``
and       ``a and b``, binds tighter
not       ``not a``, tighter still; parentheses group
compares  ``path == value``, and with ``!=``, ``<``, ``<=``, ``>``, ``>=``; the path stands on the left
path      names joined by dots, into nested objects; the longest key that exists goes first; ``data.`` may stand
          before it, for the payload as the event has it
value     a number, ``"text"`` or ``'text'`` (a backslash keeps the next character), ``true``, ``false``, ``null``
========  ==============================================================================================

A path that leads nowhere is ``null``. ``==`` and ``!=`` compare like JSON: a number never equals a text, nor 1 true.
The others hold between two numbers or two texts (by their characters), and of anything else they are false. Nothing is
evaluated but this: no names, no calls, no arithmetic.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from syndarix_rt.delivery import TypeFilter
from syndarix_rt.errors import FilterError
from syndarix_rt.events import Event

__all__ = ["Breakpoint", "ConditionError", "condition"]

MAX_CHARACTERS = 1_000
"""Longer than anybody writes by hand."""

MAX_DEPTH = 32
"""Parentheses and ``not`` within each other."""

Condition = Callable[[Mapping[str, Any]], bool]


class ConditionError(ValueError):
    """A condition is none; the text shows where."""


class Breakpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Stops a run at events of some types, under a condition; at least one of the two is there.

    Raises:
        ConditionError: ``type`` or ``where`` is wrong, or neither is there.
    """

    type: str | None = None
    """A type's name, a glob or a category; several with commas."""
    where: Annotated[str, Meta(max_length=MAX_CHARACTERS)] | None = None
    """What the payload must fulfil."""

    def __post_init__(self) -> None:
        if self.type is None and self.where is None:
            raise ConditionError("a breakpoint needs a type or a where")
        self.compile()

    def compile(self) -> Callable[[Event], bool]:
        """The test of an event."""
        try:
            types = None if self.type is None else TypeFilter.parse(self.type)
        except FilterError as error:
            raise ConditionError(str(error)) from error
        holds = None if self.where is None else condition(self.where)

        def stops(event: Event) -> bool:
            return (types is None or types.matches(event.type)) and (holds is None or holds(event.data))

        return stops


def condition(text: str) -> Condition:
    """Read a condition.

    Returns:
        Whether it holds for a payload; it never raises, whatever the payload is.

    Raises:
        ConditionError: it is none, or is too long or too deep.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConditionError(f"at most {MAX_CHARACTERS} characters, not {len(text)}")
    reader = _Reader(text)
    found = reader.either(0)
    reader.expect("end")
    return found


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.])
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<path>[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*)
      | (?P<compares>[=!]=|[<>]=?)
      | (?P<group>[()])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_WORDS = {"or", "and", "not"}
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Reader:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._next = self._token(0)

    def either(self, depth: int) -> Condition:
        found = [self._both(depth)]
        while self._take("word", "or"):
            found.append(self._both(depth))
        return found[0] if len(found) == 1 else lambda data: any(holds(data) for holds in found)

    def _both(self, depth: int) -> Condition:
        found = [self._one(depth)]
        while self._take("word", "and"):
            found.append(self._one(depth))
        return found[0] if len(found) == 1 else lambda data: all(holds(data) for holds in found)

    def _one(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise self._wrong(f"nested more than {MAX_DEPTH} deep")
        if self._take("word", "not"):
            denied = self._one(depth + 1)
            return lambda data: not denied(data)
        if self._take("group", "("):
            found = self.either(depth + 1)
            self.expect("group", ")")
            return found
        path = tuple(self.expect("path").split("."))
        order = self.expect("compares")
        value = self._value()
        if order in ("==", "!="):
            equal = order == "=="
            return lambda data: _same(_at(data, path), value) is equal
        compare, kind = _ORDERS[order], _kind(value)
        if kind not in ("number", "text"):
            raise self._wrong(f"{order} compares numbers or texts only")
        return lambda data: _kind(found := _at(data, path)) == kind and compare(found, value)

    def _value(self) -> Any:
        kind, text, _ = self._next
        if kind == "number":
            self._advance()
            return float(text) if re.search(r"[.eE]", text) else int(text)
        if kind == "text":
            self._advance()
            return re.sub(r"(?s)\\(.)", r"\1", text[1:-1])
        if kind == "path" and text in _CONSTANTS:
            self._advance()
            return _CONSTANTS[text]
        raise self._wrong('expected a number, "text", true, false or null')

    def expect(self, kind: str, text: str | None = None) -> str:
        """Take a token of this kind.

        Raises:
            ConditionError: there is another one.
        """
        token = self._next
        if token.kind != kind or text not in (None, token.text):
            names = {"path": "a path", "compares": "==, !=, <, <=, > or >=", "end": "and, or, or the end"}
            raise self._wrong(f"expected {names.get(kind, text)}")
        if kind != "end":
            self._advance()
        return token.text

    def _take(self, kind: str, text: str) -> bool:
        found = (self._next.kind, self._next.text) == (kind, text)
        if found:
            self._advance()
        return found

    def _advance(self) -> None:
        self._next = self._token(self._next.at + len(self._next.text))

    def _token(self, start: int) -> _Token:
        match = _TOKEN.match(self._text, start)
        if match is None:
            at = start + len(self._text[start:]) - len(self._text[start:].lstrip())
            return _Token("unknown", self._text[at : at + 1], at)
        kind = str(match.lastgroup)
        text = match[kind]
        return _Token("word" if kind == "path" and text in _WORDS else kind, text, match.start(kind))

    def _wrong(self, reason: str) -> ConditionError:
        rest = self._text[self._next.at : self._next.at + 20]
        return ConditionError(
            f"{reason} at character {self._next.at + 1}: {rest!r}" if rest else f"{reason} at the end"
        )


def _at(data: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of a payload; None if there is nothing. Names of OpenTelemetry hold dots themselves."""
    if not path:
        return data
    if isinstance(data, Mapping):
        for length in range(len(path), 0, -1):
            key = ".".join(path[:length])
            if key in data:
                return _at(data[key], path[length:])
        if path[0] == "data" and len(path) > 1:
            return _at(data, path[1:])
    return None


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "constant"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "structure"


def _same(found: Any, value: Any) -> bool:
    return _kind(found) == _kind(value) and bool(found == value) and isinstance(found, bool) == isinstance(value, bool)
