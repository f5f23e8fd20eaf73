"""``chat``: a script at a pipe, and a person at a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress

import pytest
from command_line import PROGRAM, TIMEOUT_S, environment, run
from serving import running

from syndarix_rt.client import ChatClient
from syndarix_rt.delivery.chat import Said

LONG = " ".join(f"word-{n}" for n in range(40))


async def script(server, text, *options):
    return await asyncio.to_thread(run, "chat", "apollo", "--url", server.url, *options, input=text)


def idea(text):
    if text == "fail":
        raise ValueError("no \x1b[2J idea")
    return text


@asynccontextmanager
async def echo(server):
    """An agent that answers with what it was told, in two pieces; it fails when it is told to."""

    async def work(chat):
        async for frame in chat:
            if isinstance(frame, Said) and frame.to == "echo":
                with suppress(ValueError):
                    async with chat.answer(frame) as answer:
                        await answer.write("You said: ")
                        await answer.write(idea(frame.text))

    async with ChatClient(server.url, "apollo", name="echo", kind="agent") as chat:
        await chat.ready()
        task = asyncio.create_task(work(chat))
        try:
            yield chat
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_a_script_says_its_lines_and_waits_for_the_agents_it_asked():
    async with running() as server, echo(server) as agent:
        await agent.say("before")
        done = await script(server, "/who\nhello all\n@echo one  two\n@all three\n@echo fail\n", "--name", "ana")
        assert (done.code, done.err) == (0, ""), done
        lines = done.out.splitlines()
        assert {"  ana", "  echo (agent)"} <= set(lines)
        said = [line for line in lines if not line.startswith("  ")]
        assert set(said) == {
            "echo: before", "ana: hello all", "ana to echo: one two", "ana: three", "ana to echo: fail",
            "echo to ana: You said: one two", "echo to ana: You said:",
        }  # fmt: skip
        assert said.index("ana to echo: one two") < said.index("echo to ana: You said: one two")
        assert "  (it broke off: ValueError: no ?[2J idea)" in lines
        assert "\x1b" not in done.out


async def test_what_cannot_be_is_told_in_one_line():
    async with running() as server, ChatClient(server.url, "apollo", name="mute", kind="agent") as mute:
        await mute.ready()
        for words, options, told in (
            ("@nobody hello", (), "'nobody' is not here"),
            ("@mute", (), "write what to say to mute"),
            ("/fly", (), "there is no command '/fly'"),
            ("hello", ("--name", "all"), "name must be 1 to 64 printable characters, not 'all'"),
            ("@mute hello", ("--wait", "0.2"), "no answer from mute after 0.2 s"),
        ):
            done = await script(server, words, *options)
            assert (done.code, told in done.err, done.err.count("\n")) == (1, True, 1), done
    done = await script(server, "hello")
    assert (done.code, done.err.count("\n")) == (1, 1), done


@pytest.fixture
def terminal():
    """Starts the command at a terminal of 80 columns; sends keys and reads until something is seen."""
    opened = []

    class AtTerminal:
        def __init__(self, *arguments, program=PROGRAM):
            self.mine, theirs = pty.openpty()
            self.process = subprocess.Popen(
                [*program, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                env=environment(TERM="xterm", COLUMNS="80"),
            )  # fmt: skip
            os.close(theirs)
            self.seen = b""
            opened.append(self)

        def press(self, keys):
            os.write(self.mine, keys)

        async def until(self, pattern):
            return await asyncio.to_thread(self._until, pattern)

        def _until(self, pattern):
            deadline = time.monotonic() + TIMEOUT_S
            while not re.search(pattern, self.seen):
                assert time.monotonic() < deadline, self.seen
                if select.select([self.mine], [], [], 0.1)[0]:
                    self.seen += os.read(self.mine, 65536)
            found, self.seen = self.seen, b""
            return found

        async def ended(self):
            return await asyncio.to_thread(self.process.wait, TIMEOUT_S)

    yield AtTerminal
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.mine)


TALKING = """
import asyncio
from syndarix_rt.cli.terminal import Terminal

async def talk(terminal):
    while True:
        terminal.say("talk")
        await asyncio.sleep(0)

async def main():
    terminal = Terminal("apollo> ")
    others = asyncio.create_task(talk(terminal))
    async for line in terminal.lines():
        if line == "end":
            others.cancel()
            break

asyncio.run(main())
"""


async def test_who_talks_while_the_prompt_is_written_does_not_tear_it(terminal):
    me = terminal(program=[sys.executable, "-c", TALKING])
    seen = b""
    for _ in range(20):
        me.press(b"\n")
        seen += await me.until(rb"apollo> (.|\n)*apollo> ")
    me.press(b"end\n")
    with suppress(OSError):  # it has ended
        await me.until(rb"(?!)")
    whole = seen[: seen.rindex(b"apollo> ")]  # what was read last may end within a word
    lines = {line.replace(b"apollo> ", b"") for line in re.split(rb"\r\n|\r\x1b\[K|\n|\r", whole)}
    assert lines <= {b"talk", b""}, lines
    assert await me.ended() == 0


async def test_at_a_terminal_answers_grow_while_others_come_and_talk(terminal):
    async with running() as server, ChatClient(server.url, "apollo", name="dev", kind="agent") as dev:
        await dev.say("an old one")
        me = terminal("chat", "apollo", "--url", server.url, "--name", "ana")
        assert b"You are ana. Here: ana, dev (agent)." in await me.until(rb"dev\x1b\[0m: an old one(.|\n)*apollo> $")
        me.press(b"@dev why\n")
        async with asyncio.timeout(TIMEOUT_S):
            while (asked := dev.transcript.messages[-1]).text != "why":
                await asyncio.sleep(0.01)
        me.press(b"mean")
        await me.until(rb"mean$")
        async with dev.answer(to="ana", id="a") as answer:
            await answer.write(LONG)
            seen = await me.until(rb"word-1 (.|\n)*apollo> mean$")
            assert b"word-39" not in seen, "the last line may go on"
            async with ChatClient(server.url, "apollo", name="bob") as bob:
                await me.until(rb"bob came(.|\n)*apollo> mean$")
                await bob.say("hi \x1b[2J")
                assert b"\x1b[2J" not in await me.until(rb"bob\x1b\[0m: hi \?\[2J(.|\n)*apollo> mean$")
            await answer.write(" the end")
        seen = await me.until(rb"the end(.|\n)*apollo> mean$")
        assert (asked.speaker, asked.to) == ("ana", "dev")
        me.press(b"while\n")
        async with asyncio.timeout(TIMEOUT_S):
            while dev.transcript.messages[-1].text != "meanwhile":
                await asyncio.sleep(0.01)
        me.press(b"/who\n")
        await me.until(rb"  dev \(agent\)(.|\n)*apollo> $")
        me.press(b"@nobody x\n")
        await me.until(rb"'nobody' is not here(.|\n)*apollo> $")
        me.press(b"/quit\n")
        assert await me.ended() == 0


async def test_at_a_terminal_a_lost_server_is_told_and_what_is_typed_is_said_later(terminal):
    async with running() as server:
        me = terminal("chat", "apollo", "--url", server.url, "--name", "ana")
        await me.until(rb"apollo> $")
    await me.until(rb"trying again, what you say is kept(.|\n)*apollo> $")
    me.press(b"still here\n")
    async with (
        running(port=int(server.url.rpartition(":")[2])) as again,
        ChatClient(again.url, "apollo", name="bob") as bob,
    ):
        await me.until(rb"connected again(.|\n)*apollo> $")
        async with asyncio.timeout(TIMEOUT_S):
            async for frame in bob:
                if isinstance(frame, Said):
                    break
        assert (frame.speaker, frame.text) == ("ana", "still here")
        me.press(b"\x04")
        assert await me.ended() == 0
