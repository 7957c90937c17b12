"""From signals to Slack messages: one thread per outage, and no message per flap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from fluxgate import _log
from fluxgate.listeners import _slack_words as words
from fluxgate.listeners._slack_http import Client, UnsentError, acknowledged, answer
from fluxgate.signals import Signal, SignalKind
from fluxgate.state import State

MOST_CIRCUITS: Final = 1000
"""Circuits whose outages are remembered; beyond that, those longest unheard of are forgotten."""
REFUSING: Final = (State.OPEN, State.FORCED_OPEN)

Place = dict[str, str]
"""Where a message stands: what `chat.update` and replies need to find it. A webhook's is empty."""


class Sender(Protocol):
    """What takes messages to Slack. Raises UnsentError."""

    threads: bool
    """Whether it can reply to messages."""

    def post(self, text: str, parent: Place | None = None, *, broadcast: bool = False) -> Place:
        """Post a message, or a reply; `broadcast` shows a reply in the channel, too."""
        ...

    def update(self, place: Place, text: str) -> None:
        """Replace a message, where that can be done."""
        ...


class Webhook:
    """An incoming webhook: posts messages, and can do nothing more."""

    threads = False

    def __init__(self, client: Client) -> None:
        self._client = client

    def post(self, text: str, parent: Place | None = None, *, broadcast: bool = False) -> Place:
        self._client.post("", {"text": text, **_PLAIN}, acknowledged)
        return {}

    def update(self, place: Place, text: str) -> None:
        """Leave it as it is: a webhook is not told where its messages stand."""

    def __repr__(self) -> str:
        return "webhook"


class Chat:
    """A bot in a channel, by Slack's Web API."""

    threads = True

    def __init__(self, client: Client, channel: str) -> None:
        self._client = client
        self._channel = channel

    def post(self, text: str, parent: Place | None = None, *, broadcast: bool = False) -> Place:
        payload: dict[str, object] = {"channel": self._channel, "text": text, **_PLAIN}
        if parent is not None:
            payload |= {
                "channel": parent["channel"],
                "thread_ts": parent["ts"],
                "reply_broadcast": broadcast,
            }
        told = self._client.post("chat.postMessage", payload, answer)
        # Changing a message takes the channel's id; posting may have been by its name.
        return {"channel": str(told.get("channel", self._channel)), "ts": str(told.get("ts"))}

    def update(self, place: Place, text: str) -> None:
        self._client.post("chat.update", {**place, "text": text}, answer)

    def __repr__(self) -> str:
        return f"channel={self._channel!r}"


_PLAIN: Final = {"unfurl_links": False, "unfurl_media": False}


@dataclass(slots=True)
class Outage:
    """What is known, and was told, of a circuit's outage."""

    opening: Signal
    place: Place | None = None
    """The first message; None while Slack has not been told."""
    ended: float | None = None
    """When it ended, by the signal's timestamp."""
    sent: list[float] = field(default_factory=list[float])
    """When messages were sent, as far as they count for the limit."""
    held: int = 0
    """Changes that were not told because of the limit."""

    def lasted(self, until: float) -> float:
        """Seconds since it began."""
        return max(until - self.opening.timestamp, 0.0)


class Outages:
    """A listener that tells Slack. It is used on one thread.

    Args:
        sender: what takes the messages there.
        source: the service and host to name.
        limit: messages about one circuit within `window`.
        window: seconds; an opening that follows a recovery within them belongs to its outage.
        probes_in: gives the seconds until a circuit of that name probes, if they are known.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        source: str,
        limit: int,
        window: float,
        probes_in: Callable[[str], float | None],
    ) -> None:
        self._sender = sender
        self._source = source
        self._limit = limit
        self._window = window
        self._probes_in = probes_in
        self._outages: OrderedDict[str, Outage] = OrderedDict()
        self._unsent = 0

    def __call__(self, signal: Signal) -> None:
        """Tell Slack of a transition, if it has a part in an outage."""
        if signal.kind is not SignalKind.TRANSITION:
            return
        name = signal.circuit_name
        outage = self._outages.get(name)
        try:
            if signal.new_state in REFUSING:
                self._opened(signal, outage)
            elif outage is None or outage.ended is not None:
                return
            elif signal.new_state is State.HALF_OPEN:
                self._probing(signal, outage)
            else:
                self._ended(signal, outage)
        except UnsentError as error:
            self._unsent += 1
            if self._unsent == 1:  # once, until one gets through
                _log.warn(name, f"Slack could not be told: {error}")
        finally:
            while len(self._outages) > MOST_CIRCUITS:
                self._outages.popitem(last=False)

    def _opened(self, signal: Signal, outage: Outage | None) -> None:
        again = outage is not None and outage.ended is not None
        if outage is None or (again and signal.timestamp - (outage.ended or 0) > self._window):
            outage, again = Outage(signal), False
            self._outages[signal.circuit_name] = outage
        self._outages.move_to_end(signal.circuit_name)
        outage.ended = None
        first = outage.place is None
        if not (first or again or self._sender.threads):
            return  # a webhook can't reply: what happens within an outage is left out
        place = self._post(signal, outage, again=again)
        if first:
            outage.place = place
        elif again:
            self._update(outage, self._text(outage.opening, outage))

    def _probing(self, signal: Signal, outage: Outage) -> None:
        if outage.place is not None and self._sender.threads:
            self._post(signal, outage)

    def _ended(self, signal: Signal, outage: Outage) -> None:
        outage.ended = signal.timestamp
        # The channel that was alarmed learns of the recovery, too, not the thread alone.
        self._post(signal, outage, broadcast=True)
        lasted = outage.lasted(signal.timestamp)
        self._update(outage, words.resolved(outage.opening, source=self._source, lasted=lasted))

    def _update(self, outage: Outage, text: str) -> None:
        """Have the first message say how things stand now."""
        if outage.place is not None:
            self._sender.update(outage.place, text)

    def _post(
        self, signal: Signal, outage: Outage, *, again: bool = False, broadcast: bool = False
    ) -> Place | None:
        """Post a message, unless there were too many about this circuit."""
        now, span = signal.timestamp, words.duration(self._window)
        outage.sent = [at for at in outage.sent if 0 <= now - at < self._window]
        if len(outage.sent) >= self._limit:
            outage.held += 1
            return None
        notes: tuple[str, ...] = ()
        if outage.held:
            notes += (f"{outage.held} changes before this one were not shown",)
        if len(outage.sent) + 1 >= self._limit:
            notes += (f"it changes often: for up to {span}, further changes are not shown",)
        text = self._text(signal, outage, again=again, notes=notes)
        place = self._sender.post(text, outage.place, broadcast=broadcast)
        outage.sent.append(now)
        outage.held = 0
        if self._unsent:
            _log.warn(
                signal.circuit_name, f"Slack is told again; {self._unsent} changes were not told"
            )
            self._unsent = 0
        return place

    def _text(
        self,
        signal: Signal,
        outage: Outage,
        *,
        again: bool = False,
        notes: tuple[str, ...] = (),
    ) -> str:
        probes_in = lasted = None
        if signal.new_state is State.OPEN:
            probes_in = self._probes_in(signal.circuit_name)
        if signal is not outage.opening:
            lasted = outage.lasted(signal.timestamp)
        return words.message(
            signal,
            source=self._source,
            lasted=lasted,
            probes_in=probes_in,
            again=again,
            notes=notes,
        )

    def __repr__(self) -> str:
        return repr(self._sender)
