"""Lines and progress for people (on stderr, so that stdout holds data only), and how a command is interrupted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

__all__ = ["counted", "progress", "run", "say"]

_T = TypeVar("_T")

_STEP = 500
"""Items between two updates of a progress line: far below a frame's time even at 10,000 items/s."""


def say(text: str) -> None:
    """One line for the person at the terminal."""
    sys.stderr.write(text + "\n")  # unlike click, this goes above a progress line
    sys.stderr.flush()


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A line that says how far the work is; nothing unless stderr is a terminal.

    Args:
        what: the work, such as ``Simulating``.
        total: how many items there will be, if that is known.

    Yields:
        Takes the number of items done so far.
    """
    if not sys.stderr.isatty():
        yield _unseen
        return
    from rich.console import Console  # noqa: PLC0415 - takes 70 ms, and only a person sees it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - see above

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} events, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total, rate=0.0)

        def update(done: int) -> None:
            bars.update(task, completed=done, rate=done / max(bars.tasks[0].elapsed or 0.0, 1e-3))

        yield update


def counted(items: Iterable[_T], update: Callable[[int], None]) -> Iterable[_T]:
    """The items as they are; ``update`` of `progress` is told how many have passed."""
    return items if update is _unseen else _counted(items, update)


def _unseen(_: int) -> None:
    """Progress that nobody sees."""


def _counted(items: Iterable[_T], update: Callable[[int], None]) -> Iterator[_T]:
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        if number % _STEP == 0:
            update(number)
    update(number)


def run(main: Coroutine[Any, Any, _T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> _T:
    """Run a coroutine; SIGINT and SIGTERM cancel it, so that it can clean up.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    import asyncio  # noqa: PLC0415 - takes 30 ms, and a command that only computes runs no loop

    async def supervised() -> _T:
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError):  # Windows has no SIGTERM to speak of
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await main

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(supervised())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
