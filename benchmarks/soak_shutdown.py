"""A server is asked to end while many streams are open and some clients have stopped reading.

python benchmarks/soak_shutdown.py [--streams 1000] [--stuck 5] [--loop uvloop|asyncio]

Every stream that reads must be told (`server-draining`) and end whole; the process must end by itself, with exit code
0 and in time: 10 s of draining, a second for whoever does not read, and one for a busy machine. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import resource
import signal
import sys
import time

SERVER = """
import asyncio, sys
from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.server import Settings, bind, loop_factory, serve

async def main():
    broker = MemoryBroker()
    entry = b'{"type":"my_event","pad":"%b"}' % (b"x" * 60_000)
    for _ in range(40):
        await broker.publish("project:{stuck}", [entry] * 50)
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async def ready(_):
        print(type(asyncio.get_running_loop()).__module__, port, flush=True)
    await serve(broker, Settings(), sock, ready=ready)
    await broker.aclose()

factory = loop_factory() if sys.argv[1] == "uvloop" else None
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""
LIMIT_S = 10.0 + 1.0 + 1.0
WAIT_S = 60.0


async def opened(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"retry: "), WAIT_S)
    return reader, writer


async def shut_down(options):
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, options.loop), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    connections = []
    try:
        loop, port = (await asyncio.wait_for(server.stdout.readline(), WAIT_S)).decode().split()
        stuck = [await opened(port, "/projects/stuck/events?replay=all") for _ in range(options.stuck)]
        for _, writer in stuck:
            writer.transport.pause_reading()
        reading = [await opened(port, f"/projects/p{number % 10}/events") for number in range(options.streams)]
        connections = [writer for _, writer in (*stuck, *reading)]
        began_s = time.monotonic()
        server.send_signal(signal.SIGTERM)
        ends = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in reading)), WAIT_S)
        streams_s = time.monotonic() - began_s
        _, said = await asyncio.wait_for(server.communicate(), WAIT_S)
        took_s = time.monotonic() - began_s
    finally:
        for writer in connections:
            writer.transport.abort()
        if server.returncode is None:
            server.kill()
            await server.wait()
    retries = sorted(int(re.findall(rb"retry: (\d+)", end)[-1]) for end in ends if b"retry: " in end)
    whole = sum(b"event: server-draining" in end and end.endswith(b"0\r\n\r\n") for end in ends)
    return {
        "python": platform.python_version(),
        "loop": loop,
        "streams": options.streams,
        "told_and_whole": whole,
        "retry_ms": [retries[0], retries[-1]] if retries else None,
        "stuck": options.stuck,
        "streams_ended_s": round(streams_s, 2),
        "process_ended_s": round(took_s, 2),
        "exit_code": server.returncode,
        "said": said.decode(errors="replace")[-500:],
        "passed": whole == options.streams and server.returncode == 0 and took_s < LIMIT_S,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--stuck", type=int, default=5, help="clients that do not read")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    result = asyncio.run(shut_down(parser.parse_args()))
    print(json.dumps(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
