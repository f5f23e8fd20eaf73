"""What a run is asked: the requests of its control channel and the parameters of its methods, checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from syndarix_rt.delivery import jsonrpc
from syndarix_rt.errors import RpcError
from syndarix_rt.playback.breakpoints import Breakpoint

__all__ = ["Call", "InjectInto", "Inspect", "Params", "SetBreakpoints", "SetSpeed", "Step", "read"]

MAX_BREAKPOINTS = 32
"""Each is asked at every event."""

T = TypeVar("T")


class Call(msgspec.Struct):
    """A request, as a server has checked it."""

    method: str
    params: dict[str, Any] | list[Any] = {}
    id: str | UnsetType = UNSET


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a method that takes none; the base of the others."""


class Step(Params, frozen=True):
    """``run.step``."""

    events: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class SetSpeed(Params, frozen=True):
    """``run.setSpeed``."""

    speed: Annotated[float, Meta(gt=0)] | Literal["max"]


class SetBreakpoints(Params, frozen=True):
    """``run.setBreakpoints``."""

    breakpoints: Annotated[list[Breakpoint], Meta(max_length=MAX_BREAKPOINTS)]


class Inspect(Params, frozen=True):
    """``run.inspect``."""

    entity: Annotated[str, Meta(max_length=256)] = "run"


class _NewEvent(Params, frozen=True):
    type: str
    data: dict[str, Any] = {}


class InjectInto(Params, frozen=True):
    """``run.inject``; one of the two."""

    fault: dict[str, Any] | None = None
    event: _NewEvent | None = None


def read(params: Any, kind: type[T]) -> T:
    """The parameters of a method.

    Raises:
        RpcError: they are wrong; the data name the path.
    """
    try:
        return msgspec.convert({} if params == [] else params, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        where = "$.params" + path.removesuffix("`")
        raise RpcError(jsonrpc.INVALID_PARAMS, f"{where}: {reason}", {"path": where}) from error
