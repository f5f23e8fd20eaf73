"""The peers: how each is started, and how events get into it.

``python benchmarks/peers.py redis|http URL --rate R --events N [--bytes 300] [--projects P]`` publishes, as
``syndarix_rt.benchmark.offer`` does for ours: the same pace, the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
from redis.asyncio import Redis

from syndarix_rt.benchmark.candidate import Candidate, child, loop_factory, wait_until
from syndarix_rt.benchmark.offer import keep_pace, padded
from syndarix_rt.ports import held_port

HERE = Path(__file__).parent
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {directory};
  nchan_message_buffer_length 1000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /readyz {{ return 200; }}
    location ~ ^/(\\w+)/publish$ {{ nchan_publisher; nchan_channel_id $1; }}
    location ~ ^/(\\w+)/events$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


@contextlib.contextmanager
def sse_starlette(redis_url, app="app"):
    """sse-starlette on uvicorn: one process, uvloop and httptools, nothing logged."""
    command = [sys.executable, "-m", "uvicorn", f"peer_sse_starlette:{app}", "--app-dir", str(HERE)]
    command += ["--loop", "uvloop", "--http", "httptools", "--backlog", "4096"]
    command += ["--no-access-log", "--log-level", "error", "--port"]
    name = "sse-starlette" if app == "app" else "sse-starlette, own hub"
    publisher = [sys.executable, __file__, "redis", redis_url]
    environment = {"PEER_REDIS_URL": redis_url}
    with held_port() as port, child([*command, str(port)], first_core=True, environment=environment) as process:
        wait_until(lambda: answers(port), process, name)
        yield Candidate(name, port, "/p%d/events", process.pid, publisher)


@contextlib.contextmanager
def nchan():
    """nginx with Nchan: one worker, messages in its memory."""
    with held_port() as port, tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory:
        config = Path(directory) / "nginx.conf"
        config.write_text(NGINX.format(module=NCHAN_MODULE, directory=directory, port=port))
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [nginx, "-p", directory, "-c", str(config)]
        publisher = [sys.executable, __file__, "http", f"http://127.0.0.1:{port}/p%d/publish"]
        with child(command, first_core=True, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda: answers(port), process, "nginx with Nchan")
            yield Candidate("Nchan", port, "/p%d/events", process.pid, publisher)


def answers(port):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
        return reply.status == 200
    return False


def missing():
    """Why peers cannot be measured here, by name."""
    reasons = {}
    if not all(importlib.util.find_spec(name) for name in ("sse_starlette", "uvicorn", "httptools")):
        reasons["sse-starlette"] = "pip install -r benchmarks/requirements.txt"
    if not NCHAN_MODULE.exists():
        reasons["Nchan"] = "apt-get install nginx libnginx-mod-nchan"
    return reasons


# ---- the publisher's process --------------------------------------------------------------------------------------


def message(number, size_bytes):
    return padded(b'{"seq":%d,"sent_ns":%d,"pad":"' % (number + 1, time.time_ns()), b'"}', size_bytes)


async def offer(options):
    spread = options.projects
    async with contextlib.AsyncExitStack() as stack:
        if options.how == "redis":
            redis = await stack.enter_async_context(Redis.from_url(options.to))
            await redis.ping()  # connected before the first event, as in `offer`

            async def send(due):
                async with redis.pipeline(transaction=False) as pipeline:
                    for number in due:
                        pipeline.publish(f"p{number % spread}", message(number // spread, options.bytes))
                    await pipeline.execute()
        else:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            await (await http.get(urljoin(options.to, "/readyz"))).read()

            async def send(due):
                for number in due:
                    url = options.to.replace("%d", str(number % spread))
                    async with http.post(url, data=message(number // spread, options.bytes)) as reply:
                        reply.raise_for_status()

        took_s = await keep_pace(send, options.rate, options.events)
    print(json.dumps({"events": options.events, "took_s": took_s}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["redis", "http"])
    parser.add_argument("to")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--projects", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=300)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(offer(options))


if __name__ == "__main__":
    main()
