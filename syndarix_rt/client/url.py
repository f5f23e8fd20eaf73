"""`parse_server_url`: what a person pastes, taken apart; `checked_project`: what stands in a URL."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from syndarix_rt.errors import StreamError
from syndarix_rt.events import is_project_name

__all__ = ["ServerUrl", "checked_project", "parse_server_url"]

_OURS = re.compile(r"/(?:p/([^/]+)|projects/([^/]+)/events)\Z")
"""The parts of a path that are the server's own: the page that is printed, and the stream."""


class ServerUrl(NamedTuple):
    """A server's address, without what only a browser needs."""

    base_url: str
    """Scheme, host, port and the prefix of a proxy if there is one; no ``/`` at the end."""
    token: str | None
    """The secret of the printed URL's ``?key=``."""
    project: str | None
    """The project whose page or stream it was."""


def parse_server_url(url: str) -> ServerUrl:
    """Take apart a URL as the server printed it, or as a browser's address bar shows it.

    ``http://127.0.0.1:8765/p/apollo?key=s3cret``, ``http://127.0.0.1:8765`` and, behind a proxy,
    ``https://hub.example/user/ada/proxy/8765/p/apollo`` are all understood.

    Raises:
        StreamError: if it is no http or https URL.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError as error:
        raise StreamError(f"not a server's URL: {_without_secret(url)!r} ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StreamError(
            f"not a server's URL: {_without_secret(url)!r} (expected http://host:port, as the server printed it)"
        )
    if parts.username is not None:
        raise StreamError("a server's URL has no user name and password; the secret is its ?key=")
    path = parts.path.rstrip("/")
    ours = _OURS.search(path)
    project = None
    if ours:
        project = unquote(ours[1] or ours[2])
        path = path[: ours.start()]
    token = parse_qs(parts.query).get("key", [None])[0]
    return ServerUrl(f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}", token, project)


def checked_project(name: str) -> str:
    """The name of a project, as it stands in URLs.

    Raises:
        StreamError: if it is none.
    """
    if not is_project_name(name):
        raise StreamError(f"not a project name: {name!r} (1 to 64 of letters, digits, '_' and '-')")
    return name


def _without_secret(url: str) -> str:
    return url.partition("?")[0].rpartition("@")[2][:200]
