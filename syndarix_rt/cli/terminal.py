"""`Terminal`: lines from a person while others talk; at a plain pipe the same, without prompt and colours."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

import click

from syndarix_rt.errors import SyndarixError

__all__ = ["Terminal", "printable"]

MIN_COLUMNS = 20
"""In a narrower terminal nothing reads well; it breaks lines itself."""

PROMPT_S = 5
"""The longest wait for the prompt, seconds: it is there within milliseconds, on a machine without time within one."""


class Terminal:
    """Standard input line by line, and standard output above what is being typed.

    Args:
        prompt: stands before what is typed.
        words: what the tab key completes.

    Attributes:
        interactive: whether a person sits there; else a pipe.
    """

    def __init__(self, prompt: str, words: Sequence[str] = ()) -> None:
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self.prompt = prompt
        self._words = sorted(words)
        self._readline: Any = None
        self._waiting = False
        self._prompted = threading.Event()

    def say(self, text: str, **style: Any) -> None:
        """One or more lines; ``style`` as of `click.style`, seen only at a terminal, where words are not broken."""
        if self.interactive:
            text = "\n".join(map(_fitted, text.split("\n")))
        if self._waiting:
            self._prompted.wait(PROMPT_S)  # readline writes it letter by letter, and ours would stand among them
            click.echo("\r\x1b[K", nl=False)
        click.echo(click.style(text, **style) if style else text)
        if self._waiting:
            typed = self._readline.get_line_buffer() if self._readline else ""
            click.echo(self.prompt + typed, nl=False)
        sys.stdout.flush()

    async def lines(self) -> AsyncGenerator[str]:
        """What is typed, to its end (Ctrl-D). The next line is read when the one before has been dealt with.

        Raises:
            SyndarixError: the input is no text in UTF-8.
        """
        loop = asyncio.get_running_loop()
        wanted = threading.Semaphore(0)
        lines: asyncio.Queue[str | SyndarixError | None] = asyncio.Queue()

        def put(line: str | SyndarixError | None) -> None:
            with suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(lines.put_nowait, line)

        def read() -> None:
            while True:
                wanted.acquire()
                try:
                    line = self._read()
                    line.encode()  # in a locale that is not UTF-8, what is no text comes as surrogates
                    put(line)
                except UnicodeError:  # half a script must not look like all of it
                    put(SyndarixError("the input is not UTF-8 text from here on; nothing more of it is done"))
                    return
                except (EOFError, OSError, ValueError, KeyboardInterrupt):
                    put(None)
                    return

        self._prepare()
        # Not on the loop's executor: its threads are waited for, and this one waits for a person.
        threading.Thread(target=read, name="syndarix-rt terminal", daemon=True).start()
        while True:
            self._prompted.clear()
            self._waiting = self.interactive
            wanted.release()
            try:
                line = await lines.get()
            finally:
                self._waiting = False
            if line is None:
                if self.interactive:
                    click.echo()
                return
            if isinstance(line, SyndarixError):
                raise line
            yield line

    def _read(self) -> str:
        if self.interactive:
            if not hasattr(self._readline, "set_pre_input_hook"):  # then nobody tells
                self._prompted.set()
            try:
                return input(self.prompt)
            finally:
                self._prompted.set()  # also when it came to its end before the prompt
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _prepare(self) -> None:
        """History with the arrow keys and completion with tab, where Python has readline."""
        if not self.interactive:
            return
        with suppress(ImportError):
            import readline

            self._readline = readline
            readline.set_completer(self._complete)
            readline.set_completer_delims(" ")
            if hasattr(readline, "set_pre_input_hook"):
                readline.set_pre_input_hook(self._prompted.set)
            with suppress(Exception):  # libedit has other words for it
                readline.parse_and_bind("tab: complete")

    def _complete(self, text: str, state: int) -> str | None:
        found = [word for word in self._words if word.startswith(text)]
        return found[state] if state < len(found) else None


def _fitted(line: str) -> str:
    """A line that is too long for the terminal, on several; those after the first are indented."""
    columns = shutil.get_terminal_size().columns
    if len(click.unstyle(line)) < columns or columns < MIN_COLUMNS:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return "\n".join(textwrap.wrap(line, columns - 1, subsequent_indent=indent, break_on_hyphens=False))


def printable(text: str) -> str:
    """Text of others, without anything that moves a terminal's cursor; line ends stay."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
