"""``token`` and ``lab``."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from syndarix_rt.cli.connect import server_url
from syndarix_rt.cli.console import run, say
from syndarix_rt.cli.options import TOKEN, option, typed, url_option
from syndarix_rt.errors import MissingExtra, SyndarixError

__all__ = ["new_token"]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
"""Where they are in a checkout of the project; an installed package has none."""


def new_token() -> str:
    """A fresh secret: 192 random bits, of characters that are safe in URLs and headers."""
    return secrets.token_hex(24)


@click.command("token")
@click.argument("rights", nargs=-1, metavar="[RIGHT:PROJECT]...")
@option("--key", type=TOKEN, show_default="none", help="The server's own key: its --token. Best by the environment.")
@option("--name", default="guest", metavar="NAME", help="Whom the token speaks for: in the chat, and in decisions.")
@option(
    "--life",
    type=click.FloatRange(0, 366 * 24, min_open=True),
    default=8,
    metavar="HOURS",
    help="How long it lasts, unless it is revoked.",
)
@option(
    "--revoke",
    type=TOKEN,
    metavar="TOKEN",
    show_default="none",
    help="End this token with rights before its time, on all servers that share the Redis of --url.",
)
@url_option
def token_command(
    *, rights: tuple[str, ...], key: str | None, name: str, life: float, revoke: str | None, url: str | None
) -> None:
    """Print a fresh random secret, for --token; or a token that reaches only so far, of the server's key.

    Rights are subscribe, publish, chat, debug and approve, each with a project, in which * stands for any characters:

    syndarix-rt token subscribe:apollo 'chat:demo_*' --name Ada --life 2
    """
    if revoke is not None:
        if not revoke:  # a script's variable that is not set: a fresh secret would look like success
            raise click.BadParameter("there is no token to end.", param_hint="--revoke")
        if rights:
            raise click.UsageError("--revoke ends a token, rights make one: one of both.")
        _refuse("name", "life", why="is for a token that is made, and --revoke ends one.")
        run(_revoke(revoke, server_url(url), key))
        return
    _refuse("url", why="says where --revoke ends a token; one is made without a server.")
    if not rights:
        _refuse("key", "name", "life", why="is for a token with rights; give some, such as subscribe:apollo.")
        click.echo(new_token())
        return
    from syndarix_rt.server.tokens import issue

    if not key:
        raise click.BadParameter("a token with rights is signed with the server's key.", param_hint="--key")
    click.echo(issue(key, rights, name=name, life_s=life * 3600))


def _refuse(*names: str, why: str) -> None:
    """Refuse options that would be passed over; their variables may be there for other commands."""
    for name in typed(*names):
        raise click.UsageError(f"--{name} {why}")


async def _revoke(token: str, url: str, key: str | None) -> None:
    from syndarix_rt.client.api import Api

    async with Api(url, token=key) as server:
        name = await server.revoke(token)
    say(f"revoked a token of {name}: it opens nothing any more, and what it had opened ends within a second or two")


@click.command("lab", context_settings={"ignore_unknown_options": True})
@click.argument("jupyter", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTERLAB'S OPTIONS]...")
def lab_command(*, jupyter: tuple[str, ...]) -> None:
    """Start JupyterLab, on this machine's loopback address only.

    It shows the project's notebooks in a checkout of the project, else the current directory. Whatever else is given
    goes to JupyterLab, such as --port 9999, --no-browser or --allow-root.
    """
    if not (find_spec("ipywidgets") and find_spec("anywidget")):
        raise MissingExtra("notebook", "lab")
    if not find_spec("jupyterlab"):
        raise SyndarixError("lab needs: pip install jupyterlab")
    directory = NOTEBOOKS if NOTEBOOKS.is_dir() else Path.cwd()
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--notebook-dir={directory}", *jupyter]
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606 - this process becomes JupyterLab, so its signals are Jupyter's
    sys.exit(subprocess.call(command))  # noqa: S603 - our own interpreter
