"""Verdicts: what the strategies decide about a phase, and what holds where one of them raises.

Strategies may be the user's own. An error of theirs is noted in `faults`, and never raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fluxgate._engine.phase import RECORDING, Notice, Phase
from fluxgate._naming import safe_repr
from fluxgate._tally import Tally
from fluxgate.policy import Policy
from fluxgate.signals import Reason, SignalKind
from fluxgate.state import State
from fluxgate.trippers import NEVER, Tripper

METRICS_ONLY = State.METRICS_ONLY


class Verdicts:
    """Verdicts of one circuit's strategies.

    Args:
        dice: a number in [0, 1) per call, uniformly drawn.
        outbox: takes the notices of verdicts that are reported and not carried out.

    Attributes:
        faults: what raised, and its error; or a warning and None. The owner of the machine logs
            them once the lock is free.
    """

    __slots__ = ("_dice", "_outbox", "faults")

    def __init__(self, dice: Callable[[], float], outbox: list[Notice]) -> None:
        self._dice = dice
        self._outbox = outbox
        self.faults: list[tuple[str, Exception | None]] = []

    # -- about a phase

    def of_calls(self, phase: Phase) -> Reason | None:
        """While recording, after bad news: why to open now."""
        fires = self.fires(phase.tripper, phase.tally)
        if phase.state is METRICS_ONLY:
            if fires and not phase.would_open:
                self._would(phase, True, self.explain(phase.tripper, phase))
            phase.would_open = fires
            return None
        return self.explain(phase.tripper, phase) if fires else None

    def of_shadow(self, phase: Phase) -> None:
        """While recording, tell what the shadow would do if that has changed."""
        shadow = phase.shadow
        if shadow is None or phase.state not in RECORDING:
            return
        fires = self.fires(shadow, phase.tally)
        if fires is not phase.shadow_open:
            cleared = Reason(f"{safe_repr(shadow)} cleared")
            reason = self.explain(shadow, phase) if fires else cleared
            self._would(phase, fires, reason, shadow=True)

    def withdraw(self, phase: Phase, reason: Reason) -> None:
        """Tell that the shadow says no longer what it has said, where no transition tells it."""
        if phase.shadow_open and phase.state in RECORDING:
            self._would(phase, False, reason, shadow=True)

    def of_probes(self, phase: Phase, failed: bool) -> tuple[bool, Reason] | None:
        """After a probe: whether to open again (else close), and why; None if more are needed."""
        if phase.shadow is not None:
            verdict = self._of_probes(phase.shadow, phase, failed)
            if verdict is not None and verdict[0] is not phase.shadow_open:
                self._would(phase, *verdict, shadow=True)
        return self._of_probes(phase.tripper, phase, failed)

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

    def _of_probes(
        self, tripper: Tripper, phase: Phase, failed: bool
    ) -> tuple[bool, Reason] | None:
        if tripper is NEVER:
            if failed:
                return True, Reason("probe failed", errors=phase.last_errors())
            return False, Reason("probe succeeded")
        if not self.has_evidence(tripper, phase.tally):
            return None
        if self.fires(tripper, phase.tally):
            return True, self.explain(tripper, phase)
        return False, Reason("probes succeeded")

    def _would(self, phase: Phase, fires: bool, reason: Reason, *, shadow: bool = False) -> None:
        """Tell a verdict that is not carried out."""
        if shadow:
            phase.shadow_open = fires
        kind = SignalKind.WOULD_OPEN if fires else SignalKind.WOULD_CLOSE
        state = phase.state
        self._outbox.append(Notice(state, state, phase.generation, reason, kind, shadow))

    # -- one strategy at a time

    def take_faults(self) -> list[tuple[str, Exception | None]]:
        """The faults so far, each to one taker only."""
        faults: list[tuple[str, Exception | None]] = []
        try:
            while self.faults:
                faults.append(self.faults.pop(0))
        except IndexError:  # another thread was quicker
            pass
        return faults

    def warn_of_overdue(self, phase: Phase, elapsed: float) -> None:
        """Say once a phase that a probe came too late, lest a circuit stay half-open unseen."""
        if not phase.overdue_seen:
            phase.overdue_seen = True
            self.faults.append(
                (
                    f"a probe took {elapsed:.3g} s, more than probe_timeout="
                    f"{phase.policy.probe_timeout:g}, and was ignored; "
                    "choose a probe_timeout above your longest good call",
                    None,
                )
            )

    def fires(self, tripper: Tripper, tally: Tally) -> bool:
        """Whether a tripper would open; not if it raises."""
        try:
            return bool(tripper.fires(tally))
        except Exception as error:
            self.faults.append(("tripper", error))
            return False

    def has_evidence(self, tripper: Tripper, tally: Tally) -> bool:
        """Whether the probes so far suffice; they do if the tripper can't tell."""
        try:
            return bool(tripper.has_evidence(tally))
        except Exception as error:
            self.faults.append(("tripper", error))
            return True

    def explain(self, tripper: Tripper, phase: Phase) -> Reason:
        """Why a tripper fired; at least which it was."""
        window = phase.policy.window if phase.state in RECORDING else phase.policy.probe_window
        try:
            reason = tripper.explain(phase.tally)
            # A streak may have begun before the window did.
            where = repr(window) if reason.calls == phase.tally.total_count else None
            clause = str(reason.clause)
            return Reason(clause, reason.measured, reason.calls, where, phase.last_errors())
        except Exception as error:
            self.faults.append(("tripper", error))
            return Reason(safe_repr(tripper))

    def delay(self, policy: Policy, reopens: int) -> float:
        """Seconds to stay open, the jitter drawn; a minute if the retry can't say."""
        retry = policy.retry
        try:
            delay = float(retry.delay(reopens))
            if retry.jitter_ratio and delay < math.inf:
                delay *= 1 + retry.jitter_ratio * (2 * self._dice() - 1)
            if delay >= 0:
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
