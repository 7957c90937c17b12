"""Verdicts: asks the strategies about a phase, and decides where one of them raises.

Strategies may be the user's own. An error of theirs is noted in `faults` and never raised: a
tripper that raises has not fired, a retry that raises means a minute, a permit that raises admits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fluxgate._engine.phase import RECORDING, Notice, Phase
from fluxgate._naming import safe_repr
from fluxgate._tally import Tally
from fluxgate._words import seconds
from fluxgate.policy import Policy
from fluxgate.signals import Reason, SignalKind
from fluxgate.state import State
from fluxgate.trippers import NEVER, Tripper

METRICS_ONLY = State.METRICS_ONLY

Fault = tuple[str, Exception | None]
"""A strategy that raised, and its error; or a warning, and None."""


class Verdicts:
    """The answers of one circuit's strategies.

    Args:
        dice: a number in [0, 1) per call, uniformly drawn.
        outbox: takes the notices of verdicts that are reported and not carried out.

    Attributes:
        faults: what the owner of the machine is to log once the lock is free.
    """

    __slots__ = ("_dice", "_outbox", "faults")

    def __init__(self, dice: Callable[[], float], outbox: list[Notice]) -> None:
        self._dice = dice
        self._outbox = outbox
        self.faults: list[Fault] = []

    # -- verdicts that are carried out

    def of_calls(self, phase: Phase) -> Reason | None:
        """Ask the tripper after a failure or slow call: the reason to open, or None."""
        fires = self.fires(phase.tripper, phase.tally)
        if phase.state is METRICS_ONLY:  # report the first time, and open never
            if fires and not phase.would_open:
                self._report(phase, True, self.explain(phase.tripper, phase))
            phase.would_open = fires
            return None
        return self.explain(phase.tripper, phase) if fires else None

    def of_probes(self, phase: Phase, failed: bool) -> tuple[bool, Reason] | None:
        """After a probe: whether to open again (else close), and why; None if more are needed."""
        if phase.shadow is not None:
            verdict = self._of_probes(phase.shadow, phase, failed)
            if verdict is not None and verdict[0] is not phase.shadow_open:
                self._report(phase, *verdict, shadow=True)
        return self._of_probes(phase.tripper, phase, failed)

    def _of_probes(
        self, tripper: Tripper, phase: Phase, failed: bool
    ) -> tuple[bool, Reason] | None:
        if tripper is NEVER:  # folded away in this state: the classic rule, one probe decides
            if failed:
                return True, Reason("probe failed", errors=phase.last_errors())
            return False, Reason("probe succeeded")
        if not self.has_evidence(tripper, phase.tally):
            return None
        if self.fires(tripper, phase.tally):
            return True, self.explain(tripper, phase)
        return False, Reason("probes succeeded")

    # -- verdicts that are reported

    def of_shadow(self, phase: Phase) -> None:
        """While recording, report the shadow's verdict if it has changed."""
        shadow = phase.shadow
        if shadow is None or phase.state not in RECORDING:
            return
        fires = self.fires(shadow, phase.tally)
        if fires is not phase.shadow_open:
            cleared = Reason(f"{safe_repr(shadow)} cleared")
            reason = self.explain(shadow, phase) if fires else cleared
            self._report(phase, fires, reason, shadow=True)

    def withdraw(self, phase: Phase, reason: Reason) -> None:
        """Take the shadow's `would_open` back where no transition implies that it is over."""
        if phase.shadow_open and phase.state in RECORDING:
            self._report(phase, False, reason, shadow=True)

    def _report(self, phase: Phase, fires: bool, reason: Reason, *, shadow: bool = False) -> None:
        if shadow:
            phase.shadow_open = fires
        kind = SignalKind.WOULD_OPEN if fires else SignalKind.WOULD_CLOSE
        state = phase.state
        self._outbox.append(Notice(state, state, phase.generation, reason, kind, shadow))

    # -- verdicts to look at

    def would_open(self, phase: Phase) -> Reason | None:
        """In METRICS_ONLY, why the circuit would open now."""
        return self._why(phase.tripper, phase) if phase.state is METRICS_ONLY else None

    def shadow(self, phase: Phase) -> Reason | None:
        """While recording, why the shadow would open the circuit now."""
        if phase.shadow is None or phase.state not in RECORDING:
            return None
        return self._why(phase.shadow, phase)

    def _why(self, tripper: Tripper, phase: Phase) -> Reason | None:
        fires = self.fires(tripper, phase.tally)
        return self.explain(tripper, phase) if fires else None

    # -- one strategy at a time

    def fires(self, tripper: Tripper, tally: Tally) -> bool:
        """Whether a tripper would open; not if it raises."""
        try:
            return bool(tripper.fires(tally))
        except Exception as error:
            self.faults.append(("tripper", error))
            return False

    def has_evidence(self, tripper: Tripper, tally: Tally) -> bool:
        """Whether the probes so far suffice; they do if it raises, or else none ever would."""
        try:
            return bool(tripper.has_evidence(tally))
        except Exception as error:
            self.faults.append(("tripper", error))
            return True

    def explain(self, tripper: Tripper, phase: Phase) -> Reason:
        """Why a tripper fired; only its name if its explanation raises."""
        window = phase.policy.window if phase.state in RECORDING else phase.policy.probe_window
        try:
            reason = tripper.explain(phase.tally)
            # A streak may have begun before the window did: it is not said to be in the window.
            where = repr(window) if reason.calls == phase.tally.total_count else None
            clause = str(reason.clause)
            return Reason(clause, reason.measured, reason.calls, where, phase.last_errors())
        except Exception as error:
            self.faults.append(("tripper", error))
            return Reason(safe_repr(tripper))

    def delay(self, policy: Policy, reopens: int) -> float:
        """Seconds to stay open, the jitter drawn; a minute if the retry raises."""
        retry = policy.retry
        try:
            delay = float(retry.delay(reopens))
            if retry.jitter_ratio and delay < math.inf:
                delay *= 1 + retry.jitter_ratio * (2 * self._dice() - 1)
            if delay >= 0:  # not so for NaN
                return delay
            raise ValueError(
                f"{safe_repr(retry)}.delay({reopens}) gave {delay}, which is no duration"
            )
        except Exception as error:
            self.faults.append(("retry", error))
            return 60.0

    def admits(self, policy: Policy, elapsed: float) -> bool:
        """Whether the permit lets this call probe; it does if the permit raises: slots bound it."""
        try:
            ratio = policy.permit.ratio(elapsed)
            return ratio >= 1 or self._dice() < ratio
        except Exception as error:
            self.faults.append(("permit", error))
            return True

    def may_admit(self, policy: Policy, elapsed: float) -> bool:
        """Whether the permit leaves a call any chance to probe; no dice are thrown."""
        try:
            return policy.permit.ratio(elapsed) > 0
        except Exception:  # the call that is then admitted reports it
            return True

    # -- faults

    def take_faults(self) -> list[Fault]:
        """Remove the faults so far and return them, each to one taker only."""
        faults: list[Fault] = []
        try:
            while self.faults:
                faults.append(self.faults.pop(0))
        except IndexError:  # another thread was quicker
            pass
        return faults

    def warn_of_overdue(self, phase: Phase, deadline: float, now: float) -> None:
        """Warn once a phase that a probe exceeded `probe_timeout`.

        Where every probe does, nothing could ever close the circuit.

        Args:
            phase: the phase that admitted it.
            deadline: clock time at which its time was over.
            now: clock time.
        """
        if phase.overdue_seen:
            return
        phase.overdue_seen = True
        timeout = phase.policy.probe_timeout
        taken = now - (deadline - timeout)
        self.faults.append(
            (
                f"a probe took {seconds(taken)} (probe_timeout={timeout:g}) and was ignored; "
                "choose a probe_timeout above your longest good call",
                None,
            )
        )
