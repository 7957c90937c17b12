"""One circuit: the only holder of a Machine, and everything that the machine must not know.

What is asked of it: to admit and to settle calls, by way of the trackers; to be set by hand; to be
read. `_guarded.py` has the lock under which that happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from fluxgate import _index
from fluxgate._dispatch import Dispatch, hook_of
from fluxgate._guarded import DEFERRED, Guarded, nothing
from fluxgate._judge import cause_of, outcome_of, outcome_of_result, words
from fluxgate._lane import BATCH, Lane
from fluxgate._machine import Machine
from fluxgate._phase import RECORDING, Admission, Cause, Phase
from fluxgate._transitions import Event, Outcome
from fluxgate.errors import CallNotPermittedError
from fluxgate.metric import Info
from fluxgate.policy import Policy
from fluxgate.signals import Listener, Reason
from fluxgate.state import State

DISABLED = State.DISABLED


class Circuit(Guarded):
    """The shared state behind any number of breakers. Every method may be called anywhere."""

    __slots__ = ("__weakref__", "_info")

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
        machine = Machine(policy, initial_state, clock(), dice)
        super().__init__(name, machine, Dispatch(listeners), clock)
        self._info: Info | None = None
        _index.add(self)

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
        self._perform(self._machine.settle, phase, admission.probe, outcome, elapsed, end, cause)

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
            cause = words(error) or None
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
            and elapsed < lane.fast
            and end < lane.until
        ):
            lane.append(elapsed)
            if len(lane) > BATCH:
                self.drain(lane)
        else:
            ending = (phase, admission.probe, outcome, elapsed, end, cause)
            self._perform(self._machine.settle, *ending)

    def abandon(self, admission: Lane | Admission) -> None:
        """End a call that says nothing about the dependency.

        It only leaves a note, which whoever asks next reads first: finalisers must not wait.
        """
        ending = (admission.phase, admission.probe, Outcome.IGNORED, 0.0, 0.0)
        self._inbox.append((self._machine.settle, ending))
        if len(self._inbox) > BATCH and not self._busy:
            self._locked(nothing, ())

    def drain(self, lane: Lane) -> None:
        """Count what lies in a lane's journal."""
        self._perform(self._absorb, lane)

    # -- controls and reading

    def control(self, event: Event) -> None:
        """Set the state by hand."""
        self._perform(self._machine.control, event, self.clock())

    def open_for(self, seconds: float) -> None:
        """Open for a stated time."""
        self._perform(self._machine.open_for, seconds, self.clock())

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
            would_open=machine.advice.would_open(phase),
            shadow=machine.advice.shadow(phase),
        )

    def restart(self) -> None:
        self._info = None
        super().restart()


_new_refusal = CallNotPermittedError.__new__


def _left(phase: Phase, now: float) -> float | None:
    """Seconds until a call may be tried again; None where nobody knows."""
    return max(phase.retry_at - now, 0.0) if -inf < phase.retry_at < inf else None
