"""``token`` and ``lab``."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from syndarix_rt.cli.options import PORTS, option
from syndarix_rt.errors import MissingExtra, SyndarixError

__all__ = ["new_token"]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
"""Where they are in a checkout of the project; an installed package has none."""


def new_token() -> str:
    """A fresh secret: 192 random bits, of characters that are safe in URLs and headers."""
    return secrets.token_hex(24)


@click.command("token")
def token_command() -> None:
    """Print a fresh random secret, for --token."""
    click.echo(new_token())


@click.command("lab")
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@option(
    "--port",
    type=PORTS,
    metavar="N",
    default=8888,
    help="Where JupyterLab listens on 127.0.0.1; if it is busy, the next free one.",
)
@option("--browser/--no-browser", default=True, help="Open it in a browser.")
def lab_command(*, directory: Path | None, port: int, browser: bool) -> None:
    """Start JupyterLab in DIRECTORY.

    Without it: with the project's notebooks in a checkout of the project, else in the current directory.
    """
    if not (find_spec("ipywidgets") and find_spec("anywidget")):
        raise MissingExtra("notebook", "lab")
    if not find_spec("jupyterlab"):
        raise SyndarixError("lab needs: pip install jupyterlab")
    directory = directory or (NOTEBOOKS if NOTEBOOKS.is_dir() else Path.cwd())
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--port={port}", f"--notebook-dir={directory}"]
    if not browser:
        command.append("--no-browser")
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606 - this process becomes JupyterLab, so its signals are Jupyter's
    sys.exit(subprocess.call(command))  # noqa: S603 - our own interpreter
