"""Circuits by name: made once, found again, let go when nobody needs them."""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CircuitBreaker,
    ConfigError,
    State,
    _circuit_cache,
    retries,
)
from fluxgate._circuit_cache import Entry
from fluxgate.config import Config, read
from fluxgate.permits import All
from fluxgate.registry import AsyncCircuits, Registry, UnknownCircuitError
from fluxgate.retries import Always, Cooldown, Never
from fluxgate.testing import ManualClock, tripped
from fluxgate.trippers import FailureStreak

T = TypeVar("T")

NOT_AN_ERROR = "ignore:.*multi-threaded.*fork:DeprecationWarning"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def small(clock: ManualClock) -> Registry:
    """Keeps two circuits; they open after one failure, for 30 s."""
    return Registry(
        max_circuits=2, clock=clock, tripper=FailureStreak(1), retry=Cooldown(30), permit=All()
    )


def crowd(registry: Registry | AsyncCircuits, count: int = 20) -> None:
    """Make circuits that nobody comes back to."""
    for number in range(count):
        registry[f"crowd {number}"]


def kept(registry: Registry | AsyncCircuits) -> list[str]:
    """Those that have been kept beside the crowd."""
    return [name for name in registry if not name.startswith("crowd")]


def complaint(call: Callable[..., object], *args: object, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# -- finding and making


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("defaults", {"retry": "Never()"}),
        ("BREAKERS", {"payments": {"retry": "Never()"}}),
        ("fleet", {"url": "memory://shop"}),
    ],
)
def test_tables_are_no_circuits(key: str, table: dict[str, Any]) -> None:
    """They would be taken for a circuit that nobody asks for: without effect, and silently."""
    said = complaint(Registry, {"payments": {"retry": "Always()"}, key: table})
    assert said == (
        f"Registry takes settings by circuit's name, and {key!r} is a table of "
        "fluxgate.config.read: write Registry(read(...))"
    )


def test_circuits_called_like_tables() -> None:
    circuits = Registry({"breakers": {"retry": "Never()"}, "fleet": {"retry": "Never()"}})
    assert circuits["breakers"].policy.retry == circuits["fleet"].policy.retry == Never()


def test_a_circuit_is_made_on_first_use_and_found_again() -> None:
    registry = Registry()
    breaker = registry["payments"]
    assert type(breaker) is CircuitBreaker
    assert breaker.name == "payments"
    assert registry["payments"] is breaker
    assert registry["search"] is not breaker


def test_both_views_have_the_same_circuits() -> None:
    registry = Registry()
    breaker = registry.asynchronous["payments"]
    assert type(breaker) is AsyncCircuitBreaker
    assert registry.asynchronous["payments"] is breaker
    breaker.force_open()
    assert registry["payments"].state is State.FORCED_OPEN
    registry["search"]
    assert isinstance(registry.asynchronous, AsyncCircuits)
    assert list(registry.asynchronous) == list(registry) == ["payments", "search"]


def test_reading_makes_nothing() -> None:
    registry = Registry()
    assert "payments" not in registry
    assert ["a list"] not in registry
    assert registry.get("payments") is None
    assert registry.asynchronous.get("payments") is None
    assert list(registry) == registry.values() == registry.items() == []
    assert len(registry) == 0


@pytest.mark.parametrize("view", ["sync", "asynchronous"])
def test_a_registry_is_iterated_like_a_mapping(view: str) -> None:
    registry = Registry()
    shown = registry if view == "sync" else registry.asynchronous
    payments, search = shown["payments"], shown["search"]
    assert "payments" in shown
    assert len(shown) == 2
    assert list(shown) == ["payments", "search"]
    assert shown.values() == [payments, search]
    assert shown.items() == [("payments", payments), ("search", search)]
    assert shown.get("search") is search


def test_iteration_survives_what_it_does() -> None:
    registry = Registry()
    registry["a"], registry["b"]
    for name in registry:
        registry[f"{name}2"]
        del registry[name]
    assert list(registry) == ["a2", "b2"]


def test_a_removed_name_finds_a_new_circuit() -> None:
    registry = Registry()
    old = registry["payments"]
    del registry["payments"]
    assert "payments" not in registry
    assert registry["payments"] is not old
    old.force_open()
    assert registry["payments"].state is State.CLOSED
    with pytest.raises(KeyError, match="search"):
        del registry["search"]
    registry.clear()
    assert len(registry) == 0


@pytest.mark.parametrize("key", [3, None, b"payments"])
def test_names_are_strings(key: Any) -> None:
    with pytest.raises(TypeError, match="a circuit's name is a string"):
        Registry()[key]
    assert "name must not be empty" in complaint(Registry().__getitem__, "")


# -- settings


def test_settings_go_by_name_and_defaults_by_the_rest() -> None:
    settings = read(
        {
            "defaults": {"permit": "All()"},
            "breakers": {
                "payments": {"retry": "Never()"},
                "*.internal": {"initial_state": "metrics_only"},
                "search": lambda name: AsyncCircuitBreaker(name, retry=Always()),
            },
        }
    )
    registry = Registry(settings, retry="Cooldown(30)")
    assert registry["payments"].policy.retry == Never()
    assert registry["payments"].policy.permit == All()
    assert registry["stock.internal"].state is State.METRICS_ONLY
    assert registry["stock.internal"].policy.retry == Cooldown(30)
    assert registry["other"].policy.retry == Cooldown(30)
    assert type(registry["search"]) is CircuitBreaker
    assert registry["search"].policy.retry == Always()


def test_settings_may_be_a_plain_mapping_of_names() -> None:
    registry = Registry({"payments": {"RETRY": Never()}}, max_circuits=5)
    assert registry["payments"].policy.retry == Never()
    assert registry["search"].policy.retry == Cooldown(60.0)
    assert registry.max_circuits == 5


@pytest.mark.parametrize("front", [CircuitBreaker, AsyncCircuitBreaker])
def test_a_factory_may_make_either_front(front: type[CircuitBreaker | AsyncCircuitBreaker]) -> None:
    made = []

    def make(name: str) -> CircuitBreaker | AsyncCircuitBreaker:
        made.append(name)
        return front(name, retry=Never())

    registry = Registry({"search": {}}, factory=make)
    assert registry["payments"].policy.retry == Never()
    assert registry.asynchronous["payments"].policy is registry["payments"].policy
    assert registry["search"].policy.retry == Cooldown(60.0)
    assert made == ["payments"]


def test_a_strict_registry_knows_its_names() -> None:
    registry = Registry({"payments": {}, "*.internal": {}}, strict=True)
    registry["payments"], registry["stock.internal"]
    with pytest.raises(UnknownCircuitError) as caught:
        registry["paymets"]
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ConfigError)
    said = str(caught.value)
    assert said == (
        "no circuit is called 'paymets'; known are payments, *.internal; did you mean 'payments'?"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == said
    assert "paymets" not in registry
    assert "no circuit is configured" in complaint(Registry(strict=True).__getitem__, "x")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_circuits": 0}, "max_circuits must be at least 1, not 0"),
        ({"max_circuits": 2.5}, "max_circuits must be a whole number, not 2.5"),
        ({"max_circuits": True}, "max_circuits must be a whole number, not True"),
        ({"factory": 3}, "factory must be called with a name, and this can't: 3"),
        ({"factory": CircuitBreaker, "strict": True}, "factory= and strict=True contradict"),
        ({"factory": CircuitBreaker, "retry": Never()}, "factory= and retry=, a default,"),
        ({"retry": "Nevr()"}, "Registry.retry: `Nevr()`: column 1: no retry is called Nevr"),
        ({"max_circuit": 3}, "Registry.max_circuit: unknown setting"),
        ({"settings": {"": {}}}, "breakers: names are strings that are not empty"),
    ],
)
def test_a_registry_that_can_not_work_is_refused(arguments: dict[str, Any], says: str) -> None:
    assert says in complaint(Registry, **arguments)


def test_a_wrong_setting_is_told_at_first_use_and_leaves_nothing() -> None:
    registry = Registry({"payments": {"tripper": "FailureRate(1.5)"}})
    for _ in range(2):
        said = complaint(registry.__getitem__, "payments")
        assert said == "payments.tripper: FailureRate(1.5): ratio must be in (0, 1]"
    assert "payments" not in registry
    registry["search"]


def test_code_may_declare_a_circuit_before_its_first_use() -> None:
    registry = Registry(retry="Never()", strict=True)
    registry.declare("payments", tripper="FailureStreak(3)")
    registry.declare("payments", tripper=FailureStreak(3))
    assert "payments" not in registry
    assert registry["payments"].policy.tripper == FailureStreak(3)
    assert registry["payments"].policy.retry == Never()
    registry.declare("payments", tripper=FailureStreak(3))
    del registry["payments"]
    assert registry["payments"].policy.tripper == FailureStreak(3)


def test_a_declaration_contradicts_nothing() -> None:
    registry = Registry({"search": {}})
    registry["used"]
    registry.declare("payments", retry="Never()")
    assert "payments: it was declared with {'retry': Never()}, and now with none" in complaint(
        registry.declare, "payments"
    )
    assert "used: it is in use already" in complaint(registry.declare, "used", retry="Never()")
    assert "search: the configuration has its settings" in complaint(registry.declare, "search")
    assert "new.retry: `Nevr()`" in complaint(registry.declare, "new", retry="Nevr()")
    assert "new.tripper: MinRe" in complaint(registry.declare, "new", tripper="MinRequests(3)")
    registry.declare("new", retry="Never()")


# -- letting go


def race_to_declare() -> None:
    registry, start, refused = Registry(), threading.Barrier(3), list[ConfigError]()

    def declare() -> None:
        start.wait()
        try:
            registry.declare("x", retry="Cooldown(7)")
        except ConfigError as error:
            refused.append(error)

    def use() -> None:
        start.wait()
        registry.asynchronous["x"].info()

    threads = [threading.Thread(target=each) for each in (declare, use, use)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heeded = registry["x"].policy.retry == Cooldown(7)
    assert heeded is not bool(refused)
    assert registry.knows("x") is heeded


def test_declared_or_refused_never_neither() -> None:
    """However a declaration and a first use meet, it holds, or it raises."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            race_to_declare()
    finally:
        sys.setswitchinterval(interval)


def test_declared_while_it_is_made() -> None:
    """By the factory itself, and by a thread that the factory waits for."""
    refused: list[ConfigError] = []

    def declare() -> None:
        with pytest.raises(ConfigError, match="x: it is in use already") as caught:
            registry.declare("x", retry="Cooldown(7)")
        refused.append(caught.value)

    def factory(name: str) -> CircuitBreaker:
        declare()
        thread = threading.Thread(target=declare)
        thread.start()
        thread.join()  # it can't have the lock, and gives it up after a second
        return CircuitBreaker(name, retry=Never())

    registry = Registry({"*": factory})
    assert registry["x"].policy.retry == Never()
    assert len(refused) == 2


def test_used_while_it_is_declared() -> None:
    """A clock is called while the settings are tried, which is before they hold."""
    clock = ManualClock()

    def use() -> float:
        registry["x"].info()
        return clock()

    registry = Registry()
    with pytest.raises(ConfigError, match="x: it is in use already"):
        registry.declare("x", retry="Cooldown(7)", clock=use)
    assert registry["x"].policy.retry == Cooldown(60.0)


def test_declared_again_after_an_error() -> None:
    """A circuit that could not be made is not in use."""

    def factory(name: str) -> CircuitBreaker:
        raise LookupError(name)

    registry = Registry({"*": factory})
    with pytest.raises(LookupError):
        registry["x"]
    registry.declare("x", retry="Cooldown(7)")
    assert registry["x"].policy.retry == Cooldown(7)


def test_the_bound_holds_and_what_is_let_go_is_gone() -> None:
    registry = Registry(max_circuits=10)
    first = weakref.ref(registry["first"]._circuit)
    crowd(registry, 1000)
    assert len(registry) == 10
    assert list(registry) == [f"crowd {number}" for number in range(990, 1000)]
    assert first() is None
    assert len(registry._cache.known) <= 11


def test_what_is_looked_up_stays() -> None:
    registry = Registry(max_circuits=10)
    registry["payments"]
    for number in range(100):
        registry["payments"]
        registry[f"crowd {number}"]
    assert kept(registry) == ["payments"]


def test_what_is_looked_up_through_the_other_view_stays() -> None:
    registry = Registry(max_circuits=10)
    for number in range(100):
        registry.asynchronous["payments"]
        registry.asynchronous[f"crowd {number}"]
    assert kept(registry.asynchronous) == ["payments"]


@pytest.mark.parametrize("control", ["force_open", "disable", "metrics_only"])
def test_what_was_set_by_hand_stays(small: Registry, control: str) -> None:
    getattr(small["payments"], control)()
    crowd(small)
    assert kept(small) == ["payments"]
    small["payments"].reset()
    crowd(small)
    assert kept(small) == []


def test_what_was_updated_by_hand_stays(small: Registry) -> None:
    small["payments"].update(retry=Never())
    crowd(small)
    assert small["payments"].policy.retry == Never()


def test_what_began_in_another_state_goes_in_it_and_stays_when_closed_by_hand() -> None:
    registry = Registry(max_circuits=2, initial_state="metrics_only")
    registry["payments"].reset()
    registry["search"]
    crowd(registry)
    assert kept(registry) == ["payments"]
    assert registry["payments"].state is State.CLOSED


def test_what_is_open_stays_until_nobody_waits_for_it(small: Registry, clock: ManualClock) -> None:
    tripped(small["payments"])
    crowd(small)
    clock.advance(59)
    crowd(small)
    assert kept(small) == ["payments"]
    assert small["payments"].state is State.OPEN
    clock.advance(1)
    crowd(small)
    assert kept(small) == []


def test_what_stays_open_for_good_stays(clock: ManualClock) -> None:
    registry = Registry(max_circuits=2, clock=clock, tripper="FailureStreak(1)", retry="Never()")
    tripped(registry["payments"])
    clock.advance(1e6)
    crowd(registry)
    assert kept(registry) == ["payments"]


def test_what_is_half_open_stays_while_it_probes(small: Registry, clock: ManualClock) -> None:
    tripped(small["payments"])
    clock.advance(30)
    probe = small["payments"].attempt()
    clock.advance(59)
    crowd(small)
    assert small.get("payments").state is State.HALF_OPEN
    assert small.get("payments").info().probes == 1
    probe.ignore()
    del probe
    crowd(small)
    assert kept(small) == ["payments"]
    clock.advance(31)  # 30 s as it was open, and the 60 s that a probe may take
    crowd(small)
    assert kept(small) == []


def test_closed_ones_go_before_those_that_were_open(clock: ManualClock, small: Registry) -> None:
    small["closed"]
    tripped(small["opened"])
    clock.advance(1000)
    small["new"]
    assert list(small) == ["opened", "new"]


@pytest.mark.parametrize(
    "hold",
    [
        lambda breaker: breaker,
        lambda breaker: breaker.to_async(),
        lambda breaker: breaker(int),
        lambda breaker: breaker.attempt(),
        lambda breaker: breaker.to_async().call(asyncio.sleep, 0),
    ],
    ids=["breaker", "front", "wrapper", "attempt", "call"],
)
def test_what_is_held_elsewhere_is_found_again(
    small: Registry, hold: Callable[[CircuitBreaker], Any]
) -> None:
    held = hold(small["payments"])
    circuit = weakref.ref(small["payments"]._circuit)
    crowd(small)
    assert "payments" not in small._cache.kept
    assert "payments" in small
    assert small["payments"]._circuit is small.asynchronous["payments"]._circuit is circuit()
    crowd(small)
    assert kept(small) == ["payments"]
    if hasattr(held, "close"):
        held.close()
    del held
    assert circuit() is None
    assert kept(small) == []


def test_what_was_let_go_and_opens_is_shown(small: Registry) -> None:
    protected = small["payments"](lambda: 1 / 0)
    crowd(small)
    with pytest.raises(ZeroDivisionError):
        protected()
    assert {name: breaker.state for name, breaker in small.items()}["payments"] is State.OPEN


CHANGES: dict[str, Callable[[CircuitBreaker], object]] = {
    "force_open": CircuitBreaker.force_open,
    "disable": lambda breaker: breaker.to_async().disable(seconds=1000),
    "metrics_only": CircuitBreaker.metrics_only,
    "open_for": lambda breaker: breaker.open_for(1000),
    "update": lambda breaker: breaker.update(retry=Never()),
    "restore": lambda breaker: breaker.restore(tripped(CircuitBreaker(breaker.name)).info()),
    "a trip": lambda breaker: breaker.attempt().fail(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_set_after_eviction_it_stays(small: Registry, change: str) -> None:
    """Between a look-up and a control, other threads may have made any number of circuits."""
    held = small["payments"]
    crowd(small)
    assert "payments" not in small._cache.kept
    CHANGES[change](held)
    state, policy = held.state, held.policy
    del held
    crowd(small)
    assert kept(small) == ["payments"]
    assert (small["payments"].state, small["payments"].policy) == (state, policy)


def test_a_longer_opening_stays(small: Registry, clock: ManualClock) -> None:
    """Evicted since nobody called it while it was open, it is given more time to be open."""
    held = small["payments"]
    tripped(held)
    clock.advance(1000)
    crowd(small)
    assert "payments" not in small._cache.kept
    held.open_for(60)
    del held
    assert small["payments"].state is State.OPEN


def test_what_is_removed_stays_away(small: Registry) -> None:
    held = small["payments"]
    del small["payments"]
    held.force_open()
    assert kept(small) == []
    assert small["payments"].state is State.CLOSED
    held.disable()
    assert small["payments"]._circuit is not held._circuit


def test_made_again_and_again_it_notes_one_home() -> None:
    """A factory may give the same circuit each time."""
    shared = CircuitBreaker("shared")
    registry = Registry(factory=lambda _: shared, max_circuits=2)
    for _ in range(20):
        registry["a"]
        registry["b"]
        del registry["a"]
    assert len(shared._circuit.keepers) == 2


def test_removed_while_it_is_put_back(small: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    held = small["payments"]
    crowd(small)
    made = Entry.__init__

    def remove_first(entry: Entry, circuit: Any, ref: Any) -> None:
        small._cache.forget("payments")
        made(entry, circuit, ref)

    with monkeypatch.context() as patched:
        patched.setattr(Entry, "__init__", remove_first)
        held.force_open()
    assert "payments" not in small._cache.kept
    assert small["payments"].state is State.CLOSED


def test_set_while_it_is_evicted(small: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control comes after the registry has looked whether it may go."""
    held = [small["payments"]]
    looked = Entry.is_evictable

    def is_evictable(entry: Entry) -> bool:
        evictable = looked(entry)
        if held and entry.circuit is held[0]._circuit:
            held.pop().force_open()
        return evictable

    monkeypatch.setattr(Entry, "is_evictable", is_evictable)
    crowd(small)
    assert not held
    assert small["payments"].state is State.FORCED_OPEN


@pytest.mark.usefixtures("switching")
def test_no_control_is_lost_to_eviction() -> None:
    registry = Registry(max_circuits=1)

    def work(number: int) -> int:
        lost = 0
        for turn in range(300):
            name = f"{number} {turn}"
            registry[name].force_open()
            lost += registry[name].state is not State.FORCED_OPEN
            registry[name].reset()
        return lost

    assert together(4, work) == [0] * 4


def test_with_nothing_to_let_go_the_bound_is_exceeded_and_logged_once(
    small: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fluxgate"):
        for number in range(10):
            small[f"open {number}"].force_open()
    assert len(small) == 10
    assert [record.name for record in caplog.records] == ["fluxgate"]
    assert "a registry holds 3 circuits, more than max_circuits=2" in caplog.text
    for breaker in small.values():
        breaker.reset()
    del breaker
    crowd(small)
    assert len(small) == 2


@pytest.mark.parametrize("pinned", [0, 500])
def test_making_one_looks_at_few_others_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, pinned: int
) -> None:
    looks = []
    is_evictable = _circuit_cache.Entry.is_evictable
    monkeypatch.setattr(
        _circuit_cache.Entry, "is_evictable", lambda entry: looks.append(1) or is_evictable(entry)
    )
    registry = Registry(max_circuits=500)
    for number in range(pinned):
        registry[f"open {number}"].force_open()
    crowd(registry, 500)
    looks.clear()
    crowd(registry, 5000)
    assert len(registry) <= 501
    assert len(looks) <= 5000 * 10


def test_a_lookup_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    registry["payments"]
    monkeypatch.setattr(registry._cache, "_lock", None)
    assert registry["payments"].name == registry.asynchronous["payments"].name == "payments"
    with pytest.raises(AttributeError):
        registry["search"]


# -- threads, finalisers, forks


def together(count: int, work: Callable[[int], T]) -> list[T]:
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait()
        results[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
def test_threads_that_ask_at_once_get_one_circuit_made_once() -> None:
    made = []

    def make(name: str) -> CircuitBreaker:
        made.append(name)
        return CircuitBreaker(name)

    registry = Registry(factory=make)
    found = together(8, lambda _: [registry[f"{n}"] for n in range(200)])
    assert all(names == found[0] for names in found)
    assert sorted(made) == sorted(f"{n}" for n in range(200))


@pytest.mark.usefixtures("switching")
def test_threads_that_hold_a_circuit_always_find_that_one() -> None:
    registry = Registry(max_circuits=3)

    def work(number: int) -> int:
        wrong = 0
        for turn in range(300):
            name = f"{(number + turn) % 12}"
            held = registry[name]
            for other in range(3):
                registry[f"{number} {turn} {other}"]
            wrong += registry[name]._circuit is not held._circuit
        return wrong

    assert together(8, work) == [0] * 8
    gc.collect()
    assert len(registry) == 3
    assert registry._cache.kept.keys() == set(registry)


def test_a_factory_may_use_its_registry() -> None:
    def make(name: str) -> CircuitBreaker:
        if name == "payments":
            registry["gateway"].force_open()
        return CircuitBreaker(name)

    registry = Registry(factory=make)
    assert registry["payments"].state is State.CLOSED
    assert registry["gateway"].state is State.FORCED_OPEN


def test_what_is_made_while_it_is_being_made_is_the_one() -> None:
    inner = []

    def make(name: str) -> CircuitBreaker:
        if not inner:
            inner.append(None)
            inner[0] = registry[name]  # as a finaliser could
        return CircuitBreaker(name)

    registry = Registry(factory=make)
    assert registry["payments"] is inner[0]
    assert len(registry) == 1


def test_finalisers_may_use_the_registry_anywhere() -> None:
    registry = Registry(max_circuits=5)
    used = []

    class Orphan:
        def __init__(self, number: int) -> None:
            self.itself = self  # for the collector
            self.number = number

        def __del__(self) -> None:
            used.append(registry[f"{self.number % 7}"])
            registry[f"orphan {self.number}"].attempt().fail()
            if self.number % 50 == 0:
                del used[:]
            list(registry)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(1000):
            Orphan(number)
            held = registry[f"{number % 11}"]
            assert registry[f"{number % 11}"]._circuit is held._circuit
    finally:
        gc.set_threshold(*before)
    gc.collect()
    del used[:], held
    registry["a"], registry["b"]
    assert len(used) == 0
    assert len(registry._cache.kept) <= 5


def test_a_signal_handler_may_use_the_registry_after_any_line() -> None:
    registry = Registry(max_circuits=3)
    fresh = itertools.count()
    inside = []

    def handler(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if (
            "_circuit_cache" not in frame.f_code.co_filename
            and frame.f_code.co_filename != __file__
        ):
            return None
        if event == "line" and not inside:  # not in itself
            inside.append(True)
            registry[f"{next(fresh)}"]
            registry["payments"]
            inside.pop()
        return handler

    before = sys.gettrace()
    sys.settrace(handler)
    try:
        for number in range(50):
            held = registry[f"{number % 5} here"]
            assert registry[f"{number % 5} here"]._circuit is held._circuit
            registry.get("payments").force_open()
            crowd(registry, 3)
            registry["payments"].reset()
    finally:
        sys.settrace(before)
    del held
    crowd(registry)
    assert next(fresh) > 1000
    assert len(registry) == 3


def test_who_waits_too_long_for_the_lock_goes_on_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_circuit_cache, "_PATIENCE", 0.01)
    entered, done = threading.Event(), threading.Event()

    def make(name: str) -> CircuitBreaker:
        if name == "slow" and not entered.is_set():
            entered.set()
            assert done.wait(10)
        return CircuitBreaker(name)

    registry = Registry(factory=make)
    slow = []
    thread = threading.Thread(target=lambda: slow.append(registry["slow"]))
    thread.start()
    assert entered.wait(10)
    search, found = registry["search"], registry["slow"]  # this would be the deadlock
    done.set()
    thread.join()
    assert slow == [found]
    assert registry["search"] is search


@pytest.mark.usefixtures("switching")
def test_without_the_lock_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that have all given up the lock make, evict and forget at once; nothing is lost."""
    monkeypatch.setattr(_circuit_cache, "_PATIENCE", 0.0)
    registry = Registry(max_circuits=8)

    def work(number: int) -> None:
        for turn in range(1500):
            assert registry[f"{number} {turn % 40}"].call(int) == 0
            if turn % 7 == 0:
                with contextlib.suppress(KeyError):
                    del registry[f"{(number + 1) % 4} {turn * 3 % 40}"]

    assert together(4, work) == [None] * 4
    crowd(registry, 100)
    gc.collect()
    assert len(registry) == len(registry._cache.kept) == 8


def test_a_round_goes_on_whatever_comes_and_goes() -> None:
    rounds = _circuit_cache.Rounds()
    for name in "abcd":
        rounds.add(name)
    seen = []
    for name in rounds.following(8):
        seen.append(name)
        if name == "a":
            rounds.discard("b")
            rounds.add("e")  # after all that are there already
        if name == "e":
            rounds.discard("e")  # the one that is looked at
    assert seen == [*"acd", *"acde", "a"]
    for name in "acde":
        rounds.discard(name)
    assert list(rounds.following(3)) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings(NOT_AN_ERROR)
def test_a_forked_child_has_the_circuits_and_a_lock_of_its_own() -> None:
    registry = Registry()
    registry["payments"].force_open()
    inside, leave = threading.Event(), threading.Event()

    def make(name: str) -> CircuitBreaker:
        inside.set()
        leave.wait(10)
        return CircuitBreaker(name)

    other = Registry(factory=make)
    thread = threading.Thread(target=lambda: other["slow"])
    thread.start()
    assert inside.wait(10)
    child = os.fork()
    if child == 0:
        free = other._cache._lock.here().acquire(blocking=False)
        known = registry["payments"].state is State.FORCED_OPEN
        registry["search"]
        os._exit(0 if free and known and len(registry) == 2 else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "search" not in registry


def test_a_registry_and_its_settings_show_what_they_are() -> None:
    registry = Registry({"payments": {}})
    assert isinstance(registry.config, Config)
    assert repr(registry.config) == "<Config of payments>"
    registry["payments"]
    assert repr(registry) == "<Registry of 1 circuits>"
    assert repr(registry.asynchronous) == "<<Registry of 1 circuits>, asynchronous>"


# -- listeners


class Closable:
    """A listener that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __call__(self, signal: object) -> None:
        """Nothing to do."""

    def close(self) -> None:
        self.closed += 1


class Unclosable(Closable):
    def close(self) -> None:
        raise RuntimeError("not now")


def test_close_closes_each_listener_once(caplog: pytest.LogCaptureFixture) -> None:
    """Those of the defaults, of names, of declarations and of what a factory has made."""
    everywhere, named, declared, made = listeners = [Closable() for _ in range(4)]
    broken = Unclosable()
    registry = Registry(
        {
            "named": {"listeners": [everywhere, broken, named]},
            "made": lambda name: CircuitBreaker(name, listeners=[made, everywhere]),
        },
        listeners=[everywhere, print],
    )
    registry.declare("declared", listeners=[declared])
    assert registry["made"].name == "made"
    assert registry["defaults"].listeners == (everywhere, print)
    registry.close()
    assert [listener.closed for listener in listeners] == [1, 1, 1, 1]
    assert "closing listener" in caplog.text
    assert "raised RuntimeError" in caplog.text


def test_listeners_that_cannot_be_used_are_passed_over() -> None:
    registry = Registry(
        {"a": {"listeners": ["no.such.module"]}, "b": {"listeners": 5}, "c": {1: 2}}  # type: ignore[dict-item]
    )
    assert registry.listeners() == []


def made_by_hand(name: str) -> CircuitBreaker:
    return CircuitBreaker(name, retry=retries.Cooldown(9))


def test_settings_can_be_pickled() -> None:
    """Circuits stay in their process: the copy has the settings, and none yet."""
    registry = Registry({"mail": {"retry": "Cooldown(7)"}}, max_circuits=5, retry="Cooldown(8)")
    registry.declare("search", retry="Cooldown(6)")
    assert registry["mail"].policy.retry == retries.Cooldown(7)
    there = pickle.loads(pickle.dumps(registry))
    assert (list(there), there.max_circuits, there.strict) == ([], 5, False)
    cooldowns = [there[name].policy.retry for name in ("mail", "other", "search")]
    assert cooldowns == [retries.Cooldown(7), retries.Cooldown(8), retries.Cooldown(6)]


def test_a_factory_can_be_pickled() -> None:
    there = pickle.loads(pickle.dumps(Registry(factory=made_by_hand)))
    assert there["any"].policy.retry == retries.Cooldown(9)
