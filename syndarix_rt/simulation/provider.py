"""The LLM provider that all agents of a project share: its limits, and how it does at the moment."""

from __future__ import annotations

from syndarix_rt.simulation.settings import Provider as Settings

__all__ = ["Provider", "TokenBucket"]

_MINUTE_US = 60_000_000


class TokenBucket:
    """A limit on an amount in any time: the bucket begins full, is filled all the time, and calls take from it.

    A call that asks for more than the bucket holds is let in when it is full, and leaves it in debt, so in any
    ``t`` minutes at most ``per_min * t`` and ``capacity`` (or the largest call, if that is more) are let in.

    Args:
        per_min: how much flows in.
        capacity: how much it holds.
    """

    def __init__(self, per_min: int, capacity: float) -> None:
        # What the bucket misses is kept as the moment at which it will be full (generic cell rate algorithm). In units
        # of 1 / per_min microseconds that is a whole number, so nothing is lost to rounding.
        self._per_min = per_min
        self._capacity = round(capacity * _MINUTE_US)
        self._full_at = 0

    def wait_us(self, now_us: int, amount: int) -> int:
        """Microseconds until so much could be taken; 0: it can be taken now."""
        missing_allowed = max(self._capacity - amount * _MINUTE_US, 0)
        early = self._full_at - missing_allowed - now_us * self._per_min
        return -(-early // self._per_min) if early > 0 else 0  # rounded up

    def take(self, now_us: int, amount: int) -> None:
        """Take so much, now."""
        self._full_at = max(self._full_at, now_us * self._per_min) + amount * _MINUTE_US


class Provider:
    """Lets LLM calls in, as far as its limits allow.

    Attributes:
        latency_factor: on the duration of a call.
        error_share: of the calls let in, those that fail because the provider is overloaded.
        calm: whether calls need not ask: no limits, no errors, no delay.
    """

    def __init__(self, settings: Settings) -> None:
        self._usual_error_share = settings.error_share
        self._tokens, self._requests = (
            None if per_min is None else TokenBucket(per_min, per_min * settings.burst)
            for per_min in (settings.tokens_per_min, settings.requests_per_min)
        )
        self._brownouts = 0
        self._become(1.0, settings.error_share)

    def admit(self, now_s: float, tokens: int) -> float:
        """Let a call in, if the limits allow it.

        Args:
            now_s: simulated time, never less than before; whole microseconds.
            tokens: what the call takes from the limit on tokens: prompt, without what is cached, and output.

        Returns:
            0 if the call is let in; else the seconds after which it would be, if no other call came first
            (``Retry-After`` of an HTTP 429), and the call has taken nothing.
        """
        now_us = round(now_s * 1e6)
        limits = [(bucket, amount) for bucket, amount in ((self._tokens, tokens), (self._requests, 1)) if bucket]
        wait_us = max((bucket.wait_us(now_us, amount) for bucket, amount in limits), default=0)
        if wait_us == 0:
            for bucket, amount in limits:
                bucket.take(now_us, amount)
        return wait_us / 1e6

    def brownout(self, latency_factor: float, error_share: float) -> None:
        """From now on the provider is slow and overloaded; of several brownouts at a time, the latest counts."""
        self._brownouts += 1
        self._become(latency_factor, error_share)

    def recover(self) -> None:
        """End of a brownout; the provider is as usual again when all of them are over."""
        self._brownouts -= 1
        if self._brownouts == 0:
            self._become(1.0, self._usual_error_share)

    def _become(self, latency_factor: float, error_share: float) -> None:
        self.latency_factor = latency_factor
        self.error_share = error_share
        limited = self._tokens is not None or self._requests is not None
        self.calm = not limited and error_share == 0 and latency_factor == 1
