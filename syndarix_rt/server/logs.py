"""Secrets stay out of the log: whatever a line is made of, they are taken out of the finished text (DESIGN §11)."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress
from typing import Any

import structlog

__all__ = ["StandardError", "install", "redacted"]

HIDDEN = "***"

_PATTERNS = (
    (re.compile(r"((?:^|[?&\s\"'])(?:key|ticket|token)=)[^&\s\"'#]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(bearer\s+)[^\s\"',;]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(syndarix-rt-[\w-]+=)[^;\s\"',]+"), rf"\1{HIDDEN}"),  # our cookie
    (re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*"), HIDDEN),  # a JWT, wherever it stands
    (re.compile(r"(\w+://)[^/@\s]*@"), rf"\1{HIDDEN}@"),  # user and password of a URL, as of Redis
)

MIN_SECRET_CHARACTERS = 6
"""A shorter one stands in ordinary words; hiding it everywhere would show what it is."""


def redacted(text: str, secret: str | None = None) -> str:
    """The text without the server's key and whatever looks like a credential."""
    if secret and len(secret) >= MIN_SECRET_CHARACTERS:
        text = text.replace(secret, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


class StandardError:
    """Writes lines to what is standard error then. Where that is closed or full a line is lost, and no request."""

    def msg(self, message: str) -> None:
        """Write a line."""
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)  # noqa: T201 - it is the log

    debug = info = warning = error = critical = exception = msg  # as structlog calls it


class _Handler(logging.Handler):
    """To standard error, redacted with its traceback."""

    def __init__(self, secret: str | None) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._secret = secret

    def emit(self, record: logging.LogRecord) -> None:
        StandardError().msg(redacted(self.format(record), self._secret))


class _Last:
    """The last processor: it gets the finished line, with its traceback."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret

    def __call__(self, _logger: Any, _method: str, line: Any) -> Any:
        return redacted(line, self._secret) if isinstance(line, str) else line


def install(secret: str | None, *loggers: logging.Logger) -> None:
    """Redact what we log, and be these loggers' only handler.

    Called again, it is the latest server's key that is hidden beside what looks like a credential.
    """
    processors = [each for each in structlog.get_config()["processors"] if not isinstance(each, _Last)]
    structlog.configure(processors=[*processors, _Last(secret)])
    for logger in loggers:
        logger.handlers[:] = [_Handler(secret)]
        logger.propagate = False
