"""`create_app`: the Quart application over a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from quart import Quart, Response

from syndarix_rt.broker.protocol import MAX_BATCH_BYTES, Broker
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.server import access, figures, problems, proxies, throttle
from syndarix_rt.server.asyncapi import asyncapi
from syndarix_rt.server.chat import chat
from syndarix_rt.server.connection import BoundedRequest, Connection, SocketConnection
from syndarix_rt.server.credentials import credentials
from syndarix_rt.server.debug import debug
from syndarix_rt.server.github import github
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.metrics import count_publishing, metrics
from syndarix_rt.server.openapi import openapi
from syndarix_rt.server.otlp import Exports, otlp
from syndarix_rt.server.pages import pages
from syndarix_rt.server.projects import Rates, projects
from syndarix_rt.server.revocation import Revocations
from syndarix_rt.server.room import Rooms
from syndarix_rt.server.settings import Settings
from syndarix_rt.server.steering import Links

__all__ = ["create_app"]


def create_app(broker: Broker, settings: Settings | None = None) -> Quart:
    """The application. The caller owns the broker and closes it after the server has ended.

    ``app.extensions["syndarix_rt"]`` is its `Hub`; whoever serves the app calls ``await hub.drain()`` before it stops
    (our launcher does).
    """
    settings = settings or Settings()
    app = Quart("syndarix_rt.server", static_folder=None)
    app.asgi_http_class = Connection
    app.asgi_websocket_class = SocketConnection
    app.request_class = BoundedRequest
    app.config["MAX_CONTENT_LENGTH"] = MAX_BATCH_BYTES + 64 * 1024  # a full batch as a JSON array, with its commas
    app.config["BODY_TIMEOUT"] = settings.body_timeout_s
    hub = app.extensions["syndarix_rt"] = Hub(broker, settings)
    app.extensions["syndarix_rt_rates"] = Rates()
    app.extensions["syndarix_rt_links"] = Links(broker)
    known = throttle.KnownProjects(broker, hub.limits)
    app.extensions["syndarix_rt_known"] = known
    app.extensions["syndarix_rt_exports"] = Exports(broker, is_alone=settings.alone)
    rooms = app.extensions["syndarix_rt_rooms"] = Rooms(broker)
    revocations = app.extensions["syndarix_rt_revocations"] = Revocations(broker, hub)
    problems.install(app)
    count_publishing(app, hub)  # first of all: it sees what the others have answered
    access.install(app, settings, broker, revocations)
    throttle.install(app, hub, known)
    proxies.install(app, settings)
    app.register_blueprint(pages)
    app.register_blueprint(projects)
    app.register_blueprint(credentials)
    app.register_blueprint(chat)
    app.register_blueprint(debug)
    app.register_blueprint(asyncapi)
    app.register_blueprint(openapi)
    app.register_blueprint(metrics)
    app.register_blueprint(otlp)
    app.register_blueprint(github)

    @app.while_serving
    async def _serving() -> AsyncGenerator[None]:
        hub.start()
        if settings.token:  # without a key there are no tokens
            await revocations.start()
        leaving = None
        if settings.figures_dir is not None:
            exports: Exports = app.extensions["syndarix_rt_exports"]
            leaving = asyncio.create_task(figures.keep_leaving(settings.figures_dir, hub, exports), name="figures")
        yield
        if leaving is not None:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        await known.aclose()
        await revocations.aclose()
        await rooms.aclose()
        await hub.aclose()

    @app.get("/healthz")
    async def _healthz() -> Response:
        """Whether the process answers."""
        return Response("ok\n", content_type="text/plain")

    @app.get("/readyz")
    async def _readyz() -> Response:
        """Whether it can serve: the broker is there, and the server is not about to end."""
        if hub.draining:
            return Response("draining\n", status=503, content_type="text/plain")
        try:
            await broker.ping()
        except BrokerUnavailable as error:
            return Response(f"broker away: {error}\n", status=503, content_type="text/plain")
        return Response("ready\n", content_type="text/plain")

    return app
