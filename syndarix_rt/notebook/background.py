"""`Background`: a thread with an event loop of its own, beside the kernel's."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Background", "in_thread"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

CLOSE_S = 5.0
"""Tasks get so long to clean up: a stream closes within milliseconds, a server that hangs must not hang the kernel."""


class Background:
    """Runs coroutines on a daemon thread until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()  # so that what is submitted runs, or is refused
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine there; cancelling the future cancels it.

        Raises:
            RuntimeError: it is closed.
        """
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError("this workbench is closed")

    def spawn(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """As `submit`, for what nobody waits for: an error is logged, which a notebook shows below the cell."""
        future = self.submit(work)
        future.add_done_callback(_log_fault)
        return future

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it here; interrupting the wait cancels it."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and await it in the caller's loop; cancelling the wait cancels it."""
        return await asyncio.wrap_future(self.submit(work))

    def close(self) -> None:
        """Cancel what runs, and end the thread. Again: nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        if not self.is_here:
            self._thread.join(2 * CLOSE_S)

    @property
    def is_here(self) -> bool:
        """Whether the caller is on its thread, where it must not wait: a finalizer may run anywhere."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_S))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


def _log_fault(done: Future[Any]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _log.error("what ran beside the notebook broke off", exc_info=error)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run what blocks, beside the caller's loop. Not on its executor, which would hold up the kernel's exit."""
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    loop = outcome.get_loop()

    def settle(method: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            method(value)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            loop.call_soon_threadsafe(settle, outcome.set_exception, error)
        else:
            loop.call_soon_threadsafe(settle, outcome.set_result, result)

    threading.Thread(target=run, name="syndarix-rt wait", daemon=True).start()
    return await outcome
