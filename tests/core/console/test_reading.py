"""What the console shows of the circuits of one process, and of a registry."""

from __future__ import annotations

import gc
import gzip
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import fluxgate
from fluxgate import CircuitBreaker, State
from fluxgate.console import Actor, Console, Request, _snapshots
from fluxgate.console._history import History
from fluxgate.console._local import LocalSource
from fluxgate.console._names import id_of
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureRate, MinRequests, SlowRate

from ..interrupting import interrupted
from .asking import PACKED, PLAIN, console, detail, failing, get, header, read, rows


def test_the_worst_come_first() -> None:
    kept = [CircuitBreaker("fine"), failing("open"), failing("troubled", 4), CircuitBreaker("off")]
    kept[3].disable()
    kept[0].call(int)
    page = console(service="shop")
    found = read(page)
    assert [row["name"] for row in found["circuits"]] == ["open", "off", "troubled", "fine"]
    assert found["service"] == "shop"
    assert found["pid"] == os.getpid()
    assert found["counts"] == {
        "open": 1,
        "disabled": 1,
        "closed": 2,
        "forced_open": 0,
        "half_open": 0,
        "metrics_only": 0,
    }
    assert (found["fleet"], found["processes"], found["error"]) == (False, None, None)


def test_a_row_says_why_and_until_when() -> None:
    breaker = failing("pay")
    page = console()
    row = rows(page)["pay"]
    assert row["state"] == "open"
    assert row["reason"] == "FailureRate(0.5): 1 over 10 calls"
    assert 0 < row["retry_after"] <= 60
    assert row["since"] == pytest.approx(breaker.info().since, abs=0.01)
    assert row["open_in"] is None  # no fleet
    assert row["strip"][-1] == "O"


def test_a_closed_circuit_has_its_shares() -> None:
    breaker = CircuitBreaker(
        "pay", tripper=MinRequests(100) & (FailureRate(0.5) | SlowRate(0.5, 1.0))
    )
    for failed, elapsed in ((True, 0.1), (False, 2.0), (False, 0.1), (False, 0.1)):
        attempt = breaker.attempt()
        attempt.fail(elapsed) if failed else attempt.succeed(elapsed)
    row = rows(console())["pay"]
    assert (row["failed"], row["slow"], row["reason"]) == (0.25, 0.25, None)


def test_equal_names_are_one_row() -> None:
    kept = [CircuitBreaker("pay"), failing("pay")]
    page = console()
    assert rows(page)["pay"]["state"] == "open"
    assert read(page)["total"] == 1
    assert len(kept) == 2


def test_equal_names_of_two_registries() -> None:
    """A console shows what befell its own registry's circuits, and no other's."""
    one, other = Registry(), Registry()
    first, second = console(one), console(other)
    one["pay"].force_open(note="ours")
    for registry in (one, other):
        registry["pay"].disable()
    alone = failing("pay")
    assert [each["new"] for each in detail(first, "pay")["changes"]] == ["disabled", "forced_open"]
    (change,) = detail(second, "pay")["changes"]
    assert (change["old"], change["new"]) == ("closed", "disabled")
    assert rows(second)["pay"]["strip"][-1] == "D"
    everybody = console()
    alone.reset()
    assert [each["new"] for each in detail(everybody, "pay")["changes"]] == ["closed"]
    assert len(detail(first, "pay")["changes"]) == 2


def test_a_circuit_of_two_registries() -> None:
    shared = CircuitBreaker("pay at noon")  # and of another name than its key
    both = [Registry(factory=lambda _: shared) for _ in range(2)]
    pages = [console(registry) for registry in both]
    assert [registry["pay"].name for registry in both] == [shared.name] * 2
    shared.disable(note="a drill")
    for page in pages:
        (change,) = detail(page, shared.name)["changes"]
        assert change["note"] == "a drill"


def test_circuits_that_have_gone() -> None:
    registry = Registry(max_circuits=1)
    page = console(registry)
    registry["pay"].disable()
    registry["pay"].reset()
    del registry["pay"]
    gc.collect()
    registry["pay"].disable()
    changes = detail(page, "pay")["changes"]
    assert [each["new"] for each in changes] == ["disabled", "closed", "disabled"]


def test_the_evidence_is_held_against_the_threshold() -> None:
    breaker = CircuitBreaker(
        "pay", tripper=MinRequests(100) & (FailureRate(0.5) | SlowRate(0.8, 1.0))
    )
    for n in range(100):
        attempt = breaker.attempt()
        attempt.fail(0.1) if n % 5 < 2 else attempt.succeed(2.0 if n % 5 == 2 else 0.1)
    page = console()
    assert detail(page, "pay")["evidence"] == [
        "40 of 100 calls failed; opens at 50",
        "20 of 100 calls took 1 s or longer; opens at 80",
    ]
    few = failing("few", 3)
    assert detail(console(), "few")["evidence"] == [
        "3 of 3 calls failed",
        "3 failures in a row",
        "7 more calls before anything is decided",
    ]
    assert few.state is State.CLOSED


def test_the_detail_has_all_that_is_known() -> None:
    breaker = failing("pay", error_messages=True)
    page = console()
    breaker.reset(note="mended", by="bob")
    found = detail(page, "pay")
    (change,) = found["changes"]
    assert (change["old"], change["new"], change["by"], change["note"]) == (
        "open",
        "closed",
        "bob",
        "mended",
    )
    assert found["totals"]["failures"] == 10
    assert found["settings"]["tripper"] == "MinRequests(10) & FailureRate(0.5)"
    assert found["settings"]["error_messages"] == "True"
    titles = [each["title"] for each in found["policy"]]
    assert titles == ["When it opens", "While it is open", "Half-open"]
    assert "at least 50 % of the calls failed" in found["policy"][0]["points"][0]


@pytest.mark.parametrize("shown", [False, True])
def test_messages_are_shown_on_request(shown: bool) -> None:
    breaker = CircuitBreaker("pay", error_messages=True)
    page = console(error_messages=shown)
    for _ in range(10):
        with pytest.raises(ValueError, match="4111"):
            breaker.call(int, "4111-card")
    found = detail(page, "pay")
    assert ("4111" in json.dumps(found)) is shown
    assert found["errors"][0]["count"] == 10
    assert ("4111" in found["changes"][0]["evidence"]) is shown


def test_a_registry_is_shown_alone() -> None:
    registry = Registry()
    registry["mine"].call(int)
    other = CircuitBreaker("other")
    assert [*rows(console(registry))] == ["mine"]
    assert {*rows(console())} == {"mine", "other"}
    del other


def test_names_are_filtered() -> None:
    kept = [CircuitBreaker(name) for name in ("Payments", "payments-eu", "search")]
    page = console()
    assert {*rows(page, filter=" PAY ")} == {"Payments", "payments-eu"}
    found = read(page, filter="zzz")
    assert (found["total"], found["pages"], found["filter"]) == (0, 1, "zzz")
    assert sum(found["counts"].values()) == len(kept)


@pytest.mark.parametrize(
    ("asked", "page", "count"),
    [("1", 1, 200), ("2", 2, 50), ("3", 2, 50), ("0", 1, 200), ("-1", 1, 200), ("x", 1, 200)],
)
def test_pages_have_200_rows(asked: str, page: int, count: int) -> None:
    kept = [CircuitBreaker(f"circuit {n}") for n in range(250)]
    packed = Request("GET", "api/v1/state", query={"page": asked}, headers=PACKED)
    found = json.loads(gzip.decompress(console().handle(packed).body))
    assert (found["page"], found["pages"], len(found["circuits"])) == (page, 2, count)
    assert found["total"] == len(kept)


def test_without_gzip_pages_are_half_as_long() -> None:
    """Who takes no gzip is sent 60 KB at most, too."""
    kept = [failing(f"api-{n}.example.com:443") for n in range(450)]
    page = console()
    for path in ("", "api/v1/state"):
        assert len(get(page, path).body) <= 60_000
    found = read(page, page="5")
    assert (found["page"], found["pages"], len(found["circuits"])) == (5, 5, 50)
    assert found["total"] == len(kept)


# -- over time


SHARED = _snapshots.SHARED  # before tests are given one that lasts
"""Seconds for which a reading is shared."""


class Clocks:
    """A console whose clocks a test sets."""

    def __init__(self, page: Console, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.wall = 1_800_000_000.0
        snapshots = page._site._snapshots
        monkeypatch.setattr(_snapshots, "SHARED", SHARED)
        monkeypatch.setattr(snapshots, "_shared", SHARED)
        monkeypatch.setattr(snapshots, "_clock", lambda: self.now)
        monkeypatch.setattr(snapshots.source, "_clock", lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds


def test_a_reading_is_shared_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    page = console()
    clocks = Clocks(page, monkeypatch)
    assert read(page)["total"] == 0
    breaker = CircuitBreaker("new")
    clocks.advance(0.9)
    assert read(page)["total"] == 0
    assert read(page)["age"] == pytest.approx(0.9)
    clocks.advance(0.2)
    assert read(page)["total"] == 1
    del breaker


def test_a_change_while_it_is_read_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    page = console()
    snapshots = page._site._snapshots
    source = snapshots.source
    reading = source.read

    def slow(*arguments: Any) -> Any:
        found = reading(*arguments)
        late.append(CircuitBreaker("late"))
        snapshots.renew()
        return found

    late: list[CircuitBreaker] = []
    with monkeypatch.context() as patched:
        patched.setattr(source, "read", slow)
        assert read(page)["total"] == 0
    assert read(page)["total"] == 1


def test_rates_come_from_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = failing("pay")
    breaker.reset()
    page = console()
    clocks = Clocks(page, monkeypatch)
    assert rows(page)["pay"]["calls_rate"] is None
    for _ in range(20):
        breaker.call(int)
    clocks.advance(4.0)
    assert rows(page)["pay"]["calls_rate"] == 5.0
    breaker.force_open()
    for _ in range(12):
        with pytest.raises(fluxgate.CallNotPermittedError):
            breaker.call(int)
    clocks.advance(4.0)
    row = rows(page)["pay"]
    assert (row["calls_rate"], row["refused_rate"]) == (2.5, 1.5)
    clocks.advance(6.0)
    assert rows(page)["pay"]["calls_rate"] < 2.5  # it looks back for some ten seconds
    clocks.advance(6.0)
    assert rows(page)["pay"]["calls_rate"] == 0.0
    clocks.advance(600.0)  # nobody has looked
    assert rows(page)["pay"]["calls_rate"] is None


def test_a_countdown_is_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    breaker = failing("pay", clock=clock)
    page = console()
    clocks = Clocks(page, monkeypatch)
    first = rows(page)["pay"]["retry_after"]
    clocks.advance(0.5)
    assert rows(page)["pay"]["retry_after"] == pytest.approx(first - 0.5)
    del breaker


# -- responses


def test_what_is_unchanged_is_not_sent() -> None:
    breaker = failing("pay")
    page = console()
    for path in ("", "api/v1/state", f"circuits/{id_of('pay')}"):
        first = get(page, path)
        tag = header(first, "etag")
        assert tag is not None
        again = Request("GET", path, headers={**PLAIN, "if-none-match": f'"x", {tag}'})
        second = page.handle(again)
        assert (second.status, second.body) == (304, b"")
        assert header(second, "etag") == tag
        page._site._snapshots.renew()
        assert page.handle(again).status == 304  # a countdown is no change
        breaker.reset()
        page._site._snapshots.renew()
        assert page.handle(again).status == 200
        breaker.open_for(60.0)
        page._site._snapshots.renew()


def test_a_page_of_another_actor_is_another() -> None:
    page = console()
    tags = {
        header(page.respond(Request("GET", "", headers=PLAIN), Actor(name, control)), "etag")
        for name in ("ann", "bob")
        for control in (False, True)
    }
    assert len(tags) == 2  # the overview has the name, and no controls
    breaker = CircuitBreaker("pay")
    page._site._snapshots.renew()
    path = f"circuits/{id_of('pay')}"
    tags = {
        header(page.respond(Request("GET", path, headers=PLAIN), Actor(name, control)), "etag")
        for name in ("ann", "bob")
        for control in (False, True)
    }
    assert len(tags) == 4
    del breaker


def test_pages_are_compressed_without_tokens() -> None:
    kept = [CircuitBreaker(f"circuit {n}") for n in range(50)]
    page = console()

    def encoding(path: str, accepted: str = "br, gzip;q=0.5") -> str | None:
        request = Request("GET", path, headers={**PLAIN, "accept-encoding": accepted})
        return header(page.handle(request), "content-encoding")

    assert encoding("") == encoding("api/v1/state") == "gzip"
    assert encoding("", "br") is encoding("", "gzip;q=0") is None
    one = id_of("circuit 1")
    assert encoding(f"circuits/{one}/reset") is None
    assert encoding(f"api/v1/circuits/{one}") is None
    del kept


def test_every_response_is_guarded() -> None:
    breaker = CircuitBreaker("pay")
    page = console()
    one = id_of("pay")
    paths = ("", "x", "static/console.css", "api/v1/state", "api/x", "audit")
    for path in (*paths, f"circuits/{one}/reset"):
        headers = dict(get(page, path).headers)
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == ("no-cache" if "static" in path else "no-store")
    del breaker


def test_a_head_has_no_body() -> None:
    page = console()
    full, head = get(page), page.handle(Request("HEAD", "", headers=PLAIN))
    assert (head.status, head.body) == (200, b"")
    assert header(head, "content-length") == header(full, "content-length")


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "api",
        "api/v1",
        "api/v2/state",
        "circuits",
        "circuits/../x",
        "circuits/0123456789abcdef01234567",
        "circuits/0123456789ABCDEF01234567",
        "circuits/0123456789abcdef01234567/reset",
        "static/",
        "static/../_site.py",
        "static/..%2f_site.py",
        "static//etc/passwd",
        "static/console.css/",
        "static/\udc80",
        "\x00",
        "x" * 5000,
    ],
)
def test_what_is_not_there(path: str) -> None:
    assert get(console(), path).status == 404


def test_static_files_have_their_kind() -> None:
    page = console()
    names = [each.name for each in (Path(fluxgate.__path__[0]) / "console" / "static").iterdir()]
    assert {"console.css", "console.js"} <= {*names}
    for name in names:
        response = get(page, f"static/{name}")
        assert response.status == 200
        kind = header(response, "content-type")
        assert kind is not None
        assert kind.split("/")[0] == ("image" if name.endswith(".svg") else "text")
        tag = header(response, "etag")
        again = page.handle(Request("GET", f"static/{name}", headers={"if-none-match": str(tag)}))
        assert again.status == 304


def test_the_language_is_the_readers() -> None:
    page = console()

    def language(accepted: str, **query: str) -> bytes:
        headers = {**PLAIN, "accept-language": accepted}
        return page.handle(Request("GET", "", query=query, headers=headers)).body

    assert b"<html lang=ko" in language("ko-KR,ko;q=0.9,en;q=0.8")
    assert b"<html lang=en" in language("en-GB, ko;q=0.1")
    assert b"<html lang=en" in language("ko", lang="en")
    assert b"<html lang=ko" in language("", lang="ko")


HOSTILE: list[Any] = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "\u202egnp.exe",
    "lone \ud800 surrogate",
    "x" * 512,
    "../../etc/passwd",
    "new\r\nline: header",
    "nul \x00",
    "</script>",
    "{{7*7}}",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(name: str) -> None:
    breaker = failing(name)
    page = console()
    one = id_of(name)
    assert name not in one
    for path in ("", f"circuits/{one}", f"circuits/{one}/reset"):
        response = get(page, path)
        assert response.status == 200
        text = response.body.decode()
        for part in ("<img", "<script>alert", "\u202e", "\x00", "\ud800", "x" * 300):
            assert part not in text
        assert all("\n" not in value for _, value in response.headers)
    assert b"<" not in get(page, "api/v1/state").body
    assert len(read(page)["circuits"][0]["name"]) <= 220
    del breaker


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces")
def test_an_interrupted_reading() -> None:
    """At any bytecode of the lock around it: the page's other threads read on."""
    place, going_on = 0, True
    while going_on:
        snapshots = _snapshots.Snapshots(LocalSource(), History(), ManualClock())
        going_on = interrupted(snapshots.look, place, "_snapshots.py", "_locks.py")
        looks: list[_snapshots.Look] = []
        thread = threading.Thread(target=lambda: looks.append(snapshots.look()))  # noqa: B023
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(_snapshots, "PATIENCE", 0.0)
            thread.start()
            thread.join()
        assert looks, place
        place += 1
    assert place > 50
