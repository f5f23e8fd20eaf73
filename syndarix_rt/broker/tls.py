"""TLS to a Redis: connections that end when they are ended, and what is wrong with it, in words for people."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio import SSLConnection as RedisSSLConnection
from redis.asyncio.connection import RedisSSLContext
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["SSLConnection", "check", "reason_of", "suspicion"]

_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_OURS = "?ssl_certfile=FILE&ssl_keyfile=FILE"
_OTHER_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


class SSLConnection(RedisSSLConnection):
    """One that takes no longer to close than it is given.

    To end TLS, both sides say so. asyncio would wait half a minute for a server that hangs, with the socket open; where
    the loop ends before, it stays open.
    """

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Say goodbye, and wait for the answer as redis-py does, or with ``nowait`` does not; then close it."""
        writer = self._writer
        try:
            await super().disconnect(*args, **options)
        finally:
            if writer is not None:
                with suppress(AttributeError):  # Python before 3.11.3 stumbles over one that was lost
                    writer.transport.abort()


def check(connections: ConnectionPool, url: str) -> RedisSSLContext | None:
    """See that connections can be made with the options of a URL, before one is.

    Returns:
        The context for TLS, if they use it: good for all of them, and loading what is trusted takes 20 ms and more.

    Raises:
        ValueError: an option is none, or names a file that is of no use.
    """
    try:
        connection = connections.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        if not isinstance(connection, SSLConnection):
            return None
        context: RedisSSLContext = connection.ssl_context
        context.get()
    except TypeError as error:  # an unexpected keyword argument, which it names last
        raise ValueError(f"there is no option {str(error).rpartition(' ')[2]}") from error
    except RedisError as error:
        raise ValueError(str(error)) from error
    except OSError as error:  # an SSLError is one, too
        files = ", ".join(f"{name}={value}" for name, value in parse_qsl(urlsplit(url).query) if name in _FILES)
        raise ValueError(f"{files} is of no use: {error.strerror or error}") from error
    return context


def reason_of(error: BaseException) -> str | None:
    """Why there is no connection, and what to do about it; None if TLS is not to blame."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message.rstrip(".")
            if cause.verify_code in _OTHER_NAME:
                return f"its certificate is another server's: {why}; give the host by a name that it has"
            return (
                f"its certificate is not to be trusted: {why}; if an authority of yours has signed it, name that with "
                "?ssl_ca_certs=FILE"
            )
        if isinstance(cause, ssl.SSLError):
            if "CERTIFICATE_REQUIRED" in str(cause):
                return "it wants a certificate from its clients: " + _OURS
            return f"TLS fails: {cause.reason or cause}"
    return None


def suspicion(error: BaseException, url: str) -> str:
    """What may be the matter with a server that has never answered, as an end of the sentence about the error."""
    reset = any(isinstance(cause, ConnectionResetError) for cause in _causes(error))
    if url.startswith("redis:"):
        return "; if it wants TLS, give it as rediss" if reset else ""
    if url.startswith("rediss:"):
        if reset:
            return f"; if it wants a certificate from its clients: {_OURS}"
        if isinstance(error, RedisTimeoutError):
            return "; if it speaks no TLS, give it as redis"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
