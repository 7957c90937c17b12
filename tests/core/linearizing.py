"""Whether a history of concurrent operations is linearizable, by the search of Wing and Gong.

A history is linearizable if each operation could have happened at one moment between its call and
its return: there is an order of all of them, in which nobody who returned before another was called
comes after it, and which a sequential specification explains with the results that were seen.

J. M. Wing, C. Gong: Testing and Verifying Concurrent Objects, JPDC 17, 1993.
What has been tried is remembered (G. Lowe, Testing for linearizability, 2017), or else the search
takes exponential time where there are many orders to the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)


class Operation(NamedTuple):
    """One operation of a history.

    Attributes:
        called: when it was called; moments are numbers that only rise.
        returned: when it had returned.
        verb: what was done.
        arguments: with what.
        result: what came of it.
    """

    called: int
    returned: int
    verb: str
    arguments: tuple[Any, ...]
    result: object


def is_linearizable(
    history: Sequence[Operation], initial: S, apply: Callable[[S, Operation], Iterable[S]]
) -> bool:
    """Whether some order of the operations explains the history.

    Args:
        history: the operations, in any order.
        initial: the state of the specification at the beginning; hashable.
        apply: the states that an operation may lead to; none, if its result can't be had.
    """
    seen: set[tuple[int, S]] = set()
    waiting = [((1 << len(history)) - 1, initial)]  # operations that are left, as bits
    while waiting:
        left, state = waiting.pop()
        if not left:
            return True
        places = [place for place in range(len(history)) if left >> place & 1]
        soonest = min(history[place].returned for place in places)
        for place in places:
            if history[place].called > soonest:
                continue  # somebody else had returned by then
            for after in apply(state, history[place]):
                if (step := (left & ~(1 << place), after)) not in seen:
                    seen.add(step)
                    waiting.append(step)
    return False
