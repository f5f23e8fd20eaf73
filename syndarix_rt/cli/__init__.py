"""The command line: the one place where all rooms are put together.

* :mod:`~syndarix_rt.cli.options`: what options have in common; values such as ``60``, ``max`` or ``100000,24h,256MiB``
* :mod:`~syndarix_rt.cli.console`: lines and progress for people, and how a command is interrupted
* :mod:`~syndarix_rt.cli.connect`: which server or Redis a command talks to
* :mod:`~syndarix_rt.cli.demo`: ``demo``
* :mod:`~syndarix_rt.cli.serving`: ``serve``; its processes (:mod:`~syndarix_rt.cli.workers`)
* :mod:`~syndarix_rt.cli.listening`: a server and what it listens on, for both
* :mod:`~syndarix_rt.cli.playing`: ``play``, ``replay``
* :mod:`~syndarix_rt.cli.watching`: ``watch``, ``record``
* :mod:`~syndarix_rt.cli.terminal`: lines from a person while others talk
* :mod:`~syndarix_rt.cli.debugging`: ``debug``; what it finds out (:mod:`~syndarix_rt.cli.inspecting`)
* :mod:`~syndarix_rt.cli.chatting`: ``chat``
* :mod:`~syndarix_rt.cli.files`: ``simulate``, ``import``, ``validate``
* :mod:`~syndarix_rt.cli.scenarios`: ``scenarios``
* :mod:`~syndarix_rt.cli.exporting`: ``export``
* :mod:`~syndarix_rt.cli.fitting`: ``fit``
* :mod:`~syndarix_rt.cli.verifying`: ``verify``
* :mod:`~syndarix_rt.cli.benching`: ``bench``
* :mod:`~syndarix_rt.cli.doctor`: ``doctor``
* :mod:`~syndarix_rt.cli.tools`: ``token``, ``lab``

Exit codes: 0 done, 1 failed (one line on stderr says what to do), 2 wrong usage, 130 interrupted before it was done.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

import click

from syndarix_rt._version import __version__
from syndarix_rt.errors import SyndarixError

__all__ = ["main"]

PROGRAM = "syndarix-rt"

COMMANDS = {
    "demo": "demo",
    "serve": "serving",
    "play": "playing",
    "simulate": "files",
    "watch": "watching",
    "record": "watching",
    "replay": "playing",
    "debug": "debugging",
    "chat": "chatting",
    "import": "files",
    "export": "exporting",
    "fit": "fitting",
    "validate": "files",
    "scenarios": "scenarios",
    "verify": "verifying",
    "bench": "benching",
    "doctor": "doctor",
    "token": "tools",
    "lab": "tools",
}
"""Each command's module, in the order of the help."""


class _Commands(click.Group):
    """Loads a command's module when it is asked for; the modules load what they need when a command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"syndarix_rt.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's, which suggests options that are spelled alike, but not commands."""
        if (close := get_close_matches(args[0], COMMANDS)) and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}; did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Every option can be set by the environment variable that its help names; the command line wins. "
    "An empty variable counts as not set.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def _cli() -> None:
    """Simulate the work of LLM coding agents, stream it live, and watch it: start with "syndarix-rt demo"."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows the others
    try:
        code = _cli.main(args, prog_name=PROGRAM, standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        code = _fail(f"{error.format_message()} (see {path} --help)", path, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except (SyndarixError, OSError) as error:
        code = _fail("; ".join([str(error), *getattr(error, "__notes__", [])]), PROGRAM, 1)
    _let_go_of_output()
    sys.exit(code)


def _fail(text: str, program: str, code: int) -> int:
    click.echo(f"{program}: {' '.join(text.split())}", err=True)
    return code


def _let_go_of_output() -> None:
    """Write out what is buffered; whoever read it may be gone (``| head``), which is no fault of ours."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
