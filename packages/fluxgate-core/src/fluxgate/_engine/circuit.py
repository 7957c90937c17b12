"""Circuit: the lock around a machine, and all that a breaker asks of it.

Under the lock run the machine, the verdicts (strategies), the tally and the draining of the lane;
outside it trackers, listeners and logging.

The lock serves threads, any number of event loops and trio alike: what it guards never waits,
never logs, and calls no user code but the strategies. Two things can run inside it on the same
thread all the same: garbage collection and signal handlers. What they call may want this lock, or
one whose holder waits for this one. So whoever finds a lock busy looks whether its own thread is
already inside a circuit. If so it doesn't wait: a settlement goes to the inbox, which the holder
empties before it leaves and looks at again afterwards.
In a forked child, until the circuits have begun anew, the holder may be a thread that is not there:
nobody waits for it either.

A signal handler may also raise, between any two steps. Hence what one step takes out of a queue is
in no local variable before it is done, what has to be given back is given back by `with`, and a
step that was broken off is put right at once, or, were that broken off as well, by the next one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import starmap
from math import inf, nan
from operator import call
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar
from weakref import ref

from fluxgate import _log
from fluxgate._controls import NOTHING_SAID, Said
from fluxgate._engine import everywhere, living, nested
from fluxgate._engine.calls import CallReports, refused_call
from fluxgate._engine.dispatch import Delivery, Dispatch, Hooks, hooks_of, is_end
from fluxgate._engine.lane import BATCH, Lane
from fluxgate._engine.machine import Machine
from fluxgate._engine.outcomes import cause_of, outcome_of, outcome_of_result
from fluxgate._engine.phase import RECORDING, Admission, Cause, Phase
from fluxgate._engine.transitions import Event
from fluxgate._naming import safe_str
from fluxgate.errors import CallNotPermittedError
from fluxgate.metric import Info
from fluxgate.policy import Policy
from fluxgate.signals import Listener, Origin, Outcome, Reason, Subscription
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate._saved import Saved
    from fluxgate.fleet._member import Member

T = TypeVar("T")

DISABLED, HALF_OPEN = State.DISABLED, State.HALF_OPEN
SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED

Step: TypeAlias = Callable[..., Any]


class _Deferred:
    """The answer where the lock was busy and waiting for it could deadlock."""


DEFERRED: Final = _Deferred()


class Keeper(Protocol):
    """A cache of circuits, as one of its circuits sees it."""

    def keep(self) -> None:
        """Keep the circuit, also if it was evicted, where a new one could not replace it.

        Called under the circuit's lock; it must take none.
        """

    def is_gone(self) -> bool:
        """Whether it has nothing to do with the circuit any more."""
        ...


class Circuit:
    """The shared state behind any number of breakers. Every method may be called anywhere.

    Attributes:
        name: the circuit's name.
        clock: gives seconds, for durations and deadlines.
        lane: the way through for healthy calls; None while the circuit does not record.
        fleet: its part in a fleet, if it has one.
        keepers: the caches that it is in or was evicted from.
    """

    __slots__ = (
        "__weakref__",
        "_busy",
        "_dispatch",
        "_faults",
        "_homes",
        "_inbox",
        "_info",
        "_later",
        "_lock",
        "_machine",
        "_outbox",
        "_rejections",
        "_settle",
        "clock",
        "fleet",
        "keepers",
        "lane",
        "name",
    )

    def __init__(
        self,
        name: str,
        policy: Policy,
        *,
        listeners: Sequence[Listener],
        initial_state: State,
        clock: Callable[[], float],
        dice: Callable[[], float],
        listed: bool = True,
    ) -> None:
        self.name = name
        self.clock = clock
        self._machine = Machine(policy, initial_state, clock(), dice)
        self._outbox = self._machine.outbox
        self._faults = self._machine.verdicts.faults
        self._settle: Step = self._machine.settle  # or that of `CallReports`, around it
        self._dispatch = Dispatch(name, self._outbox)
        self._later = self._dispatch.later
        self._inbox: list[tuple[Any, ...]] = []  # steps that wait for the lock: (step, *args)
        self._rejections = [0]  # their sum is the count; append(1) is atomic, unlike += 1
        self._lock = threading.RLock()
        self._busy = False
        self._info: Info | None = None
        self.lane = self._machine.lane
        self.fleet: Member | None = None
        self._homes: list[ref[object]] = []
        self.keepers: tuple[Keeper, ...] = ()
        self._dispatch.own.update((everywhere.number(), hooks_of(each)) for each in listeners)
        if not listed:  # a replay's: neither collectors nor the listeners of all circuits meet it
            return
        living.add(self)
        # Last: whoever registers a listener of all circuits meets this one from here on.
        if listeners or everywhere.listeners:
            self._perform(self._gather)

    # -- admission

    def admit(self) -> Lane | Admission:
        """Let a call in, or raise `CallNotPermittedError`."""
        lane = self.lane
        if lane is not None:
            return lane
        phase, now = self._machine.phase, self.clock()
        if now < (retry_at := phase.retry_at):
            left = retry_at - now if retry_at < inf else None
            raise self._refusal(phase, phase.reason, left)
        if phase.state is DISABLED and (now < phase.until or phase.leases is not None):
            return Admission(phase)
        admission = self._exclusively(self._acquire, now)
        if deferred := admission is DEFERRED:
            phase = self._machine.phase
            recording = phase.state in RECORDING or phase.state is DISABLED
            admission = Admission(phase) if recording else phase
        if isinstance(admission, Admission):
            try:
                if not deferred:
                    self._afterwards()
            except BaseException:  # an interrupt in a listener: the call will not be made
                self.abandon(admission)
                raise
            return admission
        assert isinstance(admission, Phase)
        if not deferred:
            self._afterwards()
        reason = admission.reason
        if admission.state is HALF_OPEN:
            reason = admission.last_trip or reason  # none, where it was forced open for a time
        raise self._refusal(admission, reason, _left(admission, now))

    def _acquire(self, now: float) -> Admission | Phase:
        """An admission, or the phase that refuses it."""
        phase = self._machine.phase
        if phase.state is HALF_OPEN and nested.inside_probe_of(phase):
            return Admission(phase)  # a part of that probe: it needs no slot of its own
        return self._machine.acquire(now) or self._machine.phase

    def _refusal(
        self, phase: Phase, reason: Reason | None, retry_after: float | None
    ) -> CallNotPermittedError:
        rejections = self._rejections
        rejections.append(1)
        if len(rejections) > BATCH:
            self._perform(self._count_rejections)
        # Without __init__, which only names these arguments: refusing has to be cheap.
        error = _new_refusal(CallNotPermittedError, self.name, phase.state, retry_after, reason)
        if self._dispatch.hears_refusals:
            self._report_refused(error, phase)
        return error

    def available(self) -> bool:
        """Whether a call made now may be admitted."""
        if self.lane is not None:
            return True
        if self._inbox:  # a slot that was given back may be in there
            self._perform(nothing)
        machine = self._machine
        phase = machine.phase
        if phase.state is HALF_OPEN and nested.inside_probe_of(phase):
            return True
        return machine.may_admit(self.clock())

    # -- settlement

    def raised(
        self, admission: Lane | Admission, error: BaseException, elapsed: float, end: float
    ) -> None:
        """End a call that raised at `end`, by way of the tracker."""
        phase = admission.phase
        if phase.state is DISABLED:
            return
        outcome, cause = outcome_of(error, phase.policy, self.name, elapsed)
        if outcome is FAILURE or outcome is SUCCESS:
            self._perform(self._settle, admission, outcome, elapsed, end, cause)
            return
        # It moves nothing; a GeneratorExit may come from a finaliser, which must not wait.
        waits = self._dispatch.call_ended and not isinstance(error, GeneratorExit)
        leave = self._perform if waits else self._leave
        leave(self._settle, admission, outcome, elapsed, end, type(error))

    def failed(
        self,
        admission: Lane | Admission,
        error: BaseException | str | None,
        elapsed: float,
        end: float,
    ) -> None:
        """End a call that failed, without asking the tracker."""
        cause: Cause | None = None
        if isinstance(error, BaseException):
            quoted = admission.phase.policy.error_messages
            cause = cause_of(error) if quoted else type(error)
        elif error is not None:
            cause = safe_str(error) or None
        self.settle(admission, FAILURE, elapsed, end, cause)

    def returned(
        self, admission: Lane | Admission, result: object, elapsed: float, end: float
    ) -> None:
        """End a call that returned `result` at `end`, by way of the result tracker."""
        phase, outcome, cause = admission.phase, SUCCESS, None
        if phase.policy.result_tracker is not None and phase.state is not DISABLED:
            outcome = outcome_of_result(result, phase.policy, self.name)
            cause = "result_tracker"
        self.settle(admission, outcome, elapsed, end, cause)

    def settle(
        self,
        admission: Lane | Admission,
        outcome: Outcome,
        elapsed: float,
        end: float,
        cause: Cause | None = None,
    ) -> None:
        """End a call whose outcome is known, and, if it failed, its cause."""
        lane, phase = self.lane, admission.phase
        if (
            outcome is SUCCESS
            and lane is not None
            and lane.phase is phase
            and elapsed < lane.fast_below
            and end < lane.until
        ):
            lane.append(elapsed)
            if len(lane) > BATCH:
                self.drain(lane)
        else:
            self._perform(self._settle, admission, outcome, elapsed, end, cause)

    def abandon(self, admission: Lane | Admission, started: float | None = None) -> None:
        """End a call that says nothing about the dependency.

        Args:
            admission: what admitted it.
            started: clock time of its beginning; None from a finaliser, which must not wait.
        """
        # The time of its end doesn't matter: it is ignored, overdue or not.
        if started is not None and self._dispatch.call_ended:
            self._perform(self._settle, admission, IGNORED, self.clock() - started, -inf)
        else:
            self._leave(self._settle, admission, IGNORED, nan, -inf)

    def _leave(self, step: Step, admission: Lane | Admission, *args: Any) -> None:
        """Queue a settlement in the inbox without waiting; the next holder of the lock runs it.

        Only for those that cannot change the state. Finalisers use it, which must not wait.
        A long inbox is emptied if nobody is at it, so it can't grow.
        """
        self._inbox.append((step, admission, *args))
        if admission.probe is not None:
            nested.end(admission)  # its slot goes back later, but what follows here is no probe
        if len(self._inbox) > BATCH and not self._busy:
            self._locked(nothing, ())

    def drain(self, lane: Lane) -> None:
        """Count the successes in a lane's journal."""
        self._perform(self._absorb, lane)

    # -- controls and reading

    def control(
        self, event: Event, origin: Origin = Origin.LOCAL, said: Said = NOTHING_SAID
    ) -> None:
        """Set the state by hand."""
        self._perform(self._machine.control, event, self.clock(), origin, said)

    def open_for(
        self, seconds: float, origin: Origin = Origin.LOCAL, said: Said = NOTHING_SAID
    ) -> None:
        """Open for a stated time."""
        self._perform(self._open_for, seconds, self.clock(), origin, said)

    def _open_for(self, seconds: float, now: float, origin: Origin, said: Said) -> None:
        self._machine.open_for(seconds, now, origin, said)
        self._stay()  # an opening that is only made longer is no transition

    def hand_over(self) -> None:
        """Give the phase to the fleet, if it is open, half-open, or set by hand for a time."""
        self._perform(self._machine.hand_over)

    def listen(self, listener: Listener) -> Subscription:
        """Add a listener."""
        number, circuit = everywhere.number(), ref(self)  # who can end it keeps no circuit alive
        self._perform(self._add, number, hooks_of(listener))

        def end() -> None:
            if (living := circuit()) is not None:
                living._perform(living._remove, number)

        return Subscription(end)

    def enter(self, home: object) -> None:
        """Note a registry or fleet that it belongs to; several may have one circuit."""
        if not self.is_of(home):
            self._homes.append(ref(home, self._homes.remove))

    def is_of(self, home: object) -> bool:
        """Whether it belongs to that registry or fleet."""
        return any(each() is home for each in self._homes.copy())  # others come and go meanwhile

    def hear_everywhere(self) -> None:
        """Take up the listeners of all circuits as they are now."""
        self._perform(self._gather)

    def _add(self, number: int, hooks: Hooks) -> None:
        self._dispatch.own[number] = hooks
        self._gather()

    def _remove(self, number: int) -> None:
        self._dispatch.own.pop(number, None)
        self._gather()

    def _gather(self) -> None:
        machine, dispatch = self._machine, self._dispatch
        dispatch.gather(everywhere.hooks(self))
        watched = bool(dispatch.call_ended)
        if watched is not machine.watched:
            reports = CallReports(self.name, machine, dispatch, self.clock)
            self._settle = reports.settle if watched else machine.settle
            machine.watch(watched, self.clock())

    def restore(self, saved: Saved) -> bool:
        """Go on where another process was; whether that was done."""
        if self.fleet is not None:  # the store knows better
            return False
        restored = self._exclusively(self._restore, saved)
        if restored is DEFERRED:
            self._perform(self._restore, saved)
            return True
        self._afterwards()
        return bool(restored)

    def _restore(self, saved: Saved) -> bool:
        # A clock that was set back, or another host's that is fast: as if it were saved just now,
        # so that nothing is refused for longer than it was to be.
        age = max(time.time() - saved.saved_at, 0.0)
        now = self.clock()
        left = saved.retry_after
        return self._machine.restore(
            saved.state,
            now,
            began=now - age - saved.elapsed,
            retry_at=None if left is None else now + left - age,
            reopens=saved.reopens,
            last_trip=saved.last_trip,
            until=inf if saved.reverts_in is None else now + saved.reverts_in - age,
            said=Said(note=saved.note, by=saved.by),
        )

    def update(self, changes: dict[str, Any]) -> None:
        """Replace settings. Raises TypeError or ValueError and changes nothing if they're wrong."""
        self._machine.policy.replace(**changes)  # complain here, not inside the lock
        self._perform(self._update, changes)

    def _update(self, changes: dict[str, Any]) -> None:
        self._machine.update(self._machine.policy.replace(**changes), self.clock())
        self._stay()

    def info(self) -> Info:
        """The circuit as it stands; the last known picture if this thread is inside a circuit."""
        info = self._exclusively(self._look)
        if info is DEFERRED:
            info = self._info or self._picture(self.clock())
        else:
            self._afterwards()
        assert isinstance(info, Info)
        return info

    @property
    def state(self) -> State:
        """The published state, read without the lock."""
        return self._machine.phase.state

    @property
    def policy(self) -> Policy:
        """The current settings."""
        return self._machine.policy

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Its own listeners, in the order in which they are called."""
        return tuple(hooks.listener for hooks in self._dispatch.own.copy().values())

    def _look(self) -> Info:
        now = self.clock()
        self._machine.advance(now)
        self._info = self._picture(now)
        return self._info

    def _picture(self, now: float) -> Info:
        machine, phase = self._machine, self._machine.phase
        wall = time.time()
        return Info(
            name=self.name,
            state=phase.state,
            since=wall - (now - phase.began),
            retry_after=_left(phase, now),
            open_for=phase.retry_at - phase.began if _left(phase, now) is not None else None,
            reopens=phase.reopens,
            probes=len(phase.probes),
            metrics=phase.tally.snapshot(),
            totals=machine.totals.snapshot(self.refused()),
            last_trip=phase.last_trip,
            would_open=machine.verdicts.would_open(phase),
            shadow=machine.verdicts.shadow(phase),
            fleet=None if self.fleet is None else self.fleet.shown(),
            at=wall,
            reason=phase.reason,
            reverts_in=max(phase.until - now, 0.0) if phase.until < inf else None,
        )

    # -- for the fleet, whose threads are inside no circuit

    def step(self, step: Callable[[Machine, float], T]) -> T:
        """Run `step(machine, now)` under the lock, then log faults and call listeners."""
        result: T = self._locked(self._step, (step,))
        self._afterwards()
        return result

    def _step(self, step: Callable[[Machine, float], T]) -> T:
        return step(self._machine, self.clock())

    def looks_idle(self, phase: Phase, settled: int) -> bool:
        """Whether nothing has happened since it was in that phase, and so many had settled.

        Read without the lock; what is missed now is seen the next time.
        """
        machine = self._machine
        totals = machine.totals
        return (
            not self.lane
            and machine.phase is phase
            and totals.successes + totals.failures == settled
            and (phase.leases is None or not (phase.leases.wanted or phase.leases.ended))
        )

    # -- for replay, which puts many recorded calls through at once

    @property
    def phase(self) -> Phase:
        """The current phase, read without the lock."""
        return self._machine.phase

    def pass_through(self, lane: Lane, durations: Iterable[float]) -> None:
        """Count successes that went through this lane, as the fronts do one by one.

        Args:
            lane: what admitted them.
            durations: seconds of as many as its journal has room for.
        """
        lane.extend(durations)
        if len(lane) > BATCH:
            self.drain(lane)

    def times(self) -> tuple[float, float | None]:
        """Seconds since its state began, and until it may be tried; read without the lock.

        The second is None where nobody knows, or it refuses nothing.
        """
        phase, now = self._machine.phase, self.clock()
        return max(now - phase.began, 0.0), _left(phase, now)

    def refused(self) -> int:
        """How many calls it has refused; read without the lock."""
        return sum(self._rejections.copy())  # one step: they may be counted meanwhile

    def refuse(self, count: int) -> None:
        """Count calls that were refused, without an error for each."""
        self._rejections.append(count)

    # -- the lock

    def _perform(self, step: Step, *args: Any) -> None:
        """Do `step` under the lock: now, or, where this thread must not wait, soon."""
        if self._busy and (inside_a_circuit() or living.is_forked()):
            self._inbox.append((step, *args))
            if self._busy:
                return  # its holder looks again before it is done
            step, args = nothing, ()
        self._locked(step, args)
        if self._inbox or self._outbox or self._faults or self._later or _pending:
            self._afterwards()

    def _exclusively(self, step: Step, *args: Any) -> Any:
        """Do `step` under the lock for its result; `DEFERRED` where waiting could deadlock."""
        if self._busy and (inside_a_circuit() or living.is_forked()):
            return DEFERRED
        return self._locked(step, args)

    def _locked(self, step: Step, args: tuple[Any, ...]) -> Any:
        # An RLock, since a signal handler can come before `_busy` is set; nothing has been touched
        # then. Its `with` is C code: no exception can leave it taken.
        with self._lock:
            if self._busy:  # nobody is in here: putting a step right was broken off
                self._put_right()
            self._busy = True
            try:
                lane = self.lane
                if lane:  # there is one, the machine's own, and it isn't empty
                    batch: list[float] = lane[:]
                    del lane[: len(batch)]
                    self._machine.absorb(lane, batch)
                if self._inbox:
                    self._catch_up()
                result = step(*args)
                if self._outbox or self._machine.lane is not self.lane:
                    self._publish()
            except BaseException:  # a signal handler raised in the middle of it
                self._put_right()
                raise
            self._busy = False
            return result

    def _put_right(self) -> None:
        """Complete a step that was broken off. To do it twice does no harm."""
        self._machine.recover()
        self._gather()
        self._publish()
        self._busy = False

    def _catch_up(self) -> None:
        """Do the steps that others left in the inbox."""
        inbox = self._inbox
        try:
            # Taking one out and beginning it are one step, so that no exception can lose it.
            for _ in starmap(call, iter(partial(inbox.pop, 0), None)):
                pass
        except IndexError as error:
            if not is_end(error):
                raise

    def _count_rejections(self) -> None:
        rejections = self._rejections
        count = len(rejections)
        rejections[:count] = [sum(rejections[:count])]  # one step, beside which others append

    def _absorb(self, lane: Lane) -> None:
        if batch := lane.take():
            # They were let in when fast successes could not matter; by now they may.
            now = self.clock()
            for elapsed in batch:
                self._settle(lane, SUCCESS, elapsed, now)

    def _publish(self) -> None:
        """Put the machine's lane up for all to see, and date the notices for the listeners."""
        machine = self._machine
        while (lane := machine.lane) is not self.lane:
            if (retired := self.lane) is not None:
                retired.retire()  # who appends from now on drains it, what came before is here
                self._absorb(retired)  # may choose yet another lane
            self.lane = lane
        if self._outbox:
            self._dispatch.date(time.time())
            self._stay()

    def _stay(self) -> None:
        """Be kept by the registries that have evicted it, now that a new one would differ."""
        for keeper in self.keepers:
            keeper.keep()

    def _afterwards(self) -> None:
        """Now that the lock is free: the inbox again, the log, the listeners."""
        while self._inbox and not self._busy:
            self._locked(nothing, ())
        pending = self._faults or self._outbox or self._later
        if (pending or _pending) and inside_a_circuit():  # that one's holder does it when it is out
            if pending:
                _pending.append(_Pending(self))
            return
        if pending:
            self._report()
        while first := _pending[:1]:
            first[0].circuit._report()  # before it is removed: an interrupt must not lose it
            _forget(first[0])

    def _report(self) -> None:
        """Log what raised, and call the listeners."""
        for what, error in self._machine.verdicts.take_faults() if self._faults else ():
            if error is None:
                _log.warn(self.name, what)
            else:
                _log.fault(self.name, what, error)
        dispatch = self._dispatch
        try:
            if self._later:
                dispatch.deliver_later()  # first: a call, and then what it has caused
        finally:  # an interrupt in there is not to hold the signals up
            if self._outbox:
                dispatch.deliver()

    def _report_refused(self, error: CallNotPermittedError, phase: Phase) -> None:
        """Call what listeners have for refusals: here, or, inside another circuit, later."""
        dispatch = self._dispatch
        deliveries = [Delivery(dispatch.rejected, error)]
        if dispatch.call_ended:
            call = refused_call(self.name, phase, self.clock())
            deliveries.append(Delivery(dispatch.call_ended, call))
        if inside_a_circuit():
            dispatch.later.extend(deliveries)
            _pending.append(_Pending(self))
        else:
            dispatch.deliver_now(deliveries)

    # -- fork

    def restart(self) -> None:
        """Begin anew in a forked child, where the lock's holder may not exist."""
        self._info = None
        self._lock = threading.RLock()
        self._busy = False
        self._inbox.clear()
        self._rejections = [0]
        if self.lane is not None:  # a call that forked may be on its way through it
            self.lane.retire()
            self.lane.take()
        self._dispatch.restart()
        self._machine.restart()
        self.lane = self._machine.lane


_new_refusal = CallNotPermittedError.__new__


def _left(phase: Phase, now: float) -> float | None:
    """Seconds until a call may be tried again; None where nobody knows."""
    if phase.leases is not None and now >= phase.retry_at:
        return None  # it is up to the fleet
    return max(phase.retry_at - now, 0.0) if -inf < phase.retry_at < inf else None


class _Pending:
    """A circuit that has something to report, which was caused inside another circuit's lock."""

    __slots__ = ("circuit",)

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit


_pending: list[_Pending] = []


def _forget(pending: _Pending) -> None:
    try:
        _pending.remove(pending)
    except ValueError:  # another thread was quicker
        return


_CRITICAL: Final[CodeType] = Circuit._locked.__code__


def inside_a_circuit() -> bool:
    """Whether this thread is, further down its stack, inside any circuit's lock."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CRITICAL:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def nothing() -> None:
    """A step for when catching up is all that is wanted."""
