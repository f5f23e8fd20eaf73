"""Routes that give and take credentials: a ticket for a stream, and the end of a token."""

from __future__ import annotations

import msgspec
from quart import Blueprint, Response, current_app, g

from syndarix_rt.events import is_project_name
from syndarix_rt.server import tickets
from syndarix_rt.server.bodies import asked, json_answer
from syndarix_rt.server.documents import RevokedToken, Ticket, TokenText
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.problems import Problem, bad_request
from syndarix_rt.server.revocation import Revocations
from syndarix_rt.server.tokens import verify

__all__ = ["credentials"]

credentials = Blueprint("credentials", __name__)


@credentials.post("/projects/<project>/ticket")
async def ticket(project: str) -> Response:
    """A ticket for the project's event stream, where no header can be sent: ``?ticket=``, once, within a minute."""
    if not is_project_name(project):
        raise bad_request(f"Not a project name: {project[:100]!r} (1 to 64 of letters, digits, '_' and '-').")
    hub: Hub = current_app.extensions["syndarix_rt"]
    given = await tickets.issue(hub.broker, project, g.grant)
    return json_answer(Ticket(given, tickets.LIFE_S))


@credentials.post("/tokens/revoke")
async def revoke() -> Response:
    """End a token before its time: ``{token}``. Its streams and sockets end within about a second, everywhere."""
    hub: Hub = current_app.extensions["syndarix_rt"]
    text = (await asked(TokenText, "a token")).token
    grant = verify(hub.settings.token or "", text)
    if grant is None:
        raise Problem(404, "unknown-token", "Not a token with rights that this server's key has signed, or it is over.")
    revocations: Revocations = current_app.extensions["syndarix_rt_revocations"]
    await revocations.add(grant)
    return json_answer(RevokedToken(grant.name, msgspec.convert(grant.expires_s, float)))
