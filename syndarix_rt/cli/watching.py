"""``watch`` and ``record``: a project's events, for a person, a program or a file."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from syndarix_rt.cli.connect import server_url
from syndarix_rt.cli.console import progress, run, say
from syndarix_rt.cli.options import COUNT, EVENT_ID, PROJECT, REPLAY, TYPES, option, url_option
from syndarix_rt.events import Event, category_of

if TYPE_CHECKING:
    from syndarix_rt.client import EventStream, StreamState
    from syndarix_rt.events import EventId

COMMON = ("role", "issue_id", "branch", "run_id")
"""What the events of a run have in common stands last in a line, where a narrow terminal cuts it off."""

COLOURS = {"agent": "cyan", "project": "yellow", "git": "green", "workflow": "magenta", "pipeline": "blue"}
"""By category; what failed is red."""

_replay_option = option(
    "--replay", type=REPLAY, show_default="only new ones", help="Begin with the last N events that are kept, or all."
)


@click.command("watch")
@click.argument("project", type=PROJECT, metavar="PROJECT")
@url_option
@option("--json", "as_json", is_flag=True, help="One event a line, the very bytes that were published.")
@option("--events", type=COUNT, metavar="N", show_default="until Ctrl-C", help="Stop after so many events.")
@option("--types", type=TYPES, show_default="all", help="Only these: categories, globs, names, as agent_*,pipeline.")
@option(
    "--last-event-id", type=EVENT_ID, show_default="none", help="Continue after this position, such as kT3vQ9xa.1207."
)
@_replay_option
def watch_command(
    *,
    project: str,
    url: str | None,
    as_json: bool,
    events: int | None,
    types: str | None,
    last_event_id: EventId | None,
    replay: int | Literal["all"] | None,
) -> None:
    """Show the events of PROJECT as they come.

    The stream resumes by itself after a cut; a loss that cannot be made good is told on stderr.
    """
    from syndarix_rt.client import EventStream, parse_server_url

    write = _write_json if as_json else _write_line
    server = server_url(url)

    def opened() -> str:
        begun = stream.opened
        empty = begun is not None and begun.last == 0
        what = f"{project}, into which nothing has been published yet," if empty else project
        return f"watching {what} at {parse_server_url(server).base_url}; Ctrl-C ends it"

    state = _tell_state(opened)
    stream = EventStream(server, project, types=types, last_event_id=last_event_id, replay=replay, on_state=state)

    async def watch() -> None:
        async with stream:
            with suppress(asyncio.CancelledError):  # Ctrl-C: how one stops watching
                await _each(stream, write, events)

    run(watch())


@click.command("record")
@click.argument("project", type=PROJECT, metavar="PROJECT")
@option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The recording (JSONL).")
@url_option
@option("--events", type=COUNT, metavar="N", show_default="until Ctrl-C", help="Stop after so many events.")
@_replay_option
def record_command(
    *, project: str, output: Path, url: str | None, events: int | None, replay: int | Literal["all"] | None
) -> None:
    """Write the events of PROJECT into a file as they come.

    One event a line, the very bytes that were published. Until it is complete the file is called FILE.partial. At the
    end the ledger is printed: what came, and what did not.
    """
    from syndarix_rt.client import EventStream
    from syndarix_rt.playback import RecordingWriter

    stream = EventStream(server_url(url), project, replay=replay, on_state=_tell_state())

    async def record() -> None:
        with RecordingWriter(output) as writer, progress(f"Recording {project}", events) as update:

            def write(event: Event) -> None:
                writer.write(event)
                update(writer.events)

            async with stream:
                with suppress(asyncio.CancelledError):  # Ctrl-C: how one ends a recording
                    await _each(stream, write, events)

    run(record())
    click.echo(f"{output}: {stream.ledger}")


async def _each(stream: EventStream, write: Any, limit: int | None) -> None:
    """Hand each event over; gaps go to stderr."""
    done = 0
    async for item in stream:
        if isinstance(item, Event):
            write(item)
            done += 1
            if done == limit:
                return
        else:
            missed = "unknown" if item.missed is None else f"{item.missed:,}"
            say(f"gap ({item.reason}) after {item.requested}; events lost: {missed}; kept: {item.first} to {item.last}")


def _tell_state(opened: Callable[[], str] | None = None) -> Any:
    """Says what keeps the stream from coming; at a terminal also that it is open, as long may pass without an event."""
    from syndarix_rt.client import StreamState

    told = ""
    if not sys.stderr.isatty():
        opened = None

    def tell(state: StreamState, reason: str) -> None:
        nonlocal told, opened
        if state is StreamState.WAITING and reason != told:
            say(f"{reason}; trying again")
            told = reason
        elif state is StreamState.OPEN and told:
            say("connected")
            told = ""
        if state is StreamState.OPEN and opened:
            say(opened())
            opened = None

    return tell


def _write_json(event: Event) -> None:
    sys.stdout.buffer.write(event.raw + b"\n")
    sys.stdout.buffer.flush()  # whoever reads wants it now


def _write_line(event: Event) -> None:
    """Time, type, subject and the payload's plain values, without anything that moves a terminal's cursor."""
    values = sorted(event.data.items(), key=lambda item: item[0] in COMMON)
    plain = [f"{key}={value}" for key, value in values if isinstance(value, str | int | float)]
    told = [event.subject] if event.subject else []
    told += [text for text in plain if text.partition("=")[2] != event.subject]
    text = "".join(character if character.isprintable() else "?" for character in "  ".join(told))
    head = f"{event.time:%H:%M:%S}  {event.type:<18}  "
    if sys.stdout.isatty():
        text = text[: max(20, shutil.get_terminal_size().columns - len(head))]
    colour = "red" if event.type.endswith(("_failed", "_error")) else COLOURS.get(category_of(event.type) or "")
    click.echo(click.style(head, fg=colour) + text)
