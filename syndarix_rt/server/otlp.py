"""``POST /v1/traces``: spans of real agents become events (OTLP/HTTP 1.x, protobuf and JSON).

An exporter with ``OTEL_EXPORTER_OTLP_ENDPOINT`` set to this server's URL comes here. Errors and answers are those of
the OTLP specification, in the request's own encoding, since that is what exporters read: 429 and 503 mean again, any
other error never again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from quart import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from syndarix_rt.adapters.otlp import Attributes, BadRequest, Request, Span, TooLarge, read_request, unpacked
from syndarix_rt.adapters.traces import Traces, by_trace
from syndarix_rt.broker.protocol import Broker
from syndarix_rt.errors import BrokerUnavailable, MissingExtra
from syndarix_rt.events import as_id, is_project_name
from syndarix_rt.server.access import PROJECT_HEADER
from syndarix_rt.server.once import publish_once
from syndarix_rt.server.problems import RETRY_AFTER_S, Problem
from syndarix_rt.server.throttle import check_project

__all__ = ["Exports", "otlp"]

otlp = Blueprint("otlp", __name__)

PROTOBUF, JSON = "application/x-protobuf", "application/json"

THREAD_BYTES = 64 * 1024
"""A larger body is read in a thread, so that streams go on meanwhile."""

DEFAULT_PROJECT = "agents"
"""Of processes that name neither a project nor a service."""


class Exports:
    """What is exported to this process, in the order in which it comes.

    Args:
        broker: where events go.
        is_alone: whether no other process takes exports.

    Attributes:
        counts: spans by what became of them, once that is stored.
    """

    def __init__(self, broker: Broker, *, is_alone: bool) -> None:
        self._broker = broker
        self._traces = Traces(is_alone=is_alone)
        self._one_at_a_time = asyncio.Lock()
        self.counts: Counter[str] = Counter()

    async def take(self, request: Request, project: str | None, key: str) -> None:
        """Publish what the spans come to.

        Args:
            request: the spans.
            project: where all of them go; unless given, where their resources say.
            key: of this request's very bytes, so that a repeated one adds nothing.

        Raises:
            BrokerUnavailable: nothing is known to be stored; the same request may come again.
        """
        async with self._one_at_a_time:
            by_project: dict[str, list[Span]] = {}
            for span in request.spans:
                by_project.setdefault(project or _project_of(span.resource), []).append(span)
            for name, spans in by_project.items():
                await self._publish(name, spans, key)
            self.counts["rejected"] += request.rejected.total()

    async def _publish(self, project: str, spans: Sequence[Span], key: str) -> None:
        traces = by_trace(spans)
        self._traces.counts.clear()
        try:
            # A start each by itself, under a key of the run: another process, or this one before it was started
            # again, may have seen the run begin.
            for run_id, start in self._traces.begin(project, traces).items():
                _, duplicates = await publish_once(self._broker, project, [start], f"otlp-{run_id}")
                if duplicates:
                    self._traces.joined_by_others(project, run_id)
            await publish_once(self._broker, project, self._traces.feed(project, traces), f"otlp-{key}")
        except BaseException:
            self._traces.forget(project, traces)
            raise
        self.counts.update(self._traces.counts)


def _project_of(resource: Attributes) -> str:
    for name in ("syndarix.project", "openinference.project.name", "service.name"):
        value = resource.get(name)
        if isinstance(value, str) and value and not value.startswith("unknown_service"):
            return as_id(value, otherwise=DEFAULT_PROJECT)
    return DEFAULT_PROJECT


@otlp.post("/v1/traces")
async def traces() -> Response:
    """Spans of agents, as an OpenTelemetry exporter sends them: protobuf or JSON, also with gzip.

    The header ``syndarix-project`` names the project, or the resource attribute ``syndarix.project``, or else
    ``service.name``. A token for some projects only needs the header.
    """
    exports: Exports = current_app.extensions["syndarix_rt_exports"]
    project = request.headers.get(PROJECT_HEADER)
    if project is not None and not is_project_name(project):
        return _refused(400, f"{PROJECT_HEADER} is no project name: {project[:100]!r}")
    if request.mimetype not in (PROTOBUF, JSON):
        return _refused(415, f"Content-Type is {request.mimetype or 'missing'!r}; one of {PROTOBUF}, {JSON}.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        return _refused(415, f"Content-Encoding is {encoding[:50]!r}; one of gzip, identity.")
    try:
        body: bytes = await request.get_data()  # type: ignore[assignment]  # str only if asked for
        asked = (body, encoding == "gzip", request.mimetype == JSON)
        found, digest = await asyncio.to_thread(_read, *asked) if len(body) > THREAD_BYTES else _read(*asked)
        for name in {project or _project_of(span.resource) for span in found.spans}:
            check_project(name)
        await exports.take(found, project, hashlib.sha256(f"{g.principal}\n{digest}".encode()).hexdigest()[:32])
    except BadRequest as error:
        return _refused(400, str(error))
    except Problem as problem:  # too many new projects
        return _refused(problem.document["status"], problem.document["detail"], problem.headers)
    except TooLarge as error:
        return _refused(413, f"{error}; set OTEL_BSP_MAX_EXPORT_BATCH_SIZE to less.")
    except MissingExtra as error:
        return _refused(501, f"{error}; or set OTEL_EXPORTER_OTLP_PROTOCOL to http/json.")
    except BrokerUnavailable:
        return _refused(503, "The broker cannot be reached; send it again.", {"retry-after": str(RETRY_AFTER_S)})
    except HTTPException as error:  # the body is larger than any route takes, or did not come in time
        text = f"{error.description}; set OTEL_EXPORTER_OTLP_COMPRESSION to gzip." if error.code == 413 else None  # noqa: PLR2004
        return _refused(error.code or 500, text or str(error.description))
    return _accepted(found.rejected)


def _read(body: bytes, packed: bool, is_json: bool) -> tuple[Request, str]:  # noqa: FBT001 - for to_thread
    raw = unpacked(body) if packed else body  # packed anew it may have another time in its head
    return read_request(raw, is_json=is_json), hashlib.sha256(raw).hexdigest()


def _accepted(rejected: Counter[str]) -> Response:
    """The answer to what was taken: an ``ExportTraceServiceResponse``, with ``partial_success`` if not all was."""
    count, text = rejected.total(), "; ".join(rejected)
    if request.mimetype == JSON:
        document = {"partialSuccess": {"rejectedSpans": str(count), "errorMessage": text}} if count else {}
        return _answer(200, msgspec.json.encode(document))
    partial = b"\x08" + _varint(count) + _field(2, text.encode()) if count else b""
    return _answer(200, _field(1, partial) if count else b"")


def _refused(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """A ``google.rpc.Status`` with the reason, as OTLP wants it in the body of every error."""
    g.refused = text = text or HTTPStatus(status).phrase  # for the log, which does not read protobuf
    body = msgspec.json.encode({"message": text}) if request.mimetype == JSON else _field(2, text.encode())
    response = _answer(status, body)
    response.headers.update(headers or {})
    return response


def _answer(status: int, body: bytes) -> Response:
    response = Response(body, status=status, content_type=JSON if request.mimetype == JSON else PROTOBUF)
    response.headers["cache-control"] = "no-store"
    return response


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field in protobuf's encoding."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
