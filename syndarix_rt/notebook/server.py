"""A server of a notebook's own, and the Redis behind one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from syndarix_rt.client import parse_server_url
from syndarix_rt.notebook.children import Child
from syndarix_rt.state import ServerEndpoint, running_servers

__all__ = ["redis_behind", "serve", "stopped_by_error"]


def serve(redis_url: str | None) -> Child:
    """A server of our own, which may not be up yet."""
    environment = {"SYNDARIX_RT_REDIS_URL": redis_url} if redis_url else {}  # no secret on a command line
    return Child(["serve", "--port", "0"], environment)


@contextmanager
def stopped_by_error(child: Child) -> Iterator[None]:
    """A server that does not come up leaves no process."""
    try:
        yield
    except BaseException:
        child.stop()
        raise


def redis_behind(url: str, redis_url: str | None) -> ServerEndpoint | None:
    """Where to publish past a server that runs; None unless a Redis was named."""
    if redis_url is None:
        return None
    base_url = parse_server_url(url).base_url  # a pasted URL is often that of a project's page
    for server in running_servers():
        if parse_server_url(server.url).base_url == base_url and server.broker_url == redis_url:
            return server  # which knows the namespace, too
    return ServerEndpoint(url=url, pid=0, started=datetime.now(UTC), memory=False, broker_url=redis_url)
