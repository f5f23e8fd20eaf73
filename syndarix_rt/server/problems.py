"""Errors over HTTP: RFC 9457 problem documents that say what happened, where, and what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from quart import Quart, Response
from werkzeug.exceptions import HTTPException

from syndarix_rt.errors import ApprovalDecided, BrokerError, BrokerUnavailable, EventError, FilterError, PublishConflict

__all__ = ["Problem", "bad_request", "install"]

RETRY_AFTER_S = 2
"""What a client is told when the broker is away: it is restarted within 3 s, or it takes a person."""


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An HTTP error on its way to the client.

    Args:
        status: the HTTP status.
        kind: the last part of the problem type, such as ``invalid-event``.
        detail: what happened and what to do, for a person.
        headers: further response headers.
        members: further members of the document, such as ``path``.
    """

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        self.document = {
            "type": f"urn:syndarix-rt:problem:{kind}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            **members,
        }

    def as_http(self) -> bytes:
        """The same as the bytes of HTTP/1.1, for who has no more than a connection."""
        body = msgspec.json.encode(self.document)
        fields = self.headers | {
            "content-type": "application/problem+json",
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.document['status']} {self.document['title']}\r\n{head}\r\n".encode("ascii") + body

    def response(self) -> Response:
        """The response that carries it."""
        response = Response(
            msgspec.json.encode(self.document), status=self.status, content_type="application/problem+json"
        )
        response.headers.update(self.headers)
        response.headers["cache-control"] = "no-store"
        return response


def bad_request(detail: str, *, kind: str = "bad-request", **members: Any) -> Problem:
    """A 400."""
    return Problem(400, kind, detail, **members)


def install(app: Quart) -> None:
    """Make every error of the app a problem document."""

    @app.errorhandler(Problem)
    async def _problem(error: Problem) -> Response:
        return error.response()

    @app.errorhandler(EventError)
    async def _event(error: EventError) -> Response:
        return bad_request(str(error), kind="invalid-event", path=error.path, reason=error.reason).response()

    @app.errorhandler(FilterError)
    async def _filter(error: FilterError) -> Response:
        return bad_request(str(error), kind="invalid-filter").response()

    @app.errorhandler(ApprovalDecided)
    async def _decided(error: ApprovalDecided) -> Response:
        return Problem(409, "approval-decided", str(error), late=error.late).response()

    @app.errorhandler(PublishConflict)
    async def _conflict(error: PublishConflict) -> Response:
        return Problem(409, "conflict", str(error)).response()

    @app.errorhandler(BrokerUnavailable)
    async def _unavailable(_: BrokerUnavailable) -> Response:
        detail = "The broker cannot be reached; nothing is known to be stored. Try again with the same Idempotency-Key."
        headers = {"retry-after": str(RETRY_AFTER_S)}
        return Problem(503, "broker-unavailable", detail, headers=headers).response()

    @app.errorhandler(BrokerError)
    async def _broker(error: BrokerError) -> Response:
        return Problem(500, "broker-error", str(error)).response()

    @app.errorhandler(HTTPException)
    async def _http(error: HTTPException) -> Response:
        status = error.code or 500
        kind = HTTPStatus(status).phrase.lower().replace(" ", "-")
        allowed = getattr(error, "valid_methods", None)  # what RFC 9110 wants beside a 405
        headers = {"allow": ", ".join(sorted(allowed))} if allowed else {}
        return Problem(status, kind, error.description or HTTPStatus(status).description, headers=headers).response()
