"""`Event`: one immutable record, a CloudEvents 1.0 JSON object; `EventId`: its position in a log.

An `Event` cannot exist wrong: constructing and decoding check the same rules; only what is inside ``data`` of an event
made in Python is checked when it is encoded. Encoding is compact, on one line and stable: the same event always gives
the same bytes. Times are in UTC and written with six decimals, always.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import NoneType
from typing import Any, NamedTuple

import msgspec

from syndarix_rt.errors import EventError
from syndarix_rt.events.catalogue import CATALOGUE, TYPE_PATTERN, category_of

__all__ = ["MAX_DEPTH", "MAX_EVENT_BYTES", "Event", "EventId", "decode_batch", "is_project_name"]

MAX_EVENT_BYTES = 64 * 1024
"""Largest encoded event. Room for a long log excerpt, small enough that 1,000 of them are no danger to a reader."""

MAX_DEPTH = 64
"""Deepest nesting of an encoded event, itself included. Readers of JSON stop at some depth (.NET at 64, Python where
the stack ends), so a deeper event could be published by one and break another."""

MAX_OFFSET = 2**53 - 1
"""Offsets stay exact in every JSON reader."""

_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_EPOCH = re.compile(r"[A-Za-z0-9_-]{8,32}")
_OFFSET = re.compile(r"0|[1-9][0-9]{0,15}")
_EXTENSION = re.compile(r"[a-z0-9]+")  # CloudEvents 1.0, Attribute Naming Convention (20 characters are a "should")
_INTEGERS = range(-(2**31), 2**31)  # CloudEvents 1.0, Type System
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_MAX_TYPE = 64
_MAX_SOURCE = 512


class EventId(NamedTuple):
    """Where an event stands in a channel's log; on the wire ``<epoch>.<offset>``.

    Offsets count from 1 within an epoch; offset 0 is the place before the first event.
    """

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Read ``<epoch>.<offset>`` strictly, as untrusted input.

        Raises:
            EventError: if it is anything else (no sign, no leading zero, offset at most 2^53 - 1).
        """
        epoch, dot, offset = text.partition(".")
        if not dot or not _EPOCH.fullmatch(epoch) or not _OFFSET.fullmatch(offset) or int(offset) > MAX_OFFSET:
            raise EventError(f"not an event id: {text[:160]!r} (expected <epoch>.<offset>)")
        return cls(epoch, int(offset))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"


def is_project_name(name: str) -> bool:
    """Whether ``name`` may name a project: 1 to 64 of letters, digits, ``_`` and ``-``."""
    return _PROJECT.fullmatch(name) is not None


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One thing that happened, as published: a CloudEvents 1.0 event in JSON.

    Raises:
        EventError: from the constructor and from :meth:`decode`, with the JSON path of what is wrong.
    """

    specversion: str
    """Always ``"1.0"``."""
    id: str
    """Unique for its source; ``[A-Za-z0-9_-]``, at most 128."""
    source: str
    """Who says so: a URI reference, such as ``/syndarix-rt/simulation``."""
    type: str
    """A catalogue type, or any lower_snake_case name with an underscore."""
    time: datetime
    """When it happened, simulated or real; kept in UTC, microseconds."""
    project: str
    data: dict[str, Any]
    """The payload; of a catalogue type checked against its struct in :mod:`syndarix_rt.events.payloads`."""
    subject: str | None = None
    """What it is about, such as an issue's id."""
    cause: str | None = None
    """The id of the event that led to this one."""
    simulation: str | None = None
    """Of a simulated event: which simulation (scenario, seed and start) it belongs to."""
    recordedtime: datetime | None = None
    """Wall time of publication, UTC."""
    traceparent: str | None = None
    """W3C Trace Context."""
    datacontenttype: str | None = None
    """Absent or ``application/json``."""
    extensions: dict[str, Any] = {}
    """Other CloudEvents attributes, kept as they came; written beside the known ones, not below ``extensions``."""

    @classmethod
    def new(
        cls,
        type: str,  # noqa: A002 - the attribute's name in CloudEvents
        data: dict[str, Any] | msgspec.Struct,
        *,
        project: str,
        id: str,  # noqa: A002 - see type
        time: datetime,
        source: str = "/syndarix-rt",
        **attributes: Any,
    ) -> Event:
        """An event of our own; ``data`` may be a payload struct."""
        payload = msgspec.to_builtins(data) if isinstance(data, msgspec.Struct) else data
        return cls(
            specversion="1.0",
            id=id,
            source=source,
            type=type,
            time=time,
            project=project,
            data=payload,
            **attributes,
        )

    def __post_init__(self) -> None:
        _check(self)
        for name in ("time", "recordedtime"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is not UTC:
                try:
                    msgspec.structs.force_setattr(self, name, value.astimezone(UTC))
                except OverflowError:
                    raise EventError("is outside of the years 1 to 9999 in UTC", f"$.{name}") from None

    @property
    def category(self) -> str | None:
        """The catalogue's category; None for a custom type."""
        return category_of(self.type)

    @property
    def position(self) -> EventId | None:
        """Where it stands in its log; None for an event that did not come out of one. No part of its value."""
        return self.__dict__.get("position")

    @property
    def raw(self) -> bytes:
        """The very bytes it was decoded from; its encoding if it was made here."""
        raw: bytes | None = self.__dict__.get("raw")
        return self.encode() if raw is None else raw

    def encode(self) -> bytes:
        """Compact JSON on one line, without a line end; the same event always gives the same bytes.

        NaN and infinities in ``data`` are written as null, as JavaScript does; JSON has no word for them.

        Raises:
            EventError: if that is more than 64 KiB or too deep, or if ``data`` holds what JSON cannot say.
        """
        recorded = self.recordedtime
        try:
            if self.time.microsecond and (recorded is None or recorded.microsecond) and not self.extensions:
                raw = _encoder.encode(self)
            else:  # msgspec leaves zero microseconds out; once in a million times, and at the start of a simulation
                fields = msgspec.structs.asdict(self)
                extensions = fields.pop("extensions")
                fields = {k: v for k, v in fields.items() if v is not None}
                fields["time"] = _rfc3339(self.time)
                if recorded is not None:
                    fields["recordedtime"] = _rfc3339(recorded)
                raw = _encoder.encode(fields | extensions)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.EncodeError) as error:
            raise EventError(f"cannot be written as JSON: {error}") from error
        _check_encoded(raw)
        return raw

    def to_dict(self) -> dict[str, Any]:
        """The CloudEvents JSON object as Python values (times as RFC 3339 text)."""
        result: dict[str, Any] = msgspec.json.decode(self.encode())
        return result

    @classmethod
    def decode(cls, raw: bytes, position: EventId | None = None) -> Event:
        """Read one event from JSON.

        Args:
            raw: the JSON text; kept as :attr:`raw`.
            position: where it stands in its log, if it came out of one.

        Raises:
            EventError: if it is not JSON, too large, or breaks a rule; ``path`` says where.
        """
        _check_encoded(raw)
        try:
            document = _decode_json(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EventError(f"not JSON: {error}") from error
        event = cls.from_dict(document)
        event.__dict__["raw"] = raw
        if position is not None:
            event.__dict__["position"] = position
        return event

    @classmethod
    def from_dict(cls, document: Any) -> Event:
        """Check a decoded JSON value and make an event of it.

        Raises:
            EventError: as :meth:`decode`.
        """
        if not isinstance(document, dict):
            raise EventError("expected a JSON object")
        unknown = document.keys() - _KNOWN
        if unknown:
            if document.get("data_base64") is not None:
                raise EventError("binary payloads are not taken; put a JSON object into 'data'", "$.data_base64")
            # CloudEvents 1.0, JSON Format §2.2: an attribute that is null counts as absent.
            extensions = {k: v for k, v in document.items() if k in unknown and v is not None}
            document = {k: v for k, v in document.items() if k not in unknown} | {"extensions": extensions}
        try:
            return msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise _located(error) from None


def decode_batch(document: Any) -> list[Event]:
    """Events from a decoded JSON array, all or nothing.

    Raises:
        EventError: the first wrong element, with its index in the path: ``$[3].data.run_id``.
    """
    events = []
    for index, element in enumerate(document):
        try:
            events.append(Event.from_dict(element))
        except EventError as error:
            raise error.within(f"$[{index}]") from error
    return events


_encoder = msgspec.json.Encoder()
_decode_json = msgspec.json.Decoder().decode
_KNOWN = frozenset(Event.__struct_fields__) - {"extensions"}  # an attribute that is really called so is one of them
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
_STRING = re.compile(rb'(?s)"(?:[^"\\]|\\.)*"')


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _located(error: msgspec.ValidationError, prefix: str = "$") -> EventError:
    """Msgspec says "reason - at `$.path`"; we keep the two apart."""
    if isinstance(error.__cause__, EventError):
        return error.__cause__
    match = _AT.fullmatch(str(error))
    reason, path = match.groups() if match else (str(error), "$")
    return EventError(reason, prefix + path.removeprefix("$"))


def _check_encoded(raw: bytes) -> None:
    """The limits of an encoded event."""
    if len(raw) > MAX_EVENT_BYTES:
        raise EventError(f"the event is {len(raw)} bytes, more than {MAX_EVENT_BYTES}")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:  # nearly never; then look closely
        depth = 0
        for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", raw)):
            depth += 1 if bracket in b"[{" else -1
            if depth > MAX_DEPTH:
                raise EventError(f"the event is nested more than {MAX_DEPTH} deep")


def _check(event: Event) -> None:
    """The rules of an event's attributes; the constructor, unlike the decoder, leaves the types to us too."""
    for name, kinds in _TYPES:
        if not isinstance(value := getattr(event, name), kinds):
            raise EventError(f"expected {kinds[0].__name__}, got {type(value).__name__}", f"$.{name}")
    if event.specversion != "1.0":
        raise EventError(f"must be '1.0', not {event.specversion!r}", "$.specversion")
    if not _ID.fullmatch(event.id):
        raise EventError("must be 1 to 128 of letters, digits, '_' and '-'", "$.id")
    if not 0 < len(event.source) <= _MAX_SOURCE:
        raise EventError(f"must have 1 to {_MAX_SOURCE} characters", "$.source")
    if not _PROJECT.fullmatch(event.project):
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
        if name in _KNOWN:
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
            raise _located(error, "$.data") from None
