"""What every part of the client shares: a session, and how an answer that is no success is read.

Three outcomes matter to whoever asked: `Unavailable` (it may work later), `TooLate` (it would work without some of the
events), and any other `StreamError` (it will not, until a person changes something).
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
import msgspec

from syndarix_rt._version import __version__
from syndarix_rt.errors import ApprovalDecided, BrokerUnavailable, StreamError

__all__ = [
    "CONNECT_S",
    "HINTS",
    "MAX_WAIT_S",
    "UNREADABLE",
    "TooLate",
    "Unavailable",
    "open_session",
    "phrase",
    "refusal",
    "retry_after_s",
    "translated",
]

CONNECT_S = 10.0
"""A connection is made within this or it is given up: a lost SYN is sent again after 1, 3 and 7 s."""

MAX_WAIT_S = 300.0
"""The longest delay that a server may ask for (``Retry-After``, ``retry:``): a mistake there must not be for ever."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec` raises of a text that is not what it should be; the last one if it is nested too deeply."""

_MAX_PROBLEM_BYTES = 64 * 1024
_MAX_DETAIL = 1_000  # characters; more of a server's text than this helps nobody

HINTS = {
    401: "use the URL that the server printed, with its ?key=",
    403: "this key does not reach so far",
    404: "is this the server's URL, with the prefix of its proxy if there is one?",
}
"""What a person can do about a refusal that does not say so itself."""


class Unavailable(StreamError, BrokerUnavailable):  # noqa: N818 - a state, as BrokerUnavailable
    """No answer, or one that asks to come back later.

    It is a `BrokerUnavailable`, so that whoever publishes treats a server that is away like a broker that is away.

    Attributes:
        retry_after_s: how long the server asks to wait at least, seconds.
    """

    def __init__(self, text: str, status: int | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(text, status)
        self.retry_after_s = retry_after_s


class TooLate(StreamError, ApprovalDecided):  # noqa: N818 - a state, as Unavailable
    """A person has decided already what a batch resolves: an `ApprovalDecided` that a server told of."""

    def __init__(self, text: str, status: int | None = None, late: Sequence[int] = (), stored: int = 0) -> None:
        StreamError.__init__(self, text, status)
        ApprovalDecided.__init__(self, text, late, stored)


class _Problem(msgspec.Struct):
    """The members of RFC 9457 that a person reads, and what `TooLate` tells."""

    title: str = ""
    detail: str = ""
    late: list[int] = []


def open_session(
    token: str | None,
    timeout: aiohttp.ClientTimeout,
    *,
    keep_connections: bool = True,
    check: Callable[[aiohttp.ClientResponse], Awaitable[None]] | None = None,
) -> aiohttp.ClientSession:
    """A session that shows the token with every request. Needs a running event loop.

    Args:
        token: the secret.
        timeout: of each request.
        keep_connections: for later requests.
        check: looks at each answer, and raises if it is a refusal.
    """
    headers = {"User-Agent": f"syndarix-rt/{__version__}"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=not keep_connections),
        cookie_jar=aiohttp.DummyCookieJar(),  # the token is shown with each request, and a session must not outlive it
        headers=headers,
        timeout=timeout,
        raise_for_status=check or False,
    )


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the errors of asking ``url`` into ours.

    Raises:
        Unavailable: no connection, a cut one, or silence.
        StreamError: the URL, the certificate or what answers there is wrong.
    """
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise StreamError(f"{url}: the server's certificate is not trusted: {error.certificate_error}") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError) as error:  # a host that IDNA refuses
        raise StreamError(f"{url}: not a URL that can be asked: {error}") from error
    except aiohttp.TooManyRedirects as error:
        raise StreamError(f"{url}: redirected too often") from error
    except aiohttp.ClientResponseError as error:
        raise StreamError(f"{url}: what answers there does not speak HTTP: {error.message}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{url}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {CONNECT_S:g} s"
        case TimeoutError():
            return "it fell silent"
        case aiohttp.ClientConnectorDNSError():
            return f"cannot find the host {error.host}"
        case aiohttp.ClientConnectorSSLError():
            return f"cannot connect by TLS: {error.os_error.strerror}"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return f"cannot connect: {os.strerror(number)}"  # the loops' own texts differ
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | ConnectionError():
            return "the connection was cut"
        case _:
            return str(error) or type(error).__name__


async def refusal(response: aiohttp.ClientResponse, url: str, wanted: str = "answer of ours") -> StreamError:
    """The error that an answer means; reads what its problem document says (RFC 9457).

    Args:
        response: the answer.
        url: what was asked.
        wanted: what was asked for, for a person.
    """
    status = response.status
    if status // 100 == 2:  # noqa: PLR2004 - 2xx
        return StreamError(
            f"{url}: answered with {response.content_type}, which is no {wanted}; "
            "is this the server's URL, and does its proxy let the key pass?",
            status,
        )
    text = f"{url}: {status} {phrase(status)}"
    if location := response.headers.get("Location") if status // 100 == 3 else None:  # noqa: PLR2004 - 3xx
        return StreamError(f"{text}: it points to {location[:200]!r}; use that server's URL", status)
    problem = await _problem(response)
    detail = (problem.detail or problem.title)[:_MAX_DETAIL] or HINTS.get(status, "")
    if detail:
        text = f"{text}: {detail}"
    if problem.late:
        return TooLate(text, status, problem.late)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(text, status, retry_after_s(response.headers.get("Retry-After", "")))
    return StreamError(text, status)


def phrase(status: int) -> str:
    """The name of a status, such as ``Not Found``; HTTP/1.1 servers may leave it out."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(unknown status)"


async def _problem(response: aiohttp.ClientResponse) -> _Problem:
    """What it says is wrong; empty if it does not say so in our way."""
    if response.content_type not in ("application/problem+json", "application/json"):
        return _Problem()
    body = b""
    with suppress(aiohttp.ClientError, OSError):  # a cut body: the status says enough
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MAX_PROBLEM_BYTES:
                return _Problem()
    try:
        return msgspec.json.decode(body, type=_Problem)
    except UNREADABLE:
        return _Problem()


def retry_after_s(value: str) -> float:
    """Seconds from a ``Retry-After`` (RFC 9110 §10.2.3): a count of seconds or a date; 0 if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:10]), MAX_WAIT_S)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # of a year or an offset beyond all bounds
        return 0.0
    if date.tzinfo is None:  # "-0000": UTC without a claim about the place
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, date.timestamp() - time.time()), MAX_WAIT_S)
