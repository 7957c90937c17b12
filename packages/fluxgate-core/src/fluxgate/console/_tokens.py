"""Tokens: what proves that the console itself has made a form, for this actor and this operation.

A token is the hour and a signature of it, the actor, the circuit, the control and the operation's
id. So one that somebody has seen is good for nothing but that operation, which is done once.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from fluxgate.errors import ConfigError

HOUR: Final = 3600
"""Seconds; a token is good in its hour and in the next."""
SHORTEST: Final = 16
"""Bytes of a secret, at least."""
OPERATION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The id of an operation. A store keeps a longer name, or an escaped one, in another form."""


def secret_of(given: str | bytes | None) -> bytes | None:
    """A secret as bytes.

    Raises:
        ConfigError: it can't be used; the message doesn't show it.
    """
    if given is None:
        return None
    if not isinstance(given, (str, bytes)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"secret must be text or bytes, not {type(given).__name__!r}")
    secret = given.encode() if isinstance(given, str) else given
    if len(secret) < SHORTEST:
        raise ConfigError(
            f"secret is too short: give {SHORTEST} bytes or more that nobody can guess, the same "
            "in every process, such as the framework's own secret key"
        )
    return secret


def new_operation() -> str:
    """An id for an operation."""
    return secrets.token_urlsafe(12)


class Tokens:
    """Signs and checks tokens.

    Args:
        secret: the same in all processes that serve the console.
        clock: gives seconds since the epoch.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        # A key of its own: the secret may sign a framework's cookies, too.
        self._key = hmac.digest(secret, b"fluxgate.console", sha256)
        self._clock = clock

    def sign(self, actor: str, circuit: str, action: str, operation: str) -> str:
        """A token for one operation of one actor."""
        hour = int(self._clock() // HOUR)
        return f"{hour:x}.{self._signature(hour, actor, circuit, action, operation)}"

    def check(self, token: str, actor: str, circuit: str, action: str, operation: str) -> bool:
        """Whether a token is good for that operation now."""
        now = int(self._clock() // HOUR)
        written, _, signature = token.partition(".")
        for hour in (now, now - 1):
            if written == f"{hour:x}":
                good = self._signature(hour, actor, circuit, action, operation)
                return hmac.compare_digest(good.encode(), signature.encode(errors="replace"))
        return False

    def _signature(self, hour: int, *parts: str) -> str:
        # Lengths before the parts: no two lists of parts are written alike.
        text = "".join(f"{len(part)}:{part}" for part in (f"{hour:x}", *parts))
        return hmac.new(self._key, text.encode(errors="surrogatepass"), sha256).hexdigest()
