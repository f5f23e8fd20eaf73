"""``/asyncapi.json``: the event stream and both sockets as AsyncAPI 3, made from the structs that encode the frames."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args

import msgspec
from quart import Blueprint, Response

from syndarix_rt._version import __version__
from syndarix_rt.delivery import chat as frames
from syndarix_rt.delivery import jsonrpc
from syndarix_rt.delivery.resume import Gap
from syndarix_rt.delivery.steering import RunState
from syndarix_rt.events.catalogue import CATALOGUE
from syndarix_rt.events.event import Event
from syndarix_rt.server import debug
from syndarix_rt.server.schemas import component_schemas, reference
from syndarix_rt.server.socket import CLOSE_CODES
from syndarix_rt.server.stream import StreamOpen

__all__ = ["asyncapi", "describe"]

asyncapi = Blueprint("asyncapi", __name__)


@asyncapi.get("/asyncapi.json")
async def document() -> Response:
    """The description of everything that is not one request and one answer."""
    response = Response(msgspec.json.encode(describe()), content_type="application/json")
    response.headers["cache-control"] = "no-cache"
    return response


class AuthExpiring(msgspec.Struct):
    """The token that the stream came with has ended, and the stream with it; continue with another one."""


class ServerDraining(msgspec.Struct):
    """This server ends; come back after ``retry``, other instances or its successor have everything."""


class DebugCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A JSON-RPC 2.0 request, or without an ``id`` a notification; several of them as an array."""

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, Any] | list[Any] = {}
    id: str | int | float | None = None


class DebugResult(msgspec.Struct, frozen=True):
    """The answer to a request that went well."""

    jsonrpc: Literal["2.0"]
    result: Any
    """A `RunState`; of ``run.list`` an array of them, of ``run.inspect`` what was asked for."""
    id: str | int | float | None


class DebugError(msgspec.Struct, frozen=True):
    """What is wrong with a request."""

    code: int
    message: str
    data: Any = None
    """Usually ``{"path": "$.params.events"}``."""


class DebugFailure(msgspec.Struct, frozen=True):
    """The answer to a request that did not go well."""

    jsonrpc: Literal["2.0"]
    error: DebugError
    id: str | int | float | None


class DebugNotice(msgspec.Struct, frozen=True):
    """What a run tells all who are attached to it."""

    jsonrpc: Literal["2.0"]
    method: Literal["run.state", "run.stopped"]
    params: RunState


class DebugPing(msgspec.Struct, frozen=True):
    """Asks for a sign of life; any message is one."""

    jsonrpc: Literal["2.0"]
    method: Literal["ping"]
    params: dict[str, Any]


_CHAT_CLIENT = get_args(frames.ClientFrame)
_CHAT_SERVER = get_args(frames.ServerFrame)
_DEBUG_CLIENT = (DebugCall,)
_DEBUG_SERVER = (DebugResult, DebugFailure, DebugNotice, DebugPing)
_STREAM = {"stream-open": StreamOpen, "gap": Gap, "server-draining": ServerDraining, "auth-expiring": AuthExpiring}

_CODES = {
    jsonrpc.PARSE_ERROR: "not JSON",
    jsonrpc.INVALID_REQUEST: "no call",
    jsonrpc.METHOD_NOT_FOUND: "no such method",
    jsonrpc.INVALID_PARAMS: "wrong parameters",
    jsonrpc.REFUSED: "the run cannot do that now",
    jsonrpc.UNKNOWN_RUN: "no such run plays into the project",
    jsonrpc.NO_ANSWER: "the run did not answer in time",
    jsonrpc.BROKER_AWAY: "the broker cannot be reached",
}


@cache
def describe() -> dict[str, Any]:
    """The document; shared, not to be changed."""
    schemas = _schemas()
    messages: dict[str, Any] = {}

    def channel(address: str, description: str, names: list[str], **more: Any) -> dict[str, Any]:
        return {
            "address": address,
            "description": description,
            "parameters": {"project": {"description": "1 to 64 of letters, digits, `_` and `-`."}},
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            **more,
        }

    def operation(action: str, of: str, summary: str, names: list[str]) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{of}"},
            "summary": summary,
            "messages": [{"$ref": f"#/channels/{of}/messages/{name}"} for name in names],
        }

    def add(kind: Any, name: str, **more: Any) -> str:
        messages[name] = {
            "name": name,
            "contentType": "application/json",
            "summary": _summary(kind),
            "payload": reference(kind),
            **more,
        }
        return name

    events = [add(kind, name) for name, kind in _STREAM.items()]
    for line in CATALOGUE.values():
        payload = reference(line.payload)
        specific = {"type": "object", "properties": {"type": {"const": line.name}, "data": payload}}
        messages[line.name] = {
            "name": line.name,
            "contentType": "application/cloudevents+json",
            "summary": _summary(line.payload),
            "tags": [{"name": line.category}, *([{"name": "extension"}] if line.extension else [])],
            "payload": {"allOf": [reference(Event), specific]},
        }
        events.append(line.name)
    events.append(add(Event, "custom", summary="Any other type in lower snake case, with any object as its payload."))
    said = [add(kind, f"chat.client.{kind.__struct_config__.tag}") for kind in _CHAT_CLIENT]
    told = [add(kind, f"chat.server.{kind.__struct_config__.tag}") for kind in _CHAT_SERVER]
    asked = [add(kind, f"debug.client.{kind.__name__.removeprefix('Debug').lower()}") for kind in _DEBUG_CLIENT]
    answered = [add(kind, f"debug.server.{kind.__name__.removeprefix('Debug').lower()}") for kind in _DEBUG_SERVER]
    methods = ", ".join(f"`{name}`" for name in ("run.list", *debug.METHODS))
    codes = ", ".join(f"{code} {text}" for code, text in _CODES.items())
    ends = "Close codes: " + "; ".join(f"{code} {text}" for code, text in CLOSE_CODES.items()) + "."
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Syndarix RT",
            "version": __version__,
            "description": "Events of LLM coding agents, simulated or real, as a stream that resumes exactly or "
            "declares what is missing; a chat with the agents; steering of the runs that play.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": channel(
                "/projects/{project}/events",
                "Server-Sent Events. The SSE field `event` is the message's name, and `data` its payload on one line. "
                "The names of control frames have a hyphen, and no `id`. Every event has the id `<epoch>.<offset>`; "
                "give the last one as `Last-Event-ID` or `?last_event_id=` to go on after it.",
                events,
                bindings={"http": {}},
            ),
            "chat": channel(
                "/projects/{project}/chat",
                f"A WebSocket with the subprotocol `{frames.PROTOCOL}`: JSON objects with a `type`. "
                f"`?last_event_id=` goes on after a `position`. {ends}",
                [*said, *told],
                bindings={"ws": {"method": "GET"}},
            ),
            "debug": channel(
                "/projects/{project}/debug",
                f"A WebSocket with the subprotocol `{debug.PROTOCOL}`: JSON-RPC 2.0, batches too. Methods: {methods}. "
                f"Codes of errors: {codes}. {ends}",
                [*asked, *answered],
                bindings={"ws": {"method": "GET"}},
            ),
        },
        "operations": {
            "streamEvents": operation("send", "events", "The project's events, from a position or live.", events),
            "hearChat": operation("receive", "chat", "What members say.", said),
            "tellChat": operation("send", "chat", "What is said, in one order for all.", told),
            "takeCalls": operation("receive", "debug", "What runs are asked.", asked),
            "answerCalls": operation("send", "debug", "What runs answer and tell.", answered),
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _schemas() -> dict[str, Any]:
    """JSON schemas of all structs, and of what they are made of."""
    payloads = {line.payload: None for line in CATALOGUE.values()}
    return component_schemas(
        [*_STREAM.values(), Event, *payloads, *_CHAT_CLIENT, *_CHAT_SERVER, *_DEBUG_CLIENT, *_DEBUG_SERVER]
    )


def _summary(kind: type[msgspec.Struct]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0].rstrip()
