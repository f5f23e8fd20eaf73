"""The rules of delivery, without I/O: time, chance and bytes come in as arguments.

* :mod:`~syndarix_rt.delivery.sse`: encode and decode an event stream
* :mod:`~syndarix_rt.delivery.log`: one log, many cursors
* :mod:`~syndarix_rt.delivery.resume`: the verdict over a cursor; `Gap`, `Position`
* :mod:`~syndarix_rt.delivery.filters`: which types a subscriber wants
* :mod:`~syndarix_rt.delivery.backoff`: delays between reconnects
* :mod:`~syndarix_rt.delivery.batch`: what is published at once; `Published`
* :mod:`~syndarix_rt.delivery.approvals`: `Approval`, `Decision`
* :mod:`~syndarix_rt.delivery.jsonrpc`: JSON-RPC 2.0
* :mod:`~syndarix_rt.delivery.chat`: the frames of the chat, what its log holds, and a member's `Transcript` of it
* :mod:`~syndarix_rt.delivery.replies`: an agent's answer as frames of the chat
* :mod:`~syndarix_rt.delivery.steering`: what goes over a run's control channel; `RunState`
* :mod:`~syndarix_rt.delivery.ledger`: what one subscriber received, as evidence
"""

from syndarix_rt.delivery.approvals import Approval, Decision
from syndarix_rt.delivery.backoff import backoff
from syndarix_rt.delivery.batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Published, batches
from syndarix_rt.delivery.filters import TypeFilter
from syndarix_rt.delivery.ledger import Ledger
from syndarix_rt.delivery.log import Cursor, Log, Piece, Pieces, Span
from syndarix_rt.delivery.resume import Gap, Position, Resumption, judge
from syndarix_rt.delivery.steering import RunState

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_EVENTS",
    "Approval",
    "Cursor",
    "Decision",
    "Gap",
    "Ledger",
    "Log",
    "Piece",
    "Pieces",
    "Position",
    "Published",
    "Resumption",
    "RunState",
    "Span",
    "TypeFilter",
    "backoff",
    "batches",
    "judge",
]
