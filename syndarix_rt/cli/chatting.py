"""``chat``: talk with the people and the agents of a project from a terminal, or by a script."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import secrets
import shutil
import textwrap
from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.connect import server_url
from syndarix_rt.cli.console import run
from syndarix_rt.cli.options import PROJECT, option, url_option
from syndarix_rt.cli.terminal import Terminal, printable
from syndarix_rt.delivery.chat import EVERYBODY, Delta, Done, Member, Missed, Presence, Said
from syndarix_rt.errors import SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.client import ChatClient
    from syndarix_rt.client.chat import Heard

HISTORY = 20
"""Messages shown first: they fit on a screen."""

WAITING_S = 60.0
"""A script that waits for an answer that does not come says so."""

LEAVING_S = 5.0
"""What was typed last is sent before the end, or it is said that it was not."""

LOOK_S = 0.1
"""Between two looks whether the connection is there."""

WIDTH = 100
"""Longer lines are hard to read, on the widest screen."""

COMMANDS = {
    "text": "say it to everybody",
    "@name text": "say it to one: an agent answers",
    "/who": "who is here",
    "/help": "this list",
    "/quit": "end, as Ctrl-D",
}


@click.command("chat")
@click.argument("project", type=PROJECT, metavar="PROJECT")
@url_option
@option("--name", metavar="NAME", show_default="your token's, else one from the server", help="Under which you speak.")
@option("--history", type=click.IntRange(0, 200), default=HISTORY, metavar="N", help="Begin with so many messages.")
@option("--wait", "wait_s", type=click.FloatRange(min=0), default=WAITING_S, metavar="S", help="A script waits for "
        "agents' answers for so many seconds.")  # fmt: skip
def chat_command(*, project: str, url: str | None, name: str | None, history: int, wait_s: float) -> None:
    """Talk with the people and agents of PROJECT.

    "text" goes to everybody, "@developer-1 text" to one; /who tells who is here, /quit ends. At a pipe each line is
    said, and at its end the answers of the agents that were asked are waited for.
    """
    from syndarix_rt.client import ChatClient

    async def chat() -> None:
        terminal = Terminal(f"{project}> ", [command for command in COMMANDS if command.startswith("/")])
        async with ChatClient(server_url(url), project, name=name, history=history) as client:
            await _Conversation(terminal, client, wait_s).work()

    run(chat())


class _Conversation:
    def __init__(self, terminal: Terminal, client: ChatClient, wait_s: float) -> None:
        self.terminal = terminal
        self.client = client
        self._wait_s = wait_s
        self._mine: set[str] = set()  # ids of what was typed here, and can be read there
        self._saying: set[asyncio.Task[None]] = set()
        self._asked: dict[str, str] = {}  # agents whose answer is waited for, by the question's id
        self._answered = asyncio.Event()
        self._shown: dict[tuple[str, str], int] = {}  # how much of an answer stands on the screen
        self._last: tuple[str, str] | None = None  # the answer whose line stands lowest there

    async def work(self) -> None:
        """Talk until the end of the input; raises what ends the connection for good."""
        await self._arrive()
        tasks = [asyncio.create_task(work) for work in (self._speak(), self._hear(), self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, *self._saying):
                task.cancel()
            await asyncio.wait([*tasks, *self._saying])

    async def _arrive(self) -> None:
        client = self.client
        arriving = asyncio.create_task(client.ready())
        try:
            while not arriving.done():
                await asyncio.wait({arriving}, timeout=LOOK_S)
                if client.state == "waiting":
                    raise SyndarixError(client.reason)
            ready = arriving.result()
        finally:
            arriving.cancel()
        if self.terminal.interactive:
            self.terminal.say(printable(f"You are {ready.name}. Here: {_listed(ready.members)}."), dim=True)
            self.terminal.say("'@name text' is for one, 'text' for all; /help tells more, Ctrl-D ends.", dim=True)

    async def _watch(self) -> None:
        """Tell when the connection is lost and when it is there again."""
        lost = False
        while True:
            await asyncio.sleep(LOOK_S)
            if self.client.state == "waiting" and not lost:
                lost = True
                self._tell(f"{self.client.reason}; trying again, what you say is kept", fg="red")
            elif self.client.state == "open" and lost:
                lost = False
                self._tell("connected again", fg="green")

    def _tell(self, text: str, **style: object) -> None:
        """About the conversation rather than of it; a script reads only what is said."""
        if self.terminal.interactive:
            self._last = None
            self.terminal.say(printable(text), **style)

    # ---- speaking -------------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        async for line in self.terminal.lines():
            text = line.strip()
            self._last = None
            if text in ("/quit", "/q"):
                break
            try:
                await self._do(text)
            except SyndarixError as error:
                if not self.terminal.interactive or self.client.state == "closed":
                    raise
                self._tell(str(error), fg="red")
        if self._saying:
            _, left = await asyncio.wait(self._saying, timeout=LEAVING_S)
            if left:
                raise SyndarixError(f"not sent, {self.client.reason or 'the server does not answer'}")
        if not self.terminal.interactive:
            await self._wait_for_answers()

    async def _do(self, text: str) -> None:
        if text == "/who":
            for member in self.client.members:
                self.terminal.say(printable(f"  {_named(member)}"))
        elif text == "/help":
            width = max(map(len, COMMANDS))
            for command, does in COMMANDS.items():
                self.terminal.say(f"  {command:<{width}}  {does}")
        elif text.startswith("/"):
            raise SyndarixError(f"there is no command {text.split(maxsplit=1)[0][:50]!r}; /help lists them")
        elif text.startswith("@"):
            to, text = self._addressed(text[1:])
            await self._say(text, to)
        elif text:
            await self._say(text, EVERYBODY)

    def _addressed(self, text: str) -> tuple[str, str]:
        """Whom it is for, and what; names may have spaces."""
        names = [*(member.name for member in self.client.members), EVERYBODY]
        for name in sorted(names, key=len, reverse=True):
            rest = text.removeprefix(name)
            if rest != text and (not rest or rest[0] in " :,"):
                if not rest.strip(" :,"):
                    raise SyndarixError(f"write what to say to {name} behind its name")
                return name, rest.lstrip(" :,")
        raise SyndarixError(f"{text.partition(' ')[0][:50]!r} is not here; /who tells who is")

    async def _say(self, text: str, to: str) -> None:
        message_id = secrets.token_hex(8)
        self._mine.add(message_id)
        if not self.terminal.interactive:
            if any(member == Member(to, "agent") for member in self.client.members):
                self._asked[message_id] = to
            await self.client.say(text, to=to, id=message_id)
            return

        async def say() -> None:  # beside what is typed next: the server may be away
            try:
                await self.client.say(text, to=to, id=message_id)
            except SyndarixError as error:
                self._tell(f"not said: {error}", fg="red")

        task = asyncio.create_task(say())
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _wait_for_answers(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                while self._asked:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            names = ", ".join(sorted(set(self._asked.values())))
            raise SyndarixError(f"no answer from {names} after {self._wait_s:g} s") from None

    # ---- hearing --------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        async for frame in self.client:
            self._show(frame)

    def _show(self, frame: Heard) -> None:
        match frame:
            case Said():
                if not (self.terminal.interactive and frame.id in self._mine):
                    self._show_message(frame)
            case Delta():
                if self.terminal.interactive:
                    self._show_answer(frame.speaker, frame.id, frame.to)
            case Done():
                if (frame.speaker, frame.id) in self._shown:
                    self._finish_answer(frame)
                else:
                    self._show_message(frame)
                if self._asked.pop(frame.reply_to or "", None):
                    self._answered.set()
            case Missed():
                lost = "some messages" if frame.missed is None else f"{frame.missed} entries"
                self.terminal.say(f"… {lost} are gone for good ({frame.reason}) …", fg="red")
            case Presence():
                for members, what in ((frame.joined, "came"), (frame.left, "left")):
                    if members:
                        self._tell(f"{_listed(members)} {what}", dim=True)

    def _show_message(self, frame: Said | Done) -> None:
        when = f"{frame.time.astimezone():%H:%M} " if self.terminal.interactive else ""
        self._last = None
        self._show_lines(f"{when}{_header(frame.speaker, frame.to)}", frame.text, frame.speaker)
        self._show_fault(frame)

    def _show_answer(self, speaker: str, answer_id: str, to: str) -> None:
        """Show what is new of an answer that is being written, by whole lines: others may talk between them."""
        key = speaker, answer_id
        answer = self.client.transcript.answers.get(key)
        if answer is None:
            return
        shown = self._shown.setdefault(key, 0)
        lines = _wrapped(answer.text[shown:], self._width(f"{_header(speaker, to)} …"))
        for line in lines[:-1]:  # the last may go on
            self._show_part(key, to, line, begun=shown > 0)
            shown = self._shown[key] = answer.text.index(line, shown) + len(line)

    def _show_part(self, answer: tuple[str, str], to: str, text: str, *, begun: bool) -> None:
        """The next lines of an answer: below its last one, or with its speaker's name if others talked meanwhile."""
        speaker, _ = answer
        if answer == self._last:
            for line in _wrapped(text, self._width("")):
                self.terminal.say(printable(f"    {line}"))
        else:
            header = _header(speaker, to)
            self._show_lines(f"{header} …" if begun else header, text, speaker)
            self._last = answer

    def _finish_answer(self, frame: Done) -> None:
        shown = self._shown.pop((frame.speaker, frame.id))
        if rest := frame.text[shown:].strip():
            self._show_part((frame.speaker, frame.id), frame.to, rest, begun=shown > 0)
        self._show_fault(frame)

    def _show_fault(self, frame: Said | Done) -> None:
        if isinstance(frame, Done) and frame.error:
            self.terminal.say(printable(f"  (it broke off: {frame.error})"), fg="red")

    def _show_lines(self, header: str, text: str, speaker: str) -> None:
        if not self.terminal.interactive:  # one line each
            self.terminal.say(printable(f"{header}: {' '.join(text.split())}"))
            return
        first, *others = _wrapped(text, self._width(header)) or [""]
        colour = "cyan" if Member(speaker, "agent") in self.client.members else "green"
        self.terminal.say(click.style(printable(header), fg=colour) + printable(f": {first}"))
        for line in others:
            self.terminal.say(printable(f"    {line}"))

    def _width(self, header: str) -> int:
        return max(20, min(shutil.get_terminal_size().columns, WIDTH) - len(header) - 5)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text, of which each is a part."""
    return [
        line
        for paragraph in text.split("\n")
        for line in textwrap.wrap(paragraph, width, expand_tabs=False, replace_whitespace=False)
    ]


def _header(speaker: str, to: str) -> str:
    return speaker if to == EVERYBODY else f"{speaker} to {to}"


def _named(member: Member) -> str:
    return f"{member.name} (agent)" if member.kind == "agent" else member.name


def _listed(members: list[Member]) -> str:
    return ", ".join(_named(member) for member in members)
