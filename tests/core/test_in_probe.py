"""`in_probe()`: a function that knows that it probes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, in_probe
from fluxgate._engine import nested
from fluxgate.permits import All
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureStreak

from .conftest import THREADS_INHERIT


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(autouse=True)
def no_probe_of_before() -> None:
    """Another test of this worker may hold an attempt that it never settles."""
    nested._probes.set(())


def half_open(name: str = "api") -> CircuitBreaker:
    """A circuit whose next call probes."""
    clock = ManualClock()
    breaker = CircuitBreaker(name, clock=clock, tripper=FailureStreak(1), permit=All())
    breaker.attempt().fail()
    clock.advance(60)
    return breaker


def closed(name: str = "api") -> CircuitBreaker:
    return CircuitBreaker(name)


@pytest.mark.parametrize(("make", "probes"), [(half_open, True), (closed, False)])
@pytest.mark.parametrize("way", ["call", "decorated", "block"])
def test_sync(make: type, probes: bool, way: str) -> None:
    breaker: CircuitBreaker = make()
    if way == "call":
        found = breaker.call(in_probe)
    elif way == "decorated":
        found = breaker(lambda: in_probe())()
    else:
        with breaker:
            found = in_probe()
    assert found is probes
    assert not in_probe()


def test_after_a_probe_without_a_verdict() -> None:
    """Its slot goes back when the circuit is next touched; what follows it is in no probe."""
    ignored = half_open()
    with ignored.attempt() as attempt:
        attempt.ignore()
        assert not in_probe()

    untracked = half_open()
    with pytest.raises(GeneratorExit), untracked:
        raise GeneratorExit
    assert not in_probe()

    dropped = half_open().attempt()
    dropped.__enter__()
    assert in_probe()
    del dropped
    gc.collect()
    assert not in_probe()


@pytest.mark.anyio
async def test_after_a_cancelled_probe() -> None:
    breaker = half_open().to_async()
    with anyio.move_on_after(0.0):
        async with breaker:
            await anyio.sleep(60.0)
    assert not in_probe()


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["call", "decorated", "block"])
async def test_async(way: str) -> None:
    breaker: AsyncCircuitBreaker = half_open().to_async()

    async def asks() -> bool:
        await anyio.lowlevel.checkpoint()
        return in_probe("api")

    if way == "call":
        found = await breaker.call(asks)
    elif way == "decorated":
        found = await breaker(asks)()
    else:
        async with breaker:
            found = await asks()
    assert found
    assert not in_probe()


def test_generators() -> None:
    """Inside, while it runs; not in the code between two items."""
    heard: list[bool] = []

    @half_open()
    def items() -> Iterator[int]:
        heard.append(in_probe())
        yield 1
        heard.append(in_probe())

    for _ in items():
        heard.append(in_probe())  # noqa: PERF401
    assert heard == [True, False, True]


@pytest.mark.anyio
async def test_async_generators() -> None:
    heard: list[bool] = []

    @half_open().to_async()
    async def items() -> AsyncIterator[int]:
        heard.append(in_probe())
        yield 1
        heard.append(in_probe())

    async for _ in items():
        heard.append(in_probe())  # noqa: PERF401
    assert heard == [True, False, True]


def test_nested_circuits() -> None:
    """By name, or any; a healthy call within a probe is a part of it."""
    outer, inner, healthy = half_open("outer"), half_open("inner"), closed("healthy")

    def asks() -> tuple[bool, ...]:
        return tuple(in_probe(name) for name in ("outer", "inner", "healthy", None))

    assert outer.call(inner.call, asks) == (True, True, False, True)
    outer = half_open("outer")
    assert outer.call(healthy.call, asks) == (True, False, False, True)
    inner = half_open("inner")
    assert healthy.call(inner.call, asks) == (False, True, False, True)


def test_threads() -> None:
    """A thread with a copy of the context belongs to the probe, another doesn't."""
    breaker, heard = half_open(), list[bool]()

    async def asks() -> bool:
        thread = threading.Thread(target=lambda: heard.append(in_probe()))
        thread.start()
        thread.join()
        return await asyncio.to_thread(in_probe)

    assert asyncio.run(breaker.to_async().call(asks))
    assert heard == [THREADS_INHERIT]


def test_settled_or_out_of_time() -> None:
    breaker = half_open()
    with breaker as attempt:
        assert in_probe()
        attempt.succeed()
        assert not in_probe()


def test_a_name_or_none() -> None:
    with pytest.raises(TypeError, match="circuit must be the name"):
        in_probe(closed())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_dropped_without_an_end() -> None:
    """Nobody can settle it any more: what follows in this context is no part of it."""
    breaker = half_open()
    admission = breaker._circuit.admit()
    nested.begin(admission, "api")
    assert in_probe()
    del admission  # as where an interrupt comes between the admission and its attempt
    gc.collect()
    assert not in_probe()
