"""Requests to Slack, with retries where these help. No secret gets into an error or a log."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from time import sleep
from typing import Any, Final, cast

import httpx

_dice: Final = random.SystemRandom()
"""Dice of our own: `random`'s are the program's, and this runs in a thread that it doesn't see."""
LONGEST_WAIT: Final = 60.0
"""The longest `Retry-After`, in seconds, that is waited for; beyond it a message is given up."""
FIRST_WAIT: Final = 1.0
"""Seconds before the second try, where Slack names none; doubled each time."""
TRANSIENT: Final = frozenset(
    ("fatal_error", "internal_error", "ratelimited", "request_timeout", "service_unavailable")
)
"""Slack's codes of errors after which another try may help."""


class UnsentError(Exception):
    """A message that did not get through, with the reason.

    Attributes:
        again: whether another try may help.
        after: seconds to wait before it, as Slack asks; None if it doesn't.
    """

    def __init__(self, why: str, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(why)
        self.again = again
        self.after = after


class SecretURL(httpx.URL):
    """A URL whose text has the host alone.

    A webhook's path is a secret: it is all that one needs to post. httpx logs the URLs that it
    requests, and tracing tools record them.
    """

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/[secret]"

    def __repr__(self) -> str:
        return f"SecretURL({str(self)!r})"


class Client:
    """Posts JSON to one URL, with a connection per message: messages are rare, forks are not."""

    def __init__(
        self, url: str, headers: Mapping[str, str], *, timeout: float, retries: int
    ) -> None:
        try:
            self._url = SecretURL(url)
        except httpx.InvalidURL:
            raise ValueError(
                "the URL can't be read; it is not shown, as it may be secret"
            ) from None
        # Shown without its authorization.
        self._headers = httpx.Headers({"User-Agent": "fluxgate", **headers})
        # Made once: it takes long, and would take as long in the middle of an outage.
        self._tls = httpx.create_ssl_context()
        self._timeout = timeout
        self._retries = retries

    def post(
        self,
        path: str,
        payload: Mapping[str, Any],
        read: Callable[[httpx.Response], dict[str, Any]],
    ) -> dict[str, Any]:
        """Post a message; returns what `read` makes of the answer.

        Raises:
            UnsentError: all tries have failed, or another one can't help.
        """
        wait, left = FIRST_WAIT, self._retries
        while True:
            try:
                return self._try(path, payload, read)
            except UnsentError as error:
                seconds = wait if error.after is None else error.after
                if not error.again or left == 0 or seconds > LONGEST_WAIT:
                    raise
            # Longer than asked for, by a random part: else all processes would try at once.
            sleep(seconds * _dice.uniform(1.0, 1.25))
            wait, left = wait * 2, left - 1

    def _try(
        self,
        path: str,
        payload: Mapping[str, Any],
        read: Callable[[httpx.Response], dict[str, Any]],
    ) -> dict[str, Any]:
        try:
            url = self._url.copy_with(raw_path=self._url.raw_path + path.encode())
            timeout = {"timeout": httpx.Timeout(self._timeout).as_dict()}
            request = httpx.Request(
                "POST", url, headers=self._headers, json=payload, extensions=timeout
            )
            request.url = SecretURL(url)
            with httpx.Client(verify=self._tls) as client:  # uses the environment's proxies
                response = client.send(request)
        except Exception as error:
            # The error itself may quote what was sent: only its type is shown.
            again = isinstance(error, httpx.TransportError)
            raise UnsentError(f"{type(error).__name__}", again=again) from None
        return read(_checked(response))


def _checked(response: httpx.Response) -> httpx.Response:
    status = response.status_code
    if status == 429:
        raise UnsentError("Slack's rate limit", again=True, after=_retry_after(response))
    if status != 200:
        raise UnsentError(f"HTTP {status}{_code(response.text, ' ')}", again=status >= 500)
    return response


def acknowledged(_: httpx.Response) -> dict[str, Any]:
    """Reads the answer of a webhook, which has nothing to read."""
    return {}


def answer(response: httpx.Response) -> dict[str, Any]:
    """Reads the answer of a method of Slack's Web API."""
    try:
        members: Any = response.json()
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise UnsentError("an answer that is not Slack's")
    answered = cast("dict[str, Any]", members)
    if answered.get("ok") is not True:
        error = answered.get("error")
        after = _retry_after(response)
        raise UnsentError(_code(error) or "an error", again=error in TRANSIENT, after=after)
    return answered


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _code(text: object, before: str = "") -> str:
    """The text if it is an error code of Slack's; a proxy's page may quote the secret URL."""
    if isinstance(text, str) and re.fullmatch(r"[a-z_]{1,64}", text.strip()):
        return before + text.strip()
    return ""
