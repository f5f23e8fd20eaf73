"""``POST /projects/{p}/github``: a repository's webhooks become the project's events.

GitHub shows no token of ours; it signs each delivery with the webhook's secret, and that is what lets it in.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec
from quart import Blueprint, Response, current_app, request

from syndarix_rt.adapters.github import is_signed, read_delivery
from syndarix_rt.errors import EventError
from syndarix_rt.events import is_project_name
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.once import publish_once
from syndarix_rt.server.problems import Problem, bad_request
from syndarix_rt.server.throttle import check_project

__all__ = ["github"]

github = Blueprint("github", __name__, url_prefix="/projects")

DELIVERY_CHARACTERS = 100


@github.post("/<project>/github")
async def deliver(project: str) -> Response:
    """One delivery of a GitHub webhook: issues, pull_request, push, create, workflow_run.

    It is signed with the secret that the server was started with (``--github-secret``). A delivery that comes again
    adds nothing.
    """
    hub: Hub = current_app.extensions["syndarix_rt"]
    secret = hub.settings.github_secret
    if not secret:
        raise Problem(404, "github-off", "This server takes no webhooks: start it with --github-secret.")
    body: bytes = await request.get_data()  # type: ignore[assignment]  # str only if asked for
    if not is_signed(body, secret, request.headers.get("x-hub-signature-256", "")):
        raise Problem(401, "wrong-signature", "X-Hub-Signature-256 is not that of this body and the server's secret.")
    if not is_project_name(project):
        raise bad_request(f"Not a project name: {project[:100]!r}.", kind="invalid-project")
    check_project(project)
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", "Set the webhook's content type to application/json.")
    kind, delivery = request.headers.get("x-github-event", ""), request.headers.get("x-github-delivery", "")
    if not kind or not 0 < len(delivery) <= DELIVERY_CHARACTERS:
        raise bad_request("X-GitHub-Event or X-GitHub-Delivery is missing.")
    try:
        found = read_delivery(kind, delivery, body, project=project, received=datetime.now(UTC))
    except (msgspec.DecodeError, EventError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"Not a payload of {kind[:50]!r} as GitHub documents it: {error}") from error
    stored = duplicates = 0
    if found.branch is not None:
        branch = f"{found.branch.source}\n{found.branch.data['branch']}"  # whichever delivery tells of it first
        stored, duplicates = await publish_once(hub.broker, project, [found.branch], f"github-branch-{_digest(branch)}")
    more = await publish_once(hub.broker, project, found.events, f"github-{_digest(delivery)}")
    answer: dict[str, object] = {"events": stored + more[0], "duplicates": duplicates + more[1]}
    answer |= {"ignored": found.ignored} if found.ignored else {}
    return Response(msgspec.json.encode(answer), status=202, content_type="application/json")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
