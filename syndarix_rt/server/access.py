"""Who may come in: the key, the host names that are ours, and pages of other sites (DESIGN §11, CONTRACT §6)."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from urllib.parse import unquote_plus

from quart import Quart, Request, Response, Websocket, g, redirect, request, websocket

from syndarix_rt.broker.protocol import Broker
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.server import tickets
from syndarix_rt.server.problems import Problem
from syndarix_rt.server.revocation import Revocations
from syndarix_rt.server.settings import Settings
from syndarix_rt.server.tokens import Grant, verify

__all__ = ["install"]

OPEN_PATHS = ("/healthz", "/readyz")
"""Probes carry no secrets and must work for a load balancer."""

NEEDS: dict[str, tuple[str, ...]] = {
    "pages.index": (),
    "pages.docs": (),
    "pages.project_page": ("subscribe",),
    "projects.list_projects": (),  # lists what may be subscribed to
    "projects.position": ("subscribe",),
    "projects.events": ("subscribe",),
    "projects.approvals": ("subscribe",),
    "projects.publish": ("publish",),
    "projects.publish_run": ("publish", "approve"),  # a run's own decisions come this way
    "projects.control": ("publish",),
    "projects.answer": ("publish",),
    "projects.claim": ("publish",),
    "projects.release": ("publish",),
    "projects.reset": ("publish",),
    "projects.decide": ("approve",),
    "credentials.ticket": ("subscribe",),
    "chat.chat_socket": ("chat",),
    "debug.debug_socket": ("debug",),
    "asyncapi.document": (),
    "openapi.document": (),
    "metrics.exposition": ("subscribe",),  # names all projects: of all of them
    "otlp.traces": ("publish",),  # of the project that its header names, or of all of them
}
"""The rights that a route asks for in its project. A route that is not named here is the server's own key's alone."""

PROJECT_HEADER = "syndarix-project"
"""Names the project where a route's path cannot: exporters append to a base URL what they like."""

SIGNED = ("github.deliver",)
"""Routes that look for a signature instead of a credential."""

STREAM = "projects.events"
"""The route that takes tickets."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_OWNER = Grant("owner")
_ANYONE = Grant("anyone")

COOKIE_LIFE_S = 30 * 24 * 3600
"""A month; the cookie is worthless anyway once the server has another token."""


def install(app: Quart, settings: Settings, broker: Broker, revocations: Revocations) -> None:
    """Put the checks in front of every route of the app."""
    guard = _Guard(settings, broker, revocations)

    @app.before_request
    async def _check() -> Response | None:
        return await guard.check(request)

    @app.before_websocket
    async def _check_socket() -> None:
        guard.check_socket(websocket)

    @app.after_request
    async def _cors(response: Response) -> Response:
        guard.keep_stream_open(request, response)
        return guard.allow_reading(request, response)


class _Guard:
    def __init__(self, settings: Settings, broker: Broker, revocations: Revocations) -> None:
        self._settings = settings
        self._broker = broker
        self._revocations = revocations
        self._hosts = {settings.host.lower(), "localhost", *(host.lower() for host in settings.hosts)}
        # Not the token itself: a cookie jar is no place for a secret that other programs use too.
        token = settings.token
        self._cookie = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest() if token else ""

    async def check(self, request: Request) -> Response | None:
        """Refuse the request by raising a Problem, answer it here, or let it pass with ``g.principal`` set."""
        self._check_host(request)
        if request.method == "OPTIONS":
            return self._preflight(request)
        credential = await self._ticket(request) or self._credential(request) or self._stream_cookie(request)
        if request.method not in SAFE_METHODS:
            self._check_origin(request, credential[0] if credential else None)
        if request.path in OPEN_PATHS or request.path.startswith("/static/") or request.endpoint in SIGNED:
            return None
        if credential is None:
            raise Problem(
                401,
                "unauthorized",
                "This server wants its key: open the URL that it printed at start, with '?key=…', "
                "or send 'Authorization: Bearer <key>'.",
                headers={"www-authenticate": 'Bearer realm="syndarix-rt"'},
            )
        how, grant = credential
        g.principal = grant.name  # who it is, however the secret travelled
        g.grant = grant
        if (lacking := self._lacking(request, grant)) is not None:
            raise Problem(403, "missing-right", f"This token has no right to {lacking}.")
        if "key" in request.args and request.method == "GET" and _is_page(request):
            return self._trade(request, how, grant)
        return None

    def _lacking(self, request: Request | Websocket, grant: Grant) -> str | None:
        """A right that the route asks for and the credential does not give, for a person; None: it may come in."""
        if grant.rights is None or request.endpoint is None:  # what is no route is answered by a 404
            return None
        needs = NEEDS.get(request.endpoint)
        if needs is None:
            return "come here"
        named = request.headers.get(PROJECT_HEADER, "*") if request.endpoint == "otlp.traces" else "*"
        project = _project(request, named)
        return next((f"{right} in {project[:100]!r}" for right in needs if not grant.may(right, project)), None)

    def check_socket(self, socket: Websocket) -> None:
        """Refuse the upgrade by raising a Problem, or set ``g.principal``; None if the key is missing.

        ``g.lacking`` names the right that is missing. Browsers let any page open a socket anywhere, and send cookies
        along: so the origin counts, whatever the credential.
        """
        self._check_host(socket)
        how, grant = self._credential(socket) or (None, None)
        origin = socket.headers.get("origin")
        if origin is None and how == "cookie":
            raise Problem(403, "foreign-origin", "With the cookie only pages may come, and they send an Origin header.")
        if origin is not None:
            self._check_listed(socket, origin)
        g.grant = grant
        g.principal = grant.name if grant else None
        g.lacking = self._lacking(socket, grant) if grant else None

    def _credential(self, request: Request | Websocket) -> tuple[str, Grant] | None:
        """How the request shows what (``bearer``, ``key``, ``cookie``; ``open`` without a token), and what it allows.

        One that is shown and wrong does not hide another that is right.
        """
        key = self._settings.token
        if not key:
            return "open", _ANYONE
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        shown = {"bearer": value.strip() if scheme.lower() == "bearer" else "", "key": request.args.get("key", "")}
        for how, secret in shown.items():
            if secret and hmac.compare_digest(secret.encode(), key.encode()):
                return how, _OWNER
        if secret := request.cookies.get(_cookie_name(request), ""):
            if hmac.compare_digest(secret.encode(), self._cookie.encode()):
                return "cookie", _OWNER
            shown["cookie"] = secret
        for how, secret in shown.items():
            # In an address a token that lasts is for the page alone, which takes it out again.
            if secret and (how != "key" or _is_page(request)) and (grant := self._standing(verify(key, secret))):
                return how, grant
        return None

    def _standing(self, grant: Grant | None) -> Grant | None:
        """The grant, unless its token has been revoked."""
        return None if grant is None or grant.id in self._revocations.ids else grant

    async def _ticket(self, request: Request) -> tuple[str, Grant] | None:
        """What a ticket in the address opens; one that is spent is as good as none.

        A browser connects again with the ticket that it has spent, and with the cookie that the stream has set.
        """
        ticket = request.args.get("ticket")
        if not (ticket and self._settings.token and request.endpoint == STREAM and request.method == "GET"):
            return None
        try:
            grant = await tickets.redeem(self._broker, _project(request), ticket)
        except BrokerUnavailable:
            if self._credential(request) or self._stream_cookie(request):
                return None  # an EventSource is not to end for good because the broker is away
            raise
        if (grant := self._standing(grant)) is None:
            return None
        g.ticketed = grant
        return "ticket", grant

    def _stream_cookie(self, request: Request) -> tuple[str, Grant] | None:
        """What the cookie of a stream opens: that stream."""
        value = request.cookies.get(_stream_cookie_name(request), "")
        if not (value and self._settings.token and request.endpoint == STREAM):
            return None
        grant = self._standing(tickets.unseal(self._settings.token, _project(request), value))
        return ("stream-cookie", grant) if grant else None

    def keep_stream_open(self, request: Request, response: Response) -> None:
        """Give the browser whose ticket was taken what it needs to connect again by itself."""
        grant: Grant | None = g.get("ticketed")
        if grant is None or self._settings.token is None or grant.expires_s is None or response.status_code != 200:  # noqa: PLR2004
            return
        response.set_cookie(
            _stream_cookie_name(request),
            tickets.seal(self._settings.token, _project(request), grant),
            max_age=max(1, int(grant.expires_s - time.time())),
            path=request.root_path + request.path,
            secure=request.scheme == "https",
            httponly=True,
            samesite="Strict",
        )

    def _trade(self, request: Request, how: str, grant: Grant) -> Response:
        """Trade the key in the address bar for a cookie, and take it out of the address bar."""
        parts = request.query_string.decode("latin-1").split("&")
        query = "&".join(part for part in parts if part and unquote_plus(part.partition("=")[0]) != "key")
        location = request.root_path + request.path + ("?" + query if query else "")
        response: Response = redirect(location, 303)  # type: ignore[assignment]  # typed as werkzeug's
        if how == "key":
            response.set_cookie(
                _cookie_name(request),
                self._cookie if grant.expires_s is None else request.args["key"],
                max_age=COOKIE_LIFE_S if grant.expires_s is None else max(1, int(grant.expires_s - time.time())),
                path=request.root_path or "/",
                secure=request.scheme == "https",
                httponly=True,
                samesite="Lax",  # Strict would lose it on the way from a chat message or a notebook's link
            )
        response.headers["cache-control"] = "no-store"
        response.headers["referrer-policy"] = "no-referrer"
        return response

    def _check_host(self, request: Request | Websocket) -> None:
        """A page that had its name rebound to our address still says that name."""
        name = _host_name(request.headers.get("host", ""))
        if name in self._hosts:
            return
        try:
            if ipaddress.ip_address(name).is_loopback:
                return
        except ValueError:
            pass
        raise Problem(
            403,
            "unknown-host",
            f"This server does not answer for the host {name[:100]!r}; start it with --allow-host if it should.",
        )

    def _check_origin(self, request: Request, credential: str | None) -> None:
        """What changes state must not come from another site's page that rides on a cookie or on an open server."""
        if credential in ("bearer", "key"):
            return
        origin = request.headers.get("origin")
        if origin is None and credential != "cookie":
            return  # not a browser
        if origin is None:
            raise Problem(
                403, "foreign-origin", "With the cookie only pages may write, and they send an Origin header."
            )
        self._check_listed(request, origin)

    def _check_listed(self, request: Request | Websocket, origin: str) -> None:
        if not (self._is_own(request, origin) or origin in self._settings.cors_origins):
            raise Problem(403, "foreign-origin", f"Requests from {origin[:100]!r} are not taken; see --cors-origin.")

    def _is_own(self, request: Request | Websocket, origin: str) -> bool:
        """Browsers write an origin as scheme, host and port; the scheme may be a proxy's."""
        place = origin.partition("://")[2].lower()
        return place != "" and place == request.headers.get("host", "").lower()

    def _preflight(self, request: Request) -> Response:
        response = Response("", status=204)
        if request.headers.get("origin") in self._settings.cors_origins:
            response.headers["access-control-allow-methods"] = "GET, POST, PUT, DELETE"
            response.headers["access-control-allow-headers"] = (
                "authorization, content-type, idempotency-key, last-event-id"
            )
            response.headers["access-control-max-age"] = "600"
        return response

    def allow_reading(self, request: Request, response: Response) -> Response:
        """Let pages of the listed origins read the answer."""
        origin = request.headers.get("origin")
        if self._settings.cors_origins:
            response.headers.add("vary", "origin")
        if origin in self._settings.cors_origins:
            response.headers["access-control-allow-origin"] = origin
            response.headers["access-control-allow-credentials"] = "true"
            response.headers["access-control-expose-headers"] = "link, retry-after"
        return response


def _project(request: Request | Websocket, otherwise: str = "") -> str:
    return str((request.view_args or {}).get("project", otherwise))


def _is_page(request: Request | Websocket) -> bool:
    return request.path in ("/", "/docs") or request.path.startswith("/p/")


def _host_name(host: str) -> str:
    """The name in a Host header, without the port and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _cookie_name(request: Request | Websocket) -> str:
    """Cookies know no ports: two servers on one host must not overwrite each other's."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"syndarix-rt-{port if port.isdigit() else 'default'}"


def _stream_cookie_name(request: Request) -> str:
    return _cookie_name(request) + "-stream"
