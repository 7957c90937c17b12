"""The two threads of a fleet in a process: the flusher and the listener.

The flusher comes as often as its `Rhythm` has it, looks which members have something to hand in,
hands all of it in at once, and does what the answers ask for. The listener waits for pushes; one is
a hint that a circuit may have moved, and the flusher reads it then.

No call waits for either. Where the store can't be reached, every member owns itself, and the
flusher tries again with each tick.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeVar

from fluxgate._bell import Gate, drained
from fluxgate._controls import Said
from fluxgate._engine.transitions import Event
from fluxgate._front import real_clock
from fluxgate._locks import ProcessLock
from fluxgate._threads import SoleThread
from fluxgate.fleet._by_hand import set_by_hand
from fluxgate.fleet._flush import Due, Flush
from fluxgate.fleet._link import Link
from fluxgate.fleet._member import Member
from fluxgate.fleet._presence import Presence
from fluxgate.fleet._requests import Inquiry, Request
from fluxgate.fleet._rhythm import HURRY, IDLE, TICK, Rhythm, dice
from fluxgate.fleet.store import Hint, Store, StoreBusy, StoreError, View, key_of

T = TypeVar("T")

SETTLE: Final = 0.05
"""Seconds before the listener begins; the flusher begins with its first tick."""
LISTEN: Final = 10.0
"""Seconds of one wait for pushes: then it sees whether it is still where they come."""
MAX_HINTS: Final = 10_000
"""Pushes that wait for the flusher, at most; if there are more, every circuit is read."""
BUSY_PAUSE: Final = 0.02
"""Seconds between two tries of a store that somebody else has."""

_WITHOUT_HOOKS: Final = (
    "this process was forked without Python's fork hooks: under uWSGI, set "
    "py-call-uwsgi-fork-hooks or lazy-apps"
)


class Flusher:
    """The members of one fleet in this process, and the threads that serve them.

    Args:
        store: where the circuits are.
        label: how logs and metrics name the store; it shows no secret.

    Attributes:
        flushes: how often this process has handed anything in or asked for anything.
        failed_flushes: how many of these the store has not answered, or was too busy for.
        flush_seconds: how long all of them took together.
    """

    def __init__(self, store: Store, label: str) -> None:
        self.store = store
        self.clock = real_clock()
        self.label = label
        self._lock = ProcessLock()  # a finaliser or signal handler may make a breaker
        self._members: dict[int, Member] = {}
        self._number = 0
        self._dropped = 0  # by members that are gone
        self.closed = False
        self._forking = 0  # the process that is about to fork
        self._count_from_zero()
        self._begin()

    def _count_from_zero(self) -> None:
        self.flushes = self.failed_flushes = 0
        self.flush_seconds = 0.0

    def _begin(self) -> None:
        self.rhythm = Rhythm(self.clock)
        self._process = os.getpid()
        self._flushing = SoleThread("fluxgate-fleet-flusher")
        self._listening = SoleThread("fluxgate-fleet-listener")
        self._requests: deque[Request] = deque()
        self._inquiries: deque[Inquiry[Any]] = deque()
        self._hints: deque[Hint] = deque(maxlen=MAX_HINTS)
        self._stopping = Gate()
        self._presence = Presence()
        self._link = Link(self.label, self.clock)
        self._probing = self._resting = False
        self._complete = True  # whether each circuit of a tick had its answer

    # -- from anywhere

    def add(self, member: Member) -> None:
        """Serve one more member, from now on."""
        with self._lock.here():
            if self.closed:  # it goes on by itself, and nothing keeps it here
                member.leave()
                return
            self._number += 1
            self._members[self._number] = member
        self.start()
        self.wake()

    def start(self) -> None:
        """Start the threads, where they don't run yet."""
        if self.closed or self._forking not in (0, os.getpid()):
            return  # in a child `after_fork_in_child` starts them
        if self._process != os.getpid():
            # To begin anew is not enough: what the parent has open was not closed before the fork.
            self._detach(StoreError(_WITHOUT_HOOKS))
            return
        self._flushing.start(self._flush_on)
        self._listening.start(self._listen_on)

    def wake(self) -> None:
        """Have the flusher come now."""
        self.rhythm.wake()

    def alarm(self) -> None:
        """Have it come soon: failures pile up."""
        self.rhythm.alarm()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was recorded is in the store, and all views are fresh."""
        if self.closed or not self._members or self._flushing.is_current():
            return self.attached and not self._members  # a listener can't wait for its own thread
        deadline = self.clock() + timeout
        while not self.closed:
            request = Request()
            self._requests.append(request)
            self.start()
            self.wake()
            left = deadline - self.clock()
            if request.done.wait(max(left, 0.0)) and request.well:
                return True
            # Somebody else had the store, or it went away: once more, as long as there is time.
            if self.clock() >= deadline or self._stopping.wait(BUSY_PAUSE):
                return False
        return False

    def ask(self, ask: Callable[[Store], T], timeout: float) -> T:
        """Have the flusher's thread, the only one that may, ask the store something.

        Raises:
            StoreError: the store can't be reached or used, hasn't answered in time, or the fleet is
                closed.
        """
        deadline = self.clock() + timeout
        while True:
            try:
                return self._ask(ask, timeout, deadline)
            except StoreBusy:  # nothing was done: once more, as long as there is time
                if self.clock() + BUSY_PAUSE >= deadline or self._stopping.wait(BUSY_PAUSE):
                    raise

    def _ask(self, ask: Callable[[Store], T], timeout: float, deadline: float) -> T:
        if self.closed:
            raise StoreError("the fleet is closed")
        inquiry = Inquiry(ask)
        if self._flushing.is_current():
            inquiry.put_to(self.store)
            return inquiry.answer()
        self._inquiries.append(inquiry)
        self.start()
        self.wake()
        if not inquiry.done.wait(max(deadline - self.clock(), 0.0)):
            last = f": {self.last_error}" if self.last_error and not self.attached else ""
            raise StoreError(f"the store has not answered within {timeout:g} s{last}")
        return inquiry.answer()

    def set(self, name: str, event: Event, words: Said, timeout: float) -> View:
        """Set a circuit by hand in the store; its members here obey at once."""
        members = [member for member in self.members() if member.key == key_of(name)]
        return self.ask(lambda store: set_by_hand(store, name, event, words, members), timeout)

    def members(self) -> list[Member]:
        """The members whose circuits live."""
        return [each for each in list(self._members.values()) if each.circuit is not None]

    @property
    def attached(self) -> bool:
        """Whether the store answered this process when it was last asked."""
        return self._link.attached and self._process == os.getpid()

    @property
    def last_error(self) -> str | None:
        """The last failure of the store; None if there was none."""
        return self._link.last_error

    @property
    def dropped(self) -> int:
        """Calls that were counted here and not there."""
        return self._dropped + sum(member.dropped for member in list(self._members.values()))

    def close(self, timeout: float) -> None:
        """Flush once more, stop the threads, give the circuits back to themselves."""
        deadline = self.clock() + timeout
        if self._flushing.was_started and (self.attached or self.last_error is None):
            self._take_leave(self._presence.leave, timeout)
        self.closed = True
        self._stopping.open()
        self.wake()
        for thread in (self._listening, self._flushing):
            self._join(thread, max(deadline, self.clock() + 0.05))
        self._leave()
        if not self._flushing.is_alive():
            with suppress(StoreError):
                self.store.close()

    def withdraw(self, timeout: float) -> None:
        """Flush once more, and take back that this process is here, until it calls again."""
        if not self.closed and self._flushing.was_started:
            self._take_leave(self._fall_silent, timeout)

    def _take_leave(self, farewell: Callable[[Store], None], timeout: float) -> None:
        deadline = self.clock() + timeout
        self.flush(timeout)
        if self.attached:
            with suppress(StoreError):
                self.ask(farewell, max(deadline - self.clock(), 0.05))

    def _fall_silent(self, store: Store) -> None:
        self._presence.fall_silent(store, self._settled())

    def _settled(self) -> int:
        return sum(each.settled for each in self.members())

    def _join(self, thread: SoleThread, deadline: float) -> None:
        while not thread.join(0.0) and (left := deadline - self.clock()) > 0:
            with suppress(Exception):  # each time: it may have been about to wait
                self.store.wake()
            thread.join(min(left, 0.1))

    def _leave(self) -> None:
        self._link.attached = False
        for member in self.members():
            member.leave()

    # -- fork

    def before_fork(self) -> None:
        """Let go of what must not be inherited."""
        self._forking = os.getpid()
        self.store.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.store.after_fork_in_parent()
        self._forking = 0
        if not self._presence.forked:
            self._presence.forked = True
            self.wake()  # it may be resting, and be taken for dead before it wakes

    def after_fork_in_child(self) -> None:
        """Begin anew, with threads, connections and counts of this process's own."""
        running = self._flushing.was_started and not self.closed
        self.store.after_fork_in_child()
        self._forking = 0
        self._begin()
        self._dropped = 0
        self._count_from_zero()
        for member in self.members():
            member.restart()
        if running:
            self.start()

    # -- the listener

    def _listen_on(self) -> None:
        stopping = self._stopping
        stopping.wait(SETTLE)  # in a forked child: until everybody's fork hooks have run
        while not self._over(stopping):
            try:
                hints = self.store.wait(LISTEN)
            except StoreError:
                self.rhythm.flushed_at = 0.0  # the flusher is to see for itself
                self.wake()
                stopping.wait(dice.uniform(0.2, 0.5))
                continue
            except Exception as error:  # never the end of it
                self._trouble(error)
                stopping.wait(1.0)
                continue
            if hints and not self._over(stopping):
                self._hints.extend(hints)
                self.wake()

    def _over(self, stopping: Gate) -> bool:
        """Whether a thread that began with this gate has to end."""
        if stopping is not self._stopping:
            # A fork ends threads, but gevent's greenlets live on in the child, beside the new ones.
            # `threading` has forgotten this one and would print an error at its end: it has none.
            stopping.wait()
        return stopping.is_open

    # -- the flusher

    def _flush_on(self) -> None:
        stopping = self._stopping
        while not self._over(stopping):
            self.rhythm.sleep(rest=self._resting)
            if self._over(stopping):
                break
            self._tick()
        if self.closed:  # a slow store may have kept this thread beyond `close`
            self._leave()
            with suppress(StoreError):
                self.store.close()

    def _tick(self) -> None:
        requests, hints = drained(self._requests), drained(self._hints)
        self._complete, self._resting = True, False
        try:
            self._take(hints)
            due = self._due(everything=bool(requests))
            if due:
                self._timed_flush(due)
            self._announce()
            well = self._complete and (self.attached or not self._members)
            self._resting = self._may_rest()
        except StoreBusy as error:
            due, well = [], False
            if self._link.impatient(error):
                self._detach(error)
        except StoreError as error:
            due, well = [], False
            self._detach(error)
        except Exception as error:  # never the end of the thread
            due, well = [], False
            self._trouble(error)
        self.rhythm.pace = HURRY if self._probing else TICK if due else IDLE
        for request in requests:
            request.well = well
            request.done.set()
        for inquiry in drained(self._inquiries):
            self._resting = False  # it may have set a circuit, which is to be looked at
            inquiry.put_to(self.store)

    def _take(self, hints: Iterable[Hint]) -> None:
        """Mark whom the pushes are about."""
        newest: dict[str, int] = {}
        for count, hint in enumerate(hints, 1):
            if not hint.key or count == MAX_HINTS:  # full: some may not have found room
                self._mark_all()
                return
            # Of one's own, too: another breaker of the same name has not moved yet. Who has moved
            # knows the epoch.
            newest[hint.key] = max(hint.epoch, newest.get(hint.key, 0))
        if newest:
            for member in self.members():
                if newest.get(member.key, 0) > member.epoch:
                    member.mark()

    def _mark_all(self) -> None:
        for member in self.members():
            member.mark()

    def _due(self, *, everything: bool) -> Due:
        """Those of whom there is anything to hand in or to ask, with their circuits."""
        now = self.clock()
        if everything or not self.attached:
            self._mark_all()
        due: Due = []
        self._probing = False
        for number, member in list(self._members.items()):
            circuit = member.circuit
            if circuit is None:
                del self._members[number]
                self._dropped += member.dropped
                continue
            if member.quiet and circuit.looks_idle(member.phase, member.settled):
                continue  # nearly always
            self._probing = self._probing or member.probing(circuit)
            if member.due(circuit, now):
                due.append((member, circuit))
            else:
                member.quieten(circuit)
        if due:
            self.rhythm.stirred_at = now
        elif self._members and self.rhythm.heartbeat_due(now):
            for member in self.members()[:1]:  # is the store there at all?
                if (circuit := member.circuit) is not None:
                    member.mark()
                    due.append((member, circuit))
        return due

    def _may_rest(self) -> bool:
        """Whether nothing can be due before the next heartbeat, unless it is rung for."""
        if not self.rhythm.tired():
            return False
        for member in list(self._members.values()):
            circuit = member.circuit
            if circuit is not None and not member.rest(circuit, self.rhythm.rouse):
                return False
        return True

    def _announce(self) -> None:
        """Say now and then that this process is here."""
        now, presence = self.clock(), self._presence
        if not (self.attached and self._members):
            return
        if presence.silent and not presence.called(self._settled()):
            presence.withdraw(self.store)
            return
        if not presence.due(now):
            return
        (answer,) = self.store.exchange([presence.request(now)])
        if isinstance(answer, View):
            presence.answered(answer)

    def _timed_flush(self, due: Due) -> None:
        began, well = self.clock(), False
        self.rhythm.flushed_at = began
        flush = Flush(self.store, self.clock, self._link.answered)
        try:
            flush.run(due, attached=self.attached)
            well = True
        finally:
            self.flush_seconds += max(self.clock() - began, 0.0)
            self.flushes += 1
            self.failed_flushes += not well
        if flush.lacking is not None:
            self._link.last_error, self._complete = str(flush.lacking), False

    def _trouble(self, error: Exception) -> None:
        """Treat an unexpected error as a lost store: log it once, and keep the thread running."""
        self._detach(StoreError(f"{type(error).__name__}: {error}"))

    def _detach(self, error: StoreError) -> None:
        self._link.lost(error)
        for member in self.members():
            member.detach()
