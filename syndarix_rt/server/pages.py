"""The web page: static files of :mod:`syndarix_rt.web`, served as they are."""

from __future__ import annotations

import mimetypes
from importlib.resources import files

from quart import Blueprint, Response, abort

from syndarix_rt.events import is_project_name
from syndarix_rt.server.problems import bad_request

__all__ = ["pages"]

pages = Blueprint("pages", __name__)

_WEB = files("syndarix_rt") / "web"

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


@pages.get("/static/<name>")
async def static(name: str) -> Response:
    """A script, style sheet or picture of the page."""
    return _file(name)


def _file(name: str) -> Response:
    # One flat folder: a name with a separator, or of a Python file, is no name of ours.
    path = _WEB / name
    if "/" in name or "\\" in name or name.startswith(".") or name.endswith((".py", ".pyc")) or not path.is_file():
        abort(404)
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if content_type.startswith("text/") or content_type.endswith("javascript"):
        content_type = content_type.replace("application/", "text/") + "; charset=utf-8"
    response = Response(path.read_bytes(), content_type=content_type)
    response.headers["cache-control"] = "no-cache"
    response.headers["content-security-policy"] = CONTENT_SECURITY_POLICY
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["referrer-policy"] = "same-origin"
    return response
