"""The controls: what they do, and everything that they refuse, with the audit of both."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from fluxgate import CircuitBreaker, Signal, State
from fluxgate.console import Actor, Console, Entry, Request, _snapshots
from fluxgate.console._act import MAX_BODY
from fluxgate.console._audit import DENIED, KEPT
from fluxgate.console._names import id_of
from fluxgate.console._tokens import HOUR, Tokens
from fluxgate.testing import ManualClock

from .asking import (
    HERE,
    HOST,
    console,
    detail,
    failing,
    get,
    header,
    made,
    operation,
    post,
    somebody_reading,
    use,
)

LONG = "x" * 201


class Desk:
    """A console with one circuit, and a clock that lets the actor act again."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("pay")
        self.page = console(**options)
        claims: Any = self.page._site._controls._claims
        claims._clock = self.clock

    def use(self, action: str, /, **fields: Any) -> Any:
        self.clock.advance(1.0)
        response = use(self.page, "pay", action, **fields)
        return response.status, json.loads(response.body)

    @property
    def last(self) -> Entry:
        return self.page.audit()[0]


@pytest.mark.parametrize(
    ("action", "seconds", "state"),
    [
        ("force_open", 60, State.FORCED_OPEN),
        ("force_open", None, State.FORCED_OPEN),
        ("disable", 60.5, State.DISABLED),
        ("metrics_only", "60", State.METRICS_ONLY),
        ("open_for", 60, State.OPEN),
        ("reset", None, State.CLOSED),
    ],
)
def test_each_control_is_done(action: str, seconds: Any, state: State) -> None:
    desk = Desk()
    heard: list[Signal] = []
    desk.breaker.listen(heard.append)
    if action == "reset":
        desk.breaker.force_open()
        heard.clear()
    status, answer = desk.use(action, note=" why\n not ", seconds=seconds)
    assert status == 200, answer
    assert (answer["outcome"], answer["circuit"]["state"]) == ("done", str(state))
    assert desk.breaker.state is state
    reason = heard[0].reason
    assert (reason.clause, reason.note, reason.by) == (f"{action}()", "why not", "ann")
    assert reason.measured == (None if seconds is None else float(seconds))
    entry = desk.last
    assert (entry.outcome, entry.actor, entry.action, entry.after) == ("done", "ann", action, state)
    assert (entry.circuit, entry.id, entry.address) == ("pay", id_of("pay"), "192.0.2.7")
    assert (entry.note, entry.why) == ("why not", None)


def test_fifteen_minutes_unless_said() -> None:
    desk = Desk()
    assert desk.use("disable")[0] == 200
    assert desk.breaker.info().reverts_in == pytest.approx(900, abs=60)
    assert desk.last.seconds == 900
    assert desk.use("disable", seconds=None)[0] == 200
    assert desk.breaker.info().reverts_in is None


def test_a_form_is_answered_by_a_redirect() -> None:
    desk = Desk()
    fields = {"note": "a drill", "seconds": "", **operation(desk.page, "pay", "disable")}
    response = post(desk.page, "pay", "disable", fields, api=False, root="/ops/circuits/")
    assert response.status == 303
    where = header(response, "location")
    assert where == f"/ops/circuits/circuits/{id_of('pay')}?operation={fields['operation']}"
    assert desk.breaker.state is State.DISABLED
    assert desk.breaker.info().reverts_in is None
    shown = get(desk.page, f"circuits/{id_of('pay')}", operation=fields["operation"])
    assert b"a drill" in shown.body


def test_a_form_that_is_wrong_is_shown_again() -> None:
    desk = Desk()
    fields = {"note": "no", "seconds": "60", **operation(desk.page, "pay", "disable")}
    response = post(desk.page, "pay", "disable", fields, api=False)
    assert response.status == 422
    text = response.body.decode()
    assert "Give a reason of 3 to 200 characters." in text
    assert 'value="no"' in text
    assert fields["operation"] not in text  # it is another operation
    assert desk.breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("action", "fields", "field"),
    [
        ("disable", {"note": ""}, "note"),
        ("disable", {"note": " \n "}, "note"),
        ("disable", {"note": "ab"}, "note"),
        ("disable", {"note": LONG}, "note"),
        ("disable", {"seconds": 0}, "seconds"),
        ("disable", {"seconds": -1}, "seconds"),
        ("disable", {"seconds": "soon"}, "seconds"),
        ("disable", {"seconds": 1e10}, "seconds"),
        ("disable", {"seconds": "inf"}, "seconds"),
        ("disable", {"seconds": "nan"}, "seconds"),
        ("disable", {"seconds": True}, "seconds"),
        ("disable", {"seconds": [60]}, "seconds"),
        ("disable", {"seconds": 10**400}, "seconds"),
        ("open_for", {"seconds": None}, "seconds"),
        ("open_for", {"seconds": ""}, "seconds"),
    ],
)
def test_fields_that_can_not_be_used(action: str, fields: dict[str, Any], field: str) -> None:
    desk = Desk()
    status, answer = desk.use(action, **fields)
    assert status == 422
    assert [*answer["problems"]] == [field]
    assert answer["detail"]
    assert desk.breaker.state is State.CLOSED
    assert (desk.last.outcome, desk.last.after) == ("invalid", None)
    assert desk.last.why == answer["detail"]
    assert desk.use(action, seconds=60)[0] == 200  # nothing was used up


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b""),
        ("application/json", b"[]"),
        ("application/json", b'{"note": 1}'),
        ("application/json", b"{" * 10_000),
        ("application/json", b"\xff"),
        ("application/x-www-form-urlencoded", b"&".join([b"a=b"] * 100)),
        ("text/plain", b"note=why"),
        ("multipart/form-data; boundary=x", b""),
        ("", b"note=why"),
    ],
)
def test_bodies_that_can_not_be_read(kind: str, body: bytes) -> None:
    desk = Desk()
    path = f"api/v1/circuits/{id_of('pay')}/disable"
    request = Request("POST", path, headers={**HERE, "content-type": kind}, body=body)
    assert desk.page.handle(request).status == 400
    assert desk.breaker.state is State.CLOSED
    assert desk.last.outcome == "invalid"


@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize("headers", [{}, {"content-length": "9" * 40}])
def test_a_body_that_is_too_long(api: bool, headers: dict[str, str]) -> None:
    desk = Desk()
    note = "x" * (MAX_BODY if not headers else 3)
    fields = {**fields_of(desk), "note": note}
    response = post(desk.page, "pay", "disable", fields, api=api, headers={**HERE, **headers})
    assert response.status == 413
    assert b"16 KiB" in response.body
    assert desk.breaker.state is State.CLOSED
    assert desk.last.outcome == "invalid"


def test_a_length_that_is_no_number() -> None:
    desk = Desk()
    headers = {**HERE, "content-length": "-1"}
    assert post(desk.page, "pay", "disable", fields_of(desk), headers=headers).status == 400


def test_a_critical_circuit_wants_its_name() -> None:
    desk = Desk(critical=["pay", "other"])
    actions = {each["action"]: each for each in detail(desk.page, "pay")["actions"]}
    assert [name for name, each in actions.items() if each["asks_name"]] == ["disable"]
    for name in ("", "PAY", "other"):
        status, answer = desk.use("disable", name=name)
        assert (status, [*answer["problems"]]) == (422, ["name"])
    assert desk.breaker.state is State.CLOSED
    assert desk.use("force_open")[0] == 200
    assert desk.use("disable", name="pay")[0] == 200
    assert desk.breaker.state is State.DISABLED


# -- refused, audited, unchanged


def refused(desk: Desk, response: Any, status: int, actor: str = "ann") -> Entry:
    """Assert that a request was refused and audited, and has changed nothing."""
    assert response.status == status, response.body
    assert desk.breaker.state is State.CLOSED
    entry = desk.last
    assert (entry.actor, entry.after) == (actor, None)
    assert entry.outcome in ("denied", "invalid", "repeated")
    return entry


def fields_of(desk: Desk, action: str = "disable") -> dict[str, Any]:
    return {"note": "a drill", **operation(desk.page, "pay", action)}


def test_nobody_can_act() -> None:
    desk = Desk()
    fields = fields_of(desk)
    desk.page._read = lambda _: None
    refused(desk, post(desk.page, "pay", "disable", fields), 403, "-")


def test_who_may_only_look_can_not_act() -> None:
    desk = Desk()
    fields = fields_of(desk)
    desk.page._control = lambda _: None
    entry = refused(desk, post(desk.page, "pay", "disable", fields), 403)
    assert entry.why == "ann may look, but not act"
    found = detail(desk.page, "pay")["actions"]
    assert not any(each["allowed"] for each in found)
    assert not any("token" in each for each in found)
    assert get(desk.page, f"circuits/{id_of('pay')}/disable").status == 403


def test_a_console_without_controls_has_none() -> None:
    breaker = CircuitBreaker("pay")
    page = Console(read=lambda _: "ann", single_process=True)
    made.append(page)
    given = Request("POST", f"circuits/{id_of('pay')}/disable", headers=HERE)
    assert page.respond(given, Actor("ann", control=True)).status == 403
    assert page.audit()[0].why == "this console was made without controls"
    assert breaker.state is State.CLOSED


def test_one_process_of_several_has_none() -> None:
    desk = Desk(single_process=False)
    given = Request("POST", f"circuits/{id_of('pay')}/disable", headers=HERE)
    refused(desk, desk.page.handle(given), 403)
    assert "this process alone" in str(desk.last.why)
    assert b"of a server that may have more" in get(desk.page).body


@pytest.mark.parametrize(
    "headers",
    [
        HOST,
        {**HOST, "origin": "null"},
        {**HOST, "origin": "https://shop.example"},
        {**HOST, "origin": "http://shop.example:81"},
        {**HOST, "origin": "http://evil.example"},
        {**HOST, "origin": "http://shop.example.evil.example"},
        {"origin": "http://shop.example"},
        {"host": "", "origin": "http://"},
        {**HERE, "sec-fetch-site": "cross-site"},
        {**HERE, "sec-fetch-site": "same-site"},
        {**HERE, "sec-fetch-site": "none"},
        {**HERE, "sec-fetch-site": ""},
    ],
)
def test_a_foreign_origin_is_refused(headers: dict[str, str]) -> None:
    desk = Desk()
    entry = refused(desk, post(desk.page, "pay", "disable", fields_of(desk), headers=headers), 403)
    assert entry.why == "The request doesn't come from this page."


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        (HERE, False),
        ({**HOST, "origin": "https://shop.example"}, True),
        ({"sec-fetch-site": "same-origin"}, False),  # a proxy that ends TLS, and its own Host
        ({**HOST, "sec-fetch-site": "same-origin", "origin": "https://shop.example"}, False),
    ],
)
def test_its_own_origin_is_not(headers: dict[str, str], secure: bool) -> None:
    desk = Desk()
    response = post(desk.page, "pay", "disable", fields_of(desk), headers=headers, secure=secure)
    assert response.status == 200


def test_tokens_are_for_one_thing() -> None:
    desk = Desk()
    other = CircuitBreaker("other")
    desk.page._site._snapshots.renew()
    good = fields_of(desk)
    token = good["token"]
    for fields in (
        {**good, "token": ""},
        {**good, "token": token[:-1]},
        {**good, "token": token[:-1] + ("0" if token[-1] != "0" else "1")},
        {**good, "token": "\udc80" + token},
        {**good, "operation": "another"},
        {**good, "operation": ""},
        {**good, "operation": "x" * 65},
    ):
        refused(desk, post(desk.page, "pay", "disable", fields), 403)
    refused(desk, post(desk.page, "pay", "force_open", good), 403)
    refused(desk, post(desk.page, "other", "disable", good), 403)
    desk.page._read = lambda _: "bob"
    desk.page._control = lambda _: "bob"
    refused(desk, post(desk.page, "pay", "disable", good), 403, "bob")
    assert other.state is State.CLOSED


def test_tokens_are_good_for_two_hours_at_most() -> None:
    now = [HOUR * 1000.0]
    tokens = Tokens(b"x" * 16, lambda: now[0])
    token = tokens.sign("ann", "c", "reset", "o")
    for at, good in ((0, True), (HOUR, True), (2 * HOUR - 1, True), (2 * HOUR, False), (-1, False)):
        now[0] = HOUR * 1000.0 + at
        assert tokens.check(token, "ann", "c", "reset", "o") is good
    now[0] = HOUR * 1000.0
    assert not tokens.check(token, "an", "nc", "reset", "o")
    assert not Tokens(b"y" * 16, lambda: now[0]).check(token, "ann", "c", "reset", "o")


def test_a_replayed_request_does_nothing() -> None:
    desk = Desk()
    fields = fields_of(desk)
    assert post(desk.page, "pay", "disable", fields).status == 200
    desk.breaker.reset()
    desk.page._site._snapshots.renew()
    desk.clock.advance(60.0)
    response = post(desk.page, "pay", "disable", fields)
    entry = refused(desk, response, 200)
    assert entry.outcome == json.loads(response.body)["outcome"] == "repeated"
    form = post(desk.page, "pay", "disable", fields, api=False)
    assert form.status == 303  # as if it had just been done: the page shows what was


def test_the_answer_is_read_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another request reads meanwhile, which may have begun before the control."""
    desk = Desk()
    site = desk.page._site
    source: Any = site._snapshots.source
    read, readings = source.read, []
    began, go_on = threading.Event(), threading.Event()

    def slowly(*args: Any) -> Any:
        found = read(*args)  # before the control
        readings.append(found)
        if len(readings) == 1:
            began.set()
            assert go_on.wait(60)
        return found

    fields = fields_of(desk)
    site._snapshots.renew()
    monkeypatch.setattr(source, "read", slowly)
    other = threading.Thread(target=get, args=(desk.page,))
    other.start()
    assert began.wait(60)
    done, use = [], desk.page._site._controls.use

    def used(*args: Any) -> Any:
        found = use(*args)
        go_on.set()
        return found

    monkeypatch.setattr(site._controls, "use", used)
    done.append(json.loads(post(desk.page, "pay", "disable", fields).body))
    other.join()
    assert [each["circuit"]["state"] for each in done] == ["disabled"]
    assert len(readings) == 2


@pytest.mark.parametrize("api", [True, False])
def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, api: bool) -> None:
    monkeypatch.setattr(_snapshots, "PATIENCE", 0.01)
    desk = Desk()
    fields = fields_of(desk)
    with somebody_reading(desk.page):
        response = post(desk.page, "pay", "disable", fields, api=api)
        if api:
            operation = fields["operation"]
            answer = {"outcome": "done", "operation": operation, "after": "disabled"}
            assert json.loads(response.body) == answer  # the circuit isn't known yet
        else:
            shown = get(desk.page, f"circuits/{id_of('pay')}", operation=fields["operation"])
            assert (response.status, shown.status) == (303, 200)
    assert desk.breaker.state is State.DISABLED
    assert detail(desk.page, "pay")["circuit"]["state"] == "disabled"


def test_the_first_look_waits_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_snapshots, "PATIENCE", 0.01)
    page = console()
    with somebody_reading(page):
        assert get(page).status == 503
    assert get(page).status == 200


def test_the_page_after_it_is_newer() -> None:
    """Whoever is sent on to the circuit's page waits for a reading that began before."""
    desk = Desk()
    fields = fields_of(desk)
    with somebody_reading(desk.page) as end:
        assert post(desk.page, "pay", "disable", fields, api=False).status == 303
        threading.Timer(0.05, end.set).start()
        shown = get(desk.page, f"circuits/{id_of('pay')}", operation=fields["operation"])
    assert "data-state=disabled" in shown.body.decode()


def test_a_link_can_not_act() -> None:
    desk = Desk()
    fields = fields_of(desk)
    path = f"circuits/{id_of('pay')}/disable"
    request = Request("GET", f"api/v1/{path}", query=fields, headers=HERE)
    response = desk.page.handle(request)
    refused(desk, response, 405)
    assert header(response, "allow") == "POST"
    shown = desk.page.handle(Request("GET", path, query=fields, headers=HERE))
    assert shown.status == 200  # it asks
    assert desk.breaker.state is State.CLOSED


def test_one_control_a_second_for_each_actor() -> None:
    desk = Desk()
    assert use(desk.page, "pay", "disable").status == 200
    response = use(desk.page, "pay", "reset")
    assert (response.status, header(response, "retry-after")) == (429, "1")
    assert (desk.last.outcome, desk.breaker.state) == ("denied", State.DISABLED)
    desk.page._read = desk.page._control = lambda _: "bob"
    assert use(desk.page, "pay", "metrics_only").status == 200
    desk.page._read = desk.page._control = lambda _: "ann"
    desk.clock.advance(1.0)
    assert use(desk.page, "pay", "reset").status == 200


def test_a_front_may_have_proof_of_its_own() -> None:
    """As Django has: then neither an origin nor a token is asked for."""
    desk = Desk()
    fields = {"note": "a drill", "operation": "from-the-form"}
    assert post(desk.page, "pay", "disable", fields, headers=HOST).status == 403
    assert post(desk.page, "pay", "disable", fields, headers=HOST, trusted=True).status == 200


@pytest.mark.parametrize(("name", "action"), [("nothing", "disable"), ("pay", "open")])
def test_what_is_not_there_is_audited(name: str, action: str) -> None:
    desk = Desk()
    response = post(desk.page, name, action, {"note": "a drill", "operation": "o"}, trusted=True)
    assert refused(desk, response, 404).outcome == "invalid"


# -- the audit


def test_each_attempt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    with caplog.at_level(logging.INFO, "fluxgate.audit"):
        desk.use("disable", note="the provider\x1b[31m is down\u202e", seconds=60)
        desk.use("disable", note="")
    done, invalid = caplog.records
    assert done.levelno == logging.INFO
    assert done.getMessage() == (
        "done: disable for 60 s of 'pay' (closed -> disabled) by ann from 192.0.2.7: "
        "the provider\\x1b[31m is down\\u202e"
    )
    assert invalid.levelno == logging.WARNING
    assert "Give a reason" in invalid.getMessage()
    assert done.__dict__["fluxgate_action"] == "disable"


def test_a_host_hears_of_each_attempt(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Entry] = []

    def audited(entry: Entry) -> None:
        heard.append(entry)
        raise RuntimeError("the admin's table is gone")

    desk = Desk(audited=audited)
    with caplog.at_level(logging.ERROR, "fluxgate.audit"):
        assert desk.use("disable")[0] == 200
    assert "the admin's table is gone" in caplog.text
    assert [entry.outcome for entry in heard] == ["done"]


def test_strangers_do_not_push_others_out() -> None:
    desk = Desk()
    desk.use("disable")
    for _ in range(KEPT + 100):
        desk.page.respond(Request("POST", f"circuits/{id_of('pay')}/reset"), None)
    entries = desk.page.audit()
    assert len(entries) == DENIED + 1
    assert entries[-1].actor == "ann"
    assert desk.breaker.state is State.DISABLED


def test_the_page_shows_its_latest() -> None:
    desk = Desk()
    for n in range(KEPT + 5):
        desk.use("disable", note=f"drill {n}")
    shown = detail(desk.page, "pay")["audit"]
    assert len(shown) == KEPT
    assert shown[0]["note"] == f"drill {KEPT + 4}"


def test_all_attempts_are_on_a_page() -> None:
    """Whoever comes to an outage sees who did what, whichever circuit it was."""
    desk, other = Desk(service="shop"), CircuitBreaker("<b>search")
    assert "Nobody has used a control." in get(desk.page, "audit").body.decode()
    desk.use("disable", note="the provider is down")
    desk.clock.advance(1.0)
    assert use(desk.page, "<b>search", "force_open", note="a drill").status == 200
    desk.page.respond(Request("POST", f"circuits/{'0' * 24}/reset", peer="192.0.2.9"), None)
    page = get(desk.page, "audit")
    shown = page.body.decode()
    for text in ("the provider is down", "a drill", "&lt;b&gt;search", "0" * 24, "192.0.2.9"):
        assert text in shown
    assert "<b>" not in shown
    assert f'href="/circuits/{id_of("pay")}"' in shown
    unchanged = {"accept-encoding": "identity", **HOST, "if-none-match": header(page, "etag")}
    assert desk.page.handle(Request("GET", "audit", headers=unchanged)).status == 304
    entries = json.loads(get(desk.page, "api/v1/audit").body)["audit"]
    assert [each["outcome"] for each in entries] == ["denied", "done", "done"]
    assert [each["circuit"] for each in entries] == ["", "<b>search", "pay"]
    assert get(console(read=lambda _: None), "audit").status == 403
    del other


def test_the_effect_is_in_numbers() -> None:
    breaker = failing("pay")
    page = console()
    effects = {each["action"]: each["effect"] for each in detail(page, "pay")["actions"]}
    assert effects == {
        "open_for": "refuses every call in this process for a time, then probes",
        "force_open": "refuses every call in this process",
        "disable": "lets every call pass in this process, and counts none",
        "metrics_only": "lets every call pass in this process, and reports when it would refuse",
        "reset": "closes it in this process, and starts afresh",
    }
    del breaker


@pytest.mark.parametrize("operation", ["", "x" * 65, "a b", "ü" * 20, "a\x00", "../x", "a:b"])
def test_operations_have_plain_ids(operation: str) -> None:
    """A store would keep another under a name that is shown as a circuit."""
    desk = Desk()
    fields = {"note": "a drill", "operation": operation}
    refused(desk, post(desk.page, "pay", "disable", fields, trusted=True), 403)


@pytest.mark.parametrize("root", ["//evil.example/", "/ops/\r\nx: y/", "/ö p/"])
def test_a_redirect_stays_here(root: str) -> None:
    desk = Desk()
    fields = {"note": "a drill", **operation(desk.page, "pay", "disable")}
    where = header(post(desk.page, "pay", "disable", fields, api=False, root=root), "location")
    assert where is not None
    assert where.startswith("/")
    assert not where.startswith("//")
    assert where.isascii()
    assert where.isprintable()
    assert " " not in where
