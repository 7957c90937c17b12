"""Who is let in, and what the console says where nobody says that."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import fluxgate.console
from fluxgate import CircuitBreaker, ConfigError, State
from fluxgate.console import Actor, Console, Request
from fluxgate.console._names import id_of
from fluxgate.console._sentences import SENTENCES

from .asking import HERE, SECRET, console, get, header, made, post

FOLDER = Path(fluxgate.console.__file__).parent
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
    for path in ("", "api/v1/state", f"circuits/{id_of('pay')}", "static/x", "x"):
        response = get(page, path)
        assert response.status == 403
        assert b"pay" not in response.body
    del breaker


def test_the_page_for_strangers_is_whole() -> None:
    """It has its style, in their language, and says nothing of the service or of who runs it."""
    page = console(read=lambda _: None, service="secret shop")
    english = get(page).body.decode()
    assert "<h1>No access</h1>" in english
    assert "Sign in as somebody who may" in english
    assert "signed in as" not in english
    assert "secret shop" not in english
    korean = get(page, lang="ko").body.decode()
    assert "<h1>접근 권한 없음</h1>" in korean
    for name in ("console.css", "console.js", "alarm.svg"):
        assert f"static/{name}" in english or name == "alarm.svg"
        assert get(page, f"static/{name}").status == 200
    for method in ("POST", "DELETE"):
        assert page.handle(Request(method, "static/console.css", peer="192.0.2.7")).status == 403
    assert json.loads(get(page, "api/v1/state").body)["detail"] in english.replace("&#x27;", "'")


def test_a_loopback_page_says_so() -> None:
    page = Console(local_only=True)
    made.append(page)
    assert "ssh -L" in get(page).body.decode()


@pytest.mark.parametrize(
    ("method", "path", "status", "english", "korean"),
    [
        ("GET", "nowhere", 404, "Not found", "찾을 수 없음"),
        ("GET", "static/x", 404, "Begin with the list", "전체 서킷 목록"),
        ("GET", f"circuits/{'0' * 24}", 404, "look for it among all circuits", "전체 목록"),
        ("DELETE", "", 405, "Not in this way", "허용되지 않는 방식"),
        ("POST", f"circuits/{'0' * 24}", 405, "open the page", "페이지를 열어"),
    ],
)
def test_errors_say_what_to_do(
    method: str, path: str, status: int, english: str, korean: str
) -> None:
    page = console(service="shop")
    for language, expected in (("en", english), ("ko", korean)):
        response = page.handle(Request(method, path, query={"lang": language}))
        shown = response.body.decode()
        assert response.status == status
        assert expected in shown
        assert "<bdi>ann</bdi>" in shown
        assert "<bdi>shop</bdi>" in shown
        assert "static/console.css" in shown
        assert ("allow" in dict(response.headers)) is (status == 405)


def test_every_status_has_a_title() -> None:
    statuses = {
        int(found)
        for module in ("_act", "_site", "_console")
        for found in re.findall(
            r"Problem\(\s*(\d{3})", (FOLDER / f"{module}.py").read_text("utf-8")
        )
    }
    assert statuses == {400, 403, 404, 405, 409, 413, 422, 429, 500, 503}
    assert all(f"error_{each}" in SENTENCES for each in statuses)


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
