"""Outages in Slack: one thread per outage, and one message about circuits that change together.

About a circuit that flaps, messages are limited. Slack takes about one message a second in a
channel. When a network fails, all circuits of a process open at once; so the signals that wait
while a message is on its way become one message together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from fluxgate import _log
from fluxgate.listeners import _slack_words as words
from fluxgate.listeners._slack_http import Client, UnsentError, acknowledged, answer
from fluxgate.signals import Signal, SignalKind
from fluxgate.state import State

MOST_CIRCUITS: Final = 1000
"""Circuits whose outages are remembered; beyond that, those that opened first are forgotten."""
REFUSING: Final = (State.OPEN, State.FORCED_OPEN)

Place = dict[str, str]
"""The place of a message, as `chat.update` and replies need it. A webhook's is empty."""


class Sender(Protocol):
    """The way of messages to Slack. Its methods raise UnsentError."""

    threads: bool
    """Whether it can reply to messages."""

    def post(self, text: str, parent: Place | None = None, *, broadcast: bool = False) -> Place:
        """Post a message, or a reply; `broadcast` shows a reply in the channel, too."""
        ...

    def update(self, place: Place, text: str) -> None:
        """Replace a message, where that can be done."""
        ...


class Webhook:
    """An incoming webhook: posts messages, and can neither reply nor change one."""

    threads = False

    def __init__(self, client: Client) -> None:
        self._client = client

    def post(self, text: str, parent: Place | None = None, *, broadcast: bool = False) -> Place:
        self._client.post("", {"text": text, **_PLAIN}, acknowledged)
        return {}

    def update(self, place: Place, text: str) -> None:
        """Leave the message as it is: a webhook's answer has no place of it."""

    def __repr__(self) -> str:
        return "webhook"


class Chat:
    """A bot in a channel, through Slack's Web API."""

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
        answered = self._client.post("chat.postMessage", payload, answer)
        # Changing a message needs the channel's id; posting may have used its name.
        return {
            "channel": str(answered.get("channel", self._channel)),
            "ts": str(answered.get("ts")),
        }

    def update(self, place: Place, text: str) -> None:
        self._client.post("chat.update", {**place, "text": text}, answer)

    def __repr__(self) -> str:
        return f"channel={self._channel!r}"


_PLAIN: Final = {"unfurl_links": False, "unfurl_media": False}


@dataclass(slots=True, eq=False)
class Outage:
    """The outage of one circuit."""

    opening: Signal
    thread: Thread | None = None
    """The thread that shows it; None while no message about it has got through."""
    ended: float | None = None
    """When it ended, by the signal's timestamp."""
    sent: list[float] = field(default_factory=list[float])
    """When messages about it were sent, as far as they count for the limit."""
    held: int = 0
    """Changes that were not shown because of the limit."""

    def lasted(self, until: float) -> float:
        """Seconds since it began."""
        return max(until - self.opening.timestamp, 0.0)


@dataclass(slots=True, eq=False)
class Thread:
    """A message, and the outages that it and its replies are about."""

    place: Place
    outages: dict[str, Outage]
    """By circuit. More than one where circuits opened together."""


class Outages:
    """A listener that posts outages to Slack. It is used on one thread.

    Args:
        sender: the way to Slack.
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
        """Post a transition, if it belongs to an outage."""
        self.together((signal,))

    def together(self, signals: Sequence[Signal]) -> None:
        """Post what several signals report, in as few messages as keep the order per circuit."""
        for alike in _rounds(signals):
            for (thread, again), shown in self._by_thread(alike).items():
                try:
                    self._show(shown, thread, again=again)
                except UnsentError as error:
                    if self._unsent == 0:  # once, until one gets through
                        _log.warn(shown[0].circuit_name, f"Slack could not be reached: {error}")
                    self._unsent += len(shown)
            while len(self._outages) > MOST_CIRCUITS:
                name, forgotten = self._outages.popitem(last=False)
                if forgotten.thread is not None:
                    forgotten.thread.outages.pop(name, None)

    def _by_thread(
        self, signals: Sequence[Signal]
    ) -> dict[tuple[Thread | None, bool], list[Signal]]:
        """The signals to show, by their thread, and whether the circuit had recovered before.

        The signals have one new state, and each is of another circuit.
        """
        parts: dict[tuple[Thread | None, bool], list[Signal]] = {}
        for signal in signals:
            outage, again = self._outages.get(signal.circuit_name), False
            if signal.new_state in REFUSING:
                outage, again = self._open(signal, outage)
            elif outage is None or outage.ended is not None:
                continue
            elif signal.new_state is not State.HALF_OPEN:
                outage.ended = signal.timestamp
            if outage.thread is None:
                shown = signal.new_state is not State.HALF_OPEN
            else:  # a webhook can't reply: what happens within an outage is left out
                shown = again or outage.ended is not None or self._sender.threads
            if shown:
                parts.setdefault((outage.thread, again), []).append(signal)
        return parts

    def _open(self, signal: Signal, outage: Outage | None) -> tuple[Outage, bool]:
        """The outage that an opening belongs to, and whether it goes on after a recovery."""
        again = outage is not None and outage.ended is not None
        if outage is None or (again and signal.timestamp - (outage.ended or 0) > self._window):
            outage, again = Outage(signal), False
            self._outages[signal.circuit_name] = outage
        self._outages.move_to_end(signal.circuit_name)
        outage.ended = None
        return outage, again

    def _show(self, signals: Sequence[Signal], thread: Thread | None, *, again: bool) -> None:
        """Post one message about signals of one thread, and bring the thread's first up to date."""
        ended = signals[0].new_state not in (*REFUSING, State.HALF_OPEN)
        # The channel that was alarmed sees the recovery, too, not the thread alone.
        place = self._post(signals, thread, again=again, broadcast=ended)
        if thread is None:
            if place is not None and not ended:
                outages = {name: self._outages[name] for name in _names(signals)}
                thread = Thread(place, outages)
                for outage in outages.values():
                    outage.thread = thread
        elif again or ended:
            self._sender.update(thread.place, self._first(thread))

    def _first(self, thread: Thread) -> str:
        """The text of a thread's first message: how things stand now."""
        outages = list(thread.outages.values())
        openings = [outage.opening for outage in outages if outage.ended is None]
        if not openings:
            lasted = max(outage.lasted(outage.ended or 0.0) for outage in outages)
            openings = [outage.opening for outage in outages]
            return words.resolved(openings, source=self._source, lasted=lasted)
        recovered = len(outages) - len(openings)
        notes = (f"{recovered} of {len(outages)} circuits have recovered",) if recovered else ()
        return self._text(openings, notes=notes)

    def _post(
        self, signals: Sequence[Signal], thread: Thread | None, *, again: bool, broadcast: bool
    ) -> Place | None:
        """Post a message about the circuits that have not had too many; None if all have."""
        now, span = signals[-1].timestamp, words.duration(self._window)
        shown: list[Signal] = []
        for signal in signals:
            outage = self._outages[signal.circuit_name]
            outage.sent = [at for at in outage.sent if 0 <= now - at < self._window]
            if len(outage.sent) >= self._limit:
                outage.held += 1
            else:
                shown.append(signal)
        if not shown:
            return None
        outages = [self._outages[name] for name in _names(shown)]
        notes: tuple[str, ...] = ()
        if held := sum(outage.held for outage in outages):
            notes += (f"{held} changes before this one were not shown",)
        if last := sum(len(outage.sent) + 1 >= self._limit for outage in outages):
            who = "it changes" if len(outages) == 1 else f"{last} of them change"
            notes += (f"{who} often: for up to {span}, further changes are not shown",)
        text = self._text(shown, again=again, notes=notes)
        parent = None if thread is None else thread.place
        place = self._sender.post(text, parent, broadcast=broadcast)
        for outage in outages:
            outage.sent.append(now)
            outage.held = 0
        if self._unsent:
            _log.warn(
                shown[0].circuit_name,
                f"Slack is reached again; {self._unsent} changes were not shown",
            )
            self._unsent = 0
        return place

    def _text(
        self, signals: Sequence[Signal], *, again: bool = False, notes: tuple[str, ...] = ()
    ) -> str:
        probes_in = None
        if len(signals) == 1 and signals[0].new_state is State.OPEN:
            probes_in = self._probes_in(signals[0].circuit_name)
        lasted = [
            outage.lasted(signal.timestamp)
            for signal in signals
            if signal is not (outage := self._outages[signal.circuit_name]).opening
        ]
        return words.message(
            signals,
            source=self._source,
            lasted=max(lasted, default=None),
            probes_in=probes_in,
            again=again,
            notes=notes,
        )

    def __repr__(self) -> str:
        return repr(self._sender)


def _rounds(signals: Sequence[Signal]) -> list[list[Signal]]:
    """The transitions, put together where the new state is the same and the circuits differ.

    A circuit's own transitions stay in their order.
    """
    rounds: list[list[Signal]] = []
    latest: dict[str, int] = {}
    for signal in signals:
        if signal.kind is not SignalKind.TRANSITION:
            continue
        number = latest.get(signal.circuit_name, -1) + 1
        while number < len(rounds) and rounds[number][0].new_state is not signal.new_state:
            number += 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(signal)
        latest[signal.circuit_name] = number
    return rounds


def _names(signals: Sequence[Signal]) -> list[str]:
    return [signal.circuit_name for signal in signals]
