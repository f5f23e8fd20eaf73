"""JSON-RPC 2.0 (jsonrpc.org/specification): what runs are steered with. Text in, calls and answers out; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from syndarix_rt.errors import RpcError

__all__ = [
    "BROKER_AWAY",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "NO_ANSWER",
    "PARSE_ERROR",
    "REFUSED",
    "UNKNOWN_RUN",
    "Call",
    "Id",
    "decode",
    "encode",
    "failure",
    "message",
    "notice",
    "result",
]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

# Ours, from the range that the specification leaves to servers.
REFUSED = -32000
"""The run cannot do that now."""
UNKNOWN_RUN = -32001
"""No such run plays into the project."""
NO_ANSWER = -32002
"""The run did not answer in time; it may do what was asked nevertheless."""
BROKER_AWAY = -32003
"""The broker cannot be reached."""

Id = str | int | float | None

_MAX_CALLS = 100
"""Most calls in one batch; more is no person's."""


class Call(msgspec.Struct, frozen=True):
    """A request, or without an ``id`` a notification, to which there is no answer."""

    method: str
    params: dict[str, Any] | list[Any]
    id: Id | UnsetType = UNSET

    @property
    def is_notification(self) -> bool:
        """Whether no answer is wanted, not even an error."""
        return self.id is UNSET


def decode(text: str | bytes) -> tuple[list[Call | dict[str, Any]], bool]:
    """Read one message.

    Returns:
        Its calls in order, and in the place of each that is none the error that answers it, with the path to what is
        wrong; and whether it is a batch, so that the answers are one, too.
    """
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return [failure(None, RpcError(PARSE_ERROR, f"not JSON: {error}", {"path": "$"}))], False
    if not isinstance(document, list):
        return [_call(document, "$")], False
    if not document:
        return [failure(None, RpcError(INVALID_REQUEST, "an empty batch", {"path": "$"}))], False
    if len(document) > _MAX_CALLS:
        text = f"{len(document)} calls in one batch; at most {_MAX_CALLS}"
        return [failure(None, RpcError(INVALID_REQUEST, text, {"path": "$"}))], False
    return [_call(element, f"$[{index}]") for index, element in enumerate(document)], True


def result(call_id: Id | UnsetType, value: Any) -> dict[str, Any]:
    """The answer to a request that went well."""
    return {"jsonrpc": "2.0", "result": value, "id": call_id}


def failure(call_id: Id | UnsetType, error: RpcError) -> dict[str, Any]:
    """The answer to one that did not."""
    about: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data is not None:
        about["data"] = error.data
    return {"jsonrpc": "2.0", "error": about, "id": call_id}


def notice(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A notification."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


def message(answers: Sequence[dict[str, Any]], *, batch: bool) -> str | None:
    """The answers to what came in one message, as one; None if there is nothing to say."""
    if not answers:
        return None
    return encode(answers if batch else answers[0])


def encode(document: Any) -> str:
    """As text for a socket."""
    return msgspec.json.encode(document).decode()


def _call(document: Any, path: str) -> Call | dict[str, Any]:
    """A call; the error for what is none."""

    def wrong(reason: str, where: str) -> dict[str, Any]:
        return failure(call_id, RpcError(INVALID_REQUEST, reason, {"path": where}))

    call_id: Any = None
    if not isinstance(document, dict):
        return wrong("a call is an object", path)
    given = document.get("id", UNSET)
    if given is not UNSET and (isinstance(given, bool) or not isinstance(given, str | int | float | None)):
        return wrong("id is a string, a number or null", f"{path}.id")
    call_id = None if given is UNSET else given
    if document.get("jsonrpc") != "2.0":
        return wrong('jsonrpc is "2.0"', f"{path}.jsonrpc")
    method = document.get("method")
    if not isinstance(method, str):
        return wrong("method is a string", f"{path}.method")
    params = document.get("params", {})
    if not isinstance(params, dict | list):
        return wrong("params is an object or an array", f"{path}.params")
    return Call(method, params, given)
