"""``/openapi.json``: the routes as OpenAPI 3.1, which the page at ``/docs`` shows.

Paths, methods and summaries come from the route table and its functions, rights from :mod:`~syndarix_rt.server.access`,
bodies and answers from the structs that encode and check them. What only the code of a route knows, its parameters and
its statuses, stands in `ROUTES`; a test holds that every route of the app is in there, and true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import cleandoc, getdoc
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from quart import Blueprint, Quart, Response, current_app
from werkzeug.routing import Rule

from syndarix_rt._version import __version__
from syndarix_rt.broker.protocol import MAX_BATCH_EVENTS
from syndarix_rt.delivery.approvals import Decision
from syndarix_rt.events import Event
from syndarix_rt.events.rules import PROJECT_PATTERN
from syndarix_rt.server import access, documents
from syndarix_rt.server.ingress import JSON_TYPES, NDJSON_TYPE
from syndarix_rt.server.schemas import component_schemas, reference

__all__ = ["ROUTES", "Route", "describe", "openapi"]

openapi = Blueprint("openapi", __name__)

JSON, NDJSON, STREAM, TEXT, HTML = "application/json", NDJSON_TYPE, "text/event-stream", "text/plain", "text/html"
PROTOBUF = "application/x-protobuf"
PROBLEM = "application/problem+json"

_EVENT_ID = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{8,32}\.(0|[1-9][0-9]{0,15})$", "maxLength": 49}
_RUN = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}
_NOT_EMPTY = {"type": "string", "minLength": 1}

PATH_PARAMETERS = {
    "project": ({"type": "string", "pattern": f"^{PROJECT_PATTERN.pattern}$"}, "The project's name."),
    "approval_id": (_NOT_EMPTY, "As its `approval_required` says."),
    "run": (_RUN, "The run's name, as it claimed the project."),
    "holder": (_NOT_EMPTY, "The run's name, as it claimed the project."),
    "name": (_NOT_EMPTY, "A file of the page."),
}
PARAMETERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "types": (
        "query",
        {"type": "string", "minLength": 1},
        "Only these: type names, globs and categories with commas, such as `agent_*,pipeline_failed,workflow`.",
    ),
    "last_event_id": ("query", _EVENT_ID, "Stream: go on after this event id."),
    "lastEventId": ("query", _EVENT_ID, "Stream: the same, from a polyfill that reconnects."),
    "Last-Event-ID": (
        "header",
        _EVENT_ID,
        "Stream: the same, from an `EventSource` that reconnects; it wins.",
    ),
    "replay": (
        "query",
        {"oneOf": [{"type": "integer", "minimum": 0, "maximum": 10**15}, {"const": "all"}], "default": 0},
        "Stream: without a cursor, begin with the newest so many entries, or `all`.",
    ),
    "ticket": ("query", {"type": "string"}, "Instead of a header: of `POST /projects/{project}/ticket`, once."),
    "after": ("query", _EVENT_ID, "History: go on after this event id; without it, from the oldest."),
    "limit": (
        "query",
        {"type": "integer", "minimum": 1, "maximum": documents.HISTORY_LIMIT, "default": documents.HISTORY_DEFAULT},
        "History: at most so many events.",
    ),
    "Idempotency-Key": (
        "header",
        {"type": "string", "minLength": 1, "maxLength": documents.KEY_CHARACTERS},
        "Sent again with the same key, the same body is stored once; `duplicates` says that it was there. 24 hours.",
    ),
    "syndarix-project": (
        "header",
        {"type": "string", "pattern": f"^{PROJECT_PATTERN.pattern}$"},
        "The project for all that is sent; without it, `syndarix.project` or `service.name` of each resource.",
    ),
    "X-GitHub-Event": ("header", _NOT_EMPTY, "What the delivery tells of, such as `push`."),
    "X-GitHub-Delivery": ("header", {**_NOT_EMPTY, "maxLength": 100}, "The delivery's id; each is taken once."),
    "X-Hub-Signature-256": ("header", _NOT_EMPTY, "The body, signed with the secret of `--github-secret`."),
}

_CURSOR = ("types", "last_event_id", "lastEventId", "Last-Event-ID", "replay")


class Route(NamedTuple):
    """What the code of a route knows beside its path, its methods and its docstring.

    Attributes:
        parameters: names in `PARAMETERS`.
        body: a struct as JSON, ``"events"``, or content types whose schema is described elsewhere.
        answers: by content type, a struct, or None for what has no schema; of ``status``.
        status: of the answer when all went well.
        errors: further statuses, each with its reason.
        error_types: content types of errors.
        tag: the heading below which it stands.
    """

    tag: str
    answers: Mapping[str, Any] = MappingProxyType({})
    status: int = 200
    parameters: tuple[str, ...] = ()
    body: Any = None
    errors: Mapping[int, str] = MappingProxyType({})
    error_types: tuple[str, ...] = (PROBLEM,)


_AWAY = {503: "The broker is away, or a limit is reached: come back after `Retry-After`."}
_TAKEN = {
    400: "An event is wrong: `path` says where, `reason` why; nothing was stored.",
    409: "The `Idempotency-Key` came before with another body.",
    413: f"More than {MAX_BATCH_EVENTS} events or 4 MiB.",
    415: "Another content type.",
}
_TYPED = {400: "A parameter is malformed.", 406: "None of the content types is accepted."}
_WRONG = {400: "The body or the project's name is malformed.", 415: "Another content type than JSON."}

ROUTES: dict[str, Route] = {
    "projects.list_projects": Route("Read", {JSON: documents.Projects}, errors=_AWAY),
    "projects.events": Route(
        "Read",
        {STREAM: None, JSON: documents.HistoryPage, NDJSON: documents.Entry},
        parameters=(*_CURSOR, "ticket", "after", "limit"),
        errors=_TYPED | {410: "History: the event id cannot be continued; the members of the gap say why."} | _AWAY,
    ),
    "projects.position": Route("Read", {JSON: documents.Bounds}, errors=_AWAY),
    "projects.publish": Route(
        "Publish", {JSON: documents.Stored}, 202, ("Idempotency-Key",), "events",
        {403: "`approval_resolved` is written by decisions alone.", **_TAKEN, **_AWAY},
    ),
    "projects.reset": Route("Publish", {JSON: documents.Bounds}, errors=_AWAY),
    "projects.approvals": Route("Approvals", {JSON: documents.Approvals}, errors=_AWAY),
    "projects.decide": Route(
        "Approvals", {JSON: Decision}, body=documents.Choice,
        errors=_WRONG | {404: "Nobody asked for it.", 409: "It is decided otherwise, and that stands."} | _AWAY,
    ),
    "projects.claim": Route(
        "Runs", {JSON: documents.Held}, body=documents.Claim,
        errors=_WRONG | {409: "Another run plays into the project."} | _AWAY,
    ),
    "projects.release": Route("Runs", status=204, errors=_AWAY),
    "projects.publish_run": Route(
        "Runs", {JSON: documents.Stored}, 202, ("Idempotency-Key",), "events",
        {**_TAKEN, 409: "The key came before with another body, or a person's decision came first.", **_AWAY},
    ),
    "credentials.ticket": Route("Read", {JSON: documents.Ticket}, errors=_AWAY),
    "credentials.revoke": Route(
        "Operations", {JSON: documents.RevokedToken}, body=documents.TokenText,
        errors={400: "The body is malformed.", 404: "No token of this server, or it is over.", 415: "Not JSON."}
        | _AWAY,
    ),
    "projects.control": Route(
        "Runs", {STREAM: None}, parameters=_CURSOR, errors=_TYPED | {404: "No such run plays."} | _AWAY
    ),
    "projects.answer": Route(
        "Runs", {JSON: documents.Stored}, 202, ("Idempotency-Key",), "events",
        {403: "Only what a run answers.", 404: "No such run plays.", **_TAKEN, **_AWAY},
    ),
    "otlp.traces": Route(
        "Agents", {PROTOBUF: None, JSON: None}, parameters=("syndarix-project",), body=(PROTOBUF, JSON),
        errors={
            400: "Not an `ExportTraceServiceRequest`.",
            413: "Too large: fewer spans at once, or gzip.",
            415: "Another content type or encoding.",
            501: "Protobuf needs `syndarix-rt[agents]`; JSON does not.",
            **_AWAY,
        },
        error_types=(PROTOBUF, JSON, PROBLEM),
    ),
    "github.deliver": Route(
        "Agents", {JSON: None}, 202, ("X-GitHub-Event", "X-GitHub-Delivery", "X-Hub-Signature-256"), (JSON,),
        {
            400: "Not such a delivery as GitHub documents it, or the project's name is malformed.",
            401: "The signature is wrong.",
            404: "The server was started without `--github-secret`.",
            415: "Another content type than JSON.",
            **_AWAY,
        },
    ),
    "chat.chat_socket": Route("Sockets", status=101),
    "debug.debug_socket": Route("Sockets", status=101),
    "_healthz": Route("Operations", {TEXT: None}),
    "_readyz": Route(
        "Operations", {TEXT: None}, errors={503: "The broker is away, or the server ends."}, error_types=(TEXT,)
    ),
    "metrics.exposition": Route("Operations", {TEXT: None}),
    "openapi.document": Route("Descriptions", {JSON: None}),
    "asyncapi.document": Route("Descriptions", {JSON: None}),
    "pages.docs": Route("Pages", {HTML: None}),
    "pages.index": Route("Pages", {HTML: None}),
    "pages.project_page": Route("Pages", {HTML: None}),
    "pages.static": Route("Pages", {"*/*": None}, errors={404: "No such file."}),
}  # fmt: skip

_TAGS = {
    "Read": "Streams, history and positions.",
    "Publish": "Events of your own.",
    "Approvals": "What waits for a person.",
    "Runs": "For runs that play into a project over HTTP.",
    "Agents": "What real agents and their tools send: OTLP traces, webhooks.",
    "Sockets": "WebSockets; `/asyncapi.json` has their messages, and the event stream's.",
    "Operations": "For operators and load balancers.",
    "Descriptions": "What you read.",
    "Pages": "For browsers.",
}


@openapi.get("/openapi.json")
async def document() -> Response:
    """This description."""
    response = Response(msgspec.json.encode(describe(current_app)), content_type=JSON)
    response.headers["cache-control"] = "no-cache"
    return response


def describe(app: Quart) -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in app.url_map.iter_rules():
        item = paths.setdefault(_path(rule), {})
        for method in ("GET",) if rule.websocket else sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            item[method.lower()] = _operation(app, rule)
    bodies = [route.body for route in ROUTES.values() if isinstance(route.body, type)]
    answers = [kind for route in ROUTES.values() for kind in route.answers.values() if kind is not None]
    schemas = component_schemas([*bodies, *answers, Event, documents.ProblemDocument])
    schemas["ProblemDocument"] |= {"additionalProperties": True}
    schemas["Entry"]["properties"]["event"] = reference(Event)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Syndarix RT",
            "version": __version__,
            "description": "Events of LLM coding agents, simulated or real: published, streamed with exact resume or a "
            "declared gap, and read again.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "Where this document is, below whatever prefix."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "security": [{"bearer": []}, {"cookie": []}],
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The server's key, or a token of `syndarix-rt token` with rights per project.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "syndarix-rt-8765",
                    "description": "A page's: it is set for `?key=` in a page's address. Its name has the server's "
                    "port. Requests that change anything need an `Origin` of ours with it.",
                },
            },
            "responses": {
                "problem": {
                    "description": "What happened and what to do (RFC 9457).",
                    "content": {PROBLEM: {"schema": reference(documents.ProblemDocument)}},
                }
            },
        },
    }


def _path(rule: Rule) -> str:
    """``/p/{project}`` of ``/p/<project>``."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def _operation(app: Quart, rule: Rule) -> dict[str, Any]:
    endpoint = rule.endpoint
    route = ROUTES[endpoint]
    summary, _, text = cleandoc(getdoc(app.view_functions[endpoint]) or "").partition("\n\n")
    answer: dict[str, Any] = {"description": "Switching protocols." if rule.websocket else "All went well."}
    if route.answers:
        answer["content"] = {
            kind: {"schema": reference(struct)} if struct is not None and kind != NDJSON else {}
            for kind, struct in route.answers.items()
        }
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "-").strip("_"),
        "tags": [route.tag],
        "summary": summary.replace("``", "`").rstrip("."),
        "responses": {str(route.status): answer},
    }
    if text:
        operation["description"] = text.replace("``", "`")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema, "description": about}
        for name, (schema, about) in PATH_PARAMETERS.items()
        if name in rule.arguments
    ]
    for name in route.parameters:
        where, schema, about = PARAMETERS[name]
        parameters.append({"name": name, "in": where, "required": False, "schema": schema, "description": about})
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _body(route.body)}
    is_open = rule.rule in access.OPEN_PATHS or rule.rule.startswith("/static/") or endpoint in access.SIGNED
    errors = dict(route.errors)
    if "project" in rule.arguments and not rule.websocket:
        errors.setdefault(400, "The project's name is malformed.")
    if is_open:
        operation["security"] = []
    else:
        errors.setdefault(401, "No key, or a wrong one.")
        errors.setdefault(429, "This client has had too much: come back after `Retry-After`.")
        errors.setdefault(403, "The credential has no right to it, or the page, host or origin is not one of ours.")
        needs = access.NEEDS.get(endpoint)
        operation["x-rights"] = list(needs) if needs is not None else ["owner"]
    for status, about in sorted(errors.items()):
        content: dict[str, Any] = {kind: {} for kind in route.error_types}
        if PROBLEM in content:
            content[PROBLEM] = {"schema": reference(documents.ProblemDocument)}
        operation["responses"][str(status)] = {"description": about, "content": content}
    return operation


def _body(body: Any) -> dict[str, Any]:
    if isinstance(body, tuple):
        return {kind: {"schema": {"type": "object"}} if kind == JSON else {} for kind in body}
    if body != "events":
        return {JSON: {"schema": reference(body)}}
    batch = {"type": "array", "items": reference(Event), "minItems": 1, "maxItems": MAX_BATCH_EVENTS}
    either = {"schema": {"oneOf": [reference(Event), batch]}}
    return dict.fromkeys(JSON_TYPES, either) | {NDJSON: {"schema": {"type": "string", "description": "One a line."}}}
