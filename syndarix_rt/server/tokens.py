"""Tokens that reach only so far: JWTs with rights per project, signed with a key made of the server's own (DESIGN §11).

A right is written ``publish:apollo``; the project may be a glob (``*`` only): ``subscribe:demo_*``, ``chat:*``. The
claim ``scope`` holds them with spaces between, as in RFC 8693 §4.2. Whoever knows the server's key may make tokens, for
that key opens everything anyway; all workers and instances that share it take each other's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from syndarix_rt.delivery.chat import is_member_name
from syndarix_rt.errors import MissingExtra, SyndarixError

__all__ = ["NAMELESS", "RIGHTS", "Grant", "issue", "verify"]

RIGHTS = ("subscribe", "publish", "chat", "debug", "approve")

NAMELESS = ("owner", "anyone")
"""Principals that say nothing about who it is; no token may be called so."""

MIN_KEY_CHARACTERS = 24
"""A token shows a hash under the key to whoever holds it; a shorter key could be found from that by trying."""

MAX_TOKEN_CHARACTERS = 4_096
"""A cookie's size, and more than any sensible list of rights takes."""

MAX_ID_CHARACTERS = 64
"""Ours have 16; whatever else makes tokens with our key may take a UUID."""

_ALGORITHM = "HS256"
_AUDIENCE = "syndarix-rt"
_RIGHT = re.compile(rf"({'|'.join(RIGHTS)}):([A-Za-z0-9_*-]{{1,64}})")


class Grant(msgspec.Struct, frozen=True):
    """What a credential allows."""

    name: str
    """Who it is: a token's subject."""
    rights: frozenset[tuple[str, str]] | None = None
    """Pairs of a right and a glob of projects; None: everything, as the server's own key does."""
    expires_s: float | None = None
    """When it ends, in seconds since 1970; None: with the server's key."""
    id: str = ""
    """Of the token, by which it can be revoked; empty for what is none."""

    def may(self, right: str, project: str) -> bool:
        """Whether it has the right in the project."""
        return self.rights is None or any(right == given and _matches(glob, project) for given, glob in self.rights)


def _matches(glob: str, project: str) -> bool:
    """By pieces, not by a regular expression: a glob of many stars must not cost more than its length."""
    first, *rest = glob.split("*")
    if not rest:
        return glob == project
    *middle, last = rest
    if not project.startswith(first) or len(project) < len(first) + len(last) or not project.endswith(last):
        return False
    at, end = len(first), len(project) - len(last)
    for piece in middle:
        found = project.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def issue(key: str, rights: Iterable[str], *, name: str, life_s: float) -> str:
    """Make a token.

    Args:
        key: the server's own, of at least `MIN_KEY_CHARACTERS`.
        rights: such as ``publish:apollo``.
        name: whom it speaks for, 1 to 64 printable characters.
        life_s: how long it lasts.

    Raises:
        SyndarixError: something of it is wrong; the text says what.
        MissingExtra: PyJWT is not installed.
    """
    jwt = _pyjwt()
    if len(key) < MIN_KEY_CHARACTERS:
        raise SyndarixError(
            f"tokens are signed with the server's key, and that has only {len(key)} characters of at least "
            f"{MIN_KEY_CHARACTERS}; give the server one that 'syndarix-rt token' prints"
        )
    scope = list(dict.fromkeys(rights))
    for right in scope:
        if _RIGHT.fullmatch(right) is None:
            raise SyndarixError(
                f"not a right: {right!r}; write {', '.join(RIGHTS)} with a project, such as subscribe:apollo or "
                "publish:demo_*"
            )
    if not scope:
        raise SyndarixError("a token needs a right, such as subscribe:apollo")
    if not is_subject(name):
        raise SyndarixError(
            f"not a name: {name!r} (1 to 64 printable characters; not 'all', nor {' or '.join(map(repr, NAMELESS))})"
        )
    now_s = int(time.time())
    claims = {
        "aud": _AUDIENCE,
        "sub": name,
        "scope": " ".join(scope),
        "iat": now_s,
        "exp": now_s + max(1, int(life_s)),
        "jti": secrets.token_urlsafe(12),
    }
    token = jwt.encode(claims, _signing_key(key), algorithm=_ALGORITHM)
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise SyndarixError(
            f"the token would have {len(token)} characters of at most {MAX_TOKEN_CHARACTERS}; use globs"
        )
    return str(token)


def verify(key: str, token: str) -> Grant | None:
    """What a token allows now; None if it is none of ours, is over, or says anything but what `issue` writes."""
    if len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2 or len(key) < MIN_KEY_CHARACTERS:  # noqa: PLR2004 - three parts
        return None
    try:
        jwt = _pyjwt()
    except MissingExtra:
        return None
    try:
        claims = jwt.decode(
            token,
            _signing_key(key),
            algorithms=[_ALGORITHM],  # never what the token itself asks for
            audience=_AUDIENCE,
            options={"require": ["exp", "iat", "sub", "jti", "aud"]},
        )
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    name, scope, token_id = claims.get("sub"), claims.get("scope"), claims.get("jti")
    if not isinstance(name, str) or not is_subject(name) or not isinstance(scope, str):
        return None
    if not isinstance(token_id, str) or not 0 < len(token_id) <= MAX_ID_CHARACTERS:
        return None
    found = [_RIGHT.fullmatch(right) for right in scope.split(" ")]
    return Grant(name, frozenset((m[1], m[2]) for m in found if m), float(claims["exp"]), token_id)


def is_subject(name: str) -> bool:
    """Whether a token may be called so: as members of a chat are, but never like a nameless principal."""
    return name not in NAMELESS and is_member_name(name)


def _signing_key(key: str) -> bytes:
    """Not the key itself: what is signed with one secret must not be a guess at another use of it."""
    return hmac.new(key.encode(), b"tokens", hashlib.sha256).digest()


def _pyjwt() -> Any:
    try:
        import jwt  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra("auth", "a token with rights") from error
    return jwt
