"""`with breaker:` blocks: how the end of a block finds the attempt that its beginning made.

One breaker serves many blocks at once, nested, interleaved, in threads, tasks and generators, and
both methods of a context manager are called on the breaker. But Python looks `__exit__` up *before*
it calls `__enter__`, and holds what it found until the block has ended (language reference, "The
with statement"); `ExitStack` and `unittest` do it in the same order. So the look-up makes the
attempt of one block, as yet without an admission, and `__enter__` lets the call in with it. Nobody
else knows the attempt: there is no register to search or to clean up, and a block that is abandoned
takes its attempt along.

Where the two methods are called by hand, `__exit__` is looked up too late for that; there the
attempt is kept in the context (`contextvars`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from fluxgate.attempt import Attempt

if TYPE_CHECKING:
    from fluxgate._front import Front


class Block(Attempt):
    """The attempt of a block, and the `__exit__` that the block is going to call."""

    __slots__ = ("__weakref__", "_awaited_by")

    _awaited_by: object
    """The breaker whose `__enter__` is to let it in, or its class; None once that has been done."""

    def _leave(self, args: tuple[Any, ...]) -> None:
        """End the block; `ExitStack` hands the breaker on before the three usual arguments."""
        if self._awaited_by is None:
            self._end(args[-2])
        else:
            _end_by_hand(self._awaited_by if len(args) == 3 else args[0], args[-2])


class SyncBlock(Block):
    """The attempt of a `with` block."""

    __slots__ = ()

    def __call__(self, *args: Any) -> None:
        self._leave(args)


class AsyncBlock(Block):
    """The attempt of an `async with` block."""

    __slots__ = ()

    async def __call__(self, *args: Any) -> None:
        self._leave(args)


class Exit:
    """A descriptor that makes a block of each look-up of `__exit__` or `__aexit__`."""

    __slots__ = ("_block",)

    def __init__(self, block: type[Block]) -> None:
        self._block = block

    def __get__(self, front: Front | None, kind: type[Front]) -> Block:
        block = _new(self._block)
        block._awaited_by = kind if front is None else front
        # Weakly: a look-up that begins no block (such as hasattr's) is forgotten at once.
        _latest.block = ref(block)
        return block


class _Latest(threading.local):
    """The block that this thread has looked up last."""

    block: Callable[[], Block | None] = staticmethod(lambda: None)


_latest: Final = _Latest()
_new: Final = Block.__new__
_by_hand: ContextVar[tuple[Attempt, ...]] = ContextVar("fluxgate_by_hand", default=())
"""The attempts that this context has entered by calling `__enter__` itself, the innermost last."""


def enter(front: Front) -> Attempt:
    """Begin a block: let a call in, or raise `CallNotPermittedError`."""
    circuit = front._circuit
    block = _latest.block()
    if block is None or (
        (awaited_by := block._awaited_by) is not front and awaited_by is not type(front)
    ):
        attempt = Attempt(circuit, circuit.admit())
        _by_hand.set((*(each for each in _by_hand.get() if not each.settled), attempt))
        return attempt.__enter__()
    block._awaited_by = None
    lane = circuit.lane
    Attempt.__init__(block, circuit, circuit.admit() if lane is None else lane)
    return block if lane is not None else block.__enter__()


def _end_by_hand(front: Any, error: BaseException | None) -> None:
    """End the innermost block of this circuit that this context has entered by hand."""
    entered = _by_hand.get()
    for place in reversed(range(len(entered))):
        attempt = entered[place]
        if attempt._circuit is front._circuit:
            _by_hand.set(entered[:place] + entered[place + 1 :])
            attempt._end(error)
            return
    lost = (
        f"{front!r} is left in a context that did not enter it; "
        "where a block is entered in one place and left in another, use attempt()"
    )
    if error is None:
        raise RuntimeError(lost)
    error.add_note(lost)  # which is on its way, and more than a note would hide it
