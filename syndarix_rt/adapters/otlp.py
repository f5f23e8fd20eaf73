"""An OTLP export request, read: protobuf or JSON, plain or gzip, from anybody, so within limits.

Protobuf needs the extra ``agents`` (opentelemetry-proto), which is loaded with the first request; JSON needs nothing.
In OTLP's JSON, unlike in other JSON of protobuf, trace and span ids are hexadecimal. Of the attributes only those are
read that `genai` knows: what was said to a model, and what it answered, stays where it is.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from syndarix_rt.adapters.genai import KNOWN, RESOURCE_KNOWN
from syndarix_rt.errors import MissingExtra

__all__ = ["MAX_BYTES", "MAX_SPANS", "BadRequest", "Request", "Span", "TooLarge", "read_request", "unpacked"]

MAX_BYTES = 16 * 1024 * 1024
"""Of an unpacked request. An SDK exports 512 spans at once, so that is 32 KiB for each."""

MAX_SPANS = 10_000
"""Of a request: 20 exports of an SDK in one, a fraction of a second's work."""

_CHUNK = 1 << 20
_IS_REMOTE, _KNOWS_REMOTE = 0x200, 0x100  # SpanFlags of opentelemetry.proto.trace.v1
_ERROR = 2  # Status.STATUS_CODE_ERROR
_TRACE_HEX, _SPAN_HEX = 32, 16
_MAX_NS = 2**63 - 1  # the year 2262, which every calendar has

Attributes = dict[str, Any]


class BadRequest(ValueError):  # noqa: N818 - the HTTP word for it
    """The body is not what it says it is."""


class TooLarge(ValueError):  # noqa: N818 - as BadRequest
    """The body is more than is taken."""


class Span(NamedTuple):
    """What is read of a span."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str
    """As ``span_id``; empty for a root."""
    start_ns: int
    """Since 1970."""
    end_ns: int
    attributes: Attributes
    error: str | None
    """What the status says, if it is an error; may be empty."""
    is_entry: bool
    """Whether no span of this trace is above it in its process: a root, or called from another process."""
    resource: Attributes
    """Of the process that it is of, in most cases."""


class Request(NamedTuple):
    """An export request."""

    spans: list[Span]
    rejected: Counter[str]
    """Spans that are none, by reason."""


def unpacked(body: bytes) -> bytes:
    """A gzip body, unpacked.

    Raises:
        BadRequest: it is no gzip, or cut.
        TooLarge: it unpacks to more than is taken.
    """
    parts: list[bytes] = []
    size = 0
    while body:  # one member after another, RFC 1952
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if not body:
                raise BadRequest("the gzip body is cut")
            try:
                parts.append(member.decompress(body, _CHUNK))
            except zlib.error as error:
                raise BadRequest(f"the body is no gzip: {error}") from error
            size += len(parts[-1])
            if size > MAX_BYTES:
                raise TooLarge(f"the body unpacks to more than {MAX_BYTES} bytes")
            body = member.unconsumed_tail
            if not body and not parts[-1] and not member.eof:
                raise BadRequest("the gzip body is cut")
        body = member.unused_data
    return b"".join(parts)


def read_request(body: bytes, *, is_json: bool) -> Request:
    """Read an ``ExportTraceServiceRequest``.

    Raises:
        BadRequest: it is none.
        TooLarge: it has more bytes or spans than are taken.
        MissingExtra: protobuf needs opentelemetry-proto.
    """
    if len(body) > MAX_BYTES:
        raise TooLarge(f"the body has {len(body)} bytes, more than {MAX_BYTES}")
    request = Request([], Counter())
    for count, span in enumerate(_from_json(body) if is_json else _from_protobuf(body), 1):
        if count > MAX_SPANS:
            raise TooLarge(f"more than {MAX_SPANS} spans in one request")
        if fault := _fault(span):
            request.rejected[fault] += 1
        else:
            request.spans.append(span)
    return request


def _fault(span: Span) -> str:
    """Why it is no span (OTLP: ids of 16 and 8 bytes, not all zero); empty if it is one."""
    if not _is_hex(span.trace_id, _TRACE_HEX) or not _is_hex(span.span_id, _SPAN_HEX):
        return "a trace id or span id is none"
    if span.parent_id and not _is_hex(span.parent_id, _SPAN_HEX):
        return "a parent span id is none"
    if not 0 < span.start_ns <= span.end_ns <= _MAX_NS:
        return "a span ends before it starts, or has no times"
    return ""


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and text.strip("0") != "" and not text.strip("0123456789abcdef")


# ---- protobuf -----------------------------------------------------------------------------------------------------


def _from_protobuf(body: bytes) -> Iterator[Span]:
    try:
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - of the extra
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - as before
            ExportTraceServiceRequest,
        )
    except ImportError as error:
        raise MissingExtra("agents", "OTLP in protobuf") from error
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise BadRequest(f"the body is no ExportTraceServiceRequest: {error}") from error
    for resource in request.resource_spans:
        attributes = _of_protobuf(resource.resource.attributes, RESOURCE_KNOWN)
        for scope in resource.scope_spans:
            for span in scope.spans:
                flags, parent_id = span.flags, span.parent_span_id.hex()
                status = span.status
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    parent_id,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _of_protobuf(span.attributes, KNOWN),
                    status.message if status.code == _ERROR else None,
                    not parent_id or bool(flags & _KNOWS_REMOTE and flags & _IS_REMOTE),
                    attributes,
                )


def _of_protobuf(pairs: Iterable[Any], known: frozenset[str]) -> Attributes:
    found = {}
    for pair in pairs:
        key = pair.key
        if key in known:
            value = pair.value
            which = value.WhichOneof("value")
            if which == "array_value":
                found[key] = [item.string_value for item in value.array_value.values]
            elif which in _SIMPLE:
                found[key] = getattr(value, which)
    return found


_SIMPLE = ("string_value", "int_value", "double_value", "bool_value")


# ---- JSON ---------------------------------------------------------------------------------------------------------
#
# In JSON of protobuf null stands for any field that is not set.

_Whole = int | str
"""64-bit integers are strings in JSON of protobuf; numbers are taken, too."""


class _Array(msgspec.Struct, rename="camel"):
    values: list[_Value] | None = None


class _Value(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    int_value: _Whole | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: _Array | None = None

    def plain(self) -> Any:
        if self.string_value is not None:
            return self.string_value
        if self.int_value is not None:
            return _whole(self.int_value)
        if self.double_value is not None:
            return float(self.double_value)
        if self.array_value is not None:
            return [item.string_value or "" for item in self.array_value.values or ()]
        return self.bool_value


class _Pair(msgspec.Struct):
    key: str
    value: _Value | None = None


class _Status(msgspec.Struct):
    code: int | None = None
    message: str | None = None


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    start_time_unix_nano: _Whole | None = None
    end_time_unix_nano: _Whole | None = None
    attributes: list[_Pair] | None = None
    status: _Status | None = None
    flags: int | None = None


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Pair] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None


def _from_json(body: bytes) -> Iterator[Span]:
    try:
        request = msgspec.json.decode(body, type=_Request)
        for part in request.resource_spans or ():
            attributes = _of_json(part.resource.attributes if part.resource else None, RESOURCE_KNOWN)
            for scope in part.scope_spans or ():
                for span in scope.spans or ():
                    yield _span_of_json(span, attributes)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no ExportTraceServiceRequest: {error}") from error


def _span_of_json(span: _Span, resource: Attributes) -> Span:
    flags, parent_id = span.flags or 0, (span.parent_span_id or "").lower()
    return Span(
        (span.trace_id or "").lower(),
        (span.span_id or "").lower(),
        parent_id,
        _whole(span.start_time_unix_nano or 0),
        _whole(span.end_time_unix_nano or 0),
        _of_json(span.attributes, KNOWN),
        (span.status.message or "") if span.status and span.status.code == _ERROR else None,
        not parent_id or bool(flags & _KNOWS_REMOTE and flags & _IS_REMOTE),
        resource,
    )


def _of_json(pairs: Iterable[_Pair] | None, known: frozenset[str]) -> Attributes:
    found = ((pair.key, pair.value.plain()) for pair in pairs or () if pair.key in known and pair.value)
    return {key: value for key, value in found if value is not None}


def _whole(number: _Whole) -> int:
    if isinstance(number, str) and len(number) > 20:  # noqa: PLR2004 - digits of 2^64
        raise ValueError("a number is too long")
    return int(number)
