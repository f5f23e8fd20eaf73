"""One log per channel: the contract, its reference in memory, and Redis.

* :mod:`~syndarix_rt.broker.protocol`: what a broker does
* :mod:`~syndarix_rt.broker.memory`: `MemoryBroker`, the reference
* :mod:`~syndarix_rt.broker.redis`: `RedisBroker`, on the scripts in ``lua/`` and three parts: ``endpoint`` (commands),
  ``subscriptions`` (Pub/Sub), both of which read by an ``inlet``, and ``reader`` (the sans-IO core that repairs a tail
  from the log)
* :mod:`~syndarix_rt.broker.approvals`: what is known about approvals, and how a decision becomes an event
* :mod:`~syndarix_rt.broker.chat`: `Chat`, what is said in a project and who is there
* :mod:`~syndarix_rt.broker.publisher`: `Publisher`, which gets events into a project's log exactly once
* :mod:`~syndarix_rt.broker.factory`: `open_broker`, which takes the Redis that was named, else the embedded one
* :mod:`~syndarix_rt.broker.embedded`: the embedded Redis, one per user: found by ``binary``, ended by ``watchdog``

``redis`` is loaded when `RedisBroker` is first asked for.
"""

from typing import TYPE_CHECKING, Any

from syndarix_rt.broker.chat import Chat
from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.broker.protocol import (
    Batch,
    Broker,
    Page,
    Published,
    Retention,
    TailUpdate,
    chat_channel,
    control_channel,
    project_channel,
    project_of,
)
from syndarix_rt.broker.publisher import Publisher

if TYPE_CHECKING:
    from syndarix_rt.broker.redis import RedisBroker

__all__ = [
    "Batch",
    "Broker",
    "Chat",
    "MemoryBroker",
    "Page",
    "Published",
    "Publisher",
    "RedisBroker",
    "Retention",
    "TailUpdate",
    "chat_channel",
    "control_channel",
    "project_channel",
    "project_of",
]


def __getattr__(name: str) -> Any:
    if name != "RedisBroker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from syndarix_rt.broker.redis import RedisBroker  # noqa: PLC0415 - redis takes 80 ms to import

    return RedisBroker
