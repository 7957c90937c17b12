"""Scores: a walk, held against the truth."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf
from typing import Any, Final, NamedTuple

from fluxgate.replay._calls import Calls
from fluxgate.replay._numpy import np
from fluxgate.replay._result import Opening, Outage, Scores, Span, Spread
from fluxgate.replay._truth import Truth, sums
from fluxgate.replay._walk import Move, Walk
from fluxgate.state import State

LONGEST_ECHO: Final = 60.0
"""Seconds after an outage's end in which its calls may still end and open a circuit."""


class Part(NamedTuple):
    """The part of the time that is scored (Unix seconds): `begin` included, `end` not."""

    begin: float = -inf
    end: float = inf


WHOLE: Final = Part()


class Scorer:
    """The sums of a truth that any number of walks are held against.

    Args:
        calls: the calls of one circuit.
        truth: the outages, and which of these calls are bad.
        bad: 1 for each bad call, by place.
    """

    def __init__(self, calls: Calls, truth: Truth, bad: bytearray) -> None:
        self._calls = calls
        self._outages = truth.outages
        unknown = calls.unknown or bytearray(len(calls))
        self._bad: Sequence[int]
        if np is not None and len(calls):
            flags = np.frombuffer(bad, dtype=np.uint8).astype(np.int64)
            waits = np.frombuffer(calls.duration) * flags
            strange = np.frombuffer(unknown, dtype=np.uint8).astype(np.int64)
            self._bad, self._waits, self._unknown = map(_running, (flags, waits, strange))
        else:
            self._bad = sums(bad)  # type: ignore[assignment]
            self._unknown = sums(unknown)
            self._waits = sums(
                duration if wrong else 0.0
                for duration, wrong in zip(calls.duration, bad, strict=True)
            )
        begin, end = (calls.start[0], calls.ends[-1]) if len(calls) else (0.0, 0.0)
        self.begin, self.end = begin, end
        self._echoes = [self._echo(outage, bad) for outage in self._outages]

    def _echo(self, outage: Outage, bad: bytearray) -> float:
        """When the last bad call of an outage has ended."""
        calls = self._calls
        begin, end = (bisect_left(calls.start, at) for at in (outage.begin, outage.end))
        last = max((calls.end[place] for place in range(begin, end) if bad[place]), default=0.0)
        return min(max(last, outage.end), outage.end + LONGEST_ECHO)

    def outage_at(self, at: float) -> int | None:
        """The outage that an opening at that time belongs to; None: it is a false one."""
        place = bisect_right(self._outages, at, key=lambda outage: outage.begin) - 1
        return place if place >= 0 and at <= self._echoes[place] else None

    def openings(self, moves: Sequence[Move], worker: int = 0) -> list[Opening]:
        """The openings of a closed circuit; one that opens again after probes hasn't closed."""
        found: list[Opening] = []
        before = State.CLOSED
        for move in moves:
            if move.state is State.OPEN and before is State.CLOSED:
                in_outage = self.outage_at(move.at) is not None
                found.append(Opening(move.at, move.reason, worker, in_outage))
            before = move.state
        return found

    def spans(self, moves: Sequence[Move], worker: int = 0) -> list[Span]:
        """The stays in each state, from the trace's begin to its end."""
        spans: list[Span] = []
        state, begin = State.CLOSED, self.begin
        for move in moves:
            spans.append(Span(state, begin, move.at, worker))
            state, begin = move.state, move.at
        spans.append(Span(state, begin, max(self.end, begin), worker))
        return spans

    def tally(self, walk: Walk | None, part: Part = WHOLE) -> Tally:
        """The numbers of one circuit's walk in one part of the time; of None, no breaker."""
        tally = Tally()
        calls = self._calls
        first, last = bisect_left(calls.start, part.begin), bisect_left(calls.start, part.end)
        moves = walk.moves if walk else []
        for begin, end in walk.refused if walk else ():
            begin, end = max(begin, first), min(end, last)
            if begin < end:
                tally.refused += end - begin
                tally.unknown += int(self._unknown[end] - self._unknown[begin])
                tally.bad_spared += int(self._bad[end] - self._bad[begin])
                tally.waiting_saved += float(self._waits[end] - self._waits[begin])
        tally.good_refused = tally.refused - tally.unknown - tally.bad_spared
        tally.bad_let_through = int(self._bad[last] - self._bad[first]) - tally.bad_spared
        tally.unknown = int(self._unknown[last] - self._unknown[first])
        for opening in self.openings(moves):
            if part.begin <= opening.at < part.end:
                tally.opened += 1
                tally.false_openings += not opening.outage
        self._over_outages(moves, part, tally)
        hours = min(part.end, self.end) - max(part.begin, self.begin)
        tally.hours = max(hours, 0.0) / 3600
        return tally

    def _over_outages(self, moves: Sequence[Move], part: Part, tally: Tally) -> None:
        """How soon it opened in each outage, and closed after it."""
        times = [self.begin, *(move.at for move in moves)]
        states = [State.CLOSED, *(move.state for move in moves)]
        for place, outage in enumerate(self._outages):
            if not part.begin <= outage.begin < part.end:
                continue
            now = bisect_right(times, outage.begin) - 1
            while now < len(times) and (now < 0 or states[now] is State.CLOSED):
                now += 1
            if now == len(times) or times[now] > self._echoes[place]:
                tally.to_open.append(None)
                continue
            tally.to_open.append(max(times[now] - outage.begin, 0.0))
            after = bisect_right(times, outage.end) - 1
            after = max(after, now)
            while after < len(times) and states[after] is not State.CLOSED:
                after += 1
            if after < len(times):
                tally.to_closed.append(max(times[after] - outage.end, 0.0))


class Tally:
    """The scores of one circuit, before those of several are joined.

    Attributes:
        to_open: for each outage the seconds until it opened; None: it didn't.
        to_closed: seconds from the outage's end to closed, where it closed again.
        hours: of the part that is scored.
    """

    def __init__(self) -> None:
        self.opened = self.refused = self.false_openings = self.unknown = 0
        self.good_refused = self.bad_spared = self.bad_let_through = 0
        self.waiting_saved = 0.0
        self.to_open: list[float | None] = []
        self.to_closed: list[float] = []
        self.hours = 0.0


def joined(tallies: Sequence[Tally]) -> Scores:
    """The scores of all circuits together; an outage is seen if half of them opened in it."""
    outages = list(zip(*(tally.to_open for tally in tallies), strict=True))
    seen = [
        [each for each in outage if each is not None]
        for outage in outages
        if 2 * sum(each is not None for each in outage) >= len(outage)
    ]
    hours = sum(tally.hours for tally in tallies)
    opened = sum(tally.opened for tally in tallies)
    return Scores(
        opened=opened,
        refused=sum(tally.refused for tally in tallies),
        outages_seen=len(seen),
        outages_missed=len(outages) - len(seen),
        seconds_to_open=Spread.of([each for outage in seen for each in outage]),
        false_openings=sum(tally.false_openings for tally in tallies),
        good_refused=sum(tally.good_refused for tally in tallies),
        bad_spared=sum(tally.bad_spared for tally in tallies),
        bad_let_through=sum(tally.bad_let_through for tally in tallies),
        waiting_saved=sum(tally.waiting_saved for tally in tallies),
        seconds_to_closed=Spread.of([each for tally in tallies for each in tally.to_closed]),
        openings_per_hour=opened / hours if hours else 0.0,
        unknown=sum(tally.unknown for tally in tallies),
    )


def _running(values: Any) -> Any:
    assert np is not None
    return np.concatenate((values[:1] * 0, np.cumsum(values)))
