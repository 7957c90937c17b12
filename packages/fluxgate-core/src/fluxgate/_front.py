"""The base of the sync and the async front of a circuit: everything but the call itself."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial, update_wrapper
from math import inf
from types import BuiltinFunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NoReturn,
    ParamSpec,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from fluxgate._callables import (
    Kind,
    describe,
    kind_of,
    protect_async_generator,
    protect_generator,
)
from fluxgate._controls import Said, said
from fluxgate._engine.circuit import Circuit
from fluxgate._engine.transitions import Event
from fluxgate._naming import safe_repr
from fluxgate._unmade import check_decorated
from fluxgate._values import MAX_SECONDS
from fluxgate.attempt import Attempt
from fluxgate.errors import ConfigError, WrongFrontError
from fluxgate.metric import Info, SavedInfo
from fluxgate.policy import DEFAULT, Policy, Settings
from fluxgate.signals import Listener, Subscription
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet
    from fluxgate.fleet._member import Member

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound="Front")

_INITIAL = (State.CLOSED, State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN)


def _roll() -> float:
    import random  # not at import: it is a fifth of what importing fluxgate would cost

    return random.random()


def real_clock() -> Callable[[], float]:
    """`time.perf_counter`, also where a library that freezes time has put another in its place.

    Whoever imports us inside `freeze_time` (freezegun) would otherwise get a clock that is frozen
    now and real later: it goes back by decades, and an opening lasts for as long.
    """
    if isinstance(time.perf_counter, BuiltinFunctionType):
        return time.perf_counter
    spec = time.__spec__
    assert spec is not None
    assert spec.loader is not None
    fresh: Any = spec.loader.create_module(spec)  # the same code, and nobody has touched it
    spec.loader.exec_module(fresh)
    clock: Callable[[], float] = fresh.perf_counter
    return clock


def fleet_of(fleet: object) -> Fleet:
    """The fleet that an argument means."""
    from fluxgate.fleet import _fleet  # not at import: most users have none

    return _fleet.fleet_of(fleet)


def _probed_by(function: Callable[[], object], breaker: Any) -> None:
    """Have a prober of its own call that function."""
    from fluxgate.probing import Prober  # not at import: most circuits have none

    try:
        Prober(breaker, function)
    except TypeError as error:
        said = str(error).removeprefix("Prober: function ")
        raise type(error)(f"prober {said}") from None


class Front(ABC):
    """A breaker, but for the calls that it protects.

    Args:
        name: what the circuit is called in signals, errors and metrics.
        listeners: called with each `Signal`, in order, on the path of the call that caused it.
        initial_state: `CLOSED`, `METRICS_ONLY` (to try a policy on real traffic), `DISABLED` or
            `FORCED_OPEN`.
        clock: gives seconds that never go back; durations and deadlines are taken from it.
        dice: gives numbers in [0, 1), uniformly; jitter and permits are drawn from it.
        fleet: what shares the circuit with other processes: a `fluxgate.fleet.Fleet`, or a URL.
        prober: a function, sync or async, that asks the dependency how it is: a
            `fluxgate.probing.Prober` calls it from a thread once the cooldown is over (none).
        settings: what `Policy` takes: `window=`, `tracker=`, `healthy=`, `result_tracker=`,
            `tripper=`, `retry=`, `permit=`, `max_half_open_calls=`, `probe_timeout=`,
            `cancelled_after=`, `shadow=`, `buckets=`, `error_messages=`. By default the last
            100 calls, all exceptions, `MinRequests(10) & FailureRate(0.5)`, 60 s open, a ramp
            from 10 % to 100 % over 60 s, 10 probes at once with 60 s each.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the settings make no sense; the message says which and what to do.
    """

    __slots__ = ("__weakref__", "_circuit", "_clock")

    _circuit: Circuit
    _clock: Callable[[], float]
    _kinds: ClassVar[tuple[Kind, Kind]]
    _fallback_kinds: ClassVar[tuple[Kind, ...]]
    _other: ClassVar[str]

    def __init__(
        self,
        name: str,
        *,
        listeners: Iterable[Listener] = (),
        initial_state: State | str = State.CLOSED,
        clock: Callable[[], float] = real_clock(),  # noqa: B008 - freezegun finds names
        dice: Callable[[], float] = _roll,
        fleet: Fleet | str | None = None,
        prober: Callable[[], object] | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f'name must be a str, such as {type(self).__name__}("x"): {name!r}')
        if not name:
            raise ValueError("name must not be empty: signals and metrics name the circuit by it")
        try:
            state = State(initial_state.lower())
        except (ValueError, AttributeError):
            state = State.OPEN
        if state not in _INITIAL:
            known = ", ".join(_INITIAL)
            raise ValueError(
                f"initial_state must be one of {known}, not {safe_repr(initial_state)}"
            )
        for what, function in (("clock", clock), ("dice", dice)):
            if not callable(function):
                raise TypeError(f"{what} must be callable without arguments: {safe_repr(function)}")
        self._circuit = Circuit(
            name,
            DEFAULT.replace(**settings) if settings else DEFAULT,
            listeners=checked_listeners(listeners),
            initial_state=state,
            clock=clock,
            dice=dice,
        )
        self._clock = clock
        if fleet is not None:
            fleet_of(fleet)._join(self._circuit)
        if prober is not None:
            _probed_by(prober, self)

    @classmethod
    def _over(cls: type[Self], circuit: Circuit) -> Self:
        breaker = cls.__new__(cls)
        breaker._circuit = circuit
        breaker._clock = circuit.clock
        return breaker

    # -- reading

    @property
    def name(self) -> str:
        """The circuit's name."""
        return self._circuit.name

    @property
    def state(self) -> State:
        """The circuit's state, read without a lock.

        An open circuit turns half-open at the first call after its delay, not by itself.
        """
        return self._circuit.state

    @property
    def available(self) -> bool:
        """Whether a call made now may be admitted; to look changes nothing.

        For a choice between dependencies. False means that a call made now would be refused. True
        is a promise only where the circuit is closed, metrics-only or disabled: once the cooldown
        is over it means that a probe slot is free and the permit leaves the call a chance, for
        which no dice are thrown here; another caller may be faster. (`state` still says open then.)
        In a fleet, it also means that this process has a lease, or has yet to ask for one, which
        only a call does.
        """
        return self._circuit.available()

    @property
    def policy(self) -> Policy:
        """The settings as they are now."""
        return self._circuit.policy

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The circuit's own listeners; those of `fluxgate.listen` are called after them."""
        return self._circuit.listeners

    def info(self) -> Info:
        """The circuit at this moment: state, window metrics, lifetime totals, reason."""
        return self._circuit.info()

    # -- controls: none of them waits for anything

    def reset(self, *, note: str | None = None, by: str | None = None, fleet: bool = False) -> None:
        """Close the circuit and start afresh: window, streak and reopens are zeroed.

        Args:
            note: why, as for `force_open`.
            by: who, as for `force_open`.
            fleet: whether for the whole fleet, merged window included; as with all controls, this
                process obeys at once, the others soon.

        Raises:
            ConfigError: an argument can't be used; or `fleet=True`, and the circuit is in no
                fleet.
        """
        self._control(Event.RESET, said(note=note, by=by), fleet)

    def disable(
        self,
        *,
        seconds: float | None = None,
        note: str | None = None,
        by: str | None = None,
        fleet: bool = False,
    ) -> None:
        """Let every call pass and count nothing, until `reset()` or for so many seconds.

        What follows the time is what would stand without it: closed, with a fresh window; an
        opening that isn't over; else half-open; or what another hand had set for good.

        Args:
            seconds: after which it ends by itself, as for `force_open`.
            note: why, as for `force_open`.
            by: who, as for `force_open`.
            fleet: whether for the whole fleet.

        Raises:
            ConfigError: an argument can't be used; or `fleet=True`, and the circuit is in no
                fleet.
        """
        self._control(Event.DISABLE, said(seconds=seconds, note=note, by=by), fleet)

    def metrics_only(
        self,
        *,
        seconds: float | None = None,
        note: str | None = None,
        by: str | None = None,
        fleet: bool = False,
    ) -> None:
        """Let every call pass and record it; report what would happen.

        Until `reset()`, or for so many seconds; then as after `disable`. The first call that ends
        after the time ends it, and has passed.

        Args:
            seconds: after which it ends by itself, as for `force_open`.
            note: why, as for `force_open`.
            by: who, as for `force_open`.
            fleet: whether for the whole fleet.

        Raises:
            ConfigError: an argument can't be used; or `fleet=True`, and the circuit is in no
                fleet.
        """
        self._control(Event.METRICS_ONLY, said(seconds=seconds, note=note, by=by), fleet)

    def force_open(
        self,
        *,
        seconds: float | None = None,
        note: str | None = None,
        by: str | None = None,
        fleet: bool = False,
    ) -> None:
        """Refuse every call until `reset()`, or for so many seconds.

        After the time it probes, as after any opening: nobody has called, so nobody knows how the
        dependency is. Only an opening that lasts longer, or what another hand had set for good,
        stands again.

        Args:
            seconds: after which it ends by itself: above 0, at most 1e9. It does so with the first
                call or control, or with `info()`; `state` shows it from then on. None: it stays
                until the next control. The last control counts: its time takes the place of an
                earlier one's.
            note: why, in one line; 200 characters are kept. It stands in the reason of the signal
                (so in the log, in Slack and in spans), in refusals and in `info().reason`.
            by: who, in one line; 64 characters are kept, beside the note.
            fleet: whether for the whole fleet, `seconds`, `note` and `by` included.

        Raises:
            ConfigError: an argument can't be used; or `fleet=True`, and the circuit is in no
                fleet.
        """
        self._control(Event.FORCE_OPEN, said(seconds=seconds, note=note, by=by), fleet)

    def open_for(
        self,
        seconds: float,
        *,
        note: str | None = None,
        by: str | None = None,
        fleet: bool = False,
    ) -> None:
        """Open for a stated time, as when a server said how long to stay away.

        It never shortens an opening, and a state that was set by hand (metrics-only, disabled,
        forced open) stays.

        Args:
            seconds: above 0, at most 1e9 (some 31 years).
            note: why, as for `force_open`.
            by: who, as for `force_open`.
            fleet: whether for the whole fleet.

        Raises:
            TypeError: `seconds` is no number.
            ValueError: it is out of range.
            ConfigError: another argument can't be used; or `fleet=True`, and the circuit is in no
                fleet.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"open_for({safe_repr(seconds)}): seconds must be a number")
        if not 0 < seconds <= MAX_SECONDS:
            raise ValueError(
                f"open_for({safe_repr(seconds)}): seconds must be above 0 and at most 1e9"
            )
        words = said(note=note, by=by)
        if fleet:
            self._member().open_for(seconds, words)
        else:
            self._circuit.open_for(seconds, said=words)

    def _control(self, event: Event, words: Said, fleet: bool) -> None:
        if fleet:
            self._member().control(event, words)
        else:
            self._circuit.control(event, said=words)

    def _member(self) -> Member:
        member = self._circuit.fleet
        if member is None:
            raise ConfigError(
                f"fleet=True: the circuit {self.name!r} is in no fleet; give it one when it is "
                'made: fleet="redis://host:6379/0"'
            )
        return member

    def listen(self, listener: Listener) -> Subscription:
        """Add a listener, which hears of what happens from now on.

        A listener that is there already is called once all the same.

        Returns:
            What ends it: to be called, or used as a `with` block.

        Raises:
            TypeError: it can't be called with a signal, or is async.
        """
        return self._circuit.listen(*checked_listeners([listener]))

    def restore(
        self, saved: Info | SavedInfo | Mapping[str, Any] | str | bytes, *, max_age: float = inf
    ) -> bool:
        """Go on where a circuit of an earlier process was: state, deadline, reopens, last reason.

        The window begins empty. What is left of a cooldown goes by the wall clock: seconds that
        have passed since it was saved are over, and a save that seems to come from the future
        counts as made just now. An open state whose deadline nobody knew takes its delay from this
        breaker's retry. Listeners hear of a transition whose reason is `restore()`.

        Args:
            saved: `info.save()`, its JSON text, or an `Info`.
            max_age: seconds; an older save is left alone.

        Returns:
            Whether the circuit goes on from there. It stays as it is where it has moved already
            or was set by hand (by `initial_state`, too), since that is newer; where it is in a
            fleet, whose store knows better; and where the save is too old.

        Raises:
            ConfigError: it is no save, one of another circuit, or one with wrong fields; the
                message names them.
            TypeError: `max_age` is no number.
            ValueError: it is not above 0.
        """
        from fluxgate import _saved  # not at import: few need it

        checked = _saved.read(saved.save() if isinstance(saved, Info) else saved, self.name)
        return _saved.is_fresh(checked, max_age) and self._circuit.restore(checked)

    def update(self, **changes: Unpack[Settings]) -> None:
        """Change settings at run time; state and window stay.

        A closed or metrics-only circuit takes them at once (a new slow threshold counts from 0);
        an open or half-open one with its next phase, its deadline stands. The window itself can't
        be changed.

        Raises:
            TypeError: unknown setting, or one of the wrong kind.
            ValueError: the settings make no sense together. Nothing has been changed then.
        """
        for fixed in ("window", "buckets"):
            if fixed in changes:
                raise TypeError(
                    f"update({fixed}=...): {fixed} can't be exchanged, which would lose what has "
                    "been counted; make a new breaker"
                )
        self._circuit.update(dict(changes))

    def attempt(self) -> Attempt:
        """Admit a call now, and settle it by hand; for what fits neither function nor block.

        Raises:
            CallNotPermittedError: the circuit refuses the call.
        """
        circuit = self._circuit
        lane = circuit.lane
        return Attempt(circuit, circuit.admit() if lane is None else lane)

    # -- decorating

    @overload
    def __call__(
        self, fn: Callable[P, R], /, *, fallback: Callable[[Exception], Any] | None = None
    ) -> Callable[P, R]: ...

    @overload
    def __call__(
        self, fn: None = None, /, *, fallback: Callable[[Exception], Any] | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def __call__(self, fn: Any = None, /, *, fallback: Any = None) -> Any:
        """Decorate a function, method or generator; it keeps its signature, type and kind.

        Args:
            fn: what to protect.
            fallback: called with any `Exception` that comes out, refusals included; its result
                takes the call's place. On an async breaker it may be sync or async.

        Raises:
            TypeError: `fn` belongs to the other front, or is a generator with a fallback.
        """
        if fn is None:
            return partial(self._decorate, fallback=fallback)
        return self._decorate(fn, fallback)

    def _decorate(self, fn: Any, fallback: Callable[[Exception], Any] | None) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            descriptor = cast(Any, fn)
            return type(descriptor)(self._decorate(descriptor.__func__, fallback))
        if not callable(fn):
            raise TypeError(f"{self!r} decorates functions; this can't be called: {safe_repr(fn)}")
        kind = kind_of(fn)
        if (advice := check_decorated(fn)) is not None:
            raise WrongFrontError(advice)
        if kind not in self._kinds:
            accepted = self._accepts(fn) if kind is Kind.FUNCTION else None
            if accepted is None:
                raise self._wrong_front(fn)
            fn = accepted
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            if fallback is not None:
                raise TypeError(
                    f"{describe(fn)} is a generator: it may fail after its first items, so a "
                    "fallback can't replace it; catch the error where the items are read"
                )
            protect = protect_generator if kind is Kind.GENERATOR else protect_async_generator
            return protect(self._circuit, fn)
        wrapper = self._protect(fn)
        if fallback is not None:
            self._check_fallback(fallback)
            wrapper = self._with_fallback(wrapper, fallback)
        return update_wrapper(wrapper, fn)

    @abstractmethod
    def _protect(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` behind the circuit, without its name and signature."""

    @abstractmethod
    def _with_fallback(
        self, protected: Callable[..., Any], fallback: Callable[[Exception], Any]
    ) -> Callable[..., Any]:
        """`protected`, and `fallback` for whatever `Exception` comes out of it."""

    def _check_fallback(self, fallback: Callable[[Exception], Any]) -> None:
        if not callable(fallback):
            raise TypeError(f"fallback must be callable with the exception: {safe_repr(fallback)}")
        kind = kind_of(fallback)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(f"fallback {describe(fallback)} is a generator: it must give a result")
        if kind not in self._fallback_kinds:
            raise self._wrong_front(fallback)

    def _accepts(self, fn: Callable[..., Any]) -> Callable[..., Any] | None:
        """A stand-in for a plain function that this front can't decorate, if there is one."""
        return None

    def _wrong_front(self, fn: object, more: str = "") -> WrongFrontError:
        return WrongFrontError(f"{describe(fn)} {self._other}{more}")

    # -- what a breaker refuses

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{self!r} can't be copied or pickled: two copies would drift apart; "
            "share the object, or make one in each process"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.state}>"


def checked_listeners(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Listeners, each of them checked."""
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners must be a list of callables, not {safe_repr(listeners)}")
    checked = tuple(listeners)
    for listener in checked:
        if not callable(listener):
            raise TypeError(f"listeners must be callable with a Signal: {safe_repr(listener)}")
        kind = kind_of(listener)
        if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(f"listener {describe(listener)} is a generator: it would never run")
        if kind is Kind.COROUTINE:
            raise TypeError(
                f"listener {describe(listener)} is async, and a breaker calls its listeners "
                "where it stands: wrap it in fluxgate.listeners.Background(...), which has a loop"
            )
        for name in ("rejected", "call_ended"):
            method = getattr(listener, name, None)
            if callable(method) and kind_of(method) is not Kind.FUNCTION:
                raise TypeError(
                    f"{name} of listener {describe(listener)} is async: it would never run; wrap "
                    "the listener in fluxgate.listeners.Background(...), which has a loop"
                )
    return checked
