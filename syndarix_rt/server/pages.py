"""The web page: static files of :mod:`syndarix_rt.web`, served as they are."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from quart import Blueprint, Response, abort, request

from syndarix_rt.events import is_project_name
from syndarix_rt.server.problems import bad_request

__all__ = ["pages"]

pages = Blueprint("pages", __name__)

_SERVED = (".html", ".js", ".css", ".svg", ".json")

# No CDN, no inline script, no eval; nobody else's frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'self'"
)


@pages.get("/")
async def index() -> Response:
    """The list of projects."""
    return _file("index.html")


@pages.get("/p/<project>")
async def project_page(project: str) -> Response:
    """One project, live."""
    if not is_project_name(project):
        raise bad_request(f"Not a project name: {project[:100]!r} (1 to 64 of letters, digits, '_' and '-').")
    return _file("project.html")


@pages.get("/docs")
async def docs() -> Response:
    """The routes, for people; made in the browser from ``/openapi.json``."""
    return _file("docs.html")


@pages.get("/static/<path:name>")
async def static(name: str) -> Response:
    """A script, style sheet or picture of the page."""
    return _file(name)


class _File:
    """One of the files, as it is sent."""

    def __init__(self, name: str, content: bytes) -> None:
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if content_type.startswith(("text/", "image/svg")) or content_type.endswith(("javascript", "json")):
            content_type = content_type.replace("application/javascript", "text/javascript") + "; charset=utf-8"
        self.content_type = content_type
        self.content = content
        self.compressed = gzip.compress(content, mtime=0)
        self.etag = hashlib.sha256(content).hexdigest()[:20]


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, _File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SERVED):
            yield prefix + entry.name, _File(prefix + entry.name, entry.read_bytes())


@functools.cache
def _files() -> dict[str, _File]:
    """All files by name. A name that is none of them is none of ours, whatever dots and slashes it has."""
    return dict(_read(files("syndarix_rt") / "web"))


def _file(name: str) -> Response:
    found = _files().get(name)
    if found is None:
        abort(404)
    if request.if_none_match.contains(found.etag):
        response = Response("", status=304)
    else:
        response = Response(found.content, content_type=found.content_type)
        if request.accept_encodings["gzip"] > 0:
            response = Response(found.compressed, content_type=found.content_type)
            response.headers["content-encoding"] = "gzip"
    response.headers["vary"] = "accept-encoding"
    response.headers["etag"] = f'"{found.etag}"'
    response.headers["cache-control"] = "no-cache"  # asked for again each time, and rarely sent again
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["referrer-policy"] = "same-origin"
    return response
