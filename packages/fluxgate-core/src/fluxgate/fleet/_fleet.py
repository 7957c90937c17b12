"""`Fleet`, the public class: connects breakers to a store and reports its status."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final, cast

from fluxgate._engine.circuit import Circuit
from fluxgate._locks import ProcessLock
from fluxgate._log import warn
from fluxgate._naming import safe_repr
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean
from fluxgate._values import Record
from fluxgate.errors import ConfigError
from fluxgate.fleet._by_hand import checked
from fluxgate.fleet._circuits import FleetCircuit, circuit_of, circuits_of
from fluxgate.fleet._flusher import Flusher
from fluxgate.fleet._member import Member
from fluxgate.fleet._presence import FleetPresence, presences
from fluxgate.fleet._url import open_store, redacted
from fluxgate.fleet.store import RESERVED, Store

MAX_WITNESSES: Final = 1000


class FleetStatus(Record):
    """A fleet as this process sees it.

    Attributes:
        attached: whether the store answered when it was last asked.
        circuits: how many circuits of this process are in the fleet.
        dropped: calls that were counted here and will never be counted there: they belonged to
            an epoch that was over, or the store went away while they were on their way.
        last_error: what the store last failed with; None if it never has.
    """

    attached: bool
    circuits: int
    dropped: int
    last_error: str | None


class Fleet:
    """Circuits that many processes share, through a store.

        fleet = Fleet("sqlite:///run/shop/fluxgate.db")   # the processes of one host
        fleet = Fleet("redis://redis.internal:6379/0")    # those of many
        payments = CircuitBreaker("payments", fleet=fleet)

    No call waits for the store, in any state. While it can't be reached, each process protects
    itself as without a fleet. Two threads (daemons, `fluxgate-fleet…`) start with the first
    breaker; no more than that many in any process.

    Args:
        url: where the circuits are kept: `sqlite:///path`, `redis://`, `rediss://`, `unix://`,
            `redis+sentinel://`, `redis+cluster://`, or `memory://name` in tests. Or a client of
            redis-py, whose settings are copied.
        witnesses: how many processes must have seen failures before the fleet opens (1 is enough
            where only one has reported calls).
        advisory: whether peers only lower the local threshold: while the fleet is open, one
            failure of its own opens a circuit, and nothing else does.

    Raises:
        ConfigError: the URL or another argument can't be used. A server that is down is none of
            these: that is logged.
    """

    __slots__ = ("__weakref__", "_flusher", "_shown", "_url", "advisory", "witnesses")

    def __init__(self, url: Any, *, witnesses: int = 2, advisory: bool = False) -> None:
        for name, value in (("witnesses", witnesses), ("advisory", advisory)):
            if (problem := _problem(name, value)) is not None:
                raise ConfigError(f"fleet: {name} {problem}")
        self._url = url  # with the password: for the store, and nothing that is shown
        self._shown = redacted(url)
        self.witnesses = witnesses
        self.advisory = advisory
        self._flusher = Flusher(open_store(url), self._shown)
        _flushers[id(self._flusher)] = self._flusher

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until all that was recorded before is in the store, and every view is fresh.

        For tests and the end of a job; nothing else needs it.

        Args:
            timeout: seconds to wait, at most.

        Returns:
            Whether it is so.
        """
        return self._flusher.flush(timeout)

    def status(self) -> FleetStatus:
        """This process's connection to the store, its number of circuits, and the last error."""
        flusher = self._flusher
        return FleetStatus(
            attached=flusher.attached,
            circuits=len(flusher.members()),
            dropped=flusher.dropped,
            last_error=flusher.last_error,
        )

    def circuits(self, timeout: float = 1.0) -> list[FleetCircuit]:
        """Every circuit of the fleet as the store has it, with what each process reports of it.

        For pages and scripts: all circuits of all processes, those without a breaker here, too. It
        takes three requests to the store, however many circuits there are, in the fleet's own
        thread; the caller waits for them, so an async application asks in a thread
        (`asyncio.to_thread(fleet.circuits)`).

        Args:
            timeout: seconds to wait, at most.

        Raises:
            StoreError: the store can't be reached or used, hasn't answered in time, or the fleet is
                closed.
        """
        return self._flusher.ask(circuits_of, timeout)

    def processes(self, timeout: float = 1.0) -> list[FleetPresence]:
        """Every process of the fleet by name, with those that are absent: dead, or cut off.

        A process is listed from its first breaker on (one that has forked, from its first call on,
        since it may only beget others); one that ends in order is no longer listed.

        Args:
            timeout: seconds to wait, at most, as for `circuits`.

        Raises:
            StoreError: as for `circuits`.
        """
        return self._flusher.ask(presences, timeout)

    def control(
        self,
        name: str,
        action: str,
        *,
        seconds: float | None = None,
        note: str | None = None,
        by: str | None = None,
        timeout: float = 1.0,
    ) -> FleetCircuit:
        """Set a circuit by hand in every process, whether or not this one has a breaker for it.

        It waits until the store has it; `breaker.force_open(fleet=True)` doesn't. A name that no
        process has reported yet is set for whoever reports it first. Nobody's call waits for that:
        those that a new circuit gets before its first answer pass, unless `flush` was waited for.

        Args:
            name: the circuit's name.
            action: `open_for`, `force_open`, `disable`, `metrics_only` or `reset`, as a breaker
                has them.
            seconds: after which it ends by itself; `open_for` needs it, `reset` takes none.
            note: why, in one line.
            by: who, in one line.
            timeout: seconds to wait, at most, as for `circuits`.

        Returns:
            The circuit as it is then.

        Raises:
            ConfigError: an argument can't be used.
            StoreError: the store can't be reached or used, or hasn't answered in time; then nobody
                knows whether it was done.
        """
        if not isinstance(name, str) or not name or name.startswith(RESERVED):
            raise ConfigError(f"name must be the name of a circuit, not {safe_repr(name)}")
        event, words = checked(action, seconds=seconds, note=note, by=by)
        view = self._flusher.set(name, event, words, timeout)
        return circuit_of(view, [])

    def close(self, timeout: float = 1.0) -> None:
        """Flush, and leave the fleet: the circuits go on by themselves.

        So does a breaker that is given this fleet afterwards. A circuit that has left may join
        another fleet.

        Args:
            timeout: seconds to wait, at most.
        """
        self._flusher.close(timeout)

    def withdraw(self, timeout: float = 1.0) -> None:
        """Flush, and take back that this process is here, until it makes another call.

        For the end of a server that may begin again in this process, or that ends it by a signal:
        uvicorn does, and no exit handler runs then. Without a farewell, the process would stand in
        `processes()`, and in consoles, as absent for ten minutes. `fluxgate_fastapi.install` does
        it where the application's lifespan ends.

        Args:
            timeout: seconds to wait, at most.
        """
        self._flusher.withdraw(timeout)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Fleet {self._shown}>"

    def _open_again(self) -> Store:
        """The same store once more, with connections of its own; what isn't there is not made."""
        return open_store(self._url, existing=True)

    def _join(self, circuit: Circuit) -> None:
        """Take a circuit in; one that is in a fleet already stays there, until that is closed."""
        if circuit.fleet is not None and not circuit.fleet.left:
            return
        if circuit.name.startswith(RESERVED):
            warn(circuit.name, "it is in no fleet: names that begin with NUL are the fleet's own")
            return
        flusher = self._flusher
        circuit.enter(self)
        circuit.fleet = Member(
            circuit,
            witnesses=self.witnesses,
            advisory=self.advisory,
            wake=flusher.wake,
            alarm=flusher.alarm,
            clock=flusher.clock,
        )
        flusher.add(circuit.fleet)


OPTIONS: Final = ("url", "witnesses", "advisory")
_URL: Final = "fleet.url"


def fleet_of(given: object) -> Fleet:
    """The fleet that an argument or a setting means; one in each process for the same settings.

    Args:
        given: a `Fleet`; a URL; or a table with `url`, `witnesses` and `advisory`, in lower or
            upper case.

    Raises:
        ConfigError: it is none of these, or can't be used.
    """
    if isinstance(given, Fleet):
        return given
    options = _options(given)
    key = tuple(sorted(options.items()))
    with _making.here():
        fleet = _made.get(key)
        if fleet is None or fleet._flusher.closed:
            fleet = _made[key] = Fleet(options.pop("url"), **options)
        return fleet


def _options(given: object) -> dict[str, Any]:
    if isinstance(given, str):
        return {"url": given}
    if not isinstance(given, Mapping):
        raise ConfigError(f"fleet must be a Fleet or a URL, not {type(given).__name__!r}")
    options: dict[str, Any] = {}
    for written, value in cast("Mapping[str, Any]", given).items():
        name = str(written).lower()
        if name not in OPTIONS or name in options:
            raise SettingError(
                f"unknown, or given twice; known are {', '.join(OPTIONS)}"
                f"{did_you_mean(name, OPTIONS)}",
                f"fleet.{written}",
                Mistake.UNKNOWN,
            )
        options[name] = _read(name, value)
    if "url" not in options:
        raise SettingError("is missing: give one such as sqlite:///run/shop/fluxgate.db", _URL)
    if not isinstance(options["url"], str):
        raise SettingError(f"must be a URL, not {type(options['url']).__name__!r}", _URL)
    for name in options.keys() - {"url"}:
        if (problem := _problem(name, options[name])) is not None:
            raise SettingError(problem, f"fleet.{name}")
    return options


def _problem(name: str, value: object) -> str | None:
    """Why an option other than the URL can't have this value; None if it can."""
    if name == "advisory":
        return None if isinstance(value, bool) else f"must be True or False: {safe_repr(value)}"
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number: {safe_repr(value)}"
    if not 1 <= value <= MAX_WITNESSES:
        return f"must be from 1 to {MAX_WITNESSES}: {safe_repr(value)}"
    return None


def _read(name: str, value: object) -> object:
    """A setting that is text, as environment variables are; anything else as it is."""
    if isinstance(value, str) and name == "witnesses" and value.strip().isdecimal():
        return int(value.strip()[:9])
    if isinstance(value, str) and name == "advisory":
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    return value


# Of all fleets, also of those that only their circuits remember.
_flushers: weakref.WeakValueDictionary[int, Flusher] = weakref.WeakValueDictionary()
_made: dict[tuple[tuple[str, Any], ...], Fleet] = {}
_making: Final = ProcessLock()
_forking: dict[int, list[Flusher]] = {}  # by thread: two may fork at once


def living() -> list[Flusher]:
    """All flushers; copied in one step, since other threads make fleets meanwhile."""
    return [each for ref in _flushers.valuerefs() if (each := ref()) is not None]


def _before_fork() -> None:
    held = _forking[threading.get_ident()] = list[Flusher]()
    for flusher in living():
        held.append(flusher)
        flusher.before_fork()


def _after_fork_in_parent() -> None:
    for flusher in _forking.pop(threading.get_ident(), ()):
        flusher.after_fork_in_parent()


def _after_fork_in_child() -> None:
    _forking.clear()
    for flusher in living():
        flusher.after_fork_in_child()


@atexit.register
def _at_exit() -> None:
    for flusher in living():
        if not flusher.closed:
            flusher.close(1.0)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
