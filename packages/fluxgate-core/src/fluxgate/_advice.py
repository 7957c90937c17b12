"""Asking the strategies, which may be the user's own: an error of theirs is noted, not raised."""

from __future__ import annotations

import math
from collections.abc import Callable

from fluxgate._phase import RECORDING, Phase
from fluxgate._tally import Tally
from fluxgate.policy import Policy
from fluxgate.signals import Reason
from fluxgate.trippers import Tripper


class Advice:
    """What the strategies say, and what holds where they raise.

    Attributes:
        faults: what raised, and with what (or what else to warn of, and None); for the owner to
            log once the lock is free.
    """

    __slots__ = ("_dice", "faults")

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self.faults: list[tuple[str, Exception | None]] = []

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
            return Reason(repr(tripper))

    def delay(self, policy: Policy, reopens: int) -> float:
        """Seconds to stay open, the jitter drawn; a minute if the retry can't say."""
        retry = policy.retry
        try:
            delay = float(retry.delay(reopens))
            if retry.jitter_ratio and delay < math.inf:
                delay *= 1 + retry.jitter_ratio * (2 * self._dice() - 1)
            if delay >= 0:
                return delay
            raise ValueError(f"{retry!r}.delay({reopens}) gave {delay}, which is no duration")
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
