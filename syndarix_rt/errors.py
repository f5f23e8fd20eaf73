"""Every error that this package raises on purpose.

Each says what happened, where, and what to do. The tree:

* :exc:`SyndarixError`

  * :exc:`EventError` (also a ``ValueError``): an event or an event id breaks the rules; carries ``path`` and ``reason``
  * :exc:`FilterError` (also a ``ValueError``): a ``types`` filter has a word that means nothing
  * :exc:`DecodeError` (also a ``ValueError``): an event stream breaks its limits (Sans-I/O)
  * :exc:`ChatError` (also a ``ValueError``): a chat frame is wrong or refused; carries ``code``, ``path``, ``id``
  * :exc:`ScenarioError` (also a ``ValueError``): a scenario or profile is wrong; carries ``path`` and ``reason``
  * :exc:`CommandError`: a simulation cannot do what a command says
  * :exc:`RecordingError`: a recording or a trace cannot be read; carries file and line
  * :exc:`BrokerError`

    * :exc:`BrokerUnavailable`: the broker cannot be reached now; trying again may help
    * :exc:`PublishConflict`: the broker refused a batch because of what it already holds

      * :exc:`ApprovalDecided`: because a person has decided an approval that the batch resolves, too

    * :exc:`ProjectBusy`: another run plays into this project

  * :exc:`RpcError`: a request to steer a run was refused; carries the JSON-RPC ``code`` and ``data``
  * :exc:`StreamError`: a server refused a request or a stream; carries the HTTP ``status``
  * :exc:`EmbeddedServerError`: no embedded Redis can be had or started
  * :exc:`MissingExtra` (also an ``ImportError``): an optional dependency is not installed
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ApprovalDecided",
    "BrokerError",
    "BrokerUnavailable",
    "ChatError",
    "CommandError",
    "DecodeError",
    "EmbeddedServerError",
    "EventError",
    "FilterError",
    "MissingExtra",
    "ProjectBusy",
    "PublishConflict",
    "RecordingError",
    "RpcError",
    "ScenarioError",
    "StreamError",
    "SyndarixError",
]


class SyndarixError(Exception):
    """Root of everything that this package raises on purpose."""


class _PathError(SyndarixError, ValueError):
    """Something at a JSON path is wrong."""

    def __init__(self, reason: str, path: str = "$") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class EventError(_PathError):
    """An event, payload or event id breaks the rules.

    Attributes:
        reason: what is wrong, for a person.
        path: where, as a JSON path from the event's (or the batch's) root, such as ``$[3].data.run_id``.
    """

    def within(self, prefix: str) -> EventError:
        """The same error, seen from a document in which the event stands at ``prefix`` (such as ``$[3]``)."""
        return EventError(self.reason, prefix + self.path.removeprefix("$"))


class ChatError(_PathError):
    """A chat frame is wrong, or was refused.

    Attributes:
        code: as in the frame ``error``; `syndarix_rt.delivery.chat.Refused` has them.
        reason: what is wrong, for a person.
        path: where, as a JSON path in the frame, such as ``$.text``.
        id: of the frame, if it has one.
    """

    def __init__(self, code: str, reason: str, path: str = "$", id: str | None = None) -> None:  # noqa: A002 - its name
        super().__init__(reason, path)
        self.code = code
        self.id = id


class ScenarioError(_PathError):
    """A scenario or profile is wrong; ``path`` names the key as in the TOML file, such as ``agents.developers``."""


class CommandError(SyndarixError):
    """A simulation cannot do what a command says, such as decide about an approval that nobody asked for."""


class FilterError(SyndarixError, ValueError):
    """A ``types`` filter has a word that is no category, glob or type name."""


class DecodeError(SyndarixError, ValueError):
    """An event stream broke a limit of the decoder."""


class RecordingError(SyndarixError):
    """A recording or a trace cannot be read; the text names file, line and reason."""


class BrokerError(SyndarixError):
    """The broker could not do what was asked."""


class BrokerUnavailable(BrokerError):  # noqa: N818 - reads as a state, like redis-py's own names
    """The broker cannot be reached now; the same call may succeed later."""


class PublishConflict(BrokerError):  # noqa: N818 - the HTTP word for it
    """A batch was refused: its sequence is too low, or its key came with another body before."""


class ApprovalDecided(PublishConflict):
    """A batch was refused: it resolves an approval that a person has decided already, and the first decision wins.

    Nothing of the batch was stored. Whoever plays a run may leave out the events that come too late and publish the
    rest, or take the run back to before them and let it go on from the person's decision.

    Attributes:
        late: which of the events given come too late, as their indices.
        stored: how many of the events given are stored nevertheless, in earlier batches; the first ones.
    """

    def __init__(self, text: str, late: Sequence[int] = (), stored: int = 0) -> None:
        super().__init__(text)
        self.late = tuple(late)
        self.stored = stored


class ProjectBusy(BrokerError):  # noqa: N818 - see PublishConflict
    """Another run plays into this project; replace it or append to it on purpose."""


class RpcError(SyndarixError):
    """A request to steer a run was refused, by the run or on the way to it.

    Attributes:
        code: JSON-RPC's or one of ours; `syndarix_rt.delivery.jsonrpc` has them.
        data: more about it, as JSON; usually ``{"path": "$.params.speed"}`` or None.
    """

    def __init__(self, code: int, text: str, data: object = None) -> None:
        super().__init__(text)
        self.code = code
        self.data = data


class StreamError(SyndarixError):
    """A server refused a request or a stream for good.

    Attributes:
        status: the HTTP status, or None if there was no answer.
        close_code: with which the server closed a WebSocket, or None if none was open.
    """

    def __init__(self, text: str, status: int | None = None, *, close_code: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.close_code = close_code


class EmbeddedServerError(SyndarixError):
    """No embedded Redis can be had on this platform, or it did not start."""


class MissingExtra(SyndarixError, ImportError):  # noqa: N818 - names what is missing
    """An optional dependency is not installed; the text is the one command that installs it."""

    def __init__(self, extra: str, feature: str) -> None:
        super().__init__(f"{feature} needs: pip install 'syndarix-rt[{extra}]'")
        self.extra = extra
