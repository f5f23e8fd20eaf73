"""Ports for servers that are told a number, since they cannot be handed a socket: free ones that stay so."""

from __future__ import annotations

import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["held_port", "port_of"]


@contextmanager
def held_port() -> Iterator[int]:
    """A free port of 127.0.0.1 that nobody else gets by chance until the block ends.

    It is bound, but nobody listens. So Linux gives it to no one who asks for any port, be it to listen or to connect;
    a server that asks for this one with ``SO_REUSEADDR``, as servers do, may listen there, and so may its successors.
    Elsewhere that server would be refused, so the port is only free at first.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port


def port_of(owner: object) -> int:
    """A port that is held, as by `held_port`, for as long as an object lives: of a server that is started anew."""
    hold = ExitStack()
    port = hold.enter_context(held_port())
    weakref.finalize(owner, hold.close)
    return port
