"""The Python of the README runs as it is pasted."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
import sys

from serving import TIMEOUT_S, event, running
from system_tools import ROOT

from syndarix_rt import Event

NOTEBOOK, *SIMULATION, CLIENT, AGENT = re.findall(
    r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
)


async def run(source):
    """Run it as a cell of a notebook; the names that it leaves."""
    names = {}
    result = eval(compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.iscoroutine(result):
        await result
    return names


async def eventually(found):
    """Poll until ``found()`` is true; its value."""
    async with asyncio.timeout(TIMEOUT_S):
        while not (value := found()):
            await asyncio.sleep(0.02)
    return value


async def test_the_notebook_receives_what_it_plays(redis_url, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_REDIS_URL", redis_url)
    names = await run(NOTEBOOK)
    async with names["bench"] as bench:
        await eventually(lambda: bench.ledger("gemini").events)
        assert bench.ledger("gemini").clean
        assert not names["run"].error


def test_the_simulation_its_sweep_and_its_steering_are_what_their_comments_say(tmp_path):
    program = tmp_path / "program.py"  # of its own, since a sweep leaves workers for the next one
    program.write_text("\n".join(SIMULATION), encoding="utf-8")
    done = subprocess.run([sys.executable, program], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert "10000 events, 0 violations\n" in done.stdout
    assert len(re.findall(r"^\d+ +[468] +queues\.agents\.developer\.wait_mean_s ", done.stdout, re.MULTILINE)) == 3


async def test_the_agent_is_seen():
    async with running(token="s3cret") as server:
        program = AGENT.replace("http://127.0.0.1:8765/p/apollo?key=…", f"{server.url}/p/apollo?key=s3cret")
        assert program != AGENT
        await asyncio.to_thread(exec, compile(program, "README.md", "exec"), {})
        entries = (await server.broker.read("project:{apollo}", 0, 10)).entries
    assert [Event.decode(entry).type for entry in entries] == [
        "agent_started", "agent_activity", "agent_activity", "agent_completed",
    ]  # fmt: skip


async def test_the_client_prints_what_it_asked_for(capsys):
    async with running(token="s3cret") as server:
        program = CLIENT.replace("http://127.0.0.1:8765/p/apollo?key=…", f"{server.url}/p/apollo?key=s3cret")
        assert program != CLIENT
        names = await run(program.replace("asyncio.run(main())", ""))
        client = asyncio.create_task(names["main"]())
        await eventually(lambda: server.hub.subscribers("project:{apollo}"))
        failed = event(2, type="pipeline_failed", data={"pipeline_id": "p", "branch": "main", "commit": "c"})
        await server.broker.publish("project:{apollo}", [event(1).encode(), failed.encode()])
        printed = await eventually(lambda: capsys.readouterr().out)
        client.cancel()
        await asyncio.wait({client})
    assert re.fullmatch(r"\S+\.2 pipeline_failed \{.*\}\n", printed)
