"""Four processes, one circuit: an outage, and the store taken away in the middle of it.

    python examples/fleet.py            or:  python3 noxfile.py -s demo -- --fleet

Four workers call the same failing service, each through two breakers with the same settings: one
in a fleet, which all workers share through a SQLite file, and one that is alone in its process.
While the service is down, the folder of the file is moved away, and brought back. The workers have
just been started: no window holds the 40 calls yet that a verdict needs, but all four together soon
do. All figures at the end are measured in this run; what arrives, the service counts itself.
"""

import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from serving import running

from fluxgate import CallNotPermittedError, CircuitBreaker, Signal
from fluxgate.fleet import Fleet
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureRate, MinRequests
from fluxgate.windows import TimeWindow

WORKERS = 4
RATE = 8.0  # calls a second, of each worker through each of its breakers
SETTINGS: dict[str, Any] = {
    "window": TimeWindow(10.0),
    "tripper": Closed() & MinRequests(40) & FailureRate(0.5),
    "retry": Cooldown(1.0),
    "permit": All(),
    "max_half_open_calls": 2,
    "probe_timeout": 5.0,
}
SCRIPT = (
    # what, seconds, what the service does, whether the store is there
    ("healthy", 1.0, "healthy", True),
    ("outage", 6.5, "failing", True),
    ("outage-without-store", 3.0, "failing", False),
    ("outage-store-is-back", 3.0, "failing", True),
    ("recovery", 4.0, "healthy", True),
)
KINDS = ("fleet", "alone")


def work(parent: Connection, url: str, store: str) -> None:
    """A worker: two threads that call on and on, one breaker each."""
    fleet = Fleet(store)
    phase, stop = [SCRIPT[0][0]], threading.Event()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    changes: list[tuple[float, str, str, str]] = []

    def breaker(kind: str) -> CircuitBreaker:
        def hear(signal: Signal) -> None:
            changes.append((time.time(), kind, str(signal.new_state), str(signal.origin)))

        more = {"fleet": fleet} if kind == "fleet" else {}
        return CircuitBreaker(kind, listeners=[hear], **SETTINGS, **more)

    breakers = {kind: breaker(kind) for kind in KINDS}

    def call(kind: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=5.0) as client:
            while not stop.wait(1.0 / RATE):
                now = phase[0]
                try:
                    attempt = breakers[kind].attempt()
                except CallNotPermittedError:
                    counts[kind][f"refused {now}"] += 1
                    continue
                counts[kind][f"probes {now}"] += attempt.probe
                try:
                    with attempt:
                        client.get(f"/{kind}/{now}").raise_for_status()
                    counts[kind][f"answered {now}"] += 1
                except httpx.HTTPError:
                    counts[kind][f"failed {now}"] += 1
                except Exception as error:
                    counts[kind][f"unexpected {type(error).__name__}"] += 1

    threads = [threading.Thread(target=call, args=(kind,)) for kind in KINDS]
    for thread in threads:
        thread.start()
    while (order := parent.recv()) != "stop":
        phase[0] = order or phase[0]
        parent.send(([str(breakers[kind].state) for kind in KINDS], fleet.status().attached))
    stop.set()
    for thread in threads:
        thread.join()
    fleet.close()
    parent.send((counts, changes))


def run() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home, aside = folder / "home", folder / "aside"
        home.mkdir()
        service = stack.enter_context(running("upstream.py"))
        remote = stack.enter_context(httpx.Client(base_url=service.url, trust_env=False))
        pipes: list[Connection] = []
        for _ in range(WORKERS):
            near, far = spawn.Pipe()
            store = f"sqlite://{home}/fluxgate.db"
            process = spawn.Process(target=work, args=(far, service.url, store), daemon=True)
            process.start()
            pipes.append(near)

        def ask(order: str) -> list[Any]:
            for pipe in pipes:
                pipe.send(order)
            return [pipe.recv() for pipe in pipes]

        ask("")  # they are up
        print(f"service at {service.url}; {WORKERS} workers; the store is {home}/fluxgate.db")
        began, at = time.time(), dict[str, float]()
        for name, seconds, behaviour, present in SCRIPT:
            if present is not home.exists():
                (home if not present else aside).rename(aside if not present else home)
            remote.post(f"/_behave/{behaviour}").raise_for_status()
            at[name] = time.time()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                answers = ask(name)
                show(time.time() - began, name, answers)
                time.sleep(0.5)
        ended = ask("stop")
        arrived = remote.get("/_arrived").json()
    summary([each[0] for each in ended], [each[1] for each in ended], arrived, at)


def show(seconds: float, name: str, answers: list[Any]) -> None:
    shared, alone = zip(*(states for states, _ in answers), strict=True)
    attached = sum(attached for _, attached in answers)
    print(
        f"{seconds:5.1f} s  {name:22}  fleet: {' '.join(f'{each:9}' for each in shared)}"
        f"  alone: {' '.join(f'{each:9}' for each in alone)}  attached: {attached}",
        flush=True,
    )


def summary(
    counts: list[dict[str, Counter[str]]],
    changes: list[list[tuple[float, str, str, str]]],
    arrived: dict[str, int],
    at: dict[str, float],
) -> None:
    """Both kinds side by side."""
    sums = {kind: sum((each[kind] for each in counts), Counter[str]()) for kind in KINDS}
    outages = [name for name, _, behaviour, _ in SCRIPT if behaviour == "failing"]

    def row(label: str, value: Callable[[str], object]) -> None:
        print(f"{label:52}{value('fleet')!s:>12}{value('alone')!s:>12}")

    def first(kind: str, state: str, since: str) -> str:
        """Seconds until the last worker was in that state for the first time since then."""
        times = [
            min(
                (t for t, k, new, _ in each if k == kind and new == state and t > at[since]),
                default=0,
            )
            for each in changes
        ]
        return f"{max(times) - at[since]:.2f} s" if all(times) else "never"

    def count(what: str, names: list[str]) -> Callable[[str], int]:
        return lambda kind: sum(sums[kind][f"{what} {name}"] for name in names)

    print(f"\n{f'Measured in this run, {WORKERS} workers':52}{'in a fleet':>12}{'alone':>12}")
    row("the last worker was open after", lambda kind: first(kind, "open", "outage"))
    row(
        "calls that reached the failing service",
        lambda kind: sum(arrived.get(f"/{kind}/{name}", 0) for name in outages),
    )
    for name in outages:
        row(f"  probes, {name.replace('-', ' ')}", count("probes", [name]))
    row("  probes, all of the outage", count("probes", outages))
    row("calls refused in the outage", count("refused", outages))
    row("the last worker was closed after", lambda kind: first(kind, "closed", "recovery"))
    row(
        "exceptions that are neither the service's nor ours",
        lambda kind: sum(n for what, n in sums[kind].items() if what.startswith("unexpected")),
    )
    moves = Counter(
        f"{origin}" for each in changes for _, kind, _, origin in each if kind == "fleet"
    )
    print(f"\nWho moved the fleet's circuit: {json.dumps(moves)}")


def main() -> int:
    try:
        run()
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
