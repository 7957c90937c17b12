"""`Reason`, `Signal`, `Totals`, `Info`: frozen values with named fields."""

import copy
import pickle

import pytest

from fluxgate import Reason, Signal, SignalKind, State

WHY = Reason("FailureRate(0.5)", 0.62, calls=100)
TOLD = Signal("payments", State.CLOSED, State.OPEN, 1.0, 1, WHY)


def test_fields_are_given_by_place_or_name_and_may_have_defaults() -> None:
    assert (WHY.clause, WHY.measured, WHY.calls) == ("FailureRate(0.5)", 0.62, 100)
    assert Reason("force_open()").measured is None
    assert TOLD.kind is SignalKind.TRANSITION


def test_equal_by_value_and_hashable() -> None:
    assert Reason(clause="FailureRate(0.5)", calls=100, measured=0.62) == WHY
    assert hash(Reason("a")) == hash(Reason("a"))
    assert Reason("a") != Reason("b")
    assert Reason("a") != "a"


def test_frozen() -> None:
    with pytest.raises(AttributeError, match="clause can't be set"):
        WHY.clause = "another"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="calls can't be deleted"):
        del WHY.calls


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies_are_equal(copied: object) -> None:
    assert callable(copied)
    assert copied(TOLD) == TOLD


def test_shows_its_fields() -> None:
    assert repr(WHY) == (
        "Reason(clause='FailureRate(0.5)', measured=0.62, calls=100, window=None, errors=(), "
        "note=None, by=None)"
    )


def test_takes_part_in_pattern_matching() -> None:
    match WHY:
        case Reason(clause, measured):
            assert (clause, measured) == ("FailureRate(0.5)", 0.62)


@pytest.mark.parametrize(
    ("values", "named", "complaint"),
    [
        ((), {}, "needs clause="),
        (("a",), {"clause": "b"}, "once"),
        (("a", 1.0, 1, "CountWindow(9)", (), "why", "who", "more"), {}, "once"),
        (("a",), {"cause": "b"}, "clause, measured, calls"),
    ],
)
def test_wrong_fields_are_refused(
    values: tuple[object, ...], named: dict[str, object], complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        Reason(*values, **named)  # type: ignore[arg-type]
