"""Verdicts of the fleet: a policy's decisions about the merged calls of all processes.

The same trippers as for one process are asked, without the parts that can't be merged. The window
must have fired, *and* enough processes must have seen bad calls, *and* the others must have had the
time to report: failing processes report first, and a bad node that fails fast would out-shout the
healthy ones otherwise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fluxgate._controls import MAX_BY, MAX_NOTE, Said
from fluxgate._naming import printable
from fluxgate.fleet.store import MAX_REASON, View
from fluxgate.metric import Metrics
from fluxgate.policy import Policy
from fluxgate.signals import Reason
from fluxgate.trippers import NEVER, Tripper

SETTLING: Final = 300
"""Milliseconds from the first bad call to the verdict: more than one flush takes."""


class Verdict(NamedTuple):
    """The decision: open, close, or nothing (look again after `wait` seconds).

    Attributes:
        fires: open (True), close (False), or nothing (None).
        reason: why.
        wait: seconds after which to look again, should it have to wait; else 0.
    """

    fires: bool | None = None
    reason: Reason | None = None
    wait: float = 0.0


def of_window(policy: Policy, metrics: Metrics, view: View, witnesses: int) -> Verdict:
    """Whether to open, by the merged window of a closed circuit."""
    tripper = _mergeable(policy.closed)
    needed = 1 if view.reporters <= 1 else witnesses
    if tripper is NEVER or view.witnesses < needed or not _fires(tripper, metrics):
        return Verdict()
    if view.burst is not None and view.burst < SETTLING:
        return Verdict(wait=(SETTLING - view.burst) / 1000)
    return Verdict(True, _explained(tripper, metrics, policy))


def of_openings(reason: Reason, openings: int, view: View, witnesses: int) -> Verdict:
    """Whether to open because most processes have opened by themselves.

    Busy processes open within milliseconds, each by its own window, and make no more calls. The
    merged window of a busy circuit still holds a second of successes then, and would never fire.

    Args:
        reason: why this process has opened.
        openings: how many have opened by their own trippers, in the epoch of the view.
        view: the circuit as the store has it: closed.
        witnesses: how many it takes, where more than one process has reported calls.
    """
    needed = 1 if view.reporters <= 1 else witnesses
    if openings < needed or 2 * openings <= view.reporters:
        return Verdict(wait=SETTLING / 1000)  # the others may have yet to report
    if view.burst is not None and view.burst < SETTLING:
        return Verdict(wait=(SETTLING - view.burst) / 1000)
    return Verdict(True, reason)


def of_probes(policy: Policy, metrics: Metrics) -> Verdict:
    """Whether to open again or to close, by the outcomes of a half-open circuit's probes."""
    tripper = _mergeable(policy.half_open)
    if not metrics.total_count:
        return Verdict()
    if tripper is NEVER:
        if metrics.failure_count:
            return Verdict(True, Reason("probe failed"))
        return Verdict(False, Reason("probe succeeded"))
    try:
        if not tripper.has_evidence(metrics):
            return Verdict()
    except Exception:  # a tripper of the user's; alone it is logged, with each process's own calls
        pass
    if _fires(tripper, metrics):
        return Verdict(True, _explained(tripper, metrics, policy))
    return Verdict(False, Reason("probes succeeded"))


def _mergeable(tripper: Tripper) -> Tripper:
    """The part of a tripper that can decide by merged counts; `NEVER` if there is none."""
    merged = tripper.merged()
    return NEVER if merged.fires_on_success else merged


def _fires(tripper: Tripper, metrics: Metrics) -> bool:
    try:
        return bool(tripper.fires(metrics))
    except Exception:
        return False


def _explained(tripper: Tripper, metrics: Metrics, policy: Policy) -> Reason:
    try:
        reason = tripper.explain(metrics)
        return Reason(str(reason.clause), reason.measured, reason.calls, repr(policy.window))
    except Exception:
        return Reason(repr(tripper))


def write_reason(reason: Reason, then: object = "") -> str:
    """A reason as it is stored: all of it but the errors, tabs in between.

    Args:
        reason: the reason.
        then: what follows the state that it is the reason of (`_reverts`).
    """
    measured = "" if reason.measured is None else f"{reason.measured:.6g}"
    calls = "" if reason.calls is None else str(reason.calls)
    fields = [reason.clause[:100], measured, calls, (reason.window or "")[:60], str(then)]
    if reason.by is not None or reason.note is not None:
        # The note last: should it be too long after all, it is the part that can be cut.
        fields += [reason.by or "", reason.note or ""]
    return "\t".join(fields).rstrip("\t")[:MAX_REASON]


def written_fields(text: str) -> tuple[str, ...]:
    """The seven fields of what is stored; those that aren't there are empty."""
    return (*text.split("\t", 6), *[""] * 7)[:7]


def read_reason(text: str) -> Reason:
    """A reason from what is stored; whatever it is, it is shown."""
    clause, measured, calls, window, _, by, note = written_fields(text)
    words = Said(None, printable(note, MAX_NOTE) or None, printable(by, MAX_BY) or None)
    try:
        return Reason(
            clause or "fleet",
            float(measured) if measured else None,
            int(calls) if calls else None,
            window or None,
            note=words.note,
            by=words.by,
        )
    except ValueError:
        return words.reason(clause or "fleet")
