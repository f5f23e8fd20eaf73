"""`Event`: one immutable record, a CloudEvents 1.0 JSON object; `EventId`: its position in a log.

An `Event` cannot exist wrong: constructing and decoding check the same rules; only what is inside ``data`` of an event
made in Python is checked when it is encoded. Encoding is compact, on one line and stable: the same event always gives
the same bytes. Times are in UTC and written with six decimals, always.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from syndarix_rt.errors import EventError
from syndarix_rt.events import rules
from syndarix_rt.events.catalogue import category_of

__all__ = ["MAX_DEPTH", "MAX_EVENT_BYTES", "Event", "EventId", "decode_batch", "encode_lines", "is_project_name"]

MAX_EVENT_BYTES = 64 * 1024
"""Largest encoded event. Room for a long log excerpt, small enough that 1,000 of them are no danger to a reader."""

MAX_DEPTH = 64
"""Deepest nesting of an encoded event, itself included. Readers of JSON stop at some depth (.NET at 64, Python where
the stack ends), so a deeper event could be published by one and break another."""

MAX_OFFSET = 2**53 - 1
"""Offsets stay exact in every JSON reader."""

_UNREACHABLE = "extensions" * MAX_EVENT_BYTES
"""A key that no encoded event has room for: the decoder is not to take ``extensions`` from an attribute so called."""

_EPOCH = re.compile(r"[A-Za-z0-9_-]{8,32}")
_OFFSET = re.compile(r"0|[1-9][0-9]{0,15}")


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
    return rules.PROJECT_PATTERN.fullmatch(name) is not None


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True, forbid_unknown_fields=True):
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
    extensions: dict[str, Any] = msgspec.field(default_factory=dict, name=_UNREACHABLE)
    """Other CloudEvents attributes, kept as they came; written beside the known ones, not below ``extensions``."""

    _raw: ClassVar[bytes | None] = None  # hidden by the instance's own, where there is one
    _position: ClassVar[EventId | None] = None

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
        if not rules.is_surely_right(self):
            rules.check(self)

    @property
    def category(self) -> str | None:
        """The catalogue's category; None for a custom type."""
        return category_of(self.type)

    @property
    def position(self) -> EventId | None:
        """Where it stands in its log; None for an event that did not come out of one. No part of its value."""
        return self._position

    @property
    def raw(self) -> bytes:
        """The very bytes it was decoded from; its encoding if it was made here."""
        return self.encode() if self._raw is None else self._raw

    def encode(self) -> bytes:
        """Compact JSON on one line, without a line end; the same event always gives the same bytes.

        NaN and infinities in ``data`` are written as null, as JavaScript does; JSON has no word for them.

        Raises:
            EventError: if that is more than 64 KiB or too deep, or if ``data`` holds what JSON cannot say.
        """
        recorded = self.recordedtime
        try:
            if self.time.microsecond and (recorded is None or recorded.microsecond) and not self.extensions:
                raw = _encode(self)
            else:  # msgspec leaves zero microseconds out; once in a million times, and at the start of a simulation
                fields = msgspec.structs.asdict(self)
                extensions = fields.pop("extensions")
                fields = {k: v for k, v in fields.items() if v is not None}
                fields["time"] = _rfc3339(self.time)
                if recorded is not None:
                    fields["recordedtime"] = _rfc3339(recorded)
                raw = _encode(fields | extensions)
        except _NO_JSON as error:
            raise EventError(f"cannot be written as JSON: {error}") from error
        if len(raw) > MAX_EVENT_BYTES or _LIST in raw or _OBJECT in raw[1 : raw.rfind(b"{")]:  # see there
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
            event = _decode_event(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # wrong, or it has attributes of others
            try:
                document = _decode_json(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise EventError(f"not JSON: {error}") from error
            event = cls.from_dict(document)
        event.__dict__["_raw"] = raw
        if position is not None:
            event.__dict__["_position"] = position
        return event

    @classmethod
    def from_dict(cls, document: Any) -> Event:
        """Check a decoded JSON value and make an event of it.

        Raises:
            EventError: as :meth:`decode`.
        """
        if not isinstance(document, dict):
            raise EventError("expected a JSON object")
        if not _KNOWN.issuperset(document):
            unknown = document.keys() - _KNOWN
            if document.get("data_base64") is not None:
                raise EventError("binary payloads are not taken; put a JSON object into 'data'", "$.data_base64")
            # CloudEvents 1.0, JSON Format §2.2: an attribute that is null counts as absent.
            extensions = {k: v for k, v in document.items() if k in unknown and v is not None}
            document = {k: v for k, v in document.items() if k not in unknown} | {_UNREACHABLE: extensions}
        try:
            return msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise rules.located(error) from None


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


def encode_lines(events: Sequence[Event]) -> bytes:
    """JSON Lines: of each event its :attr:`Event.raw`, on one line, and a line end.

    Usual events that were made here are encoded and looked at together, in two thirds of the time; a few dozen of them
    do best.

    Raises:
        EventError: as :meth:`Event.encode`.
    """
    usual = [e.time.microsecond and e.recordedtime is None and e._raw is None and not e.extensions for e in events]  # noqa: SLF001 - its own module
    if all(usual):
        with suppress(*_NO_JSON):
            lines = _encode_lines(events)
            # Small even together, no list, and no object but itself and its data: nothing is too large or too deep.
            if len(lines) <= MAX_EVENT_BYTES and _LIST not in lines and lines.count(b"{") == 2 * len(events):
                return lines
    raws = [event.encode() if _LINE_END in event.raw else event.raw for event in events]
    return b"\n".join([*raws, b""])


_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_event = msgspec.json.Decoder(Event).decode
_decode_json = msgspec.json.Decoder().decode
_KNOWN = frozenset(Event.__struct_fields__) - {"extensions"}  # an attribute that is really called so is one of them
_NO_JSON = (TypeError, ValueError, OverflowError, RecursionError, msgspec.EncodeError)
_LIST, _OBJECT, _LINE_END = b"[{\n"  # a number is found in bytes in a tenth of the time
_STRING = re.compile(rb'(?s)"(?:[^"\\]|\\.)*"')


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _check_encoded(raw: bytes) -> None:
    """The limits of an encoded event."""
    if len(raw) > MAX_EVENT_BYTES:
        raise EventError(f"the event is {len(raw)} bytes, more than {MAX_EVENT_BYTES}")
    # Of most events the data are flat; then looking for a list and for a third object is all, as counting takes longer.
    nested = _LIST in raw or _OBJECT in raw[1 : raw.rfind(b"{")]
    if nested and raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        depth = 0
        for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", raw)):
            depth += 1 if bracket in b"[{" else -1
            if depth > MAX_DEPTH:
                raise EventError(f"the event is nested more than {MAX_DEPTH} deep")
