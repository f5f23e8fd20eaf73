"""``debug``: runs are stopped, looked at and changed from a terminal, by words or by a script."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click
import msgspec

from syndarix_rt.cli.connect import server_url
from syndarix_rt.cli.console import run
from syndarix_rt.cli.inspecting import show
from syndarix_rt.cli.options import PROJECT, RUN, SPEED, option, url_option
from syndarix_rt.cli.terminal import Terminal, printable
from syndarix_rt.errors import StreamError, SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.client import DebugClient
    from syndarix_rt.delivery import RunState
    from syndarix_rt.delivery.steering import Notice

WAITING_S = 60.0
"""``wait`` at a pipe: a script that waits for what does not come says so."""

LOOK_S = 0.5
"""Between two looks whether the connection is there at all."""

LEASE_NOTE = "nobody else attached: it plays on within 15 s"


class _Command(NamedTuple):
    usage: str
    text: str
    do: Callable[[_Session, str], Awaitable[None]]


@click.command("debug")
@click.argument("project", type=PROJECT, metavar="PROJECT")
@url_option
@option("--run", "run_id", type=RUN, show_default="the only one that plays", help="Which of the project's runs.")
@option("--wait", "wait_s", type=click.FloatRange(min=0), default=WAITING_S, metavar="S", help="In a script, 'wait' "
        "gives up after so many seconds.")  # fmt: skip
def debug_command(*, project: str, url: str | None, run_id: str | None, wait_s: float) -> None:
    """Stop, inspect and change the runs that play into PROJECT.

    Reads commands, from a person or from a pipe; "help" lists them. A script ends at the first command that is refused.
    A run that stands waits as long as somebody is attached.
    """
    from syndarix_rt.client import DebugClient

    async def debug() -> None:
        terminal = Terminal(f"{project}> ", [*COMMANDS, *_faults()])
        session = _Session(terminal, run_id, wait_s)
        async with DebugClient(server_url(url), project, on_notice=session.note) as client:
            session.client = client
            await session.work()

    run(debug())


class _Session:
    client: DebugClient

    def __init__(self, terminal: Terminal, run_id: str | None, wait_s: float) -> None:
        self.terminal = terminal
        self.run = run_id
        self._wait_s = wait_s
        self._told: tuple[Any, ...] = ()
        self._news = asyncio.Event()
        self._leaves = False

    # ---- what runs tell -------------------------------------------------------------------------------------------

    def note(self, notice: Notice) -> None:
        """Tell what has become of a run, unless it was just told."""
        self._news.set()
        self._tell(notice.state)

    def _tell(self, state: RunState) -> None:
        from syndarix_rt.delivery.steering import described

        told = (state.run, state.state, state.speed, state.published, state.stopped)
        before = self._told
        if told == before or state.state == "stepping":
            return
        if before[:1] == (state.run,) and before[3] > state.published:
            return  # what came after it was told first: the answer to 'continue' behind the breakpoint that ended it
        self._told = told
        speed = "full speed" if state.speed == "max" else f"speed {state.speed:g}" if state.speed else ""
        text = f"{state.run}: {described(state)}"
        if state.state == "playing":
            text += f", {speed}"
        elif state.position and not self.terminal.interactive:  # a person has the count
            text += f", at {state.position}"
        colour = {"playing": "green", "paused": "yellow", "failed": "red"}.get(state.state)
        self.terminal.say(printable(text), fg=colour)
        if state.stopped is not None and state.stopped.event is not None:
            event = state.stopped.event
            self.terminal.say(printable(f"  {event['type']}  {event.get('subject') or ''}  {event['id']}"), fg="yellow")

    # ---- commands -------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Do what is typed until the end."""
        terminal = self.terminal
        await self._begin()
        async for line in terminal.lines():
            word, _, rest = line.strip().partition(" ")
            word = SHORT.get(word, word)
            if not word or word.startswith("#"):
                continue
            try:
                await self._do(word, rest.strip())
            except StreamError:
                if self.client.state == "closed" or not terminal.interactive:
                    raise
                terminal.say(f"{self.client.reason or 'no answer'}; trying again", fg="red")
            except (SyndarixError, TimeoutError) as error:
                if not terminal.interactive:
                    raise SyndarixError(f"{line.strip()[:100]}: {error}") from error
                terminal.say(printable(str(error)), fg="red")
            if self._leaves:
                break
        if any(state.state == "paused" for state in self.client.attached.values()):
            terminal.say(f"It stands; with {LEASE_NOTE}.")

    async def _do(self, word: str, rest: str) -> None:
        if word not in COMMANDS:
            raise SyndarixError(f"there is no command {word[:50]!r}; 'help' lists them")
        await COMMANDS[word].do(self, rest)

    async def _begin(self) -> None:
        runs = await self.client.runs()
        terminal = self.terminal
        if terminal.interactive:
            terminal.say("'help' lists the commands; Ctrl-D ends.")
        if not runs and self.run is None:
            terminal.say(
                f"Nothing plays into {self.client.project} now; begin something: "
                f"syndarix-rt play demo_small --project {self.client.project}"
            )
        elif len(runs) > 1 and self.run is None:
            await self.runs("")
            terminal.say("Which one? 'use NAME' chooses.")
        elif self.run is None:
            self.run = runs[0].run
        if self.run is not None:
            self._tell(await self.client.attach(self.run))

    async def help(self, rest: str) -> None:
        """All commands, or one."""
        shown = {rest: COMMANDS[rest]} if rest in COMMANDS else COMMANDS
        width = max(len(command.usage) for command in shown.values())
        for command in shown.values():
            self.terminal.say(f"  {command.usage:<{width}}  {command.text}")

    async def leave(self, _: str) -> None:
        """Read no more commands."""
        self._leaves = True

    async def runs(self, _: str) -> None:
        """One line for each run."""
        from syndarix_rt.delivery.steering import described

        runs = await self.client.runs()
        for state in runs:
            mark = "*" if state.run == self.run else " "
            self.terminal.say(printable(f"{mark} {state.run}  {state.name}: {described(state)}"))
        if not runs:
            self.terminal.say("none")

    async def use(self, rest: str) -> None:
        """Attach to a run."""
        state = await self.client.attach(rest or None)
        self.run = state.run
        self._tell(state)

    async def pause(self, _: str) -> None:
        """Hold it."""
        self._tell(await self.client.pause(self.run))

    async def play_on(self, _: str) -> None:
        """Let it go."""
        self._tell(await self.client.resume(self.run))

    async def step(self, rest: str) -> None:
        """Publish so many events."""
        self._tell(await self.client.step(self.run, _count(rest or "1")))

    async def speed(self, rest: str) -> None:
        """Play faster or slower."""
        try:
            speed: float = SPEED.convert(rest, None, None)
        except click.BadParameter as error:
            raise SyndarixError(error.message) from error
        self._tell(await self.client.set_speed(speed, self.run))

    async def wait(self, rest: str) -> None:
        """Until it stands or has ended."""
        wait_s = _seconds(rest) if rest else self._wait_s
        if self.run is None:
            await self.use("")
        try:
            async with asyncio.timeout(wait_s or None):
                while (state := self.client.attached.get(self.run or "")) and state.state in ("playing", "stepping"):
                    self._news.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), LOOK_S)
                    if self.client.state == "closed":
                        raise StreamError(self.client.reason)
        except TimeoutError:
            plays = "it still plays" if self.client.state == "open" else self.client.reason or "no connection"
            raise SyndarixError(f"{plays} after {wait_s:g} s") from None

    async def set_break(self, rest: str) -> None:
        """One breakpoint more, or a list of them."""
        state = await self.client.attach(self.run)
        points = [dict(point) for point in state.breakpoints]
        if rest:
            what, _, where = f" {rest}".partition(" where ")
            points.append({"type": what.strip()} if what.strip() else {})
            if where.strip():
                points[-1]["where"] = where.strip()
            points = (await self.client.set_breakpoints(points, self.run)).breakpoints
        self._breaks(points)

    async def clear(self, rest: str) -> None:
        """One breakpoint less, or none left."""
        points = [dict(point) for point in (await self.client.attach(self.run)).breakpoints]
        if rest:
            number = _count(rest, least=0)
            if number >= len(points):
                raise SyndarixError(f"there is no breakpoint {number}")
            del points[number]
        else:
            points = []
        self._breaks((await self.client.set_breakpoints(points, self.run)).breakpoints)

    def _breaks(self, points: list[dict[str, Any]]) -> None:
        for number, point in enumerate(points):
            where = f" where {point['where']}" if "where" in point else ""
            self.terminal.say(printable(f"  {number}  {point.get('type', '')}{where}"))
        if not points:
            self.terminal.say("no breakpoints")

    async def inspect(self, rest: str) -> None:
        """Show what the published events say."""
        entity = ":".join(rest.split()) or "project"
        found = await self.client.inspect({"queue": "queues"}.get(entity, entity), self.run)
        show(self.terminal, entity.partition(":")[0], found)

    async def inject(self, rest: str) -> None:
        """A fault, or an event."""
        kind, _, given = rest.partition(" ")
        settings = _settings(given.strip())
        if kind in _faults():
            state = await self.client.inject(self.run, fault={"kind": kind} | settings)
        else:
            state = await self.client.inject(self.run, event={"type": kind, "data": settings})
        self.terminal.say(printable(f"{kind} comes next in {state.run}"))


def _count(text: str, least: int = 1) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise SyndarixError(f"{text[:50]!r} is no number from {least} on")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise SyndarixError(f"{text[:50]!r} is no number of seconds")
    return float(text)


def _settings(text: str) -> dict[str, Any]:
    """``minutes=30 text="a b"``, or a JSON object."""
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise SyndarixError(f"that is no JSON object: {error}") from error
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SyndarixError(f"cannot be read: {error}") from error
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise SyndarixError(f"{word[:50]!r} is no setting; write name=value")
        try:
            settings[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            settings[name] = value
    return settings


def _faults() -> list[str]:
    from syndarix_rt.simulation.settings import AnyFault

    return [str(kind.__struct_config__.tag) for kind in get_args(AnyFault)]


COMMANDS: dict[str, _Command] = {
    "help": _Command("help [COMMAND]", "this", _Session.help),
    "runs": _Command("runs", "the runs that play into the project", _Session.runs),
    "use": _Command("use RUN", "steer that run", _Session.use),
    "pause": _Command("pause", "publish nothing more", _Session.pause),
    "continue": _Command("continue", "play on (c)", _Session.play_on),
    "step": _Command("step [N]", "publish exactly N events, 1 without a number (s)", _Session.step),
    "speed": _Command("speed X|max", "simulated seconds per second", _Session.speed),
    "wait": _Command("wait [S]", "until it stands or has ended; for scripts (w)", _Session.wait),
    "break": _Command(
        "break [TYPE] [where COND]", "stop at: break pipeline_failed where duration_s > 60 (b)", _Session.set_break
    ),
    "clear": _Command("clear [N]", "forget a breakpoint, or all of them", _Session.clear),
    "inspect": _Command(
        "inspect [WHAT [ID]]", "project, run, queues, agents, agent developer-1, pipelines, … (i)", _Session.inspect
    ),
    "inject": _Command(
        "inject WHAT [NAME=VALUE …]", "a fault (ci_outage minutes=30), or an event by its type", _Session.inject
    ),
    "quit": _Command("quit", "leave; Ctrl-D, too (q)", _Session.leave),
}
SHORT = {"c": "continue", "s": "step", "b": "break", "i": "inspect", "q": "quit", "exit": "quit", "resume": "continue",
         "breaks": "break", "w": "wait", "?": "help"}  # fmt: skip
