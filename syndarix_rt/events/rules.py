"""The rules of an event's attributes.

`is_surely_right` is a quick look that knows only the usual: plain types, times in UTC, a type of the catalogue and no
rare attribute. Whatever else there is, right or wrong, goes through the rules one by one: `check` says what is wrong
and where. So the quick look decides how long a check takes (a third), never what comes of it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from syndarix_rt.errors import EventError
from syndarix_rt.events.catalogue import CATALOGUE, TYPE_PATTERN
from syndarix_rt.events.payloads import Id, Payload

if TYPE_CHECKING:
    from syndarix_rt.events.event import Event

__all__ = ["PROJECT_PATTERN", "check", "is_surely_right", "located", "payload_check", "values_check"]

_MAX_PROJECT = 64
_MAX_ID = 128
_MAX_TYPE = 64
_MAX_SOURCE = 512

PROJECT_PATTERN = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_PROJECT}}}")
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_ID}}}")
_EXTENSION = re.compile(r"[a-z0-9]+")  # CloudEvents 1.0, Attribute Naming Convention (20 characters are a "should")
_INTEGERS = range(-(2**31), 2**31)  # CloudEvents 1.0, Type System
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_TYPES = tuple(
    (name, kinds)
    for kinds, names in (
        ((str,), ("specversion", "id", "source", "type", "project")),
        ((datetime,), ("time",)),
        ((dict,), ("data", "extensions")),
        ((str, NoneType), ("subject", "cause", "simulation", "traceparent", "datacontenttype")),
        ((datetime, NoneType), ("recordedtime",)),
    )
    for name in names
)
_AT = re.compile(r"(?s)(.*) - at `(.*)`")


def located(error: msgspec.ValidationError, prefix: str = "$") -> EventError:
    """Msgspec says "reason - at `$.path`"; we keep the two apart."""
    if isinstance(error.__cause__, EventError):
        return error.__cause__
    match = _AT.fullmatch(str(error))
    reason, path = match.groups() if match else (str(error), "$")
    return EventError(reason, prefix + path.removeprefix("$"))


# ---- the quick look -----------------------------------------------------------------------------------------------

_ID_CHARACTERS = (string.ascii_letters + string.digits + "_-").encode()


def _loosely(kind: Any) -> Any:
    """The type of a payload's value, of an id all but its characters.

    Msgspec looks for a pattern by calling back into Python, for each id anew, and that takes longer than all the rest.
    """
    return Annotated[str, Meta(min_length=1, max_length=64)] if kind in _ID_TYPES else kind


def _are_id_characters(text: str) -> bool:
    return not text.encode().translate(None, _ID_CHARACTERS)


def _loose(payload: type[Payload]) -> tuple[type[msgspec.Struct], list[str]]:
    """Such a payload, loosely; and the names of its ids."""
    fields, ids = [], []
    for field in msgspec.structs.fields(payload):
        default = field.default
        if field.type in _ID_TYPES:
            default = default if field.required else ""  # joins with the others
            ids.append(field.name)
        fields.append((field.name, _loosely(field.type), msgspec.field(default=default, name=field.encode_name)))
    return msgspec.defstruct(payload.__name__, fields, kw_only=True, gc=False), ids


def _usual(payload: type[Payload]) -> tuple[type[msgspec.Struct], Callable[[Any], tuple[str, ...]]]:
    """The usual event with such a payload, as a tuple of its attributes; and what takes all ids out of it."""
    data, ids = _LOOSE[payload]
    event_id = Annotated[str, Meta(min_length=1, max_length=_MAX_ID)]
    attributes = {
        "specversion": Literal["1.0"],
        "id": event_id,
        "source": Annotated[str, Meta(min_length=1, max_length=_MAX_SOURCE)],
        "type": str,
        "time": datetime,
        "project": Annotated[str, Meta(min_length=1, max_length=_MAX_PROJECT)],
        "data": data,
        "subject": Annotated[str, Meta(min_length=1)] | None,
        "cause": event_id | None,
        "simulation": str | None,
        "recordedtime": datetime | None,
        "traceparent": None,
        "datacontenttype": None,
        "extensions": Annotated[dict[str, Any], Meta(max_length=0)],
    }
    usual = msgspec.defstruct("Usual", list(attributes.items()), array_like=True, gc=False)
    return usual, attrgetter("id", "project", *(f"data.{name}" for name in ids))


_ID_TYPES = (Id, Id | None)
_LOOSE = {payload: _loose(payload) for payload in {line.payload for line in CATALOGUE.values()}}
_USUAL_WITH = {payload: _usual(payload) for payload in _LOOSE}
_USUAL = {line.name: _USUAL_WITH[line.payload] for line in CATALOGUE.values()}


def is_surely_right(event: Event) -> bool:
    """Whether nothing is wrong or unusual; False says only that a closer look is needed."""
    try:
        usual, ids_of = _USUAL[event.type]
        ids = "".join(ids_of(msgspec.convert(msgspec.structs.astuple(event), usual)))
        recorded = event.recordedtime
        return (
            _are_id_characters(ids if event.cause is None else ids + event.cause)
            and event.time.tzinfo is UTC
            and (recorded is None or recorded.tzinfo is UTC)
            and type(event.data) is type(event.extensions) is dict
        )
    except (AttributeError, KeyError, TypeError, ValueError):  # a time that is text; of msgspec, too
        return False


def payload_check(event_type: str) -> Callable[[dict[str, Any]], bool]:
    """The same look at a payload alone."""
    loose, ids = _LOOSE[CATALOGUE[event_type].payload]
    ids_of = attrgetter(*ids)

    def is_surely_right(payload: dict[str, Any]) -> bool:
        try:
            return type(payload) is dict and _are_id_characters("".join(ids_of(msgspec.convert(payload, loose))))
        except (TypeError, ValueError):
            return False

    return is_surely_right


@lru_cache(maxsize=64)
def values_check(event_type: str, keys: tuple[str, ...]) -> Callable[[Sequence[tuple[Any, ...]]], bool]:
    """The same look at some values of payloads, many at once: at rows of values in the order of these keys."""
    types = {field.encode_name: field.type for field in msgspec.structs.fields(CATALOGUE[event_type].payload)}
    row = msgspec.defstruct(
        "Row",
        [(f"value_{i}", _loosely(types.get(key, Any))) for i, key in enumerate(keys)],
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    rows_type = list[row]  # type: ignore[valid-type] # mypy does not see what defstruct makes
    ids = [place for place, key in enumerate(keys) if types.get(key) in _ID_TYPES]

    def are_surely_right(rows: Sequence[tuple[Any, ...]]) -> bool:
        try:
            msgspec.convert(rows, rows_type)
            return all(_are_id_characters("".join([each[place] for each in rows])) for place in ids)
        except (TypeError, ValueError):
            return False

    return are_surely_right


# ---- the rules, one by one ----------------------------------------------------------------------------------------


def check(event: Event) -> None:
    """Refuse an event that breaks a rule; bring the times of any other to UTC.

    Raises:
        EventError: what is wrong, and where.
    """
    # The constructor, unlike the decoder, leaves the types to us too.
    for name, kinds in _TYPES:
        if not isinstance(value := getattr(event, name), kinds):
            raise EventError(f"expected {kinds[0].__name__}, got {type(value).__name__}", f"$.{name}")
    if event.specversion != "1.0":
        raise EventError(f"must be '1.0', not {event.specversion!r}", "$.specversion")
    if not _ID.fullmatch(event.id):
        raise EventError("must be 1 to 128 of letters, digits, '_' and '-'", "$.id")
    if not 0 < len(event.source) <= _MAX_SOURCE:
        raise EventError(f"must have 1 to {_MAX_SOURCE} characters", "$.source")
    if not PROJECT_PATTERN.fullmatch(event.project):
        raise EventError("must be 1 to 64 of letters, digits, '_' and '-'", "$.project")
    if event.time.tzinfo is None:
        raise EventError("needs a time zone, such as the 'Z' of UTC", "$.time")
    if event.recordedtime is not None and event.recordedtime.tzinfo is None:
        raise EventError("needs a time zone, such as the 'Z' of UTC", "$.recordedtime")
    if event.cause is not None and not _ID.fullmatch(event.cause):
        raise EventError("must be the id of an event: 1 to 128 of letters, digits, '_' and '-'", "$.cause")
    if event.datacontenttype not in (None, "application/json"):
        raise EventError("must be 'application/json' or absent", "$.datacontenttype")
    if event.traceparent is not None and not _TRACEPARENT.fullmatch(event.traceparent):
        raise EventError("is not a W3C traceparent", "$.traceparent")
    if event.subject == "":
        raise EventError("must not be empty; leave it out", "$.subject")
    for name, value in event.extensions.items():
        if not _EXTENSION.fullmatch(name):
            raise EventError("CloudEvents attribute names are lower-case letters and digits", f"$.{name}")
        if name in event.__struct_fields__ and name != "extensions":
            raise EventError("is no extension", f"$.{name}")
        if not isinstance(value, str | int) or (isinstance(value, int) and value not in _INTEGERS):
            raise EventError("CloudEvents attributes are strings, booleans or integers of 32 bits", f"$.{name}")
        if name == "dataschema" and value == "":
            raise EventError("must not be empty; leave it out", "$.dataschema")
    line = CATALOGUE.get(event.type)
    if line is None:
        if len(event.type) > _MAX_TYPE or not TYPE_PATTERN.fullmatch(event.type):
            raise EventError(
                "must be lower_snake_case with an underscore, at most 64 characters "
                "(a catalogue type such as 'agent_started', or a custom one)",
                "$.type",
            )
    else:
        try:
            msgspec.convert(event.data, line.payload)
        except msgspec.ValidationError as error:
            raise located(error, "$.data") from None
        except UnicodeEncodeError as error:
            raise EventError(f"cannot be written as JSON: {error}", "$.data") from error
    for name in ("time", "recordedtime"):
        value = getattr(event, name)
        if value is not None and value.tzinfo is not UTC:
            try:
                msgspec.structs.force_setattr(event, name, value.astimezone(UTC))
            except OverflowError:
                raise EventError("is outside of the years 1 to 9999 in UTC", f"$.{name}") from None
