"""What options have in common, and the kinds of values that they take."""

# ruff: noqa: PLC0415 - what a value needs is loaded when there is one; see serving.py

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from syndarix_rt.errors import StreamError
from syndarix_rt.events import EventId, is_project_name

if TYPE_CHECKING:
    from syndarix_rt.broker import Retention

__all__ = [
    "COUNT",
    "EVENT_ID",
    "ORIGIN",
    "PATH",
    "PORTS",
    "PROJECT",
    "REPLAY",
    "RETENTION",
    "RUN",
    "SIZE",
    "SPEED",
    "TOKEN",
    "TYPES",
    "namespace_option",
    "option",
    "redis_url_option",
    "report_option",
    "run_name",
    "scenario_argument",
    "seed_option",
    "typed",
    "url_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """A click option with the environment variable ``SYNDARIX_RT_<LONG NAME>``; its help shows that and the default."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "SYNDARIX_RT_" + long.removeprefix("--").replace("-", "_").upper()
    usual: dict[str, Any] = {"envvar": variable, "show_envvar": True, "show_default": True}
    return click.option(*names, **(usual | attributes))


def typed(*names: str) -> list[str]:
    """Which of the options stand on the command line, by the names of their values; others come from elsewhere."""
    source = click.get_current_context().get_parameter_source
    return [name for name in names if source(name) is ParameterSource.COMMANDLINE]


class _Value(click.ParamType):  # type: ignore[type-arg] # generic since click 8.5 only
    """A kind of value that ``read`` takes from its text; what it raises names the fault."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._read(value)
        except (ValueError, StreamError) as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        return self.name


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise ValueError(f"{text!r} is no speed: give a number above 0 (60 plays an hour in a minute) or 'max'.")
    return speed


_AGES_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _retention(text: str) -> Retention:
    from syndarix_rt.broker import Retention

    limits: dict[str, Any] = {}
    for word in text.split(","):
        match = re.fullmatch(r"([1-9][0-9]{0,11})([smhd]|[KMG]iB)?", word.strip())
        unit = match[2] if match else None
        kind = "age_s" if unit in _AGES_S else "bytes" if unit in _SIZES else "entries"
        if match is None or kind in limits:
            raise ValueError(
                f"{text!r} is no retention: give events, age (s, m, h, d) and size (KiB, MiB, GiB), "
                "such as 100000,24h,256MiB; what is left out keeps its default."
            )
        limits[kind] = int(match[1]) * (_AGES_S | _SIZES | {None: 1})[unit]
    return Retention(**limits)


def _size(text: str) -> float:
    match = re.fullmatch(r"([1-9][0-9]{0,11})([KMG]iB)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: give a number with KiB, MiB or GiB, such as 16MiB.")
    return float(int(match[1]) * _SIZES[match[2]])


def _project(text: str) -> str:
    if not is_project_name(text):
        raise ValueError(f"{text!r} is no project name: 1 to 64 of letters, digits, '_' and '-'.")
    return text


def _run(text: str) -> str:
    from syndarix_rt.broker.protocol import is_run_name

    if not is_run_name(text):
        raise ValueError(f"{text!r} is no run's name: 1 to 128 of letters, digits, '_' and '-'.")
    return text


def _token(text: str) -> str:
    if not re.fullmatch(r"[!-~]*", text):  # not shown: it is a secret
        raise ValueError("it must be of printable ASCII without spaces; 'syndarix-rt token' makes a good one.")
    return text


def _origin(text: str) -> str:
    # As browsers write it, for it is compared letter by letter.
    if not re.fullmatch(r"https?://[^/?#@\sA-Z]+", text):
        raise ValueError(
            f"{text!r} is no origin: give scheme, host and port in small letters, such as https://a.example."
        )
    return text


def _path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", text):
        raise ValueError(f"{text!r} is no path: give one such as /rt or /tools/rt.")
    return text.rstrip("/")


def _url(text: str) -> str:
    from syndarix_rt.client import parse_server_url

    parse_server_url(text)
    return text


def _scenario(text: str) -> str:
    from syndarix_rt.errors import ScenarioError
    from syndarix_rt.simulation import Scenario
    from syndarix_rt.simulation.profile import is_name

    if is_name(text):  # a file is read when it is needed
        try:
            Scenario.preset(text)
        except ScenarioError as error:
            raise ValueError(error.reason) from None
    return text


def _types(text: str) -> str:
    from syndarix_rt.delivery import TypeFilter

    TypeFilter.parse(text)
    return text


def _replay(text: str) -> int | str:
    if text == "all":
        return text
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is neither a number of events nor 'all'.")
    return int(text)


SPEED = _Value("X|max", _speed)
RETENTION = _Value("EVENTS,AGE,SIZE", _retention)
SIZE = _Value("SIZE", _size)
PROJECT = _Value("NAME", _project)
RUN = _Value("NAME", _run)
TOKEN = _Value("SECRET", _token)
ORIGIN = _Value("ORIGIN", _origin)
PATH = _Value("PATH", _path)
URL = _Value("URL", _url)
TYPES = _Value("LIST", _types)
EVENT_ID = _Value("ID", EventId.parse)
REPLAY = _Value("N|all", _replay)
SCENARIO = _Value("SCENARIO", _scenario)
COUNT = click.IntRange(min=1)
PORTS = click.IntRange(0, 65535)


redis_url_option = option(
    "--redis-url",
    metavar="URL",
    show_default="the embedded one",
    help="The Redis or Valkey to use, version 7 or later: redis://, rediss:// (TLS), redis+cluster://, redis+sentinel://.",
)
namespace_option = option(
    "--namespace",
    default="",
    show_default="none",
    metavar="PREFIX",
    help="Put before all names in Redis, to share it with others.",
)
url_option = option(
    "--url",
    type=URL,
    show_default="your newest running one",
    help="The server, by the URL that it printed, key included.",
)
seed_option = option(
    "--seed", type=click.IntRange(min=0), metavar="N", default=1, help="The same seed gives the same events."
)


def report_option(kind: str, text: str) -> Callable[[_Command], _Command]:
    """``--json FILE`` or ``--html FILE``: what a command found, written into a file beside what it prints."""
    return option(
        f"--{kind}",
        f"{kind}_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        show_default="none",
        help=text,
    )


def scenario_argument(**attributes: Any) -> Callable[[_Command], _Command]:
    """The name or file of a scenario."""
    return click.argument("scenario", type=SCENARIO, **attributes)


def run_name(name: str, seed: int | None = None) -> str:
    """What others are told who want to play into the same project: unique for each run."""
    words = [
        re.sub(r"[^A-Za-z0-9_-]", "-", name)[:64],
        *([str(seed)] if seed is not None else []),
        secrets.token_hex(3),
    ]
    return "-".join(words)
