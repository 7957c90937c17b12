"""Targets: functions of bytes that must give a value or the documented error, whatever the bytes.

    @target(seeds=[b"..."], tokens=["..."])
    def retry_after(data: Inputs) -> None:
        ...

Two drivers call them: atheris, led by coverage (`run.py`, the session `prove-fuzz`), and Hypothesis
(`test_fuzzing.py`, among the tests).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from fluxgate._values import Record

from .inputs import Inputs

MOST: Final = 100_000
"""Characters of an error's message, at most: many settings may be wrong at once."""


class Grown(NamedTuple):
    """Input that grows, for a search for what takes more than its share of time.

    Attributes:
        make: a call of what is measured, for `before + piece * n + after`.
        pieces: what it is made of.
    """

    make: Callable[[str], object]
    pieces: Sequence[str]


class Target(Record):
    """A target.

    Attributes:
        name: its name.
        function: raises whatever isn't documented.
        seeds: inputs from which a fuzzer goes on.
        tokens: words of the grammar.
        grown: what may grow without bound, if anything may.
        planted: whether it has a planted fault.
    """

    name: str
    function: Callable[[Inputs], None]
    seeds: Sequence[bytes]
    tokens: Sequence[str]
    grown: Grown | None
    planted: bool

    def __call__(self, data: bytes) -> None:
        self.function(Inputs(data))


TARGETS: Final[dict[str, Target]] = {}
"""All of them, by name; the planted one is not among them."""


ENDS: Final[list[Callable[[], object]]] = []
"""Functions that end what targets keep between their runs; called once, and emptied."""


def end() -> None:
    """End what targets keep between their runs."""
    while ENDS:
        ENDS.pop()()


def target(
    *,
    seeds: Sequence[bytes] = (),
    tokens: Sequence[str] = (),
    grown: Grown | None = None,
    planted: bool = False,
) -> Callable[[Callable[[Inputs], None]], Target]:
    """Make a target of a function."""

    def decorate(function: Callable[[Inputs], None]) -> Target:
        name = function.__name__
        made = Target(name, function, tuple(seeds), tuple(tokens), grown, planted)
        if not planted:
            TARGETS[name] = made
        return made

    return decorate


@contextmanager
def refused(*errors: type[Exception], hidden: str = "") -> Iterator[None]:
    """A block that may raise the documented errors, with a message that can be shown.

    Args:
        errors: the documented ones.
        hidden: a secret that no message may hold.
    """
    said: list[str] = []
    try:
        yield
    except errors as error:
        said = [str(error), repr(error.__cause__) if hidden else ""]
    for message in said[:1]:
        assert message, "an error without a message"
        assert len(message) <= MOST, f"a message of {len(message)} characters"
        message.encode()
    assert not (hidden and any(hidden in message for message in said)), said


def shows(value: Any) -> None:
    """Whether a value can be written into a log: its repr doesn't raise, and is text for UTF-8."""
    str(value).encode("utf-8", "surrogatepass")
    repr(value)
