"""JSON in and out: a request's body as a struct, and a struct as the answer."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from quart import Response, request

from syndarix_rt.server.problems import Problem, bad_request

__all__ = ["asked", "json_answer"]

T = TypeVar("T")


def json_answer(document: Any, status: int = 200) -> Response:
    """An answer that nobody keeps."""
    response = Response(msgspec.json.encode(document), status=status, content_type="application/json")
    response.headers["cache-control"] = "no-store"
    return response


async def asked(kind: type[T], what: str) -> T:
    """The request's JSON body as what it should be."""
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", "Content-Type must be application/json.")
    body: bytes = await request.get_data()  # type: ignore[assignment]  # str only if asked for
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"Not {what}: {error}") from error
