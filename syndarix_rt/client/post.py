"""`Post`: sends a segment of events to a server with plain blocking sockets, for the courier's thread."""

from __future__ import annotations

import http.client
import ssl
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from syndarix_rt._version import __version__
from syndarix_rt.client.http import UNREADABLE, phrase, retry_after_s
from syndarix_rt.client.spool import Segment

__all__ = ["Answer", "Post"]

ANSWER_S = 10.0
"""A server that takes longer is away. Segments are small, and what waits meanwhile is on the disk."""

LOCKED_S = 30.0
"""Between two tries while the key is refused: a person has to mend that."""

_LOCKED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_MAX_ANSWER_BYTES = 64 * 1024


class Answer(NamedTuple):
    """What became of a segment; without ``stored`` and ``final`` it may be sent again later."""

    stored: bool = False
    final: bool = False
    """Trying again is of no use."""
    text: str = ""
    wait_s: float = 0.0
    """What to wait at least before the next try."""


class Post:
    """Sends segments over one connection that is kept.

    Args:
        base_url: scheme, host, port and a proxy's prefix.
        token: the secret, if the server wants one.
    """

    def __init__(self, base_url: str, token: str | None) -> None:
        parts = urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._host = parts.netloc
        self._prefix = parts.path
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": f"syndarix-rt/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def __call__(self, segment: Segment, body: bytes) -> Answer:
        """Ask once; once more if the kept connection turns out to be dead, which is safe under the same key."""
        was_kept = self._connection is not None
        try:
            try:
                return self._ask(segment, body)
            except (http.client.HTTPException, OSError):
                self.close()
                if not was_kept:
                    raise
            return self._ask(segment, body)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            return Answer(text=f"{self._host}: {error or type(error).__name__}")

    def _ask(self, segment: Segment, body: bytes) -> Answer:
        connection = self._connection
        if connection is None:
            if self._secure:
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(self._host, timeout=ANSWER_S, context=context)
            else:
                connection = http.client.HTTPConnection(self._host, timeout=ANSWER_S)
            self._connection = connection
        path = f"{self._prefix}/projects/{segment.project}/events"
        connection.request("POST", path, body, self._headers | {"Idempotency-Key": segment.key})
        response = connection.getresponse()
        raw = response.read(_MAX_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self.close()
        status = response.status
        if status == HTTPStatus.ACCEPTED:
            return Answer(stored=True)
        text = f"{self._host}: {status} {phrase(status)}{_detail(raw)}"
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Answer(text=text, wait_s=retry_after_s(response.getheader("Retry-After", "")))
        if status in _LOCKED or status // 100 in (2, 3):  # another server's answer is no reason to lose anything
            return Answer(text=text, wait_s=LOCKED_S)
        return Answer(final=True, text=text)

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _detail(raw: bytes) -> str:
    """What a problem document (RFC 9457) says."""
    try:
        detail = msgspec.json.decode(raw)["detail"]
    except (*UNREADABLE, KeyError, TypeError):
        return ""
    return f": {str(detail)[:1000]}"
