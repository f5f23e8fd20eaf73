"""What one worker gives where subscribers cost next to nothing: most have their kernel throw away what comes.

python benchmarks/bench_ceiling.py [--readers 100] [--discarders 900] [--rates 3000,4000,5000,6000] [--seconds 4]

In `bench_delivery` the subscribers' core is full before the server's. Here one in ten reads and checks every event as
there; of the others each byte is counted but none copied (``MSG_TRUNC``, see tcp(7)), so Linux only. Each must have got
as many bytes as the events have, or a rate counts as not sustained.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import tempfile
import threading
from pathlib import Path

from bench_delivery import LOAD_CLIENT

from syndarix_rt.benchmark import candidate, measures

SIZE_BYTES = 300
REQUEST = b"GET /projects/p0/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def discarding(port, count):
    """So many subscribers that throw away what they get; how many bytes each got, by descriptor."""
    with contextlib.ExitStack() as stack:
        poll, ended = stack.enter_context(select.epoll()), threading.Event()
        sockets, got = {}, {}
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            one.sendall(REQUEST)
            while b"event: stream-open" not in one.recv(65_536):
                pass
            one.setblocking(False)  # noqa: FBT003 - the standard library's signature
            poll.register(one, select.EPOLLIN)
            sockets[one.fileno()], got[one.fileno()] = one, 0
        nowhere = bytearray(1 << 20)

        def discard():
            while not ended.is_set():
                for descriptor, _ in poll.poll(0.1):
                    got[descriptor] += sockets[descriptor].recv_into(nowhere, len(nowhere), socket.MSG_TRUNC)

        thread = threading.Thread(target=discard)
        thread.start()
        try:
            yield got
        finally:
            ended.set()
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--discarders", type=int, default=900)
    parser.add_argument("--rates", default="3000,4000,5000,6000", help="events a second")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory, contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(candidate.private_redis())
        stack.enter_context(candidate.pinned_beside())
        load = measures.Loader(candidate.load_client(LOAD_CLIENT if LOAD_CLIENT.exists() else None, Path(directory)))
        for rate in map(int, options.rates.split(",")):
            with candidate.our_server(redis_url) as server, discarding(server.port, options.discarders) as got:
                found = measures.fan_out(
                    server, load, subscribers=options.readers, rate=rate, seconds=options.seconds, size_bytes=SIZE_BYTES
                )
            share = (options.readers + options.discarders) / options.readers
            all_came = min(got.values()) >= rate * options.seconds * SIZE_BYTES
            row = {
                "rate": rate,
                "sustained": bool(found["sustained"] and all_came),
                "deliveries_per_s": round(found["deliveries_per_s"] * share),
                "p50_ms": found["p50_ms"],
                "p99_ms": found["p99_ms"],
                "server_cores": round(found["server_load"], 2),
                "cpu_us": round(found["cpu_us"] / share, 3),
            }
            print(json.dumps(row), flush=True)
            if not row["sustained"]:
                break


if __name__ == "__main__":
    main()
