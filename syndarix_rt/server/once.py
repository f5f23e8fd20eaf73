"""`publish_once`: events from those who send again what they are not sure of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from syndarix_rt.broker.protocol import Broker, project_channel
from syndarix_rt.delivery.batch import batches, encode_all
from syndarix_rt.events import Event

__all__ = ["publish_once"]


async def publish_once(broker: Broker, project: str, events: Sequence[Event], key: str) -> tuple[int, int]:
    """Publish events unless that was done under this key before, by whichever process.

    Args:
        broker: where they go.
        project: into which project.
        events: in as many batches as they need; the same ones under the same key.
        key: letters, digits, ``_`` and ``-``.

    Returns:
        How many are stored now, and how many were there before.

    Raises:
        BrokerUnavailable: some may be stored; the same call may be made again.
        EventError: one of them is too large.
    """
    stored = duplicates = 0
    for number, batch in enumerate(batches(encode_all(events, project, recordedtime=datetime.now(UTC)))):
        done = await broker.publish(project_channel(project), batch, producer=f"{key}-{number}")
        stored += len(batch) - done.duplicates
        duplicates += done.duplicates
    return stored, duplicates
