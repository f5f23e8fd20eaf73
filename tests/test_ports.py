"""Ports that are held for servers which are told a number."""

from __future__ import annotations

import gc
import socket
import sys

import pytest

from syndarix_rt.ports import held_port, port_of

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port that is bound cannot be listened on")


def bound(port):
    """A socket at the port as of somebody who has it by chance: without ``SO_REUSEADDR``, which only servers set."""
    sock = socket.socket()
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def test_a_server_may_listen_at_a_held_port_and_another_after_it():
    with held_port() as port:
        for _ in range(2):
            with (
                socket.create_server(("127.0.0.1", port)) as server,
                socket.create_connection(("127.0.0.1", port), timeout=20) as client,
            ):
                there, _ = server.accept()
                with there:
                    assert there.getpeername() == client.getsockname()


@LINUX
def test_nobody_gets_a_held_port_by_chance_before_a_server_is_there_between_two_and_after():
    with held_port() as port:
        for _ in range(2):
            with pytest.raises(OSError, match="in use"):
                bound(port)
            with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
                bound(port)
        with pytest.raises(OSError, match="in use"):
            bound(port)
    bound(port).close()


@LINUX
def test_a_port_of_an_object_is_free_again_when_that_is_gone():
    class Owner:
        """May be referred to weakly."""

    owner = Owner()
    port = port_of(owner)
    with pytest.raises(OSError, match="in use"):
        bound(port)
    del owner
    gc.collect()
    bound(port).close()
