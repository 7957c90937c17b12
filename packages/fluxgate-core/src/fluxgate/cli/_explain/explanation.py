"""Builds the report of `explain`: start here.

The sentences about strategies come from their `describe()`; the figures come from simulated calls
(`simulation`); the layout is in `report_text` and `report_rich`.
"""

from __future__ import annotations

import math
from itertools import chain, repeat

from fluxgate._naming import safe_repr
from fluxgate._words import number, seconds
from fluxgate.cli._explain import simulation
from fluxgate.cli._explain.blind_spots import blind_spots
from fluxgate.cli._explain.likely_mistakes import likely_mistakes
from fluxgate.cli._explain.logged_errors import collect_logged_errors
from fluxgate.cli._explain.open_and_half_open import half_open, how_it_probes, while_open
from fluxgate.cli._explain.report import Report, Section, Table
from fluxgate.cli._explain.simulation import BAD, GOOD, Call
from fluxgate.cli._states import BY_HAND, SHORTLY
from fluxgate.cli._words import traffic
from fluxgate.policy import DEFAULT, Policy
from fluxgate.state import State

SHARES = ((1, 1), (3, 4), (1, 2), (1, 4), (1, 10), (1, 100))
"""Shares of failing calls to simulate, as (failing, of)."""

RATES = (1 / 60, 0.1, 1.0, 10.0, 100.0)
"""Traffic to simulate, in calls per second."""


def explain(
    policy: Policy,
    *,
    name: str = "",
    starts: State = State.CLOSED,
    state: State | None = None,
) -> Report:
    """The report on a policy.

    Args:
        policy: the settings.
        name: the circuit's name; may be empty.
        starts: the state that its circuits begin in.
        state: the only state to report on; None: all.
    """
    with collect_logged_errors() as logged:
        sections = _sections(policy, state)
        warnings = likely_mistakes(policy)
    warnings += [f"While this was tried out, the circuit logged: {each}." for each in logged]
    if starts is not State.CLOSED:
        sections.insert(0, Section("Where it starts", [f"{starts}: {BY_HAND[starts]}"], []))
    return Report(name or "This policy", settings_of(policy), sections, warnings)


def settings_of(policy: Policy) -> list[tuple[str, str]]:
    """The four main settings, and all others that differ from their defaults."""
    always = ("window", "tripper", "retry", "permit")
    return [
        (key, safe_repr(value, longest=None))
        for key in policy.__match_args__
        if (value := getattr(policy, key)) != getattr(DEFAULT, key) or key in always
    ]


def _sections(policy: Policy, state: State | None) -> list[Section]:
    found: list[Section] = []
    if state in (None, State.CLOSED):
        found.append(_when_it_opens(policy))
        found.append(Section("What it can't see", blind_spots(policy, SHARES), []))
    if state in (None, State.OPEN):
        found.append(while_open(policy))
    if state in (None, State.HALF_OPEN):
        found.append(half_open(policy, RATES))
    if state is None:
        by_hand = [f"{each}: {BY_HAND[each]}" for each in BY_HAND]
        found.append(Section("Set by hand", by_hand, []))
    elif state in BY_HAND:
        found.append(Section(SHORTLY[state], [BY_HAND[state]], []))
    return found


def _when_it_opens(policy: Policy) -> Section:
    points = [_what_it_judges(policy), *_worked(policy), *_what_counts(policy)]
    return Section("When it opens", points, [_what_opens_it(policy), *_how_soon(policy)])


def in_short(policy: Policy) -> list[tuple[str, list[str]]]:
    """The sentences about a policy that nothing is simulated for, under their titles.

    For pages of a process that serves others: a simulation takes a tenth of a second and more.
    """
    return [
        ("When it opens", [_what_it_judges(policy), *_what_counts(policy)]),
        ("While it is open", while_open(policy).points),
        ("Half-open", how_it_probes(policy)),
    ]


def _what_it_judges(policy: Policy) -> str:
    return f"It judges {policy.window.describe()}: it opens when {policy.closed.describe()}."


def _what_counts(policy: Policy) -> list[str]:
    points: list[str] = []
    if policy.closed.needs_bad:
        points.append("As long as all calls succeed in time, it stays closed.")
    points.append("Each recovery begins with an empty window.")
    if policy.healthy is not None:
        points.append(f"Exceptions that are {policy.healthy.describe()} count as successes.")
    if policy.result_tracker is not None:
        points.append("A call is also a failure if result_tracker says so of its result.")
    if policy.cancelled_after is not None:
        limit = seconds(policy.cancelled_after)
        points.append(f"A call that is cancelled after {limit} or more is a failure, too.")
    if _asked_each_time(policy):
        points.append(
            "Every call is judged under the circuit's lock, since any of them may decide: "
            "a healthy call costs more than under FailureRate, SlowRate and FailureStreak."
        )
    if policy.shadow_closed is not None:
        points.append(
            "Beside it, a shadow is tried on the same calls and never acted on: it would open "
            f"when {policy.shadow_closed.describe()}."
        )
    return points


def _asked_each_time(policy: Policy) -> bool:
    tripper = policy.closed
    return policy.result_tracker is not None or not (tripper.steady or tripper.needs_bad)


def _worked(policy: Policy) -> list[str]:
    """Examples in numbers, each of them simulated."""
    points: list[str] = []
    cold = simulation.opens_after(policy, repeat(BAD))
    if cold is not None:
        points.append(
            f"Just started, it opens after {number(cold, 'call')} if all of them fail."
            if cold > 1
            else "Just started, it opens on the first call, if that fails."
        )
        if (
            cold > 1
            and simulation.opens_after(policy, chain(repeat(BAD, cold - 1), repeat(GOOD))) == cold
        ):
            points.append(
                "The last of these may be a good one, since it completes the minimum: "
                f"{number(cold - 1, 'failure')} and a success open it, too."
            )
    capacity = policy.window.capacity
    sizes = {cold or 0, capacity or 10 * (cold or 0)}
    for size in sorted(each for each in sizes if 1 < each <= simulation.MOST):
        failures = simulation.failures_that_open(policy, size)
        if failures is not None:
            fewer = f"; {failures - 1:,} don't" if failures > 1 else ""
            points.append(
                f"Of {number(size, 'call')}, {number(failures, 'failure')} "
                f"open it, if they are the last{fewer}."
            )
    return points


def _what_opens_it(policy: Policy) -> Table:
    """Kinds of trouble, and after how many calls each opens the circuit."""
    capacity = policy.window.capacity
    kinds = [("every call fails at once", BAD, (1, 1))]
    for limit in simulation.slow_limits(policy):
        what = f"every call succeeds, after {seconds(limit)}"
        kinds.append((what, Call(failed=False, elapsed=limit), (1, 1)))
    for some, of in SHARES[1:]:
        kinds.append((f"{some} in {of} calls fail{'s' * (some == 1)}", BAD, (some, of)))
    rows: list[tuple[str, ...]] = []
    for what, bad, share in kinds:
        row = [what, _after(simulation.opens_after(policy, simulation.mixed(bad, share)))]
        if capacity is not None:
            warm = min(capacity, simulation.MOST)
            row.append(
                _after(simulation.opens_after(policy, simulation.mixed(bad, share), warm=warm))
            )
        rows.append(tuple(row))
    head: tuple[str, ...] = ("trouble", "just started")
    if capacity is not None:
        head = (*head, f"after {min(capacity, simulation.MOST):,} good calls")
    much = f"up to {simulation.enough(policy):,} calls each"
    note = f"After how many calls it opens; played on the real machine, {much}:"
    return Table(note, head, rows)


def _after(calls: int | None) -> str:
    return "stays closed" if calls is None else number(calls, "call")


def _how_soon(policy: Policy) -> list[Table]:
    """How long a total outage lasts before it opens, by traffic."""
    bad = simulation.outage(policy)
    if bad is None:
        return []
    rows: list[tuple[str, ...]] = []
    for rate in RATES:
        cold = simulation.outage_lasts(policy, bad, rate, warm=False)
        warm = simulation.outage_lasts(policy, bad, rate, warm=True)
        if cold is not None and warm is not None:
            rows.append((traffic(rate), _opened(cold), _opened(warm)))
    after = f" after {seconds(bad.elapsed)}" if bad.elapsed else ""
    trouble = f"{'fails' if bad.failed else 'succeeds'}{after}"
    note = f"How long after the first bad call it opens, if every call {trouble} from then on:"
    head = ("traffic", "just started", "after a window of good calls")
    return [Table(note, head, rows)] if rows else []


def _opened(after: float) -> str:
    if after == math.inf:
        return "never"
    return seconds(after) if after else "at once"
