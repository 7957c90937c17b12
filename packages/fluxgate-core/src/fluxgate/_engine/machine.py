"""The rules that move a circuit through its states (`transitions.py` has the table).

The rules:

1. A call is admitted (`acquire`) and settles exactly once (`settle`), as a success, a failure, or
   as ignored. Ignored moves nothing; a cancelled call is ignored under another name.
2. CLOSED admits everything. The tripper is asked after a failure, after a slow call, and when a
   minimum is completed. If it fires: OPEN.
3. OPEN refuses until `retry_at`. The next call after that finds it HALF_OPEN.
4. HALF_OPEN admits probes, as many as there are slots, and of those the share that the permit
   allows, by the time since the cooldown ended. A slot is a lease: after `probe_timeout` it is
   given to another.
5. A tripper that can't fire in HALF_OPEN (`Closed() & ...`) means the classic rule: a failed probe
   re-opens, a successful one closes. Any other decides once it has its evidence: OPEN if it fires,
   else CLOSED.
6. METRICS_ONLY is CLOSED whose verdicts are reported and never carried out. DISABLED admits and
   counts nothing. FORCED_OPEN refuses. They are set by hand and left by hand; or, if they were set
   for a time, when the first call after it comes, or somebody looks. What follows is what would
   stand without them (`Phase.successor`).
7. A shadow tripper is asked where the live one is. Its verdicts are reported as they change, and
   never carried out.
8. A phase that has leases is the fleet's: its probes are those that the fleet has granted, their
   outcomes are noted for the fleet, and nothing is decided here, nor does the time end it that was
   given with a control. `follow` begins such a phase,
   `release` gives it back, and a control ends it.
9. Each move begins a new phase with a new generation. What was admitted in an older one is
   counted as stale and moves nothing.
10. A call of the same circuit inside a probe is a part of that probe: it needs no slot of its own,
    is ignored, and leaves the outcome to the probe.

This module has no lock, no clock, no dice, no I/O and no logging: `now` is an argument, the dice
are handed in, and the owner finds what is to be reported in `outbox` and `verdicts.faults`.

An exception that a signal handler raises may break off any method between any two steps. Hence a
move is prepared first and made by one assignment, and `recover` completes the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from fluxgate._controls import NOTHING_SAID, Said
from fluxgate._engine.counters import Counters
from fluxgate._engine.lane import Lane
from fluxgate._engine.leases import Leases
from fluxgate._engine.phase import (
    BY_HAND,
    PASSING,
    RECORDING,
    Admission,
    Beneath,
    Cause,
    Notice,
    Phase,
)
from fluxgate._engine.transitions import CONTROL_OF, CONTROLS, TRANSITIONS, Event
from fluxgate._engine.verdicts import Verdicts
from fluxgate._tally import Thresholds, whole_nanoseconds
from fluxgate.policy import Policy
from fluxgate.signals import Origin, Outcome, Reason
from fluxgate.state import State
from fluxgate.trippers import Tripper

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
DISABLED, FORCED_OPEN = State.DISABLED, State.FORCED_OPEN
SUCCESS, FAILURE = Outcome.SUCCESS, Outcome.FAILURE
IGNORED, CANCELLED, STALE = Outcome.IGNORED, Outcome.CANCELLED, Outcome.STALE

# Shared by all circuits, of which each has one for as long as it hasn't moved.
_INITIAL: Final = {state: Reason(f"initial_state={state}") for state in State}


class Machine:
    """The state of one circuit. Guarded by its owner; time is clock seconds throughout.

    Args:
        policy: the settings.
        state: where to start.
        now: clock time.
        dice: a number in [0, 1) per call, uniformly drawn.
    """

    __slots__ = (
        "_next_probe",
        "advised",
        "alarm",
        "alarm_at",
        "lane",
        "outbox",
        "phase",
        "policy",
        "totals",
        "verdicts",
        "watched",
    )

    alarm: Callable[[], None]  # the fleet's, as is `alarm_at`; must not wait, raise or call us

    def __init__(self, policy: Policy, state: State, now: float, dice: Callable[[], float]) -> None:
        self.policy = policy
        self.outbox: list[Notice] = []
        self.verdicts = Verdicts(dice, self.outbox)
        self.advised: Reason | None = None  # peers see an outage: one failure is enough to open
        self.alarm_at = math.inf  # number of failures at which `alarm` is called, once
        self.watched = False  # whether each call is settled by itself
        self.lane: Lane | None = None  # not the phase's: they would keep each other alive
        self._next_probe = 0
        self.totals = Counters(policy.buckets)
        retry_at = math.inf if state is FORCED_OPEN else -math.inf
        self.phase = Phase(state, policy, now=now, retry_at=retry_at, reason=_INITIAL[state])
        self._choose_lane(self.phase, now)

    # -- the two verbs

    def acquire(self, now: float) -> Admission | None:
        """Admit a call, or refuse it with None."""
        phase = self.phase
        if phase.leases is not None:
            if phase.state in PASSING:
                return Admission(phase)
            return self._acquire_leased(phase, phase.leases, now)
        if now >= phase.until:
            phase = self._revert(phase, now)
        if phase.state is OPEN and now >= phase.retry_at:
            phase = self._move(Event.COOLED, now, Reason("cooldown over"))
        if phase.state is HALF_OPEN:
            return self._acquire_probe(phase, now)
        return None if now < phase.retry_at else Admission(phase)

    def settle(
        self,
        admission: Lane | Admission,
        outcome: Outcome,
        elapsed: float,
        now: float,
        cause: Cause | None = None,
    ) -> Outcome | None:
        """End a call: claim its probe slot, count it, and decide.

        Args:
            admission: what admitted the call, with its probe slot, if it was a probe.
            outcome: how it ended.
            elapsed: its duration in seconds.
            now: clock time of its end.
            cause: what it failed with, if it failed and anybody knows.

        Returns:
            How it was counted; None if it was not.
        """
        phase, probe = admission.phase, admission.probe
        if probe is not None:
            claimed = self._claim(phase, probe, outcome, now)
            if claimed is None:
                return IGNORED  # its slot was reclaimed: the call was counted then
            outcome = claimed
            if phase.leases is not None:
                reached = phase.policy.thresholds_reached(elapsed)
                phase.leases.end(probe, outcome, elapsed, reached)
        elif phase.state is HALF_OPEN:
            outcome = IGNORED  # a part of a probe, which has an outcome of its own
        if phase.state is DISABLED:
            return None  # a disabled circuit counts nothing
        if phase is not self.phase:
            self.totals.stale += 1  # an older generation: the call moves nothing
            return STALE
        if outcome is FAILURE or outcome is SUCCESS:
            self._count_and_decide(phase, outcome is FAILURE, elapsed, now, cause)
        elif outcome is IGNORED:
            self.totals.ignored += 1  # neither good nor bad: it has given its slot back
        else:
            self.totals.cancelled += 1  # the caller's doing: no word about the dependency
        return outcome

    def _claim(self, phase: Phase, probe: int, outcome: Outcome, now: float) -> Outcome | None:
        """Give a probe's slot back; the outcome that counts, or None if the slot was reclaimed."""
        deadline = phase.probes.pop(probe, None)
        if deadline is None:
            return None
        if now < deadline:
            return outcome
        self.verdicts.warn_of_overdue(phase, deadline, now)
        return IGNORED  # overdue, whether or not its slot was wanted

    def _count_and_decide(
        self, phase: Phase, failed: bool, elapsed: float, now: float, cause: Cause | None
    ) -> None:
        """Count a call of the current phase, and ask the trippers if it may change their answer."""
        verdicts, tally, policy = self.verdicts, phase.tally, phase.policy
        nanoseconds = round(elapsed * 1e9)
        reached = policy.thresholds_reached(elapsed) if elapsed >= policy.least_threshold else ()
        totals = self.totals
        if failed:
            totals.failures += 1
            if totals.failures >= self.alarm_at:
                self.alarm_at = math.inf
                self.alarm()
            if phase.errors is None:
                phase.begin_errors(cause)
            else:
                phase.errors.append(cause)
        else:
            totals.successes += 1
        totals.nanoseconds += nanoseconds
        if totals.histogram is not None:
            totals.histogram.add(elapsed)
        if reached:
            totals.add_slow(reached)
        cleared = False
        if phase.would_open or phase.shadow_open:
            tally.advance(now)  # before this call is added: time may have cleared it
            cleared = phase.would_open and not verdicts.fires(phase.tripper, tally)
            if phase.shadow_open:  # else there is no news for it yet
                verdicts.of_shadow(phase)
        before = tally.add(failed, reached, elapsed, nanoseconds, now)
        if phase.state is HALF_OPEN:
            if phase.leases is None:
                self._decide_on_probes(phase, failed, now)
            return
        if phase.shadow is not None and (
            phase.shadow_open or failed or _may_fire(phase.shadow, phase, reached, before)
        ):
            verdicts.of_shadow(phase)  # first: the live tripper may end the phase
        if failed or _may_fire(phase.tripper, phase, reached, before):
            # Successes cleared it without a report, so the next firing is reported again.
            if cleared:
                phase.would_open = False
            reason, total = None, tally.total_count
            # Where too few have failed it can't fire, and asking would be five calls.
            if (
                phase.would_open
                or not total
                or tally.failure_count / total >= phase.tripper.least_failure_rate
            ):
                reason = verdicts.of_calls(phase)
            if reason is None and failed and phase.state is CLOSED:
                reason = self.advised
            if reason is not None:
                self._move(Event.TRIPPED, now, reason)
        if phase is not self.phase:
            return  # `_move` has chosen
        lane = self.lane
        if (
            lane is None
            or not lane.steady
            or now >= lane.until
            or tally.total_count < phase.minimum
        ):
            self._choose_lane(phase, now)

    def absorb(self, lane: Lane, batch: list[float]) -> None:
        """Count fast successes from the current lane's journal."""
        phase, totals = lane.phase, self.totals
        nanoseconds = whole_nanoseconds(batch)
        totals.successes += len(batch)
        totals.nanoseconds += nanoseconds
        if totals.histogram is not None:
            totals.histogram.add_all(batch)
        phase.tally.add_fast(batch, nanoseconds, lane.at)
        if phase.shadow_open:
            self.verdicts.of_shadow(phase)

    # -- controls

    def control(
        self,
        event: Event,
        now: float,
        origin: Origin = Origin.LOCAL,
        said: Said = NOTHING_SAID,
    ) -> None:
        """Set the state by hand, for good or for `said.seconds`.

        Setting the state that there is makes no phase: it takes the time and the reason that were
        given last. But `RESET` always starts afresh: window, streak, reopens.
        """
        old, state, reason = self._standing(now), CONTROLS[event], said.reason(f"{event}()")
        if event is Event.RESET:
            self._move(event, now, reason, origin=origin)
            return
        until = math.inf if said.seconds is None else now + said.seconds
        beneath = None if said.seconds is None else old.below(state)
        if old.state is not state:
            self._move(event, now, reason, origin=origin, until=until, beneath=beneath)
        elif said != NOTHING_SAID or old.until < math.inf:
            old.leases = None  # a hand has set it, here
            old.reason, old.until, old.beneath = reason, until, beneath
            if state is FORCED_OPEN:
                old.retry_at = until
            self.lane = None  # it ends earlier, or later
            self._choose_lane(old, now)

    def open_for(
        self,
        seconds: float,
        now: float,
        origin: Origin = Origin.LOCAL,
        said: Said = NOTHING_SAID,
    ) -> None:
        """Open for a stated time.

        It never shortens an opening, and never overrides a state that was set by hand.
        """
        reason = said._replace(seconds=seconds).reason("open_for()")
        phase = self._standing(now)
        if Event.OPEN_FOR not in TRANSITIONS[phase.state]:
            return
        retry_at = now + seconds
        if phase.state is not OPEN:
            self._move(Event.OPEN_FOR, now, reason, retry_at, origin)
        elif retry_at > phase.retry_at:
            phase.retry_at = retry_at
            if said != NOTHING_SAID:  # who is refused from now on is so for this
                phase.reason = phase.last_trip = reason

    def update(self, policy: Policy, now: float) -> None:
        """Take other settings: at once while recording, else with the next phase."""
        self.lane = None  # should this be broken off, nobody is let in by the older settings
        self.policy = policy
        if self.phase.state in RECORDING:
            self._adopt(self.phase)
            self._choose_lane(self.phase, now)

    def _adopt(self, phase: Phase) -> None:
        """Have a phase that records go by the current settings. To do it twice does no harm."""
        policy = self.policy
        if policy.shadow_closed != phase.shadow:
            self.verdicts.withdraw(phase, Reason("update()"))
        phase.take(policy)
        phase.tally.retune(policy.thresholds)
        self._watch(phase)

    def watch(self, watched: bool, now: float) -> None:
        """Settle each call by itself from now on, or no longer: somebody hears of each."""
        self.watched = watched
        phase = self.phase
        phase.fast_below = phase.policy.fast_below
        self._watch(phase)
        self._choose_lane(phase, now)

    def _watch(self, phase: Phase) -> None:
        if self.watched:
            phase.fast_below = -math.inf  # its lane is down

    def follow(
        self,
        state: State,
        now: float,
        retry_at: float,
        reopens: int,
        reason: Reason,
        origin: Origin,
        until: float = math.inf,
        beneath: Beneath | None = None,
    ) -> Phase:
        """Begin the phase that the fleet is in.

        Open, half-open, or set by hand for a time, it is the fleet's from now on.

        Args:
            state: the fleet's.
            now: clock time.
            retry_at: clock time before which every call is refused.
            until: clock time at which a state that was set by hand ends.
            beneath: what follows then.
            reopens: how often the fleet's probes have failed since it was last closed.
            reason: why the fleet is in that state.
            origin: who decided that.
        """
        old = self.phase
        opens = state is OPEN and old.state is not OPEN
        return self._enter(
            state,
            now,
            reason,
            retry_at,
            origin,
            reopens=reopens,
            last_trip=reason if opens else old.last_trip,
            streak=old.tally.failure_streak,
            leases=Leases() if state is OPEN or state is HALF_OPEN or until < math.inf else None,
            until=until,
            beneath=beneath,
        )

    def restore(
        self,
        state: State,
        now: float,
        *,
        began: float,
        retry_at: float | None,
        reopens: int,
        last_trip: Reason | None,
        until: float = math.inf,
        said: Said = NOTHING_SAID,
    ) -> bool:
        """Begin the phase that the circuit was in in another process, if it has not moved yet.

        Args:
            state: the state.
            now: clock time.
            began: clock time of the phase's beginning, which is in the past.
            retry_at: clock time before which every call is refused, past or to come; None asks
                the retry, from now.
            reopens: how often probing has failed since the circuit was last closed.
            last_trip: why it last opened.
            until: clock time at which a state that was set by hand ends, past or to come.
            said: why it was in that state, and who had it so.

        Returns:
            Whether it has not moved yet. What was set by hand, here, counts as a move.
        """
        old = self.phase
        if old.reason is not _INITIAL[CLOSED] or old.state is not CLOSED:
            return False
        if state is CLOSED:
            old.last_trip = last_trip
            return True
        if state not in BY_HAND:
            until = math.inf
        if state is FORCED_OPEN:
            retry_at = until
        elif state is not OPEN:
            retry_at = -math.inf
        elif retry_at is None:
            retry_at = now + self.verdicts.delay(self.policy, reopens)
        reason = said.reason("restore()")
        generation = old.generation + 1
        phase = Phase(
            state,
            self.policy,
            now=began,
            generation=generation,
            reopens=reopens,
            retry_at=retry_at,
            # Callers that are refused want to know why it opened.
            reason=last_trip if state is OPEN and last_trip is not None else reason,
            last_trip=last_trip,
            notice=Notice(CLOSED, state, generation, reason),
            until=until,
        )
        self._begin(phase, now)
        return True

    def hand_over(self) -> None:
        """Give a phase to the fleet that is open, half-open, or set by hand for a time."""
        phase = self.phase
        ends = phase.state in (OPEN, HALF_OPEN) or phase.until < math.inf
        if phase.leases is None and ends:
            phase.leases = Leases()

    def release(self, phase: Phase) -> None:
        """Own that phase again, if it is still the current one: the fleet can't be reached."""
        if phase is self.phase:
            phase.leases = None

    def restart(self) -> None:
        """Begin anew in a forked child.

        State, deadline, reopens and streak stay; the counts and the probes are the parent's.
        """
        old = self.phase
        phase = Phase(
            old.state,
            old.policy,
            now=old.began,
            generation=old.generation + 1,
            streak=old.tally.failure_streak,
            reopens=old.reopens,
            retry_at=old.retry_at,
            cooled_at=old.cooled_at,
            reason=old.reason,
            event=old.event,
            tripped=old.tripped,
            last_trip=old.last_trip,
            until=old.until,
            beneath=old.beneath,
        )
        self.verdicts.faults.clear()
        self.totals = Counters(old.policy.buckets)
        self.alarm_at = math.inf
        self._begin(phase, old.began)

    def recover(self) -> None:
        """Complete what an interrupt has broken off: settings, the window's numbers, a report."""
        phase = self.phase
        if phase.state in RECORDING:
            self._adopt(phase)
        phase.tally.recount()
        self._report()

    # -- reading

    def may_admit(self, now: float) -> bool:
        """Whether a call made now may be admitted. Changes nothing, and needs no lock."""
        phase = self.phase
        # A phase that goes on keeps its settings, whatever `update` has brought for the next one.
        policy = phase.policy if phase.state is HALF_OPEN else self.policy
        if now < phase.retry_at:
            return False
        state, cooled_at = phase.state, phase.cooled_at
        if state is OPEN or state is FORCED_OPEN:
            cooled_at = phase.retry_at
        if now >= phase.until and phase.leases is None and self.lane is None:
            follows = phase.successor(now)  # what was set by hand is over
            if now < follows.retry_at:
                return False
            state, cooled_at = follows.state, min(cooled_at, now)
        if state not in (OPEN, HALF_OPEN, FORCED_OPEN):
            return True
        if (leases := phase.leases) is not None:
            # Without one at hand a call is refused, but only a call can ask for the first.
            if any(now < lease.deadline for lease in leases.granted.copy()):
                return True
            return not leases.wanted and self.verdicts.may_admit(policy, now - cooled_at)
        held = phase.probes.copy()  # in one step: others take and give back slots meanwhile
        for dropped in phase.dropped.copy():
            held.pop(dropped, None)
        taken = sum(now < deadline for deadline in held.values())
        return taken < policy.max_half_open_calls and self.verdicts.may_admit(
            policy, now - cooled_at
        )

    def advance(self, now: float) -> None:
        """Bring it up to `now`: end what is over, forget what is too old, reclaim lost probes."""
        phase = self._standing(now)
        phase.tally.advance(now)
        self._reclaim(phase, now)

    # -- inside

    def _move(
        self,
        event: Event,
        now: float,
        reason: Reason,
        retry_at: float | None = None,
        origin: Origin = Origin.LOCAL,
        until: float = math.inf,
        beneath: Beneath | None = None,
    ) -> Phase:
        """Begin the phase that `event` leads to; what is set by hand lasts until `until`."""
        old = self.phase
        state = TRANSITIONS[old.state][event]
        reopens, last_trip = old.reopens, old.last_trip
        if state is OPEN:
            reopens += old.state is HALF_OPEN
            last_trip = reason
            if retry_at is None:
                retry_at = now + self.verdicts.delay(self.policy, reopens)
        elif state is FORCED_OPEN:
            retry_at = until
        elif state is CLOSED:
            reopens = 0
        return self._enter(
            state,
            now,
            reason,
            -math.inf if retry_at is None else retry_at,
            origin,
            reopens=reopens,
            last_trip=last_trip,
            streak=0 if event is Event.RESET else old.tally.failure_streak,
            event=event,
            tripped=event is Event.TRIPPED or (event is Event.COOLED and old.tripped),
            until=until,
            beneath=beneath,
        )

    def _standing(self, now: float) -> Phase:
        """The current phase; the next one, if the time is over that a hand has given it."""
        phase = self.phase
        if now >= phase.until and phase.leases is None:
            return self._revert(phase, now)
        return phase

    def _revert(self, old: Phase, now: float) -> Phase:
        """Begin the phase that follows a state that was set by hand, now that its time is over."""
        why = old.reason
        reason = Reason(
            f"{CONTROL_OF[old.state]}() over",
            note=None if why is None else why.note,
            by=None if why is None else why.by,
        )
        next_ = old.successor(now)
        return self._enter(
            next_.state,
            now,
            reason,
            next_.retry_at,
            Origin.LOCAL,
            reopens=next_.reopens,
            last_trip=old.last_trip,
            streak=old.tally.failure_streak,
            # Callers that are refused again want to know why.
            why=next_.reason if next_.state in (OPEN, FORCED_OPEN) else None,
        )

    def _enter(
        self,
        state: State,
        now: float,
        reason: Reason,
        retry_at: float,
        origin: Origin,
        *,
        reopens: int,
        last_trip: Reason | None,
        streak: int,
        event: Event | None = None,
        tripped: bool = False,
        leases: Leases | None = None,
        why: Reason | None = None,
        until: float = math.inf,
        beneath: Beneath | None = None,
    ) -> Phase:
        """Begin a phase; where the state changes, with a notice of the transition."""
        old, generation = self.phase, self.phase.generation + 1
        # A reset of a closed circuit begins a phase, and is no transition.
        changed = state is not old.state
        notice = Notice(old.state, state, generation, reason, origin=origin) if changed else None
        phase = Phase(
            state,
            self.policy,
            now=now,
            generation=generation,
            streak=streak,
            reopens=reopens,
            retry_at=retry_at,
            cooled_at=min(old.retry_at, now) if old.state in (OPEN, FORCED_OPEN) else None,
            reason=reason if why is None else why,
            event=event,
            tripped=tripped,
            leases=leases,
            last_trip=last_trip,
            notice=notice,
            until=until,
            beneath=beneath,
        )
        if not changed:
            self.verdicts.withdraw(old, reason)
        self._begin(phase, now)
        return phase

    def _begin(self, phase: Phase, now: float) -> None:
        self.lane = None  # first: were this broken off here, everybody would ask the circuit
        self._watch(phase)
        self.phase = phase  # the move, in one step
        self._report()
        self._choose_lane(phase, now)

    def _report(self) -> None:
        """Count the move that began this phase and put its notice into the outbox; only once."""
        phase = self.phase
        notice = phase.notice
        if notice is None or notice.delivery is not None or notice in self.outbox:
            return
        self.outbox.append(notice)
        self.totals.enter(phase.state)
        if phase.state is OPEN:
            self.totals.trip(notice.reason.clause)

    def _acquire_probe(self, phase: Phase, now: float) -> Admission | None:
        self._reclaim(phase, now)
        policy = phase.policy
        if len(phase.probes) >= policy.max_half_open_calls:
            return None
        if not self.verdicts.admits(policy, now - phase.cooled_at):
            return None
        self._next_probe += 1
        # The admission first: whatever happens after the slot is taken, it gives the slot back.
        admission = Admission(phase, self._next_probe)
        phase.probes[self._next_probe] = now + policy.probe_timeout
        return admission

    def _acquire_leased(self, phase: Phase, leases: Leases, now: float) -> Admission | None:
        """Admit a call by a lease of the fleet's, or note that it would have probed."""
        if now < phase.retry_at:
            return None
        self._reclaim(phase, now)
        if (lease := leases.take(now)) is not None:
            phase.probes[lease.token] = lease.deadline
            return Admission(phase, lease.token)
        # The permit is asked for the lease, and not again for the call that it goes to.
        if phase.state is OPEN or self.verdicts.admits(phase.policy, now - phase.cooled_at):
            leases.wanted += 1
        return None

    def _reclaim(self, phase: Phase, now: float) -> None:
        """Take back the slots of probes that nobody holds any more, or that are overdue."""
        probes = phase.probes
        while phase.dropped:
            if probes.pop(phase.dropped.pop(), None) is not None:
                self.totals.ignored += 1
        while probes:
            probe, deadline = next(iter(probes.items()))
            if now < deadline:
                return
            del probes[probe]
            self.totals.ignored += 1
            self.verdicts.warn_of_overdue(phase, deadline, now)

    def _decide_on_probes(self, phase: Phase, failed: bool, now: float) -> None:
        verdict = self.verdicts.of_probes(phase, failed)
        if verdict is not None:
            fires, reason = verdict
            self._move(Event.TRIPPED if fires else Event.RECOVERED, now, reason)

    def _choose_lane(self, phase: Phase, now: float) -> None:
        """Decide whether fast successes can matter now; a new lane only if that has changed."""
        if phase.state not in RECORDING:
            self.lane = None
            return
        if now >= phase.until and phase.leases is None:
            self._revert(phase, now)  # which chooses one
            return
        tripper, tally = phase.watched, phase.tally
        up = (tripper.steady and tally.total_count >= phase.minimum) or (
            tripper.needs_bad and tally.clean
        )
        fast_below = phase.fast_below if up else -math.inf
        lane = self.lane
        if (
            lane is None
            or lane.phase is not phase
            or lane.fast_below != fast_below
            or now >= lane.until
        ):
            until = min(tally.until(now), phase.until)
            self.lane = Lane(phase, fast_below, until, now, up and tripper.steady)


def _may_fire(tripper: Tripper, phase: Phase, reached: Thresholds, before: int) -> bool:
    """Whether a success may have made `tripper` fire."""
    after = phase.tally.total_count
    return (
        not tripper.steady
        or any(threshold in reached for threshold in tripper.thresholds)
        or any(before < minimum <= after for minimum in tripper.minimums)
    )
