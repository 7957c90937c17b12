"""`Attempt`: one admitted call. Its caller reports the result once."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING

from fluxgate._engine import nested
from fluxgate._naming import safe_repr
from fluxgate.signals import Outcome

if TYPE_CHECKING:
    from fluxgate._engine.circuit import Circuit
    from fluxgate._engine.lane import Lane
    from fluxgate._engine.phase import Admission

__all__ = ["Attempt", "in_probe"]


class Attempt:
    """A call that a circuit has let in. It settles once: only the first report counts.

    Made by `breaker.attempt()`. Say how the call ended with `succeed()`, `fail()` or `ignore()`,
    from any thread; or use it as a (sync or async) context manager, where a block that ends
    normally is a success and an exception goes to the breaker's tracker. An attempt that is
    dropped unsettled is ignored.
    """

    __slots__ = ("_admission", "_circuit", "_started", "_unsettled", "probe")

    probe: bool
    """Whether this call probes a half-open circuit."""

    def __init__(self, circuit: Circuit, admission: Lane | Admission) -> None:
        self._circuit = circuit
        self._admission = admission
        self.probe = admission.probe is not None
        self._started = circuit.clock()
        self._unsettled = [True]  # last: what has it is whole

    @property
    def settled(self) -> bool:
        """Whether the outcome is in."""
        return not self._unsettled

    @property
    def elapsed(self) -> float:
        """Seconds since the call was admitted, by the breaker's clock."""
        return self._circuit.clock() - self._started

    def succeed(self, elapsed: float | None = None) -> None:
        """The call succeeded.

        Args:
            elapsed: its duration in seconds; by default the time since it was admitted.

        Raises:
            ValueError: `elapsed` is no duration; the attempt is still unsettled then.
        """
        times = self._passed(elapsed)
        if times is not None:
            self._circuit.settle(self._admission, Outcome.SUCCESS, *times)

    def fail(self, exc: BaseException | str | None = None, elapsed: float | None = None) -> None:
        """The call failed. This is final: no tracker is asked.

        Args:
            exc: what it failed with: an exception, or a few words such as `HTTP 503`. It is not
                passed to the tracker; it is counted among the last errors that explain a trip.
            elapsed: its duration in seconds; by default the time since it was admitted.
        """
        times = self._times(elapsed)
        if self._claim():
            self._circuit.failed(self._admission, exc, *times)

    def ignore(self) -> None:
        """The call says nothing about the dependency.

        It moves nothing, and a probe gives its slot back.
        """
        if self._claim():
            self._circuit.abandon(self._admission, self._started)

    def raised(self, error: BaseException, elapsed: float | None = None) -> None:
        """The call raised `error`; the breaker's tracker says what that means.

        Args:
            error: any exception, a cancellation included.
            elapsed: the call's duration in seconds; by default the time since it was admitted.
        """
        times = self._times(elapsed)
        if self._claim():
            self._circuit.raised(self._admission, error, *times)

    def returned(self, result: object, elapsed: float | None = None) -> None:
        """The call returned `result`; the breaker's result tracker says what that means.

        Args:
            result: what it returned.
            elapsed: the call's duration in seconds; by default the time since it was admitted.
        """
        times = self._passed(elapsed)
        if times is not None:
            self._circuit.returned(self._admission, result, *times)

    def _passed(self, elapsed: float | None) -> tuple[float, float] | None:
        """Note a success in the lane that let it in; its times where that is not all."""
        circuit, admission = self._circuit, self._admission
        end = circuit.clock()
        if elapsed is None:
            elapsed = end - self._started
        elif not 0 <= elapsed < math.inf:
            raise _no_duration(elapsed)
        try:
            self._unsettled.pop()
        except IndexError:
            return None
        lane = circuit.lane
        if (
            lane is not None
            and lane is admission
            and elapsed < lane.fast_below
            and end < lane.until
        ):
            lane.append(elapsed)
            if len(lane) > 255:
                circuit.drain(lane)
            return None
        return elapsed, end

    def _times(self, elapsed: float | None) -> tuple[float, float]:
        """The call's duration, and the clock time of its end."""
        end = self._circuit.clock()
        if elapsed is None:
            return end - self._started, end
        if not 0 <= elapsed < math.inf:
            raise _no_duration(elapsed)
        return elapsed, end

    def _claim(self) -> bool:
        """Whether the caller is the first to settle; a pop is atomic."""
        try:
            self._unsettled.pop()
        except IndexError:
            return False
        return True

    def __enter__(self) -> Attempt:
        nested.begin(self._admission, self._circuit.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    async def __aenter__(self) -> Attempt:
        nested.begin(self._admission, self._circuit.name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """The block ended: with `error`, or well."""
        if error is None:
            self.succeed()
        else:
            self.raised(error)

    def __del__(self) -> None:
        try:
            if self._unsettled and self._claim():
                self._circuit.abandon(self._admission)
        except AttributeError:  # interrupted while it was made, or a block that was refused
            pass

    def __repr__(self) -> str:
        kind = "probe" if self.probe else "call"
        return f"<Attempt: {kind} of {self._circuit.name!r}{', settled' if self.settled else ''}>"


def in_probe(circuit: str | None = None) -> bool:
    """Whether this code runs inside a probe, a call that a half-open circuit has let in to see.

    For a shorter time-out: a probe holds one of few slots, and everybody waits for its outcome.

        timeout = 1.0 if in_probe("payments") else 10.0

    It is so in a function that is decorated, or called by `call`, in a `with` block and in a
    generator that runs, and in all that they call and await: tasks that they start, and threads
    that get a copy of the context (`asyncio.to_thread`), but no other threads. It ends when the
    probe has settled, or has lost its slot after `probe_timeout`. Calls of a closed circuit leave
    nothing to be found, so that they cost nothing; within a probe of another circuit they run
    inside that one.

    Args:
        circuit: the name of the circuit whose probes are meant; None, those of any.

    Raises:
        TypeError: `circuit` is no name.
    """
    if circuit is not None and not isinstance(circuit, str):
        raise TypeError(f"circuit must be the name of one, or None: {safe_repr(circuit)}")
    return nested.inside_probe(circuit)


def _no_duration(elapsed: float) -> ValueError:
    return ValueError(f"elapsed must be finite seconds, 0 or more: {elapsed!r}")
