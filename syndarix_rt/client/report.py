"""`ReportedRun`: one run of a real agent while it goes on, and `current_run`, which finds it from anywhere in it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import secrets
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from syndarix_rt.events import as_id, as_text

if TYPE_CHECKING:
    from syndarix_rt.client.reporter import Reporter

__all__ = ["ReportedRun", "current_run"]

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar[ReportedRun | None] = ContextVar("syndarix_rt_run", default=None)


def current_run() -> ReportedRun | None:
    """The run that this code belongs to: of the innermost ``with`` or decorated function around it."""
    return _current.get()


class ReportedRun:
    """A run that is reported; made by `Reporter.run`. Its methods may be called from any thread and task.

    As a context manager it is entered once at a time: each entry is a new run, with which the one before has ended.

    Attributes:
        run_id: of the run that was entered last; empty before.
        project: whose run it is.
    """

    def __init__(
        self,
        reporter: Reporter,
        role: str,
        *,
        project: str | None,
        issue: object,
        agent: str | None,
        branch: str | None,
        model: str | None,
    ) -> None:
        self.run_id = ""
        self.project = project or reporter.project
        self._reporter = reporter
        self._role = as_text(role) or ""
        self._agent = agent
        self._slot = 0
        self._about = {"issue_id": None if issue is None else as_id(issue), "branch": branch}
        self._model = model
        self._who: dict[str, Any] = {}
        self._started_s = 0.0
        self._last: str | None = None
        self._reason: str | None = None
        self._is_open = False
        self._sums: dict[str, float] = {}
        self._tokens: list[Token[ReportedRun | None]] = []

    # --- what the agent says ---

    def llm(
        self,
        model: str | None = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
        duration_s: float | None = None,
        cost_usd: float | None = None,
        error: object = None,
        **more: Any,
    ) -> None:
        """An LLM call is over.

        Args:
            model: which model; the run's unless given.
            input_tokens: of the whole prompt.
            output_tokens: of the answer.
            cached_tokens: of the prompt, read from the provider's cache.
            duration_s: how long it took, seconds.
            cost_usd: what it cost, US dollars.
            error: why it failed, if it did.
            more: anything else that is worth a key of the event's ``data``.
        """
        call = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model or self._model,
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
            "cached_tokens": cached_tokens,
            "cost_usd": cost_usd,
        }
        self._activity("llm_calls", call, duration_s, error, more)

    def tool(self, name: str, *, duration_s: float | None = None, error: object = None, **more: Any) -> None:
        """A tool call is over.

        Args:
            name: which tool.
            duration_s: how long it took, seconds.
            error: why it failed, if it did.
            more: as of `llm`.
        """
        call = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": as_text(name)}
        self._activity("tool_calls", call, duration_s, error, more)

    def event(self, type: str, data: dict[str, Any] | None = None) -> None:  # noqa: A002 - as Event.new
        """Anything else that this run does, such as ``commit_pushed``; who did it is added to the data."""
        self._emit(type, {} if data is None else data)

    def end(self, reason: str) -> None:
        """Why the run will have ended, if not because all is done: it will be an ``agent_error``."""
        self._reason = as_text(reason)

    # --- how it begins and ends ---

    def __enter__(self) -> Self:
        self._start()
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # it is left in another task than it was entered in
            _current.reset(self._tokens.pop())
        self._end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, of asyncio or not, or a generator: each call is a run of its own, see `current_run`.

        A generator's run lasts from the first item that is asked for to the end of the items. It is ``cancelled`` if
        whoever takes them stops before that, as soon as the generator is closed.
        """
        wrapped: Callable[..., Any]
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                run, items = self._another(), function(*args, **kwargs)
                with run._as_long_as():  # noqa: SLF001 - of this class
                    step = items.__anext__
                    while True:
                        try:
                            with _Step(run):
                                item = await step()
                        except StopAsyncIteration:
                            return
                        try:
                            step = functools.partial(items.asend, (yield item))
                        except GeneratorExit:
                            with _Step(run):
                                await items.aclose()
                            raise
                        except BaseException as error:  # noqa: BLE001 - for the generator, which may want it
                            step = functools.partial(items.athrow, error)

        elif inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                run, items = self._another(), function(*args, **kwargs)
                with run._as_long_as():  # noqa: SLF001 - of this class
                    step = items.__next__
                    while True:
                        try:
                            with _Step(run):
                                item = step()
                        except StopIteration as end:
                            return end.value
                        try:
                            step = functools.partial(items.send, (yield item))
                        except GeneratorExit:
                            with _Step(run):
                                items.close()
                            raise
                        except BaseException as error:  # noqa: BLE001 - for the generator, which may want it
                            step = functools.partial(items.throw, error)

        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._another():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._another():
                    return function(*args, **kwargs)

        return cast("Callable[P, R]", wrapped)

    @contextlib.contextmanager
    def _as_long_as(self) -> Iterator[None]:
        """It lasts as long as the block, which need not be one piece of anybody's time (see `_Step`)."""
        self._start()
        try:
            yield
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    def _another(self) -> ReportedRun:
        return ReportedRun(
            self._reporter,
            self._role,
            project=self.project,
            issue=self._about["issue_id"],
            agent=self._agent,
            branch=self._about["branch"],
            model=self._model,
        )

    def _start(self) -> None:
        self._end(None)  # of a run that is entered again before it was left
        self.run_id = f"run-{secrets.token_hex(8)}"
        self._started_s = time.monotonic()
        self._reason = None
        self._sums = dict.fromkeys(("llm_calls", "tool_calls", "input_tokens", "output_tokens"), 0)
        agent_id = self._agent
        if agent_id is None:
            self._slot, agent_id = self._reporter.take_slot(self._role)
        about = {key: value for key, value in self._about.items() if value is not None}
        self._who = {"run_id": self.run_id, "agent_id": as_id(agent_id), "role": self._role} | about
        data = self._who | ({"gen_ai.request.model": self._model} if self._model else {})
        self._is_open = True
        self._last = self._reporter.event("agent_started", data, project=self.project)

    def _end(self, error: BaseException | None) -> None:
        with self._reporter.runs_lock:
            if not self._is_open:
                return
            self._is_open = False
        reason = self._reason
        if error is not None and reason is None:
            is_cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit)
            reason = "cancelled" if is_cancelled else "error"
        data: dict[str, Any] = self._who | {"end_reason": reason or "completed"} | self._sums
        data["duration_s"] = round(time.monotonic() - self._started_s, 6)
        if error is not None:
            data["error"] = as_text(f"{type(error).__name__}: {as_text(error) or ''}")
        ended = "agent_completed" if reason is None else "agent_error"
        self._reporter.event(ended, data, project=self.project, cause=self._last)
        if self._agent is None:
            self._reporter.give_slot(self._role, self._slot)

    def _activity(
        self, count: str, call: dict[str, Any], duration_s: float | None, error: object, more: dict[str, Any]
    ) -> None:
        call |= {"duration_s": duration_s, "status": "ok" if error is None else "error"}
        call["error"] = None if error is None else as_text(error)
        sums = {
            count: 1,
            "input_tokens": call.get("gen_ai.usage.input_tokens"),
            "output_tokens": call.get("gen_ai.usage.output_tokens"),
            "cost_usd": call.get("cost_usd"),
        }
        self._emit("agent_activity", more | {key: value for key, value in call.items() if value is not None}, sums)

    def _emit(
        self,
        type: str,  # noqa: A002 - as Event.new
        data: dict[str, Any],
        sums: dict[str, float | None] | None = None,
    ) -> None:
        with self._reporter.runs_lock:
            if not self._is_open:  # not entered, or over
                return
            told = self._who | data if isinstance(data, dict) else data  # which is refused and logged
            event_id = self._reporter.event(type, told, project=self.project, cause=self._last)
            if event_id is None:
                return
            self._last = event_id
            for name, value in (sums or {}).items():
                if value is not None:
                    self._sums[name] = self._sums.get(name, 0) + value


class _Step:
    """One step of a run's generator. Between two steps others go on, whose run it is not."""

    def __init__(self, run: ReportedRun) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._token = _current.set(self._run)

    def __exit__(self, *error: object) -> None:
        _current.reset(self._token)
