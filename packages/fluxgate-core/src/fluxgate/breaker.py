"""The two fronts of a circuit: `CircuitBreaker` for sync code, `AsyncCircuitBreaker` for async.

They differ by `await` alone. Both protect a call in the same few lines, which stand here four
times because a helper would cost a tenth of them: read the lane, time the call, leave the duration
in the lane if it was a fast success, go to the circuit with everything else. Where there are no
keyword arguments none are handed on: `fn(*args, **kwargs)` makes a new dict even then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import update_wrapper
from types import AsyncGeneratorType, CoroutineType, NoneType, TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast, overload

from fluxgate._blocks import AsyncBlock, Exit, SyncBlock, enter
from fluxgate._callables import Kind, is_awaitable
from fluxgate._engine import everywhere, living, nested
from fluxgate._engine.lane import Lane
from fluxgate._engine.phase import Admission
from fluxgate._front import Front, checked_listeners
from fluxgate._unmade import MADE, advice_on, close, is_async_inside
from fluxgate.attempt import Attempt
from fluxgate.errors import WrongFrontError
from fluxgate.signals import Listener, Subscription

__all__ = ["AsyncCircuitBreaker", "CircuitBreaker", "circuits", "listen"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")

_COROUTINE: Final[type] = CoroutineType

_NO_ERRORS: Final = (WrongFrontError, StopIteration, StopAsyncIteration)
"""Exceptions that no fallback replaces: a mistake in the program, the end of an iteration."""


class CircuitBreaker(Front):
    """Protects sync calls: as a decorator, through `call`, or as a `with` block.

    Args:
        name: what the circuit is called in signals, errors and metrics.
        window: the calls that the tripper looks at (the last 100).
        tracker: which exceptions are failures (all).
        healthy: which exceptions are successes, such as a "not found"; asked before `tracker`
            (none).
        result_tracker: called with each returned value; a true answer makes the call a failure.
        tripper: when the circuit opens (`MinRequests(10) & FailureRate(0.5)`).
        retry: how long it stays open (60 s).
        permit: which share of the calls it admits while half-open (10 % to 100 % over 60 s).
        max_half_open_calls: probes in flight at once (10).
        probe_timeout: seconds after which a probe that has not ended gives its slot back (60).
        shadow: another tripper to try: what it would do is reported, and never done.
        buckets: upper bounds (seconds) of a histogram of durations, for collectors.
        cancelled_after: seconds from which a call that is cancelled counts as a failure (never).
        error_messages: whether explanations quote the messages of errors, not their types alone.
        listeners: called with each `Signal`, in order, on the path of the call that caused it.
        initial_state: `CLOSED`, `METRICS_ONLY` (to try a policy on real traffic), `DISABLED` or
            `FORCED_OPEN`.
        clock: gives seconds that never go back; durations and deadlines are taken from it.
        dice: gives numbers in [0, 1), uniformly; jitter and permits are drawn from it.
        fleet: what shares the circuit with other processes: a `fluxgate.fleet.Fleet`, or a URL.
        prober: a function, sync or async, that asks the dependency how it is: a
            `fluxgate.probing.Prober` calls it from a thread once the cooldown is over (none).

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the settings make no sense; the message says which and what to do.
    """

    __slots__ = ()
    _kinds = (Kind.FUNCTION, Kind.GENERATOR)
    _fallback_kinds = (Kind.FUNCTION,)
    _other = "is async: use AsyncCircuitBreaker, or to_async(), which shares this circuit"

    def to_async(self) -> AsyncCircuitBreaker:
        """The async front of the same circuit."""
        return AsyncCircuitBreaker._over(self._circuit)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn(*args, **kwargs)`; its result or error arrives as it is.

        Raises:
            CallNotPermittedError: the circuit refuses the call.
            TypeError: `fn` is async (the call is ignored).
        """
        if (lane := self._circuit.lane) is None:
            return self._attempted(self._circuit.admit(), fn, args, kwargs)
        clock = self._clock
        start = clock()
        try:
            result = (
                fn(*args, **kwargs) if kwargs else fn(*args)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
            )
            if type(result) not in MADE:
                self._check_result(fn, result)
        except BaseException as error:
            end = clock()
            self._circuit.raised(lane, error, end - start, end)
            raise
        if (elapsed := (end := clock()) - start) < lane.fast_below and end < lane.until:
            lane.append(elapsed)
            if len(lane) > 255:
                self._circuit.drain(lane)
        else:
            self._circuit.returned(lane, result, elapsed, end)
        return result

    def call_with_fallback(
        self,
        fn: Callable[P, R],
        fallback: Callable[[Exception], F],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | F:
        """`call`, and `fallback(error)` in place of any `Exception` that comes out of it.

        The fallback gets them all: refusals, failures and programming errors alike. Let it raise
        what it has no answer to. The end of an iteration (`StopIteration`) is no error.
        """
        try:
            return self.call(fn, *args, **kwargs)
        except _NO_ERRORS:
            raise
        except Exception as error:
            return self._check_result(fallback, fallback(error))

    def __enter__(self) -> Attempt:
        return enter(self)

    if TYPE_CHECKING:

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None: ...

    else:
        __exit__ = Exit(SyncBlock)  # each look-up is for one block

    def _protect(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        circuit, attempted, check = self._circuit, self._attempted, self._check_result
        clock = circuit.clock
        seen: Any = NoneType

        def protected(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            if (lane := circuit.lane) is None:
                return attempted(circuit.admit(), fn, args, kwargs)
            start = clock()
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)
                if type(result) is not seen:  # the cheapest look that there is
                    if type(result) in MADE:
                        seen = type(result)  # pyright: ignore[reportUnknownVariableType]
                    else:
                        check(fn, result)
            except BaseException as error:
                end = clock()
                circuit.raised(lane, error, end - start, end)
                raise
            if (elapsed := (end := clock()) - start) < lane.fast_below and end < lane.until:
                lane.append(elapsed)
                if len(lane) > 255:
                    circuit.drain(lane)
            else:
                circuit.returned(lane, result, elapsed, end)
            return result

        return protected

    def _attempted(
        self, admission: Lane | Admission, fn: Callable[..., R], args: Any, kwargs: Any
    ) -> R:
        """The call where there was no lane."""
        attempt = Attempt(self._circuit, admission)
        nested.begin(admission, self._circuit.name)
        try:
            result = fn(*args, **kwargs)
            if type(result) not in MADE:
                self._check_result(fn, result)
        except BaseException as error:
            attempt.raised(error)
            raise
        attempt.returned(result)
        return result

    def _with_fallback(
        self, protected: Callable[..., Any], fallback: Callable[[Exception], Any]
    ) -> Callable[..., Any]:
        def with_fallback(*args: Any, **kwargs: Any) -> Any:
            try:
                return protected(*args, **kwargs)
            except _NO_ERRORS:
                raise
            except Exception as error:
                return self._check_result(fallback, fallback(error))

        return with_fallback

    def _check_result(self, fn: object, result: R) -> R:
        """`result`, if it is one, and no call that has yet to be made."""
        if type(result) is _COROUTINE:
            cast(Any, result).close()  # nobody will await it
            raise self._wrong_front(fn, "; where that refuses a wrapper, await its call()")
        if (advice := advice_on(fn, result)) is not None:
            raise WrongFrontError(advice)
        return result


class AsyncCircuitBreaker(Front):
    """Protects async calls: as a decorator, through `call`, or as an `async with` block.

    It takes the arguments of `CircuitBreaker`, and works on any event loop, on several at once,
    and on trio: nothing in it waits.
    """

    __slots__ = ()
    _kinds = (Kind.COROUTINE, Kind.ASYNC_GENERATOR)
    _fallback_kinds = (Kind.FUNCTION, Kind.COROUTINE)
    _other = (
        "is not async: use CircuitBreaker, or to_sync(), which shares this circuit; "
        "if it returns something to await, use call()"
    )

    def to_sync(self) -> CircuitBreaker:
        """The sync front of the same circuit."""
        return CircuitBreaker._over(self._circuit)

    async def call(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn(*args, **kwargs)`; its result or error arrives as it is.

        Raises:
            CallNotPermittedError: the circuit refuses the call.
            TypeError: `fn` gave nothing to await (the call is ignored).
        """
        if (lane := self._circuit.lane) is None:
            return await self._attempted(self._circuit.admit(), fn, args, kwargs)
        clock = self._clock
        start = clock()
        try:
            awaitable = (
                fn(*args, **kwargs) if kwargs else fn(*args)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
            )
            if type(awaitable) is not _COROUTINE:
                self._check_awaitable(fn, awaitable)
            result = await awaitable
            if type(result) not in MADE:
                self._check_result(fn, result)
        except BaseException as error:
            end = clock()
            self._circuit.raised(lane, error, end - start, end)
            raise
        if (elapsed := (end := clock()) - start) < lane.fast_below and end < lane.until:
            lane.append(elapsed)
            if len(lane) > 255:
                self._circuit.drain(lane)
        else:
            self._circuit.returned(lane, result, elapsed, end)
        return result

    @overload
    async def call_with_fallback(
        self,
        fn: Callable[P, Awaitable[R]],
        fallback: Callable[[Exception], Awaitable[F]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | F: ...

    @overload
    async def call_with_fallback(
        self,
        fn: Callable[P, Awaitable[R]],
        fallback: Callable[[Exception], F],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | F: ...

    async def call_with_fallback(
        self,
        fn: Callable[P, Awaitable[R]],
        fallback: Callable[[Exception], Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Any:
        """`call`, and `fallback(error)`, sync or async, in place of any `Exception` from it.

        The fallback gets them all: refusals, failures and programming errors alike. Let it raise
        what it has no answer to. The end of an iteration (`StopIteration`) is no error.
        """
        try:
            return await self.call(fn, *args, **kwargs)
        except _NO_ERRORS:
            raise
        except Exception as error:
            answer = fallback(error)
            return await answer if is_awaitable(answer) else answer

    async def __aenter__(self) -> Attempt:
        return enter(self)

    if TYPE_CHECKING:

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None: ...

    else:
        __aexit__ = Exit(AsyncBlock)  # each look-up is for one block

    def _protect(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        circuit, attempted, check = self._circuit, self._attempted, self._check_result
        clock = circuit.clock
        seen: Any = NoneType

        async def protected(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            if (lane := circuit.lane) is None:
                return await attempted(circuit.admit(), fn, args, kwargs)
            start = clock()
            try:
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
                if type(result) is not seen:  # the cheapest look that there is
                    if type(result) in MADE:
                        seen = type(result)  # pyright: ignore[reportUnknownVariableType]
                    else:
                        check(fn, result)
            except BaseException as error:
                end = clock()
                circuit.raised(lane, error, end - start, end)
                raise
            if (elapsed := (end := clock()) - start) < lane.fast_below and end < lane.until:
                lane.append(elapsed)
                if len(lane) > 255:
                    circuit.drain(lane)
            else:
                circuit.returned(lane, result, elapsed, end)
            return result

        return protected

    async def _attempted(
        self, admission: Lane | Admission, fn: Callable[..., Awaitable[R]], args: Any, kwargs: Any
    ) -> R:
        """The call where there was no lane."""
        attempt = Attempt(self._circuit, admission)
        nested.begin(admission, self._circuit.name)
        try:
            awaitable = fn(*args, **kwargs)
            self._check_awaitable(fn, awaitable)
            result = await awaitable
            if type(result) not in MADE:
                self._check_result(fn, result)
        except BaseException as error:
            attempt.raised(error)
            raise
        attempt.returned(result)
        return result

    def _with_fallback(
        self, protected: Callable[..., Any], fallback: Callable[[Exception], Any]
    ) -> Callable[..., Any]:
        async def with_fallback(*args: Any, **kwargs: Any) -> Any:
            try:
                return await protected(*args, **kwargs)
            except _NO_ERRORS:
                raise
            except Exception as error:
                answer = fallback(error)
                return await answer if is_awaitable(answer) else answer

        return with_fallback

    def _check_awaitable(self, fn: object, given: object) -> None:
        if not is_awaitable(given):
            if isinstance(given, AsyncGeneratorType):
                raise WrongFrontError(advice_on(fn, cast(Any, given)))
            raise self._wrong_front(fn)

    def _check_result(self, fn: object, result: R) -> R:
        """`result`, if it is one, and no call that has yet to be made."""
        if (advice := advice_on(fn, result, is_async=True)) is not None:
            close(result)
            raise WrongFrontError(advice)
        return result

    def _accepts(self, fn: Callable[..., Any]) -> Callable[..., Any] | None:
        """A plain function that wraps an async one, as one that is async itself."""
        if not is_async_inside(fn):
            return None

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            given = fn(*args, **kwargs)
            self._check_awaitable(fn, given)
            return await given

        return update_wrapper(awaited, fn)


def circuits() -> list[CircuitBreaker]:
    """Every living circuit of this process, oldest first, each as a sync breaker.

    For pages and collectors: circuits with equal names are separate circuits, and decorating
    registers nothing.
    """
    return [CircuitBreaker._over(circuit) for circuit in living.every()]


def listen(listener: Listener) -> Subscription:
    """Add a listener to every circuit of this process, to those that are made later, too.

    It is called after a circuit's own listeners, and keeps no circuit alive. A listener that a
    circuit has already is called once all the same. After a fork, the child has it, too.

    Returns:
        What ends it: to be called, or used as a `with` block.

    Raises:
        TypeError: it can't be called with a signal, or is async.
    """
    return everywhere.listen(*checked_listeners([listener]))
