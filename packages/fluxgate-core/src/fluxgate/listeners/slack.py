"""`SlackListener`: outages in Slack. Needs httpx: `pip install "fluxgate-core[slack]"`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from fluxgate.breaker import circuits
from fluxgate.listeners._options import count, seconds, text, url_of
from fluxgate.listeners.background import Background
from fluxgate.signals import Signal
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.listeners._slack_outages import Outages, Sender

__all__ = ["SlackListener"]

API: Final = "https://slack.com/api/"


class SlackListener(Background):
    """Posts to a Slack channel when a circuit opens, and how the outage goes on.

    With a bot's `token` and a `channel`, an outage is one thread: its first message says what
    opened and why; probing and re-opening are replies; the recovery is a reply that the channel
    sees, too, and the first message is changed to "resolved". A `webhook_url` can post and
    nothing more: it gets a message when an outage begins, and one when it is over.

    Circuits that open together share a message and its thread: Slack takes about one message a
    second, and what waits while one is on its way is posted as one.

    It is a `Background`: a breaker's calls never wait for it, and `flush()`, `close()` and
    `dropped` are the same. It can be handed to any number of breakers. Timeouts, 5xx answers and
    rate limits are tried again; a message that can't be sent is logged once until one gets
    through, and never raised. The token and the webhook are in no log.

    Example:
        slack = SlackListener(token=os.environ["SLACK_TOKEN"], channel="#incidents")
        breaker = CircuitBreaker("payments", listeners=[slack])

    Args:
        webhook_url: an incoming webhook; or
        token: a bot's token, with the scope `chat:write`; and
        channel: the id or name of a channel that the bot is in.
        service: what to call this service in the messages, beside the host's name.
        timeout: seconds that connecting, sending or receiving may take at a time.
        retries: how often a message is tried again: after 1, 2, 4, ... seconds, or after Slack's
            `Retry-After`, if that is a minute at most.
        limit: messages about one circuit within `window`, 2 or more. The last one says that
            further changes are not shown.
        window: seconds. A circuit that opens again within them after a recovery continues its
            thread.
        maxsize: how many signals may wait, 1 or more; the oldest is dropped.
        exit_timeout: seconds that the end of the process is put off, at most, for what is queued.
        base_url: where Slack's Web API is.

    Raises:
        ModuleNotFoundError: httpx is not installed.
        TypeError: an option is of the wrong kind.
        ValueError: an option is out of range, or there is not either a webhook or a token with
            a channel.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        webhook_url: str | None = None,
        token: str | None = None,
        channel: str | None = None,
        service: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        limit: int = 10,
        window: float = 600.0,
        maxsize: int = 1000,
        exit_timeout: float = 5.0,
        base_url: str = API,
    ) -> None:
        sender = _sender(
            webhook_url,
            token,
            channel,
            base_url,
            timeout=seconds("timeout", timeout, above_zero=True),
            retries=count("retries", retries, least=0),
        )
        from fluxgate.listeners._slack_outages import Outages

        host = socket.gethostname()
        outages = Outages(
            sender,
            source=host if service is None else f"{text('service', service)} on {host}",
            limit=count("limit", limit, least=2),
            window=seconds("window", window, above_zero=True),
            probes_in=_probes_in,
        )
        super().__init__(outages, maxsize=maxsize, exit_timeout=exit_timeout)

    def _together(self) -> Callable[[list[Signal]], object]:
        return cast("Outages", self._listener).together


def _probes_in(name: str) -> float | None:
    """Seconds until the open circuit of that name probes; None unless there is exactly one."""
    found = [each for each in circuits() if each.name == name and each.state is State.OPEN]
    return found[0].info().retry_after if len(found) == 1 else None


def _sender(
    webhook_url: str | None,
    token: str | None,
    channel: str | None,
    base_url: str,
    *,
    timeout: float,
    retries: int,
) -> Sender:
    if (webhook_url is None) == (token is None) or (token is None) != (channel is None):
        raise ValueError("SlackListener takes either webhook_url=, or token= and channel=")
    try:
        from fluxgate.listeners._slack_http import Client
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ModuleNotFoundError(
            'SlackListener needs httpx: pip install "fluxgate-core[slack]"', name="httpx"
        ) from error
    from fluxgate.listeners._slack_outages import Chat, Webhook

    if token is None or channel is None:
        url = url_of("webhook_url", webhook_url)
        return Webhook(Client(url, {}, timeout=timeout, retries=retries))
    headers = {"Authorization": f"Bearer {text('token', token, secret=True)}"}
    url = url_of("base_url", base_url).rstrip("/") + "/"
    return Chat(Client(url, headers, timeout=timeout, retries=retries), text("channel", channel))
