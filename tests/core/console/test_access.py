"""Who is let in, and what the console says where nobody says that."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fluxgate import CircuitBreaker, ConfigError, State
from fluxgate.console import Actor, Console, Request
from fluxgate.console._names import id_of

from .asking import HERE, SECRET, console, get, header, made, post

LOCAL = {"host": "localhost:8000"}


def nobody(_: Request) -> None:
    return None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "read is missing"),
        ({"read": "ann"}, "read must be a function"),
        ({"read": nobody, "control": True}, "control must be a function"),
        ({"read": nobody, "control": nobody}, "secret is missing"),
        ({"read": nobody, "control": nobody, "secret": "short"}, "secret is too short"),
        ({"read": nobody, "secret": 12}, "secret must be text or bytes"),
        ({"read": nobody, "local_only": "yes"}, "local_only must be True or False"),
        ({"read": nobody, "single_process": 1}, "single_process must be True or False"),
        ({"read": nobody, "error_messages": None}, "error_messages must be True or False"),
        ({"read": nobody, "critical": "payments"}, "critical must be names"),
        ({"read": nobody, "critical": [1]}, "critical must be names"),
        ({"read": nobody, "service": b"x"}, "service must be text"),
        ({"read": nobody, "audited": 1}, "audited must be a function"),
        ({"read": nobody, "source": "redis://x"}, "source must be a Fleet, a Registry or None"),
    ],
)
def test_arguments_that_can_not_be_used(options: dict[str, Any], message: str) -> None:
    source = options.pop("source", None)
    with pytest.raises(ConfigError, match=message) as raised:
        Console(source, **options)
    assert "short" not in str(raised.value).replace("too short", "")  # no secret is shown


@pytest.mark.parametrize("answer", [None, ""])
def test_nobody_sees_anything(answer: str | None) -> None:
    breaker = CircuitBreaker("pay")
    page = console(read=lambda _: answer)
    for path in ("", "api/v1/state", f"circuits/{id_of('pay')}", "static/console.css", "x"):
        response = get(page, path)
        assert response.status == 403
        assert b"pay" not in response.body
    del breaker


@pytest.mark.parametrize("answer", [True, 1, b"ann", ["ann"], "  "])
def test_an_answer_must_be_a_name(answer: Any) -> None:
    """True would let somebody in whom the audit can't name."""
    for which in ("read", "control"):
        page = console(**{which: lambda _: answer})
        assert get(page).status == 500


def test_a_read_that_raises_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker("pay")

    def read(_: Request) -> str:
        raise RuntimeError("the password is 1234")

    page = console(read=read)
    with caplog.at_level(logging.ERROR, "fluxgate"):
        for path in ("", "api/v1/state"):
            response = get(page, path)
            assert response.status == 500
            assert b"1234" not in response.body
            assert b"pay" not in response.body
    assert "1234" in caplog.text
    with caplog.at_level(logging.WARNING, "fluxgate.audit"):
        assert post(page, "pay", "force_open", {"note": "a drill"}).status == 500
    assert breaker.state is State.CLOSED
    (entry,) = page.audit()
    assert (entry.outcome, entry.actor, entry.action) == ("denied", "-", "force_open")


def test_a_control_that_raises_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def control(_: Request) -> str:
        raise RuntimeError("1234")

    page = console(control=control)
    with caplog.at_level(logging.ERROR, "fluxgate"):
        assert get(page).status == 500


def test_an_error_of_ours_has_no_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = console()

    def look(**_: bool) -> None:
        raise RuntimeError("1234")

    monkeypatch.setattr(page._site._snapshots, "look", look)
    with caplog.at_level(logging.ERROR, "fluxgate"):
        response = get(page)
    assert response.status == 500
    assert b"1234" not in response.body
    assert "1234" in caplog.text


def test_an_async_read_needs_asgi(caplog: pytest.LogCaptureFixture) -> None:
    async def read(_: Request) -> str:
        return "ann"

    page = console(read=read)
    with caplog.at_level(logging.ERROR, "fluxgate"):
        assert get(page).status == 500
    assert "only ASGI can await" in caplog.text
    with pytest.raises(ConfigError, match="read is async"):
        _ = page.wsgi
    actor = asyncio.run(page.admit_async(Request("GET", "")))
    assert actor == Actor("ann", control=True)


# -- by loopback


def local(**options: Any) -> Console:
    page = Console(local_only=True, **options)
    made.append(page)
    return page


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_loopback_is_let_in(peer: str, host: str) -> None:
    page = local()
    request = Request("GET", "", headers={"host": host}, peer=peer)
    assert page.admit(request) == Actor("local")
    assert page.handle(request).status == 200


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.7", LOCAL),
        ("::ffff:192.0.2.7", LOCAL),
        (None, LOCAL),
        ("", LOCAL),
        ("localhost", LOCAL),  # a peer is an address
        ("127.0.0.1", {}),
        ("127.0.0.1", {"host": ""}),
        ("127.0.0.1", {"host": "shop.example"}),  # DNS rebinding
        ("127.0.0.1", {"host": "localhost.shop.example"}),
        ("127.0.0.1", {"host": "127.0.0.1.shop.example"}),
        ("127.0.0.1", {"host": "localhost@shop.example"}),
        ("127.0.0.1", {"host": "[::1"}),
        ("127.0.0.1", {**LOCAL, "x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {**LOCAL, "forwarded": "for=127.0.0.1"}),
        ("127.0.0.1", {**LOCAL, "x-real-ip": "127.0.0.1"}),
        ("127.0.0.1", {**LOCAL, "via": "1.1 proxy"}),
        ("127.0.0.1", {**LOCAL, "x-forwarded-host": "localhost"}),
    ],
)
def test_nobody_else_is(peer: str | None, headers: dict[str, str]) -> None:
    page = local()
    request = Request("GET", "", headers=headers, peer=peer)
    assert page.admit(request) is None
    assert page.handle(request).status == 403
    # Nor whom a front has let in.
    assert page.respond(request, Actor("ann", control=True)).status == 403


def test_loopback_can_be_asked_beside_read() -> None:
    page = local(read=lambda request: request.headers.get("x-user"))
    inside = {**LOCAL, "x-user": "ann"}
    assert page.admit(Request("GET", "", headers=inside, peer="127.0.0.1")) == Actor("ann")
    assert page.admit(Request("GET", "", headers=LOCAL, peer="127.0.0.1")) is None
    assert page.admit(Request("GET", "", headers=inside, peer="192.0.2.7")) is None


def test_control_is_asked_of_readers_alone() -> None:
    asked: list[str] = []

    def control(request: Request) -> str:
        asked.append(request.path)
        return "boss"

    page = console(read=lambda request: request.headers.get("x-user"), control=control)
    assert page.admit(Request("GET", "a")) is None
    assert asked == []
    assert page.admit(Request("GET", "b", headers={"x-user": "ann"})) == Actor("boss", control=True)
    assert asked == ["b"]


def test_who_may_look_may_not_act() -> None:
    page = Console(read=lambda _: "ann")
    made.append(page)
    assert page.admit(Request("GET", "")) == Actor("ann")


def test_other_methods_are_refused() -> None:
    page = console()
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "POST"):
        response = page.handle(Request(method, "", headers=HERE))
        assert response.status == 405
        assert header(response, "allow") == "GET, HEAD"


def test_a_console_that_is_closed_hears_no_more() -> None:
    with Console(read=nobody, secret=SECRET) as page:
        breaker = CircuitBreaker("pay")
        breaker.force_open()
    breaker.reset()
    page._history.catch_up()
    (change,) = page._history.changes(id_of("pay"))
    assert change.new is State.FORCED_OPEN
