"""One circuit: the lock around a machine, and all that a breaker asks of it.

The lock serves threads, any number of event loops and trio alike: what it guards never waits,
never logs, and calls no user code but the strategies. Garbage collection and signal handlers can
run *inside* it on the same thread, and what they call may want this lock, or one that a thread
waiting for this one holds. So whoever finds a lock busy looks whether its own thread is already
inside a circuit. If so it doesn't wait: a settlement goes to the inbox, which the holder empties
before it leaves and looks at again afterwards.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fluxgate import _log
from fluxgate._engine import living
from fluxgate._engine.dispatch import Dispatch, hook_of
from fluxgate._engine.lane import BATCH, Lane
from fluxgate._engine.machine import Machine
from fluxgate._engine.outcomes import cause_of, outcome_of, outcome_of_result
from fluxgate._engine.phase import RECORDING, Admission, Cause, Phase
from fluxgate._engine.transitions import Event, Outcome
from fluxgate._naming import safe_str
from fluxgate.errors import CallNotPermittedError
from fluxgate.metric import Info
from fluxgate.policy import Policy
from fluxgate.signals import Listener, Origin, Reason, Signal
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.fleet._member import Member

T = TypeVar("T")

DISABLED = State.DISABLED

Step = Callable[..., Any]


class _Deferred:
    """The answer of a lock that was not waited for."""


DEFERRED: Final = _Deferred()


class Circuit:
    """The shared state behind any number of breakers. Every method may be called anywhere.

    Attributes:
        name: the circuit's name.
        clock: gives seconds, for durations and deadlines.
        lane: the way through for healthy calls; None while the circuit does not record.
        fleet: its part in a fleet, if it has one.
    """

    __slots__ = (
        "__weakref__",
        "_busy",
        "_dispatch",
        "_inbox",
        "_info",
        "_lock",
        "_machine",
        "_rejections",
        "clock",
        "fleet",
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
    ) -> None:
        self.name = name
        self.clock = clock
        self._machine = Machine(policy, initial_state, clock(), dice)
        self._dispatch = Dispatch(listeners)
        self._inbox: list[tuple[Step, tuple[Any, ...]]] = []
        self._rejections: list[None] = []
        self._lock = threading.RLock()
        self._busy = False
        self._info: Info | None = None
        self.lane = self._machine.lane
        self.fleet: Member | None = None
        living.add(self)

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
        if phase.state is DISABLED:
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
        half_open = admission.state is State.HALF_OPEN
        reason = self._machine.last_trip if half_open else admission.reason
        raise self._refusal(admission, reason, _left(admission, now))

    def _acquire(self, now: float) -> Admission | Phase:
        """An admission, or the phase that refuses it."""
        return self._machine.acquire(now) or self._machine.phase

    def _refusal(
        self, phase: Phase, reason: Reason | None, retry_after: float | None
    ) -> CallNotPermittedError:
        rejections = self._rejections
        rejections.append(None)  # atomic, unlike += 1
        if len(rejections) > BATCH:
            self._perform(nothing)
        # Without __init__, which only names these arguments: refusing has to be cheap.
        error = _new_refusal(CallNotPermittedError, self.name, phase.state, retry_after, reason)
        if self._dispatch.hooks:
            self._tell_refused(error)
        return error

    # -- settlement

    def raised(
        self, admission: Lane | Admission, error: BaseException, elapsed: float, end: float
    ) -> None:
        """End a call that raised at `end`, by way of the tracker."""
        phase = admission.phase
        if phase.state is DISABLED:
            return
        outcome, cause = outcome_of(error, phase.policy, self.name)
        self._perform(self._machine.settle, admission, outcome, elapsed, end, cause)

    def failed(
        self,
        admission: Lane | Admission,
        error: BaseException | str | None,
        elapsed: float,
        end: float,
    ) -> None:
        """End a call that failed, whatever a tracker would say."""
        cause: Cause | None = None
        if isinstance(error, BaseException):
            told = admission.phase.policy.error_messages
            cause = cause_of(error) if told else type(error)
        elif error is not None:
            cause = safe_str(error) or None
        self.settle(admission, Outcome.FAILURE, elapsed, end, cause)

    def returned(
        self, admission: Lane | Admission, result: object, elapsed: float, end: float
    ) -> None:
        """End a call that returned `result` at `end`, by way of the result tracker."""
        phase, outcome, cause = admission.phase, Outcome.SUCCESS, None
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
        """End a call whose outcome is known, and, if it failed, of what."""
        lane, phase = self.lane, admission.phase
        if (
            outcome is Outcome.SUCCESS
            and lane is not None
            and lane.phase is phase
            and elapsed < lane.fast_below
            and end < lane.until
        ):
            lane.append(elapsed)
            if len(lane) > BATCH:
                self.drain(lane)
        else:
            self._perform(self._machine.settle, admission, outcome, elapsed, end, cause)

    def abandon(self, admission: Lane | Admission) -> None:
        """End a call that says nothing about the dependency.

        It only leaves a note, which whoever asks next reads first: finalisers must not wait.
        """
        self._inbox.append((self._machine.settle, (admission, Outcome.IGNORED, 0.0, 0.0)))
        if len(self._inbox) > BATCH and not self._busy:
            self._locked(nothing, ())

    def drain(self, lane: Lane) -> None:
        """Count what lies in a lane's journal."""
        self._perform(self._absorb, lane)

    # -- controls and reading

    def control(self, event: Event, origin: Origin = Origin.LOCAL) -> None:
        """Set the state by hand."""
        self._perform(self._machine.control, event, self.clock(), origin)

    def open_for(self, seconds: float, origin: Origin = Origin.LOCAL) -> None:
        """Open for a stated time."""
        self._perform(self._machine.open_for, seconds, self.clock(), origin)

    def hand_over(self) -> None:
        """Give the phase to the fleet, if it is open or half-open."""
        self._perform(self._machine.hand_over)

    def listen(self, listener: Listener) -> None:
        """Tell one more."""
        self._perform(self._dispatch.add, listener, hook_of(listener))

    def update(self, changes: dict[str, Any]) -> None:
        """Replace settings. Raises TypeError or ValueError and changes nothing if they're wrong."""
        self._machine.policy.replace(**changes)  # complain here, not inside the lock
        self._perform(self._update, changes)

    def _update(self, changes: dict[str, Any]) -> None:
        self._machine.update(self._machine.policy.replace(**changes), self.clock())

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
        """Whom it tells."""
        return self._dispatch.listeners

    def _look(self) -> Info:
        now = self.clock()
        self._machine.advance(now)
        self._info = self._picture(now)
        return self._info

    def _picture(self, now: float) -> Info:
        machine, phase = self._machine, self._machine.phase
        return Info(
            name=self.name,
            state=phase.state,
            since=time.time() - (now - phase.began),
            retry_after=_left(phase, now),
            open_for=phase.retry_at - phase.began if _left(phase, now) is not None else None,
            reopens=machine.reopens,
            probes=len(phase.probes),
            metrics=phase.tally.snapshot(),
            totals=machine.totals.snapshot(),
            last_trip=machine.last_trip,
            would_open=machine.verdicts.would_open(phase),
            shadow=machine.verdicts.shadow(phase),
            fleet=None if self.fleet is None else self.fleet.shown(),
        )

    # -- for the fleet, whose threads are inside no circuit

    def step(self, step: Callable[[Machine, float], T]) -> T:
        """Do that to the machine at the clock's time; then tell what came of it."""
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

    # -- the lock

    def _perform(self, step: Step, *args: Any) -> None:
        """Do `step` under the lock: now, or, where this thread must not wait, soon."""
        if self._busy and inside_a_circuit():
            self._inbox.append((step, args))
            if self._busy:
                return  # its holder looks again before it is done
            step, args = nothing, ()
        self._locked(step, args)
        if self._inbox or self._machine.verdicts.faults or self._dispatch.queue or _untold:
            self._afterwards()

    def _exclusively(self, step: Step, *args: Any) -> Any:
        """Do `step` under the lock for its result; `DEFERRED` where waiting could deadlock."""
        if self._busy and inside_a_circuit():
            return DEFERRED
        return self._locked(step, args)

    def _locked(self, step: Step, args: tuple[Any, ...]) -> Any:
        with self._lock:
            # An RLock, since a signal handler can come between these two lines; nothing has been
            # touched then.
            self._busy = True
            try:
                lane = self.lane
                if lane:  # there is one, and it isn't empty
                    self._absorb(lane)
                if self._rejections or self._inbox:
                    self._catch_up()
                return step(*args)
            except BaseException:  # a signal handler raised in the middle of a step
                self._machine.recover()
                raise
            finally:
                machine = self._machine
                if machine.lane is not self.lane or machine.outbox:
                    self._publish()
                self._busy = False

    def _catch_up(self) -> None:
        """Count the rejections, and do what others left in the inbox."""
        rejections, inbox = self._rejections, self._inbox
        count = len(rejections)
        del rejections[:count]
        self._machine.totals.rejected += count
        while inbox:
            step, args = inbox.pop(0)
            step(*args)

    def _absorb(self, lane: Lane) -> None:
        batch = lane.take()
        if batch:
            if lane is self._machine.lane:
                self._machine.absorb(lane, batch)
            else:
                self._machine.absorb_late(lane, batch, self.clock())

    def _publish(self) -> None:
        """Put the machine's lane up for all to see, and fetch what it has to tell."""
        machine = self._machine
        while (lane := machine.lane) is not self.lane:
            retired, self.lane = self.lane, lane
            if retired is not None:
                retired.retire()  # who appends from now on drains it, what came before is here
                self._absorb(retired)
        if machine.outbox:
            wall = time.time()
            for notice in machine.outbox:
                old, new, generation, reason, kind, shadow, origin = notice
                self._dispatch.post(
                    Signal(self.name, old, new, wall, generation, reason, kind, shadow, origin)
                )
            machine.outbox.clear()

    def _afterwards(self) -> None:
        """Now that the lock is free: the inbox again, the faults, the listeners."""
        while self._inbox and not self._busy:
            self._locked(nothing, ())
        pending = self._machine.verdicts.faults or self._dispatch.queue
        if (pending or _untold) and inside_a_circuit():  # its holder tells when it is out
            if pending:
                _untold.append(self)
            return
        if pending:
            self._tell()
        while _untold:
            try:
                _untold.pop(0)._tell()
            except IndexError:  # another thread was quicker
                return

    def _tell(self) -> None:
        for what, error in self._machine.verdicts.take_faults():
            if error is None:
                _log.warn(self.name, what)
            else:
                _log.fault(self.name, what, error)
        self._dispatch.deliver()
        while self._dispatch.refused:
            try:
                self._dispatch.tell_refused(self._dispatch.refused.pop(0))
            except IndexError:  # another thread was quicker
                return

    def _tell_refused(self, error: CallNotPermittedError) -> None:
        """Call what listeners have for refusals: here, or, inside another circuit, later."""
        if inside_a_circuit():
            self._dispatch.refused.append(error)
            _untold.append(self)
        else:
            self._dispatch.tell_refused(error)

    # -- fork

    def restart(self) -> None:
        """Begin anew in a forked child, where the lock's holder may not exist."""
        self._info = None
        self._lock = threading.RLock()
        self._busy = False
        self._inbox = []
        self._rejections = []
        if self.lane is not None:  # a call that forked may be on its way through it
            self.lane.retire()
            self.lane.take()
        self._machine.restart()
        self._dispatch.restart()
        self.lane = self._machine.lane


_new_refusal = CallNotPermittedError.__new__


def _left(phase: Phase, now: float) -> float | None:
    """Seconds until a call may be tried again; None where nobody knows."""
    if phase.leases is not None and now >= phase.retry_at:
        return None  # it is up to the fleet
    return max(phase.retry_at - now, 0.0) if -inf < phase.retry_at < inf else None


_untold: list[Circuit] = []
"""Circuits with something to tell that was caused inside another circuit's lock."""

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
