"""``debug``: a script at a pipe, and a person at a real terminal."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import msgspec
import pytest
from command_line import PROGRAM, TIMEOUT_S, environment, run
from playback_clock import ticks
from serving import running
from steering import demo, plain, steered, undisturbed

from syndarix_rt.cli.debugging import COMMANDS, _Session
from syndarix_rt.cli.terminal import Terminal
from syndarix_rt.client import DebugClient
from syndarix_rt.errors import StreamError, SyndarixError


async def script(server, text, *options):
    return await asyncio.to_thread(run, "debug", "apollo", "--url", server.url, *options, input=text)


async def test_a_script_stops_a_run_at_a_breakpoint_looks_at_it_steps_and_lets_it_go():
    async with running() as server, steered(demo(), broker=server.broker, run="sim-1", name="demo") as run:
        done = await script(
            server,
            "runs\nbreak pipeline_failed where data.duration_s > 3\nspeed max\ncontinue\nwait\n"
            "inspect pipelines\ninspect agent planner-1\nstep 10\nclear\n# a note\n\nbreak\nq\nno command",
        )
        assert (done.code, done.err) == (0, ""), done
        log = await run.log()
        ahead = [event.type for event in undisturbed(1_000)].index("pipeline_failed")
        assert (
            f"stands at a breakpoint (pipeline_failed) at 2026-01-05 09:08:55 of simulated time, {ahead + 1}"
            in done.out
        )
        assert f"  pipeline_failed  {log[ahead].subject}  {log[ahead].id}" in done.out
        assert len(log) == ahead + 11
        assert plain(log) == plain(undisturbed(len(log)))
        assert re.search(r"^  agent_id +planner-1$", done.out, re.MULTILINE)
        assert re.search(r"^  pipeline-\S+ +running ", done.out, re.MULTILINE)
        assert "* sim-1  demo: stands" in done.out
        assert done.out.count("no breakpoints") == 2
        assert done.out.endswith("it plays on within 15 s.\n")
        assert "\x1b" not in done.out


async def test_nothing_older_is_told_after_what_is_newer():
    """A breakpoint on the very next event may be told of before the answer to 'continue' is."""
    async with running() as server, steered(ticks(1_000), broker=server.broker):
        done = await script(server, "break where n >= 0\nspeed max\n" + "continue\nwait\n" * 30)
        counts = [int(count) for count in re.findall(r"(\d+) events published", done.out)]
        assert counts[-1] == 30, done
        assert counts == sorted(counts)


async def test_faults_and_events_are_injected_by_their_names():
    async with running() as server, steered(demo(), broker=server.broker, run="sim-1") as run:
        words = (
            'step 300\ninject ci_outage minutes=30\ninject note_made text="a b" n=1\ninject note_made {"n": 2}\nstep 6'
        )
        done = await script(server, words)
        assert (done.code, done.err) == (0, ""), done
        later = (await run.log())[300:]
        assert [event.data["kind"] for event in later if event.type == "fault_started"] == ["ci_outage"]
        assert [event.data for event in later if event.type == "note_made"] == [{"text": "a b", "n": 1}, {"n": 2}]


@asynccontextmanager
async def attached(server):
    """A session that is attached to the run, and its client."""
    session = _Session(Terminal("apollo> "), None, 60)
    async with DebugClient(server.url, "apollo", on_notice=session.note) as session.client:
        await session.use("run-1")
        yield session


async def test_a_script_ends_at_the_first_command_that_is_refused(monkeypatch):
    async with running() as server, steered(ticks(1_000), broker=server.broker) as run:
        for words, told in (
            ("fly", "there is no command 'fly'"),
            ("step x", "no number from 1 on"),
            ("clear 0", "there is no breakpoint 0"),
            ("wait 1.2.3", "no number of seconds"),
            ("wait long", "no number of seconds"),
            ("speed 0", "is no speed"),
            ("break x_* where a =", "breakpoints"),
            ("inspect nothing", "nothing is known of 'nothing'"),
            ("inject note_made a", "write name=value"),
            ("inject note_made a='b", "cannot be read: No closing quotation"),
            ("inject note_made {", "no JSON object"),
            ("use nobody", "no run 'nobody'"),
        ):
            monkeypatch.setattr(sys, "stdin", io.StringIO(f"{words}\nstep 5"))
            async with attached(server) as session:
                with pytest.raises(SyndarixError) as caught:
                    await session.work()
            assert str(caught.value).startswith(f"{words}: ")
            assert told in str(caught.value)
        done = await script(server, "fly\nstep 5")
        assert (done.code, done.err) == (
            1, "syndarix-rt: fly: there is no command 'fly'; 'help' lists them\n",
        )  # fmt: skip
        assert run.player.published == 0
        run.player.resume()
        done = await script(server, "wait", "--wait", "0.2")
        assert (done.code, "still plays after 0.2 s" in done.err) == (1, True)


async def test_who_waits_is_told_when_the_connection_is_over_or_away(capsys):
    async with running() as server, steered(ticks(1_000), broker=server.broker) as run:
        run.player.resume()
        async with attached(server) as session:
            waiting = asyncio.create_task(session.wait(""))
            await session.client.aclose()
            with pytest.raises(StreamError, match="closed here"):
                await waiting
        async with attached(server) as session:
            await server.stop()
            while session.client.state == "open":
                await asyncio.sleep(0.01)
            with pytest.raises(SyndarixError, match=r"(?<!it still plays) after 0\.2 s$"):
                await session.wait("0.2")
    assert "run-1: plays" in capsys.readouterr().out


async def test_a_script_that_is_no_text_midway_does_not_look_as_if_all_of_it_were_done():
    async with running() as server, steered(ticks(9), broker=server.broker):
        for locale in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
            done = await asyncio.to_thread(
                run, "debug", "apollo", "--url", server.url, input=b"runs\nuse \xff\n", text=False,
                env=environment(**locale),
            )  # fmt: skip
            assert done.code == 1
            assert b"not UTF-8" in done.err
            assert done.err.count(b"\n") == 1


async def test_commands_are_explained_all_or_one_and_what_is_older_is_not_told(monkeypatch, capsys):
    async with running() as server, steered(ticks(1_000), broker=server.broker) as run:
        words = "help\nhelp step\npause\nbreak tick_*\nbreak\nclear 0\nwait"
        monkeypatch.setattr(sys, "stdin", io.StringIO(words))
        async with attached(server) as session:
            await session.work()
            out = capsys.readouterr().out
            state = session.client.attached["run-1"]
            session._tell(msgspec.structs.replace(state, published=state.published + 3))
            session._tell(state)  # an answer that was overtaken
            assert "3 events published" in capsys.readouterr().out
        assert run.player.published == 0
    for command in COMMANDS.values():
        assert out.count(f"  {command.usage} ") == (2 if command.usage.startswith("step") else 1)
    assert "  0  tick_*\n" in out
    assert out.count("no breakpoints") == 1
    async with running() as server, DebugClient(server.url, "apollo") as client:
        session = _Session(Terminal("apollo> "), None, 60)
        session.client = client
        await session.runs("")
        assert capsys.readouterr().out == "none\n"


async def test_it_says_what_to_do_where_nothing_plays_or_several_do():
    async with running() as server:
        assert "Nothing plays into apollo now" in (await script(server, "")).out
        async with steered(ticks(9), broker=server.broker), steered(ticks(9), broker=server.broker, run="run-2"):
            done = await script(server, "use run-2\nstep 3\nruns")
            assert "Which one?" in done.out
            assert re.search(r"^\* run-2 .* 3 events published$", done.out, re.MULTILINE)
            assert (await script(server, "step 2", "--run", "run-1")).out.startswith("run-1: stands")


async def test_at_a_terminal_what_runs_tell_stands_above_what_is_being_typed():
    async with running() as server, steered(ticks(100), broker=server.broker) as run:
        mine, theirs = pty.openpty()
        process = subprocess.Popen(  # noqa: ASYNC220 - it has to have a terminal
            [*PROGRAM, "debug", "apollo", "--url", server.url],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        seen = b""

        def read_until(pattern):
            nonlocal seen
            deadline = time.monotonic() + TIMEOUT_S
            while not re.search(pattern, seen):
                assert time.monotonic() < deadline, seen
                if select.select([mine], [], [], 0.1)[0]:
                    seen += os.read(mine, 65536)
            found, seen = seen, b""
            return found

        async def until(pattern):
            return await asyncio.to_thread(read_until, pattern)

        try:
            assert b"'help' lists the commands" in await until(rb"apollo> $")
            os.write(mine, b"inspect nothing\n")
            told = await until(rb"nothing is known(.|\n)*apollo> $")
            assert b"\x1b[31mnothing is known of" in told
            lines = re.sub(rb"\x1b\[\d*[mK]", b"", told).decode().split("\r\n")
            assert max(map(len, lines)) < 80, "words are not broken at the terminal's edge"
            assert " approval:ID," in told.decode().replace("\r\n", " ")
            os.write(mine, b"ste")
            await until(rb"ste$")
            await run.ask("run.step", {"events": 4})  # somebody else
            assert b"4 events published" in await until(rb"apollo> ste$")
            os.write(mine, b"p 3\n")
            await until(rb"7 events published(.|\n)*apollo> $")
            os.write(mine, b"\x04")
            assert await asyncio.to_thread(process.wait, TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()
            os.close(mine)
