"""Windows, trackers, trippers, retries and permits: values that are built from expressions."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fluxgate import CircuitBreaker, State, permits, retries, trackers, trippers, windows
from fluxgate.metric import Metrics, Snapshot
from fluxgate.policy import Policy
from fluxgate.signals import Reason
from fluxgate.trackers import CausedBy, Custom, TypeOf
from fluxgate.trippers import (
    ALWAYS,
    NEVER,
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow

NAMES = {
    name: getattr(module, name)
    for module in (windows, permits, trackers, trippers, retries)
    for name in module.__all__
}
"""What an expression may name. `All` is a tracker here; as a permit it reads the same."""
NAMES["All"] = trackers.All

nan, inf = math.nan, math.inf


def metrics(
    total: int = 0,
    failures: int = 0,
    streak: int = 0,
    duration: float = 0.0,
    slow: dict[float, int] | None = None,
) -> Snapshot:
    return Snapshot(total, failures, streak, duration, slow or {})


# -- values

EXPRESSIONS = [
    "CountWindow(100)",
    "TimeWindow(60.0)",
    "TimeWindow(60.0, 12)",
    "All()",
    'TypeOf("ValueError")',
    'TypeOf("ConnectionError", "asyncio.queues.QueueEmpty")',
    'TypeOf("OSError") & ~TypeOf("ConnectionError")',
    'CausedBy("OSError", "KeyError") | ~CausedBy("asyncio.queues.QueueEmpty")',
    '~(TypeOf("OSError") | TypeOf("KeyError"))',
    'Custom("inspect.isclass")',
    "Closed() & MinRequests(10) & FailureRate(0.5)",
    "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))",
    "Closed() & FailureRate(0.6) | HalfOpened() & FailureRate(0.5)",
    "FailureStreak(5) | MinRequests(3) & AvgLatency(0.25)",
    "FailureStreak(5) & (MinRequests(3) & AvgLatency(0.25))",
    "Always()",
    "Never()",
    "Cooldown(60.0)",
    "Cooldown(60.0, 0.1)",
    "Backoff(1.0)",
    "Backoff(1.0, 3.0)",
    "Backoff(1.0, 2.0, 60.0, 0.2)",
    "Random(0.5)",
    "RampUp(0.1, 1.0, 60.0)",
]


def build(expression: str) -> Any:
    return eval(expression, dict(NAMES))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_repr_is_the_expression_that_builds_it(expression: str) -> None:
    assert repr(build(expression)) == expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_equal_expressions_are_equal_values(expression: str) -> None:
    one, other = build(expression), build(expression)
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert {one: "found"}[other] == "found"
    unequal = [build(each) for each in EXPRESSIONS if each != expression]
    assert one not in unequal


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
    ids=["copied", "copied deeply", "pickled"],
)
def test_values_survive_copying_and_pickling(expression: str, copied: Callable[[Any], Any]) -> None:
    value = build(expression)
    assert copied(value) == value
    assert repr(copied(value)) == expression


@pytest.mark.parametrize("expression", [each for each in EXPRESSIONS if "()" not in each[-8:]])
def test_values_are_frozen(expression: str) -> None:
    value = build(expression)
    name = type(value).__match_args__[0]
    before = getattr(value, name)
    with pytest.raises(AttributeError, match="is frozen: build a new one"):
        setattr(value, name, before)
    with pytest.raises(AttributeError, match="can't be deleted"):
        delattr(value, name)
    assert getattr(value, name) is before
    assert repr(value) == expression


@pytest.mark.parametrize("expression", ["Always()", "All()", "Closed()", "Cooldown(1.0)"])
def test_values_take_no_other_attributes(expression: str) -> None:
    value = build(expression)
    with pytest.raises(AttributeError):
        value.anything = 1


clauses = st.one_of(
    st.builds(Closed),
    st.builds(HalfOpened),
    st.builds(MinRequests, st.integers(1, 100)),
    st.builds(FailureRate, st.floats(0, 1, exclude_min=True)),
    st.builds(SlowRate, st.floats(0, 1, exclude_min=True), st.floats(0.001, 1e6)),
    st.builds(AvgLatency, st.floats(0.001, 1e6)),
    st.builds(FailureStreak, st.integers(1, 100)),
)
any_trippers = st.recursive(
    clauses,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner), st.builds(lambda a, b: a | b, inner, inner)
    ),
    max_leaves=8,
)
any_trackers = st.recursive(
    st.sampled_from([TypeOf(ValueError), TypeOf(OSError, KeyError), trackers.All()]),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=8,
)


@given(st.one_of(any_trippers, any_trackers))
def test_any_combination_reads_back_as_itself(value: Any) -> None:
    assert build(repr(value)) == value


@pytest.mark.parametrize("value", [FailureRate(0.5), Closed() & FailureRate(0.5), ~TypeOf(OSError)])
def test_a_clause_has_no_truth_value(value: Any) -> None:
    """Python's `and` would silently give one of its sides."""
    with pytest.raises(TypeError, match=r"combine with & and \|, not `and` and `or`"):
        bool(value)


@pytest.mark.parametrize(
    "expression",
    [
        "FailureRate(0.5) & All()",
        "FailureRate(0.5) | 0.5",
        "All() & FailureRate(0.5)",
        "All() | Cooldown(1.0)",
    ],
)
def test_only_like_combines_with_like(expression: str) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        build(expression)


# -- what is refused when built

REFUSED_VALUES: list[tuple[str, str]] = [
    ("CountWindow(0)", "CountWindow(0): size must be at least 1"),
    ("CountWindow(-1)", "CountWindow(-1): size must be at least 1"),
    ("TimeWindow(0)", "TimeWindow(0): size must be 1e-9 to 1e9 seconds"),
    ("TimeWindow(-1.0)", "TimeWindow(-1.0): size must be 1e-9 to 1e9 seconds"),
    ("TimeWindow(nan)", "TimeWindow(nan): size must be 1e-9 to 1e9 seconds"),
    ("TimeWindow(inf)", "TimeWindow(inf): size must be 1e-9 to 1e9 seconds"),
    ("TimeWindow(1.0, 0)", "TimeWindow(1.0, 0): buckets must be at least 1"),
    ("TimeWindow(1e-5)", "1e-06 seconds or more: enlarge size, or lower buckets"),
    ("MinRequests(0)", "MinRequests(0): count must be at least 1"),
    ("FailureStreak(0)", "FailureStreak(0): count must be at least 1"),
    ("FailureRate(0)", "FailureRate(0): ratio must be in (0, 1]"),
    ("FailureRate(1.5)", "FailureRate(1.5): ratio must be in (0, 1]"),
    ("FailureRate(-0.5)", "FailureRate(-0.5): ratio must be in (0, 1]"),
    ("FailureRate(nan)", "FailureRate(nan): ratio must be in (0, 1]"),
    ("SlowRate(0, 1.0)", "SlowRate(0, 1.0): ratio must be in (0, 1]"),
    ("SlowRate(0.5, 0)", "SlowRate(0.5, 0): threshold must be 1e-9 to 1e9 seconds"),
    ("SlowRate(0.5, nan)", "SlowRate(0.5, nan): threshold must be 1e-9 to 1e9 seconds"),
    ("AvgLatency(0.0)", "AvgLatency(0.0): threshold must be 1e-9 to 1e9 seconds"),
    ("AvgLatency(inf)", "AvgLatency(inf): threshold must be 1e-9 to 1e9 seconds"),
    ("Cooldown(-1)", "Cooldown(-1): duration must be 0, or 1e-9 to 1e9 seconds"),
    ("Cooldown(nan)", "Cooldown(nan): duration must be 0, or 1e-9 to 1e9 seconds"),
    ("Cooldown(inf)", "0, or 1e-9 to 1e9 seconds; Never() stays open for good"),
    ("Cooldown(1.0, 1.5)", "Cooldown(1.0, 1.5): jitter_ratio must be in [0, 1]"),
    ("Cooldown(1.0, -0.1)", "Cooldown(1.0, -0.1): jitter_ratio must be in [0, 1]"),
    ("Cooldown(1.0, nan)", "Cooldown(1.0, nan): jitter_ratio must be in [0, 1]"),
    ("Backoff(0)", "Backoff(0): initial must be 1e-9 to 1e9 seconds"),
    ("Backoff(nan)", "Backoff(nan): initial must be 1e-9 to 1e9 seconds"),
    ("Backoff(1.0, 0.5)", "Backoff(1.0, 0.5): multiplier must be 1 to 1e9"),
    ("Backoff(1.0, nan)", "multiplier must be"),
    ("Backoff(9.0, 2.0, 8.0)", "max_duration must be at least initial"),
    ("Backoff(9.0, 2.0, inf)", "max_duration must be 1e-9 to 1e9 seconds"),
    ("Backoff(1.0, jitter_ratio=2)", "jitter_ratio must be in [0, 1]"),
    ("Random(0)", "Random(0): ratio must be in (0, 1]"),
    ("Random(1.01)", "Random(1.01): ratio must be in (0, 1]"),
    ("RampUp(0, 1.0, 60.0)", "RampUp(0, 1.0, 60.0): initial must be in (0, 1]"),
    ("RampUp(0.1, 1.1, 60.0)", "RampUp(0.1, 1.1, 60.0): final must be in (0, 1]"),
    ("RampUp(0.5, 0.1, 60.0)", "RampUp(0.5, 0.1, 60.0): final must be at least initial"),
    ("RampUp(0.1, 1.0, 0)", "RampUp(0.1, 1.0, 0): duration must be 1e-9 to 1e9 seconds"),
    ("CausedBy()", "CausedBy(): name at least one exception type, or use All()"),
    ('CausedBy("NoSuchError")', 'CausedBy("NoSuchError"): '),
    ("TypeOf()", "TypeOf(): name at least one exception type, or use All()"),
    ('TypeOf("no.such.Error")', 'TypeOf("no.such.Error"): "no.such.Error" can\'t be imported'),
    ('TypeOf("NoSuchError")', 'TypeOf("NoSuchError")'),
    (
        "TypeOf(KeyboardInterrupt)",
        "a call that ends with KeyboardInterrupt is counted as cancelled",
    ),
    ('TypeOf("asyncio.CancelledError")', "is counted as cancelled"),
    ('Custom("no.such.predicate")', "Custom('no.such.predicate'): "),
]
REFUSED_KINDS: list[tuple[str, str]] = [
    ("CountWindow(1.5)", "CountWindow(1.5): size must be a whole number, not 1.5"),
    ("CountWindow(True)", "CountWindow(True): size must be a whole number, not True"),
    ("TimeWindow('60')", "TimeWindow('60'): size must be a number of seconds, not '60'"),
    ("MinRequests(2.0)", "MinRequests(2.0): count must be a whole number, not 2.0"),
    ("FailureRate('0.5')", "FailureRate('0.5'): ratio must be a number, not str"),
    ("FailureRate(True)", "FailureRate(True): ratio must be a number, not bool"),
    ("Random(None)", "Random(None): ratio must be a number, not NoneType"),
    ("Cooldown('60')", "Cooldown('60'): duration must be a number of seconds, not '60'"),
    ("TypeOf(int)", "TypeOf(<class 'int'>): <class 'int'> is not an exception type"),
    ("TypeOf(ValueError())", "is not an exception type"),
    ('TypeOf("print")', "is not an exception type"),
    ("Custom(5)", "Custom(5): predicate must be callable with the exception"),
]


@pytest.mark.parametrize(
    ("expression", "message", "kind"),
    [
        *((expression, message, ValueError) for expression, message in REFUSED_VALUES),
        *((expression, message, TypeError) for expression, message in REFUSED_KINDS),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(
    expression: str, message: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        eval(expression, {**NAMES, "nan": nan, "inf": inf})
    assert type(caught.value) is kind
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"window": CountWindow(5), "tripper": MinRequests(6) & FailureRate(0.5)},
            ValueError,
            "MinRequests(6) is never reached: CountWindow(5) holds 5 calls",
        ),
        ({"window": CountWindow(9)}, ValueError, "MinRequests(10) is never reached"),
        (
            {"tripper": HalfOpened() & FailureRate(0.5)},
            ValueError,
            "can never fire in the closed state: add a clause that does",
        ),
        ({"tripper": Closed() & HalfOpened()}, ValueError, "can never fire in the closed state"),
        ({"tripper": MinRequests(3)}, ValueError, "fires on fast successes alone when closed"),
        ({"tripper": Closed()}, ValueError, "fires on fast successes alone when closed"),
        (
            {"tripper": MinRequests(3) | FailureRate(0.5)},
            ValueError,
            "fires on fast successes alone when closed",
        ),
        (
            {"tripper": HalfOpened() | FailureRate(0.5)},
            ValueError,
            "fires on fast successes alone when half_open",
        ),
        ({"max_half_open_calls": 0}, ValueError, "max_half_open_calls must be at least 1, not 0"),
        ({"max_half_open_calls": 1.5}, TypeError, "max_half_open_calls must be a whole number"),
        ({"max_half_open_calls": True}, TypeError, "max_half_open_calls must be a whole number"),
        ({"probe_timeout": 0}, ValueError, "probe_timeout must be 1e-9 to 1e9 seconds, not 0"),
        ({"probe_timeout": nan}, ValueError, "probe_timeout must be 1e-9 to 1e9 seconds"),
        ({"probe_timeout": inf}, ValueError, "probe_timeout must be 1e-9 to 1e9 seconds"),
        ({"probe_timeout": "60"}, TypeError, "probe_timeout must be a number of seconds, not '60'"),
        ({"result_tracker": 5}, TypeError, "result_tracker must be callable with the result: 5"),
        ({"window": 100}, TypeError, "window must be a Window from fluxgate.windows, not 100"),
        ({"tracker": OSError}, TypeError, "tracker must be a Tracker from fluxgate.trackers"),
        ({"retry": 60.0}, TypeError, "retry must be a Retry from fluxgate.retries, not 60.0"),
        ({"permit": 0.5}, TypeError, "permit must be a Permit from fluxgate.permits, not 0.5"),
        (
            {"permit": trackers.All()},
            TypeError,
            "permit must be a Permit from fluxgate.permits, not All() of fluxgate.trackers",
        ),
        ({"permit": permits.All}, TypeError, "did you mean All(...)?"),
        ({"tripper": "FailureRate(0.5)"}, TypeError, "fluxgate.config reads expression strings"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        CircuitBreaker("api", **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "settings", "kind", "message"),
    [
        ([""], {}, ValueError, "name must not be empty"),
        ([None], {}, TypeError, "name must be a str"),
        (["x"], {"initial_state": State.OPEN}, ValueError, "initial_state must be one of closed"),
        (["x"], {"initial_state": "half_open"}, ValueError, "not 'half_open'"),
        (["x"], {"initial_state": "ajar"}, ValueError, "not 'ajar'"),
        (["x"], {"clock": 0.0}, TypeError, "clock must be callable without arguments: 0.0"),
        (["x"], {"dice": 6}, TypeError, "dice must be callable without arguments: 6"),
        (["x"], {"listeners": ["slack"]}, TypeError, "listeners must be callable with a Signal"),
    ],
    ids=str,
)
def test_a_breaker_refuses_what_it_cannot_work_with(
    arguments: list[Any], settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        CircuitBreaker(*arguments, **settings)
    assert message in str(caught.value)


def test_an_async_listener_is_refused() -> None:
    async def listener(_signal: object) -> None: ...

    with pytest.raises(TypeError, match="is async, and a breaker calls its listeners"):
        CircuitBreaker("api", listeners=[listener])


def test_a_policy_is_frozen_since_every_default_breaker_shares_one() -> None:
    policy = CircuitBreaker("one").policy
    retry = policy.retry
    try:
        with pytest.raises(AttributeError):
            policy.retry = retries.Never()  # type: ignore[misc]
        assert CircuitBreaker("another").policy.retry == retries.Cooldown(60.0)
    finally:
        if policy.retry is not retry:
            policy.retry = retry  # type: ignore[misc]


def test_the_defaults_are_those_of_the_documentation() -> None:
    policy = CircuitBreaker("api").policy
    assert policy.window == CountWindow(100)
    assert policy.tracker == trackers.All()
    assert policy.tripper == MinRequests(10) & FailureRate(0.5)
    assert policy.retry == retries.Cooldown(60.0)
    assert policy.permit == permits.RampUp(0.1, 1.0, 60.0)
    assert (policy.max_half_open_calls, policy.probe_timeout) == (10, 60.0)
    assert policy.result_tracker is None


def test_replacing_nothing_gives_an_equal_policy_and_a_wrong_name_lists_the_right_ones() -> None:
    policy = Policy()
    changed = policy.replace(probe_timeout=5.0)
    assert (changed.probe_timeout, changed.tripper) == (5.0, policy.tripper)
    assert policy.probe_timeout == 60.0
    with pytest.raises(TypeError, match="unknown setting retries; known are window, tracker"):
        policy.replace(retries=3)


# -- trackers


def caused(cause: Exception) -> Exception:
    """A LookupError from that cause."""
    error = LookupError(f"by {cause!r}")
    error.__cause__ = cause
    return error


def handled(other: Exception) -> Exception:
    """A LookupError that was raised while the other was handled."""
    error = LookupError("beside another")
    error.__context__ = other
    return error


def circular() -> Exception:
    """A LookupError that is a cause of itself."""
    inner = LookupError()
    inner.__cause__ = outer = caused(inner)
    return outer


def is_teapot(error: Exception) -> bool:
    return "teapot" in str(error)


@pytest.mark.parametrize(
    ("tracker", "error", "tracked"),
    [
        (trackers.All(), ValueError(), True),
        (CausedBy(OSError), ConnectionError(), True),
        (CausedBy(OSError), caused(ConnectionError()), True),
        (CausedBy(KeyError, OSError), caused(caused(ConnectionError())), True),
        (CausedBy(OSError), caused(ExceptionGroup("", [KeyError(), caused(OSError())])), True),
        (CausedBy(OSError), caused(KeyError()), False),
        (CausedBy(OSError), KeyError(), False),
        (CausedBy(OSError), handled(OSError()), False),
        (CausedBy(OSError), circular(), False),
        (CausedBy(OSError), caused(ExceptionGroup("", [OSError(), *[KeyError()] * 2])), True),
        (CausedBy("OSError") & ~CausedBy("ConnectionError"), caused(ConnectionError()), False),
        (TypeOf(OSError), caused(OSError()), False),
        (TypeOf(OSError), OSError(), True),
        (TypeOf(OSError), ConnectionError(), True),
        (TypeOf(OSError), ValueError(), False),
        (TypeOf(OSError, ValueError), ValueError(), True),
        (TypeOf("ConnectionError"), ConnectionResetError(), True),
        (TypeOf("json.JSONDecodeError"), ValueError(), False),
        (TypeOf(Exception) & ~TypeOf(OSError), OSError(), False),
        (TypeOf(Exception) & ~TypeOf(OSError), ValueError(), True),
        (TypeOf(OSError) | TypeOf(KeyError), KeyError(), True),
        (TypeOf(OSError) | TypeOf(KeyError), OSError(), True),
        (TypeOf(OSError) | TypeOf(KeyError), ValueError(), False),
        (~trackers.All(), ValueError(), False),
        (Custom(is_teapot), ValueError("I'm a teapot"), True),
        (Custom(is_teapot), ValueError("coffee"), False),
        (TypeOf(OSError) & Custom(is_teapot), OSError("teapot"), True),
        (TypeOf(OSError) & Custom(is_teapot), ValueError("teapot"), False),
    ],
    ids=repr,
)
def test_a_tracker_tells_failures_from_other_errors(
    tracker: trackers.Tracker, error: Exception, tracked: bool
) -> None:
    assert tracker.tracks(error) is tracked


def test_a_wrapped_error_opens_a_circuit() -> None:
    def fetch() -> None:
        try:
            raise ConnectionError
        except ConnectionError as error:
            raise RuntimeError("can't fetch") from error

    tripper = FailureStreak(2)
    seeing = CircuitBreaker("x", tracker=CausedBy(ConnectionError), tripper=tripper)
    blind = CircuitBreaker("x", tracker=TypeOf(ConnectionError), tripper=tripper)
    for breaker in (seeing, blind) * 2:
        with pytest.raises(RuntimeError, match="can't fetch"):
            breaker.call(fetch)
    assert (seeing.state, blind.state) == (State.OPEN, State.CLOSED)


def test_the_right_side_is_not_asked_when_the_left_decides() -> None:
    def must_not_be_asked(_error: Exception) -> bool:
        raise AssertionError

    assert (trackers.All() | Custom(must_not_be_asked)).tracks(ValueError())
    assert not (~trackers.All() & Custom(must_not_be_asked)).tracks(ValueError())


def test_a_custom_predicate_may_answer_with_anything_truthy() -> None:
    assert Custom(lambda error: error.args).tracks(ValueError("x")) is True
    assert Custom(lambda error: error.args).tracks(ValueError()) is False


# -- trippers


@pytest.mark.parametrize(
    ("tripper", "given", "fires"),
    [
        (FailureRate(0.5), metrics(), False),
        (FailureRate(0.5), metrics(2, 1), True),
        (FailureRate(0.5), metrics(3, 1), False),
        (FailureRate(0.07), metrics(100, 7), True),
        (FailureRate(1.0), metrics(3, 3), True),
        (FailureRate(1.0), metrics(1, 1), True),
        (SlowRate(0.5, 1.0), metrics(slow={1.0: 0}), False),
        (SlowRate(0.5, 1.0), metrics(2, slow={1.0: 1}), True),
        (SlowRate(1.0, 1.0), metrics(1, slow={1.0: 1}), True),
        (SlowRate(0.5, 1.0), metrics(3, slow={1.0: 1}), False),
        (AvgLatency(0.5), metrics(), False),
        (AvgLatency(0.5), metrics(2, duration=1.0), True),
        (AvgLatency(0.5), metrics(2, duration=0.75), False),
        (FailureStreak(2), metrics(streak=1), False),
        (FailureStreak(2), metrics(streak=2), True),
        (NEVER, metrics(9, 9, 9), False),
        (ALWAYS, metrics(), True),
        (MinRequests(2), metrics(1), False),
        (MinRequests(2), metrics(2), True),
        (MinRequests(2) & FailureRate(0.5), metrics(1, 1), False),
        (MinRequests(2) & FailureRate(0.5), metrics(2, 1), True),
        (FailureRate(0.5) | FailureStreak(2), metrics(9, 1, streak=2), True),
        (FailureRate(0.5) | FailureStreak(2), metrics(9, 1, streak=1), False),
    ],
    ids=str,
)
def test_a_tripper_fires_at_its_bound(tripper: Tripper, given: Snapshot, fires: bool) -> None:
    assert tripper.fires(given) is fires


RATE, SLOW, STREAK = FailureRate(0.5), SlowRate(0.5, 1.0), FailureStreak(3)


@pytest.mark.parametrize(
    ("tripper", "closed", "half_open"),
    [
        (RATE, RATE, RATE),
        (Closed(), ALWAYS, NEVER),
        (HalfOpened(), NEVER, ALWAYS),
        (Closed() & RATE, RATE, NEVER),
        (RATE & HalfOpened(), NEVER, RATE),
        (Closed() | RATE, ALWAYS, RATE),
        (RATE | HalfOpened(), RATE, ALWAYS),
        (Closed() & RATE | HalfOpened() & STREAK, RATE, STREAK),
        (
            MinRequests(2) & (Closed() & RATE | HalfOpened() & STREAK),
            MinRequests(2) & RATE,
            MinRequests(2) & STREAK,
        ),
        (Closed() & HalfOpened(), NEVER, NEVER),
        (Closed() | HalfOpened(), ALWAYS, ALWAYS),
        (RATE | STREAK, RATE | STREAK, RATE | STREAK),
    ],
    ids=str,
)
def test_state_clauses_fold_away(tripper: Tripper, closed: Tripper, half_open: Tripper) -> None:
    assert tripper.given(State.CLOSED) == closed
    assert tripper.given(State.METRICS_ONLY) == closed
    assert tripper.given(State.HALF_OPEN) == half_open


@pytest.mark.parametrize("clause", [Closed(), HalfOpened()], ids=repr)
def test_a_state_clause_is_never_asked_itself(clause: Tripper) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(f"{clause!r} is folded away by given")):
        clause.fires(metrics())


@pytest.mark.parametrize(
    ("tripper", "needs_bad", "steady", "minimums", "thresholds", "fires_on_success"),
    [
        (RATE, True, True, (), (), False),
        (SlowRate(0.5, 1.0), True, True, (), (1.0,), False),
        (STREAK, True, True, (), (), False),
        (AvgLatency(1.0), False, False, (), (), False),
        (MinRequests(5), False, True, (5,), (), True),
        (MinRequests(5) & RATE, True, True, (5,), (), False),
        (MinRequests(5) | RATE, False, True, (5,), (), True),
        (AvgLatency(1.0) & RATE, True, False, (), (), False),
        (AvgLatency(1.0) | RATE, False, False, (), (), False),
        (SlowRate(0.5, 2.0) | SlowRate(0.1, 1.0), True, True, (), (1.0, 2.0), False),
        (MinRequests(9) & RATE | MinRequests(2) & STREAK, True, True, (2, 9), (), False),
        (NEVER, True, True, (), (), False),
        (ALWAYS, False, True, (), (), True),
    ],
    ids=str,
)
def test_a_tripper_declares_what_its_circuit_may_skip(
    tripper: Tripper,
    needs_bad: bool,
    steady: bool,
    minimums: tuple[int, ...],
    thresholds: tuple[float, ...],
    fires_on_success: bool,
) -> None:
    assert tripper.needs_bad is needs_bad
    assert tripper.steady is steady
    assert tripper.minimums == minimums
    assert tripper.thresholds == thresholds
    assert tripper.fires_on_success is fires_on_success


@pytest.mark.parametrize(
    ("tripper", "merged"),
    [
        *((each, each) for each in (RATE, SLOW, AvgLatency(1.0), MinRequests(2))),
        *((each, each) for each in (Closed(), HalfOpened(), ALWAYS, NEVER)),
        (STREAK, NEVER),
        (RATE & SLOW, RATE & SLOW),
        (RATE & STREAK, NEVER),
        (STREAK & RATE, NEVER),
        (RATE | SLOW, RATE | SLOW),
        (RATE | STREAK, RATE),
        (STREAK | RATE, RATE),
        (STREAK | STREAK, NEVER),
        (MinRequests(9) & (STREAK | RATE), MinRequests(9) & RATE),
    ],
    ids=str,
)
def test_what_counts_of_many_processes_can_decide(tripper: Tripper, merged: Tripper) -> None:
    """A streak can't be added up, so each process has to look at its own."""
    assert tripper.merged() == merged
    assert tripper.mergeable is (tripper == merged)


@pytest.mark.parametrize(
    ("tripper", "least"),
    [
        (RATE, RATE.ratio),
        (STREAK, 0),
        (SlowRate(0.5, 1.0), 0),
        (AvgLatency(1.0), 0),
        (MinRequests(5) & FailureRate(0.3), 0.3),
        (MinRequests(5) | FailureRate(0.3), 0),
        (FailureRate(0.3) & FailureRate(0.7), 0.7),
        (FailureRate(0.3) | FailureRate(0.7), 0.3),
        (FailureRate(0.3) | STREAK, 0),
        (MinRequests(9) & FailureRate(0.3) | MinRequests(2) & FailureRate(0.9), 0.3),
    ],
    ids=str,
)
def test_least_failure_rate(tripper: Tripper, least: float) -> None:
    assert tripper.least_failure_rate == least
    for total in range(1, 101):
        for failures in range(total + 1):
            if failures / total < least:
                assert not tripper.fires(metrics(total, failures))


class Counted(FailureRate):
    """A failure rate that notes at how many failures it was asked."""

    __slots__ = ("asked",)

    def __init__(self, ratio: float) -> None:
        super().__init__(ratio)
        self.asked: list[int] = []

    def fires(self, metrics: Metrics) -> bool:
        self.asked.append(metrics.failure_count)
        return super().fires(metrics)


def test_rate_is_asked_from_its_ratio_on() -> None:
    tripper = Counted(0.5)
    breaker = CircuitBreaker("x", tripper=tripper)
    for _ in range(3):
        breaker.attempt().succeed()
    for _ in range(2):
        breaker.attempt().fail("down")
    assert breaker.state is State.CLOSED
    assert tripper.asked == []
    breaker.attempt().fail("down")
    assert breaker.state is State.OPEN
    assert tripper.asked == [3]


@pytest.mark.parametrize(
    ("tripper", "given", "evident"),
    [
        (RATE, metrics(), False),
        (RATE, metrics(1), True),
        (MinRequests(3), metrics(2), False),
        (MinRequests(3), metrics(3), True),
        (STREAK, metrics(0, 0, 0), False),
        (STREAK, metrics(1, 0, 0), True),
        (STREAK, metrics(2, 2, 2), False),
        (STREAK, metrics(3, 3, 3), True),
        (STREAK, metrics(1, 1, 9), True),
        (MinRequests(3) & STREAK, metrics(1, 0, 0), False),
        (MinRequests(3) | STREAK, metrics(3, 0, 1), False),
        (MinRequests(3) | STREAK, metrics(3, 0, 0), True),
    ],
    ids=str,
)
def test_a_tripper_says_when_the_probes_suffice(
    tripper: Tripper, given: Snapshot, evident: bool
) -> None:
    assert tripper.has_evidence(given) is evident


@pytest.mark.parametrize(
    ("tripper", "given", "sentence"),
    [
        (RATE, metrics(100, 62), "FailureRate(0.5): 0.62 over 100 calls"),
        (MinRequests(10) & RATE, metrics(10, 5), "FailureRate(0.5): 0.5 over 10 calls"),
        (RATE & MinRequests(10), metrics(10, 5), "FailureRate(0.5): 0.5 over 10 calls"),
        (
            MinRequests(10) & (RATE | SlowRate(0.3, 1.0)),
            metrics(10, 1, slow={1.0: 4}),
            "SlowRate(0.3, 1.0): 0.4 over 10 calls",
        ),
        (RATE | STREAK, metrics(10, 6, 3), "FailureRate(0.5): 0.6 over 10 calls"),
        (RATE | STREAK, metrics(10, 3, 3), "FailureStreak(3): 3 over 3 calls"),
        (AvgLatency(0.5), metrics(4, duration=3.0), "AvgLatency(0.5): 0.75 over 4 calls"),
        (MinRequests(2), metrics(2), "MinRequests(2): 2 over 2 calls"),
    ],
    ids=str,
)
def test_a_tripper_explains_itself_by_the_clause_that_fired(
    tripper: Tripper, given: Snapshot, sentence: str
) -> None:
    assert tripper.fires(given)
    assert str(tripper.explain(given)) == sentence


class EveryTenth(Tripper):
    """A tripper as a newcomer would write it: one method."""

    def fires(self, metrics: Any) -> bool:
        return metrics.total_count % 10 == 9


def test_a_tripper_of_ones_own_is_asked_after_every_call() -> None:
    breaker = CircuitBreaker("api", tripper=EveryTenth(), window=CountWindow(100))
    for _ in range(9):
        assert breaker.state is State.CLOSED
        breaker.call(str)
    assert breaker.state is State.OPEN
    assert breaker.info().last_trip == Reason("EveryTenth()", None, 9, "CountWindow(100)")
    assert EveryTenth() == EveryTenth() != FailureRate(0.5)
    assert EveryTenth().merged() is NEVER  # in a fleet, too, by each process's own calls
    assert repr(EveryTenth() & FailureRate(0.5)) == "EveryTenth() & FailureRate(0.5)"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason("probe failed"), "probe failed"),
        (Reason("FailureRate(0.5)", 0.62, 100), "FailureRate(0.5): 0.62 over 100 calls"),
        (Reason("AvgLatency(0.5)", 0.123456), "AvgLatency(0.5): 0.1235"),
    ],
    ids=str,
)
def test_a_reason_reads_as_a_sentence(reason: Reason, sentence: str) -> None:
    assert str(reason) == sentence


# -- retries and permits


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (retries.Always(), [0.0, 0.0]),
        (retries.Never(), [inf, inf]),
        (retries.Cooldown(30), [30, 30]),
        (retries.Cooldown(duration=0), [0, 0]),
        (retries.Backoff(1.0), [1.0, 2.0, 4.0, 8.0]),
        (retries.Backoff(1.0, 3.0, 20.0), [1.0, 3.0, 9.0, 20.0]),
        (retries.Backoff(initial=5.0, multiplier=1), [5.0, 5.0]),
        (retries.Backoff(initial=100.0, max_duration=100.0), [100.0, 100.0]),
    ],
    ids=repr,
)
def test_a_retry_is_a_pure_function_of_the_reopens(
    retry: retries.Retry, delays: list[float]
) -> None:
    assert [retry.delay(reopens) for reopens in range(len(delays))] == delays
    assert retry.jitter_ratio == 0.0


def test_backoff_stays_at_its_longest_for_ever() -> None:
    assert retries.Backoff(1.0).delay(99) == 300.0
    assert retries.Backoff(1.0, 10.0, 300.0).delay(10**6) == 300.0


@pytest.mark.parametrize(
    ("permit", "elapsed", "share"),
    [
        (permits.All(), 0.0, 1.0),
        (permits.Random(0.5), 100.0, 0.5),
        (permits.Random(ratio=0.25), 0.0, 0.25),
        (permits.RampUp(0.25, 0.75, 64.0), 0.0, 0.25),
        (permits.RampUp(0.25, 0.75, 64.0), 32.0, 0.5),
        (permits.RampUp(0.25, 0.75, 64.0), 64.0, 0.75),
        (permits.RampUp(0.25, 0.75, 64.0), 1e9, 0.75),
        (permits.RampUp(initial=0.5, final=0.5, duration=1.0), 0.5, 0.5),
    ],
    ids=str,
)
def test_a_permit_is_a_pure_function_of_the_time_in_half_open(
    permit: permits.Permit, elapsed: float, share: float
) -> None:
    assert permit.ratio(elapsed) == share


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_a_ramp_never_falls_and_never_leaves_its_bounds(one: float, other: float) -> None:
    ramp = permits.RampUp(0.1, 0.8, 60.0)
    earlier, later = sorted((one, other))
    assert 0.1 <= ramp.ratio(earlier) <= ramp.ratio(later) <= 0.8 + 1e-12


def test_one_strategy_serves_many_breakers() -> None:
    """Windows are recipes: each breaker counts for itself."""
    window, tripper = CountWindow(10), FailureStreak(2)
    one = CircuitBreaker("one", window=window, tripper=tripper)
    other = CircuitBreaker("other", window=window, tripper=tripper)
    one.attempt().fail()
    other.attempt().fail()
    assert one.state is other.state is State.CLOSED
    assert one.info().metrics.total_count == 1


def test_cancellations_never_reach_a_tracker() -> None:
    seen: list[BaseException] = []
    breaker = CircuitBreaker("api", tracker=Custom(lambda error: seen.append(error)))
    with pytest.raises(asyncio.CancelledError):
        breaker.call(_raise, asyncio.CancelledError())
    assert seen == []


def _raise(error: BaseException) -> None:
    raise error
