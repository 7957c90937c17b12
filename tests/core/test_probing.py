"""Probers: a circuit recovers without traffic; from a thread, and from a task of either loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from textwrap import dedent
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import anyio
import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CircuitBreaker,
    ConfigError,
    State,
)
from fluxgate.config import Config
from fluxgate.fleet import Fleet
from fluxgate.permits import All
from fluxgate.probing import AsyncProber, Prober
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown, Never
from fluxgate.testing import ManualClock, RecordedSignals, tripped
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureStreak

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
FAST: dict[str, Any] = {
    "tripper": Closed() & FailureStreak(1),
    "retry": Cooldown(0.02),
    "permit": All(),
}
PATIENCE = 30.0
SOON = 0.01
"""Seconds between two probes."""


def until(true: Callable[[], object]) -> None:
    """Wait for something that other threads bring about."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("fluxgate-prob")]


class Service:
    """A dependency that can be down, and counts who asks."""

    def __init__(self, *, down: int = 0) -> None:
        self.down = down
        self.asked = 0

    def ping(self) -> str:
        self.asked += 1
        if self.asked <= self.down:
            raise ConnectionError("down")
        return "up"

    async def aping(self) -> str:
        await asyncio.sleep(0)
        return self.ping()


@pytest.fixture
def service() -> Service:
    return Service()


# -- when a probe is due


def test_when_a_probe_is_due(clock: ManualClock, service: Service) -> None:
    """None while closed; the rest of the cooldown; now; an interval later."""
    breaker = CircuitBreaker("api", clock=clock, permit=All())

    async def ping() -> None:
        service.ping()

    prober = AsyncProber(breaker, ping, interval=5.0)  # which nothing runs
    assert prober.due() is None
    tripped(breaker)
    assert prober.due() == 60.0
    clock.advance(45.0)
    assert prober.due() == 15.0
    breaker.open_for(20.0)
    assert prober.due() == 20.0
    clock.advance(20.0)
    assert prober.due() == 0
    attempt = prober.admitted()
    assert attempt is not None
    assert prober.due() == 5.0
    attempt.succeed()
    clock.advance(5.0)
    assert prober.due() == 0
    for control, expected in [
        (breaker.force_open, None),
        (breaker.disable, None),
        (breaker.metrics_only, None),
        (breaker.reset, None),
    ]:
        control()
        assert prober.due() is expected
    breaker.force_open(seconds=30.0)
    assert prober.due() == 30.0
    clock.advance(30.0)
    assert prober.due() == 0
    breaker.reset()
    breaker.update(retry=Never())
    tripped(breaker)
    assert prober.due() is None


def test_taken_slots_are_waited_for(clock: ManualClock, service: Service) -> None:
    """A refusal is no probe, and neither is counted when it can be seen beforehand."""
    breaker = CircuitBreaker("api", clock=clock, permit=All(), max_half_open_calls=1)
    prober = AsyncProber(breaker, service.aping)
    tripped(breaker)
    clock.advance(60.0)
    held = breaker.attempt()
    assert prober.due() == 0.5
    assert prober.admitted() is None
    held.ignore()
    assert prober.due() == 0.5
    clock.advance(0.5)
    assert prober.due() == 0


# -- a thread


def test_it_closes_without_traffic(service: Service) -> None:
    """Two failed probes, then one that succeeds; the thread ends with it."""
    service.down = 2
    signals = RecordedSignals()
    breaker = CircuitBreaker("api", listeners=[signals], **FAST)
    with Prober(breaker, service.ping, interval=SOON) as prober:
        assert not prober._thread.was_started
        tripped(breaker)
        until(lambda: breaker.state is CLOSED)
        until(lambda: not prober._thread.was_started)
        asked = service.asked
        tripped(breaker)
        until(lambda: breaker.state is CLOSED)
    assert (asked, service.asked) == (3, 4)
    assert signals.moves[:7] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


def test_ten_probes_by_the_default_policy(service: Service) -> None:
    """The default tripper wants ten; they come one each interval."""
    breaker = CircuitBreaker("api", retry=Cooldown(0.01), permit=All())
    with Prober(breaker, service.ping, interval=0.001):
        tripped(breaker)
        until(lambda: breaker.state is CLOSED)
    assert service.asked == 10


def test_a_real_health_endpoint() -> None:
    """Behind a real socket: 503 twice, then 200."""
    answers = iter([503, 503])

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(answers, 200))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing is printed."""

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}/health"

        def ping() -> None:
            try:
                with urlopen(url, timeout=PATIENCE):
                    pass
            except HTTPError as error:  # a response, which 3.14 wants to be closed
                error.close()
                raise

        breaker = CircuitBreaker("api", **FAST)
        try:
            with Prober(breaker, ping, interval=SOON):
                tripped(breaker)
                until(lambda: breaker.state is CLOSED)
        finally:
            server.shutdown()
            serving.join()
    assert breaker.info().totals.trips["probe failed"] == 2


def test_errors_are_failures_whatever_the_tracker(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """They neither escape nor are logged; the reason of the next opening has them."""
    service.down = 10**6
    breaker = CircuitBreaker("api", tracker=TypeOf(ZeroDivisionError), **FAST)
    with Prober(breaker, service.ping, interval=SOON):
        tripped(breaker)
        until(lambda: breaker.info().reopens >= 3)
    last = breaker.info().last_trip
    assert last is not None
    assert last.errors == (("ConnectionError", 1),)
    assert not caplog.records


def test_even_one_that_ends_a_process(caplog: pytest.LogCaptureFixture) -> None:
    """`SystemExit` is no failure; the thread is unharmed and asks again."""
    asked: list[int] = []

    def ping() -> None:
        asked.append(1)
        if len(asked) < 3:
            raise SystemExit(1)

    breaker = CircuitBreaker("api", **FAST)
    with Prober(breaker, ping, interval=0.001):
        tripped(breaker)
        until(lambda: breaker.state is CLOSED)
    assert len(asked) == 3
    assert breaker.info().totals.cancelled == 2
    assert not caplog.records


def test_a_result_tracker_is_asked(service: Service) -> None:
    breaker = CircuitBreaker("api", result_tracker=lambda result: result == "up", **FAST)
    with Prober(breaker, service.ping, interval=SOON):
        tripped(breaker)
        until(lambda: breaker.info().reopens >= 2)


def test_a_function_that_hangs(service: Service) -> None:
    """A failure after the time-out; three threads at most are left in it; then it goes on."""
    going_on = threading.Event()

    def ping() -> None:
        service.ping()
        going_on.wait(PATIENCE)

    breaker = CircuitBreaker("api", **FAST)
    with Prober(breaker, ping, timeout=0.01, interval=0.001):
        tripped(breaker)
        until(lambda: breaker.info().reopens >= 3)
        last = breaker.info().last_trip
        assert last is not None
        assert last.errors == (("no answer to a probe in 10 ms", 1),)
        time.sleep(0.1)  # what must not happen has no event to wait for
        assert service.asked == 3
        going_on.set()
        until(lambda: breaker.state is CLOSED)


def test_its_own_circuits_calls_inside(service: Service) -> None:
    """They are parts of the probe, also where there is one slot."""
    breaker = CircuitBreaker("api", max_half_open_calls=1, **FAST)
    with Prober(breaker, breaker(service.ping)):
        tripped(breaker)
        until(lambda: breaker.state is CLOSED)
    assert service.asked == 1


def test_an_async_function_in_a_thread(service: Service) -> None:
    breaker = AsyncCircuitBreaker("api", **FAST)
    with Prober(breaker, service.aping, interval=SOON):
        tripped(breaker)
        until(lambda: breaker.state is CLOSED)


def test_an_async_function_that_hangs(service: Service) -> None:
    """It is cancelled, and leaves no thread behind."""

    async def ping() -> None:
        service.ping()
        await asyncio.sleep(PATIENCE)

    breaker = CircuitBreaker("api", **FAST)
    with Prober(breaker, ping, timeout=0.01, interval=SOON):
        tripped(breaker)
        until(lambda: breaker.info().reopens >= 5)


def test_close_ends_it() -> None:
    """Even in the middle of a probe, which is ignored."""
    asked, going_on = threading.Event(), threading.Event()

    def ping() -> None:
        asked.set()
        going_on.wait(PATIENCE)

    breaker = CircuitBreaker("api", **FAST)
    prober = Prober(breaker, ping)
    tripped(breaker)
    assert asked.wait(PATIENCE)
    assert prober.close(PATIENCE)
    assert breaker.state is HALF_OPEN
    assert breaker.info().probes == 0
    going_on.set()
    breaker.reset()
    tripped(breaker)
    assert not prober._thread.was_started
    assert prober.close()
    assert breaker.listeners == ()


def test_the_registry_closes_it(service: Service) -> None:
    """As it closes listeners, since it is one."""
    registry = Registry({"api": {**FAST, "prober": service.ping}})
    tripped(registry["api"])
    until(lambda: registry["api"].state is CLOSED)
    registry.close()
    tripped(registry["api"])
    assert registry["api"].state is OPEN
    assert [each._thread for each in registry.listeners() if isinstance(each, Prober)] == []


def test_it_starts_beside_an_open_circuit(service: Service) -> None:
    breaker = CircuitBreaker("api", **FAST)
    tripped(breaker)
    with Prober(breaker, service.ping, interval=SOON):
        until(lambda: breaker.state is CLOSED)


def test_nobody_holds_a_circuit_that_went(service: Service) -> None:
    """A prober keeps no circuit alive that isn't used any more."""
    from fluxgate import circuits

    breaker = CircuitBreaker("gone", prober=service.ping, **FAST)
    assert [each.name for each in circuits()].count("gone") == 1
    del breaker
    assert [each.name for each in circuits()].count("gone") == 0


# -- a fleet


def test_only_who_has_a_lease_probes() -> None:
    """Two processes' circuits in one store, one slot: the fleet never sees two probes at once."""
    at_once, most, lock = 0, 0, threading.Lock()

    def ping() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1

    settings: dict[str, Any] = {**FAST, "max_half_open_calls": 1, "retry": Cooldown(0.2)}
    store = "memory://probing"
    with Fleet(store, witnesses=1) as one, Fleet(store, witnesses=1) as two:
        breakers = [CircuitBreaker("shared", fleet=each, **settings) for each in (one, two)]
        probers = [Prober(each, ping, interval=0.05) for each in breakers]
        breakers[0].open_for(0.2, fleet=True)
        until(lambda: breakers[1].state is not CLOSED)
        until(lambda: all(each.state is CLOSED for each in breakers))
        for prober in probers:
            prober.close()
    assert most == 1


# -- a task


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    if request.param == "trio":
        pytest.importorskip("trio")
    return str(request.param)


async def come(true: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():
            await anyio.sleep(0.002)


@pytest.mark.parametrize("front", [CircuitBreaker, AsyncCircuitBreaker])
def test_a_task_closes_it(loop: str, front: Any) -> None:
    """On both loops, opened from the loop and from another thread."""
    service = Service(down=2)

    async def ping() -> None:
        await anyio.sleep(0)
        service.ping()

    async def main() -> None:
        breaker = front("api", **FAST)
        async with AsyncProber(breaker, ping, interval=SOON):
            tripped(breaker)
            await come(lambda: breaker.state is CLOSED)
            await anyio.to_thread.run_sync(tripped, breaker)
            await come(lambda: breaker.state is CLOSED)
        assert breaker.listeners == ()
        assert service.asked == 4

    anyio.run(main, backend=loop)


def test_a_task_that_hangs(loop: str) -> None:
    """It is cancelled after the time-out, and that is a failure."""

    async def main() -> None:
        breaker = AsyncCircuitBreaker("api", **FAST)

        async def ping() -> None:
            await anyio.sleep(PATIENCE)

        async with AsyncProber(breaker, ping, timeout=0.01, interval=SOON):
            tripped(breaker)
            await come(lambda: breaker.info().reopens >= 2)

    anyio.run(main, backend=loop)


def test_a_task_in_a_group(loop: str) -> None:
    """`run()` in a task group, ended by `aclose()`; a second run is an error."""
    service = Service()

    async def ping() -> None:
        service.ping()

    async def main() -> None:
        breaker = AsyncCircuitBreaker("api", **FAST)
        prober = AsyncProber(breaker, ping, interval=SOON)
        async with anyio.create_task_group() as group:
            group.start_soon(prober.run)
            await come(lambda: breaker.listeners)
            with pytest.raises(RuntimeError, match="runs already"):
                await prober.run()
            tripped(breaker)
            await come(lambda: breaker.state is CLOSED)
            await prober.aclose()

    anyio.run(main, backend=loop)


def test_a_task_cancelled_in_a_probe(loop: str) -> None:
    """The probe is cancelled, which proves nothing, and gives its slot back."""

    async def main() -> None:
        breaker = AsyncCircuitBreaker("api", **FAST)
        asked = anyio.Event()

        async def ping() -> None:
            asked.set()
            await anyio.sleep(PATIENCE)

        async with AsyncProber(breaker, ping):
            tripped(breaker)
            await asked.wait()
        assert breaker.state is HALF_OPEN
        assert breaker.info().probes == 0
        assert breaker.info().totals.cancelled == 1

    anyio.run(main, backend=loop)


# -- settings


def ping() -> None:
    """A health check, for settings."""


def generator() -> Iterator[None]:
    yield


def test_in_settings(tmp_path: Any) -> None:
    """The same in code, a mapping and TOML: a function, or its dotted path."""
    from fluxgate.config import load

    file = tmp_path / "fluxgate.toml"
    file.write_text('[breakers.api]\nprober = "time.monotonic"')
    for config in (load(file), Config({"api": {"PROBER": time.monotonic}})):
        breaker = config.make("api")
        (prober,) = breaker.listeners
        assert isinstance(prober, Prober)
        prober.close()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere.ping", "api.prober: .*can't be imported"),
        ("no path", "api.prober: .*is not a dotted path"),
        (42, "api.prober: 42 can't be called"),
        (generator, "api.prober: .*must be no generator"),
    ],
)
def test_wrong_settings(value: object, message: str) -> None:
    problems = Config({"api": {"prober": value}}).problems()
    assert len(problems) == 1
    with pytest.raises(ConfigError, match=message):
        raise problems[0]


async def apply() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((42, ping), {}, "breaker must be a circuit breaker"),
        ((CircuitBreaker("api"), 42), {}, "function must be callable"),
        ((CircuitBreaker("api"), ping), {"interval": 0}, "interval"),
        ((CircuitBreaker("api"), ping), {"timeout": -1}, "timeout"),
        ((CircuitBreaker("api"), ping), {"timeout": "1"}, "timeout"),
    ],
    ids=["breaker", "function", "interval", "timeout", "text"],
)
def test_wrong_arguments(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Prober(*arguments, **options)


def test_a_sync_function_in_a_task(service: Service) -> None:
    with pytest.raises(TypeError, match="must be an async def"):
        AsyncProber(CircuitBreaker("api"), service.ping)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- processes


@pytest.fixture
def run() -> Callable[[str], str]:
    """Runs a program of its own, and gives what it prints."""

    def program(source: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", dedent(source)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return program


def test_importing_starts_nothing(run: Callable[[str], str]) -> None:
    assert (
        run(
            """
        import threading
        from fluxgate import CircuitBreaker
        import fluxgate.probing

        breaker = CircuitBreaker("api", prober=print)
        print(threading.active_count())
        """
        )
        == "1\n"
    )


def test_the_process_ends_while_it_probes(run: Callable[[str], str]) -> None:
    """Neither a hanging function nor a long cooldown holds it up."""
    assert (
        run(
            """
        import threading
        from fluxgate import CircuitBreaker
        from fluxgate.retries import Cooldown
        from fluxgate.permits import All

        asked = threading.Event()

        def ping():
            asked.set()
            threading.Event().wait()

        breaker = CircuitBreaker("api", prober=ping, retry=Cooldown(0.01), permit=All())
        other = CircuitBreaker("other", prober=print)
        breaker.open_for(0.01)
        other.open_for(1000)
        assert asked.wait(30)
        print("end")
        """
        )
        == "end\n"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_probes_for_itself(run: Callable[[str], str]) -> None:
    """Forked while closed, as by gunicorn's preload, and in the middle of an outage."""
    assert (
        run(
            """
        import os, time, warnings
        warnings.simplefilter("ignore")
        from fluxgate import CircuitBreaker
        from fluxgate.retries import Cooldown
        from fluxgate.permits import All
        from fluxgate.trippers import Closed, FailureStreak

        parent = os.getpid()

        def ping():
            if os.getpid() == parent:
                raise ConnectionError

        settings = dict(
            prober=ping, retry=Cooldown(0.01), permit=All(), tripper=Closed() & FailureStreak(1)
        )
        closed, opened = CircuitBreaker("closed", **settings), CircuitBreaker("open", **settings)
        opened.open_for(0.01)
        time.sleep(0.05)
        if (child := os.fork()) == 0:
            closed.open_for(0.01)
            end = time.monotonic() + 30
            while {closed.state, opened.state} != {"closed"} and time.monotonic() < end:
                time.sleep(0.01)
            os._exit(0 if {closed.state, opened.state} == {"closed"} else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), opened.state != "closed")
        """
        )
        == "0 True\n"
    )


def test_a_finaliser_while_it_waits() -> None:
    """A transition in the middle of the prober's own wait: it waits for nobody, itself least."""
    breaker = CircuitBreaker("x", retry=Never())
    inside: list[str] = []

    def pause(_frame: Any, event: str, function: Any) -> None:
        waits = event == "c_call" and getattr(function, "__name__", "") == "acquire"
        if waits and not inside and threading.current_thread().name == "fluxgate-prober-x":
            inside.append("once")
            breaker.disable()  # as a finaliser may
            breaker.reset()

    threading.setprofile(pause)
    try:
        Prober(breaker, int)
        breaker.open_for(600.0)
        until(lambda: inside)
        until(lambda: not threads())
    finally:
        threading.setprofile(None)
    assert breaker.state is CLOSED


def test_closed_while_it_is_closed() -> None:
    """As a second SIGTERM does: in the middle of whatever `close` calls."""
    prober = Prober(CircuitBreaker("x"), int)
    inside: list[str] = []
    ended: list[bool] = []

    def interrupt(frame: Any, event: str, _: Any) -> None:
        if event == "return" and not inside:
            inside.append(frame.f_code.co_name)
            ended.append(prober.close())
            inside.clear()

    def close() -> None:
        sys.setprofile(interrupt)
        try:
            prober.close()
        finally:
            sys.setprofile(None)

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert len(ended) > 3
    assert all(ended)
