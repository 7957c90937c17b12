"""A refusal as HTTP, for every framework."""

from __future__ import annotations

import json
import math

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Reason, State
from fluxgate.problem import MEDIA_TYPE, STATUS, TITLE, TYPE, Problem, refusal_in, retry_after
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, tripped


def refusal(
    seconds: float | None, state: State = State.OPEN, name: str = "internal-billing.local"
) -> CallNotPermittedError:
    return CallNotPermittedError(name, state, seconds, Reason("FailureRate(0.5)", 0.62, 100))


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.0, 1), (0.001, 1), (1.0, 1), (1.001, 2), (59.2, 60), (60.0, 60), (86_400.5, 86_401)],
)
def test_seconds_are_rounded_up_and_never_zero(seconds: float, header: int) -> None:
    assert retry_after(refusal(seconds)) == header
    assert Problem.of(refusal(seconds)).headers == {"Retry-After": str(header)}
    assert Problem.of(refusal(seconds)).as_dict()["retry_after"] == header


@pytest.mark.parametrize("state", [State.HALF_OPEN, State.FORCED_OPEN, State.OPEN])
@pytest.mark.parametrize("seconds", [None, math.inf, math.nan])
def test_an_unknown_time_is_left_out(seconds: float | None, state: State) -> None:
    problem = Problem.of(refusal(seconds, state))
    assert problem.headers == {}
    assert "retry_after" not in problem.as_dict()


def test_the_body_has_the_members_of_rfc_9457_and_a_type_that_stays() -> None:
    assert (STATUS, MEDIA_TYPE) == (503, "application/problem+json")
    assert TYPE == "urn:fluxgate:problem:circuit-open"
    problem = Problem.of(refusal(12.3))
    assert json.loads(problem.json()) == {
        "type": TYPE,
        "title": TITLE,
        "status": 503,
        "detail": "A service that this request needs is not available: try again in 13 seconds.",
        "retry_after": 13,
    }
    assert json.loads(problem.json()) == problem.as_dict()


def test_a_type_of_ones_own() -> None:
    problem = Problem.of(refusal(None), type="https://example.com/problems/busy")
    assert problem.as_dict()["type"] == "https://example.com/problems/busy"


def test_neither_name_nor_reason_leaks_unless_asked() -> None:
    hidden = Problem.of(refusal(5))
    for secret in ("billing", "FailureRate", "0.62"):
        assert secret not in hidden.json().decode()
        assert secret not in str(hidden.headers)
    told = Reason("FailureRate(0.5)", 0.62, 100, "CountWindow(100)", (("TimeoutError", 62),))
    error = CallNotPermittedError("internal-billing.local", State.OPEN, 5, told)
    assert Problem.of(error).detail == hidden.detail
    assert Problem.of(error, show_name=True).detail == (
        "The circuit 'internal-billing.local' is open (FailureRate(0.5): 0.62 over 100 calls in "
        "CountWindow(100); last errors: 62 × TimeoutError): try again in 5 seconds."
    )
    errors = (("OSError: postgresql://app:hunter2@db", 1), ("OSError: timed out", 2))
    told = Reason("FailureStreak(3)", 3, 3, "CountWindow(100)", errors)
    error = CallNotPermittedError("internal-billing.local", State.OPEN, 5, told)
    assert "; last errors: 3 × OSError)" in Problem.of(error, show_name=True).detail
    shown = Problem.of(refusal(5), show_name=True)
    assert shown.as_dict()["circuit"] == "internal-billing.local"
    assert shown.detail == (
        "The circuit 'internal-billing.local' is open (FailureRate(0.5): 0.62 over 100 calls): "
        "try again in 5 seconds."
    )


@pytest.mark.parametrize(
    ("error", "when"),
    [
        (refusal(1), "in 1 second."),
        (refusal(None, State.HALF_OPEN), "shortly."),
        (refusal(None, State.FORCED_OPEN), "later."),
    ],
)
def test_the_sentence_says_when(error: CallNotPermittedError, when: str) -> None:
    assert Problem.of(error).detail.endswith(f"try again {when}")


def test_a_refusal_is_found_in_groups_however_deep() -> None:
    found = refusal(1)
    group = ExceptionGroup("all", [ValueError(), ExceptionGroup("some", [OSError(), found])])
    assert refusal_in(group) is found
    assert refusal_in(found) is found
    assert refusal_in(BaseExceptionGroup("stop", [KeyboardInterrupt(), found])) is found
    for without in (ValueError(), ExceptionGroup("all", [ValueError()])):
        assert refusal_in(without) is None


def test_of_several_refusals_the_one_that_lasts_longest_counts() -> None:
    probing, by_hand = refusal(None, State.HALF_OPEN), refusal(None, State.FORCED_OPEN)
    assert Problem.of(ExceptionGroup("", [refusal(3), refusal(40), probing])).retry_after == 40
    assert Problem.of(ExceptionGroup("", [refusal(3), by_hand])).retry_after is None
    assert Problem.of(ExceptionGroup("", [probing])).retry_after is None


def test_without_a_refusal_there_is_no_problem() -> None:
    with pytest.raises(TypeError, match="no CallNotPermittedError in"):
        Problem.of(ExceptionGroup("", [ValueError()]))


def test_a_real_refusal_counts_down() -> None:
    clock = ManualClock()
    breaker = tripped(CircuitBreaker("payments", retry=Cooldown(30), clock=clock))
    for passed, header in ((0, "30"), (0.5, "30"), (10, "20"), (19, "1")):
        clock.advance(passed)
        with pytest.raises(CallNotPermittedError) as caught:
            breaker.call(str)
        assert Problem.of(caught.value).headers == {"Retry-After": header}
