"""A target: a fleet whose store answers anything."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any, Final
from unittest import mock

from fluxgate import CircuitBreaker
from fluxgate.cli import fleet as cli
from fluxgate.console import Console, Request
from fluxgate.console._claims import OPERATION
from fluxgate.console._names import id_of
from fluxgate.errors import FluxgateError
from fluxgate.fleet import Fleet, _fleet
from fluxgate.fleet._flush import Flush
from fluxgate.fleet._window import read_buckets
from fluxgate.fleet.memory import MemoryStore, Space
from fluxgate.fleet.store import (
    MAX_EPOCH,
    Counts,
    Exchange,
    Move,
    Report,
    StoreError,
    View,
)
from fluxgate.state import State

from .inputs import Inputs
from .stores import ANSWERS, NAMES, TEXTS
from .targets import refused, shows, target

STATES: Final = tuple(State)


def _claim(data: Inputs) -> str:
    """The entry of an operation, with anything in one of its fields."""
    fields = ["1764312000.5", id_of("payments"), "force_open", "60", "closed", "forced_open"]
    fields += ["done", "ann", "192.0.2.7", "a drill"]
    fields[data.pick((0, 3, 0, 3, *range(10)))] = data.word(ANSWERS)
    return "\t".join(fields)


def _view(data: Inputs, name: str) -> View:
    """A view as the stores make them: of their kinds, in their bounds, and else anything."""
    edges = (0, 1, 5, 1764312000000, 2**31 - 1, MAX_EPOCH)
    buckets = "|".join(
        data.pick(("5.1.1.5.0", "6.2.0.9.1", "ffffffffff.1.1.1.1")) for _ in range(2)
    )
    return View(
        name,
        known=data.byte() % 8 > 0,
        epoch=data.pick(edges),
        state=data.pick(STATES),
        remaining=data.pick((None, 0, 1, 60_000, MAX_EPOCH)),
        reopens=data.pick((0, 1, 2**31 - 1)),
        reason=_claim(data) if data.byte() % 4 == 0 else data.phrase(ANSWERS, data.byte() % 9),
        author=data.word(TEXTS),
        reporter=data.word(TEXTS),
        tick=data.pick(edges),
        label=data.pick(("", "1", "1.1000000", "60.5", "x", "9" * 30, "..", data.word(TEXTS))),
        buckets=read_buckets(buckets),
        witnesses=data.pick(edges),
        reporters=data.pick(edges),
        burst=data.pick((None, *edges)),
        probes=data.pick((Counts(), Counts(2**31 - 1, 5, 9), Counts(1, 2, 3, (4, 5, 6, 7)))),
        live=data.pick(edges),
        tokens=tuple(range(data.byte() % 3)),
        applied=data.byte() % 2 == 0,
        won=data.byte() % 2 == 0,
    )


class Foreign(MemoryStore):
    """A store that answers whatever the bytes say."""

    def __init__(self, data: Inputs) -> None:
        super().__init__(Space())
        self._data = data
        self._names = [data.word(NAMES) for _ in range(data.byte() % 4)]

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        return [_view(self._data, each.name) for each in requests]

    def move(self, move: Move) -> View:
        return _view(self._data, move.name)

    def read(self, names: list[str]) -> list[View]:
        return [_view(self._data, name) for name in names]

    def scan(self) -> list[str]:
        return ["payments", f"{OPERATION}x", *self._names]

    def reports(self, names: list[str], within: int = 0) -> list[list[Report]]:
        return [
            [
                Report(self._data.word(TEXTS), self._data.phrase(TEXTS, 6), self._data.byte())
                for _ in range(self._data.byte() % 3)
            ]
            for _ in names
        ]


READERS: Final = ("", "api/v1/state", f"circuits/{id_of('payments')}")


@target(tokens=ANSWERS, seeds=[b"\0" * 200, bytes(range(200))])
def foreign_fleet(data: Inputs) -> None:
    """Whatever a store answers, circuits go on, and the fleet is shown: page, API, commands."""
    store = Foreign(data)
    with mock.patch.object(_fleet, "open_store", return_value=store):
        fleet = Fleet("memory://fuzz")
    with mock.patch.object(fleet._flusher, "start"), mock.patch.object(fleet._flusher, "wake"):
        breaker = CircuitBreaker("payments", fleet=fleet)
        for _ in range(1 + data.byte() % 3):
            members = [(each, breaker._circuit) for each in fleet._flusher.members()]
            flush = Flush(store, fleet._flusher.clock, lambda: None)
            with refused(StoreError):
                flush.run(members, attached=data.byte() % 2 == 0)
            with suppress(FluxgateError, ZeroDivisionError):
                breaker.call(lambda: 1 / (data.byte() % 2))
            shows(breaker.info())
            assert breaker.info().fleet is not None
    with mock.patch.object(fleet._flusher, "ask", lambda ask, *_: ask(store)):
        shows(fleet.circuits())
        shows(fleet.processes())
        page = Console(fleet, read=lambda _: "ann", control=lambda _: "ann", secret="s" * 16)
        with mock.patch.object(page, "failed", side_effect=_fail):
            for path in READERS:
                for api in ("", "api/v1/") if path.startswith("circuits") else ("",):
                    response = page.respond(
                        Request("GET", api + path), page.admit(Request("GET", ""))
                    )
                    assert response.status in (200, 404), response.status
                    if path.startswith("api"):
                        json.loads(response.body)
        page.close()
    for verb, names in (("list", ()), ("show", ("payments",))):
        for as_json in (True, False):
            out = io.StringIO()
            with (
                mock.patch.object(cli, "open_store", return_value=store),
                refused(FluxgateError),
            ):
                cli.run("memory://fuzz", verb, names, command="x", as_json=as_json, out=out)
                if as_json:
                    json.loads(out.getvalue())
    fleet._flusher.closed = True


def _fail(_: Request) -> Any:
    raise  # the error that is being handled
