"""How an agent's answer becomes frames: the pieces of text as they come, and the whole of it at the end."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from syndarix_rt.delivery.chat import DELTA_S, Finish, Said, Stream

__all__ = ["MAX_ANSWER_BYTES", "answer_id", "stream_answer"]

MAX_ANSWER_BYTES = 40 * 1024
"""An answer stands in one entry of the log at its end, where a quote takes two bytes."""


def answer_id(said: Said) -> str:
    """The id of the one answer that an agent gives to a message; the same when it is asked again."""
    return "re-" + hashlib.sha256(f"{said.speaker}\n{said.id}".encode(errors="replace")).hexdigest()[:24]


async def stream_answer(
    said: Said,
    pieces: AsyncIterator[str],
    send: Callable[[Stream | Finish], Awaitable[Any]],
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> str:
    """Send an answer while it comes into being, at most one frame every `DELTA_S`; all of it.

    If what makes the pieces raises, the answer ends there and says so: whoever asked must not wait for ever. What
    ``send`` raises is raised.

    Args:
        said: what is answered.
        pieces: the text, in pieces of any size; closed in the end.
        send: takes the frames, one after the other.
        monotonic: a clock, seconds.
    """
    name, text, sent, error = answer_id(said), "", 0, None
    due_s = monotonic()
    closing: Any = pieces if hasattr(pieces, "aclose") else _Closing(pieces)
    async with aclosing(closing):
        coming: asyncio.Future[str] | None = None
        try:
            while len(text.encode(errors="replace")) <= MAX_ANSWER_BYTES:
                coming = coming or asyncio.ensure_future(anext(pieces))
                left_s = due_s - monotonic() if len(text) > sent else None
                await asyncio.wait({coming}, timeout=None if left_s is None else max(0.0, left_s))
                if coming.done():
                    done, coming = coming, None
                    try:
                        piece = done.result()
                    except StopAsyncIteration:
                        break
                    except Exception as failure:  # noqa: BLE001 - somebody else's code; told to who asked
                        error = f"{type(failure).__name__}: {failure}"[:1_000]
                        break
                    text += piece if isinstance(piece, str) else str(piece)
                if len(text) > sent and monotonic() >= due_s:
                    await send(Stream(id=name, at=sent, text=text[sent:], to=said.speaker, reply_to=said.id))
                    sent, due_s = len(text), monotonic() + DELTA_S
            else:
                text = text.encode(errors="replace")[:MAX_ANSWER_BYTES].decode(errors="ignore")
                error = f"cut off after {MAX_ANSWER_BYTES} bytes"
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})
    text = text.encode(errors="replace").decode()  # a lone surrogate can be written nowhere
    await send(Finish(id=name, text=text, to=said.speaker, reply_to=said.id, error=error))
    return text


class _Closing:
    def __init__(self, pieces: AsyncIterator[str]) -> None:
        self.pieces = pieces

    async def aclose(self) -> None:
        """An iterator that is no generator has nothing to close."""
