"""`Api`: single questions to a server. Each is asked once; whoever wants to try again does so."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from syndarix_rt.client.closing import Closing
from syndarix_rt.client.http import CONNECT_S, UNREADABLE, open_session, refusal, translated
from syndarix_rt.client.url import parse_server_url
from syndarix_rt.delivery import Approval, Decision, Position
from syndarix_rt.delivery.approvals import Verdict
from syndarix_rt.errors import StreamError

__all__ = ["Api", "ProjectState"]

ANSWER_S = 30.0
"""A whole answer takes no longer, or it is given up: a server that waits for its broker says so (503) before that."""

JSON_BODY = {"Content-Type": "application/json"}

T = TypeVar("T")


class ProjectState(msgspec.Struct, frozen=True):
    """One project, as the server knows it now."""

    project: str
    epoch: str
    first: int
    """Oldest offset retained."""
    last: int
    """Newest offset."""
    events_per_s: float | None = None
    """Events published per second, lately; None if that is not known yet."""
    subscribers: int = 0
    """Streams open on this server process."""


class _Projects(msgspec.Struct):
    projects: list[ProjectState]


class _Revoked(msgspec.Struct):
    name: str


class _Approvals(msgspec.Struct):
    approvals: list[Approval]


class Api(Closing):
    """Asks one server; an asynchronous context manager, or ``aclose()`` it.

    Every method raises `StreamError` if the server refuses, with what it said; if there is no answer, or one that asks
    to come back later, that error is a `BrokerUnavailable`, too.

    Args:
        base_url: the server's URL, also as printed or pasted.
        token: the secret, if it is not in the URL.
    """

    def __init__(self, base_url: str, *, token: str | None = None) -> None:
        server = parse_server_url(base_url)
        self._base_url = server.base_url
        self._token = token or server.token
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close the connections; asking again opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def projects(self) -> list[ProjectState]:
        """All projects that were ever published to."""
        return (await self.ask(_Projects, "GET", "/projects")).projects

    async def position(self, project: str) -> Position:
        """What is retained of a project's log."""
        return await self.ask(Position, "GET", f"/projects/{quote(project, safe='')}/position")

    async def approvals(self, project: str) -> list[Approval]:
        """What waits for a person's decision, in the order in which it was asked for."""
        path = f"/projects/{quote(project, safe='')}/approvals"
        return (await self.ask(_Approvals, "GET", path)).approvals

    async def decide(
        self, project: str, approval_id: str, decision: Verdict, *, by: str | None = None, comment: str | None = None
    ) -> Decision:
        """Decide an approval for a person. Doing so again is safe, such as after an answer that was lost.

        Args:
            project: whose it is.
            approval_id: which one.
            decision: ``approved`` or ``rejected``.
            by: who decides.
            comment: why.

        Returns:
            The decision as it stands; an earlier one by somebody else, if it says the same.

        Raises:
            StreamError: with ``status`` 409 if it was decided otherwise before (the text says by whom and when), 404 if
                no such approval is known.
        """
        path = f"/projects/{quote(project, safe='')}/approvals/{quote(approval_id, safe='')}"
        choice = {"decision": decision, "by": by, "comment": comment}
        return await self.ask(Decision, "POST", path, body=msgspec.json.encode(choice), headers=JSON_BODY)

    async def revoke(self, token: str) -> str:
        """End a token with rights before its time; takes the server's own key. Whose it was.

        Raises:
            StreamError: with ``status`` 404 if it is none of this server's, or over.
        """
        body = msgspec.json.encode({"token": token})
        return (await self.ask(_Revoked, "POST", "/tokens/revoke", body=body, headers=JSON_BODY)).name

    async def metrics(self) -> str:
        """The server's figures, in Prometheus's text format."""
        return (await self._answer("GET", "/metrics"))[1].decode(errors="replace")

    async def ask(
        self,
        answer: type[T],
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: HTTPStatus | None = None,
    ) -> T:
        """Send one request and read its JSON answer.

        Args:
            answer: what a success is decoded to; ``type(None)`` for an answer without a body.
            method: the HTTP method.
            path: below the server's URL, from ``/`` on.
            body: what is sent.
            headers: further request headers.
            accept: a status that is an answer here though elsewhere an error.
        """
        status, raw = await self._answer(method, path, body=body, headers=headers, accept=accept)
        try:
            return msgspec.json.decode(raw or b"null", type=answer)
        except UNREADABLE as error:
            raise StreamError(
                f"{self._base_url}{path}: not the answer of a Syndarix RT server: {error}", status
            ) from error

    async def _answer(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: HTTPStatus | None = None,
    ) -> tuple[int, bytes]:
        """As `ask`, with the answer as it came, and its status."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
            self._session = open_session(self._token, timeout)
        url = self._base_url + path
        with translated(url):
            # As a file: aiohttp takes it in slices, so that a full batch does not keep the loop for itself.
            data = None if body is None else BytesIO(body)
            # A redirect would turn a POST into a GET.
            request = self._session.request(method, url, data=data, headers=headers, allow_redirects=False)
            async with request as response:
                if response.status // 100 != 2 and response.status != accept:  # noqa: PLR2004 - 2xx
                    raise await refusal(response, url)
                return response.status, await response.read()
