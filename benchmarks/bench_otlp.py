"""Spans per second that a server takes from OTLP exporters, on one core.

python benchmarks/bench_otlp.py [--requests 100] [--json FILE]

Requests are as the official SDK sends them: protobuf, 512 spans of LLM and tool calls in runs of 16 spans with twelve
attributes each, two kilobytes of them messages. They are made before the clock starts, and sent one after another over
one connection by a process of its own. The server is pinned to one core (Linux); its broker, an embedded Redis, is not.
Every event that they must come to is counted in the log at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import time
import urllib.request
from pathlib import Path

import aiohttp
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from served import served

SPANS, RUN_SPANS = 512, 16


def requests(count: int) -> list[bytes]:
    """Export requests of one process; every run is in one of them."""
    made = []
    now_ns = time.time_ns()
    for number in range(count):
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "coder"
        spans = resource.scope_spans.add().spans
        for place in range(SPANS):
            run, within = divmod(place, RUN_SPANS)
            is_root = within == RUN_SPANS - 1
            span = spans.add(
                trace_id=(number << 32 | run + 1).to_bytes(16), span_id=(number << 32 | place + 1).to_bytes(8),
                name="call", start_time_unix_nano=now_ns + place * 1000, end_time_unix_nano=now_ns + place * 1000 + 900,
                parent_span_id=b"" if is_root else (number << 32 | (run + 1) * RUN_SPANS).to_bytes(8),
            )  # fmt: skip
            texts = {
                "gen_ai.operation.name": "invoke_agent" if is_root else ("chat", "execute_tool")[within % 2],
                "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5", "gen_ai.response.model": "gpt-5-1",
                "gen_ai.response.id": f"chatcmpl-{place}", "gen_ai.tool.name": "shell", "server.address": "localhost",
                "gen_ai.input.messages": "x" * 1_000, "gen_ai.output.messages": "y" * 1_000,
            }  # fmt: skip
            for key, text in texts.items():
                span.attributes.add(key=key).value.string_value = text
            counts = {"gen_ai.usage.input_tokens": 1_200, "gen_ai.usage.output_tokens": 80, "server.port": 443}
            for key, value in counts.items():
                span.attributes.add(key=key).value.int_value = value
        made.append(request.SerializeToString())
    return made


async def export(url: str, bodies: list[bytes], *, packed: bool) -> float:
    """Send them one after another; seconds."""
    headers = {"content-type": "application/x-protobuf", "syndarix-project": "gzip" if packed else "plain"}
    if packed:
        headers["content-encoding"] = "gzip"
        bodies = [gzip.compress(body, 6) for body in bodies]
    async with aiohttp.ClientSession() as session:
        began_s = time.perf_counter()
        for body in bodies:
            async with session.post(f"{url}/v1/traces", data=body, headers=headers) as response:
                assert response.status == 200, await response.text()
        return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="in each case")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bodies = requests(options.requests)
    found = {}
    with served("--retention", "1000000") as server:
        core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        if core is not None:
            with contextlib.suppress(psutil.Error):
                server.process.cpu_affinity([core])
        for case in ("plain", "gzip"):
            before = server.process.cpu_times()
            took_s = asyncio.run(export(server.url, bodies, packed=case == "gzip"))
            after = server.process.cpu_times()
            with urllib.request.urlopen(f"{server.url}/projects/{case}/position", timeout=5) as reply:
                events = json.load(reply)["last"]
            spans = SPANS * len(bodies)
            expected = spans + spans // RUN_SPANS  # each run has a start of its own; its root is its end
            assert events == expected, (events, expected)
            cpu_s = after.user + after.system - before.user - before.system
            found[case] = {"spans_per_s": spans / took_s, "spans_per_cpu_s": spans / cpu_s, "events": events}
            print(
                f"{case:6} {spans:7,} spans of {len(bodies[0]) // SPANS:,} bytes: {spans / took_s:8,.0f} spans/s, "
                f"{spans / cpu_s:8,.0f} per second of the server's CPU; {events:,} events, none missing"
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
