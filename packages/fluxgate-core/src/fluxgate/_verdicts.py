"""What the trippers say about a phase: what is to be done, and what is only told."""

from __future__ import annotations

from collections.abc import Callable

from fluxgate._advice import Advice
from fluxgate._phase import RECORDING, Notice, Phase
from fluxgate.signals import Reason, SignalKind
from fluxgate.state import State
from fluxgate.trippers import NEVER, Tripper

METRICS_ONLY = State.METRICS_ONLY


class Verdicts(Advice):
    """Advice, and the verdicts that follow from it.

    Args:
        dice: a number in [0, 1) per call, uniformly drawn.
        outbox: where to put what is told and not done.
    """

    __slots__ = ("_outbox",)

    def __init__(self, dice: Callable[[], float], outbox: list[Notice]) -> None:
        super().__init__(dice)
        self._outbox = outbox

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
            cleared = Reason(f"{shadow!r} cleared")
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
