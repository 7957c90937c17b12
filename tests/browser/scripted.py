"""A server of the console's pages whose circuits, faults and tokens a test sets as it likes.

The console on real servers is tested in test_consoles.py; here it is the page's script that is.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fluxgate.console
from fluxgate.cli._explain.explanation import in_short, settings_of
from fluxgate.console._html import Context, message, overview
from fluxgate.console._html_audit import audit
from fluxgate.console._html_circuit import detail, dialog
from fluxgate.console._view import (
    Action,
    Change,
    Detail,
    Dialog,
    Entry,
    Overview,
    ProcessRow,
    Row,
)
from fluxgate.console._words import Words, language_of, words
from fluxgate.policy import Policy
from fluxgate.signals import Reason
from fluxgate.state import State

FAILED = Reason("FailureRate(0.5)", 0.58, 100, "CountWindow(100)")
PROBED = Reason("FailureRate(0.5)", 0.6, 10, "CountWindow(100)")
ERRORS = (("httpx.ConnectTimeout", 42), ("503", 16))
ALLOWED = (True, None, False, True)
"""Of an `Action`: it is allowed, asks for no name, takes a duration."""
STATIC = Path(fluxgate.console.__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def row(number: int, state: State = State.CLOSED, **more: Any) -> Row:
    """A circuit of the fleet; its number is in its name, and in its id."""
    given: dict[str, Any] = {
        "open_in": 4 * (state in (State.OPEN, State.FORCED_OPEN)),
        "processes": 4,
        "since": time.time() - 250,
        "calls_rate": 12.0,
        "failed": 0.0,
        "slow": 0.0,
        "refused_rate": 0.0,
        "strip": (None, *[State.CLOSED] * 24, *[State.OPEN] * 3, State.HALF_OPEN, state, state),
        **more,
    }
    return Row(f"{number:024x}", given.pop("name", f"api-{number}.example.com"), state, **given)


class Pages(ThreadingHTTPServer):
    """The server.

    Attributes:
        rows: the circuits, in their order on the page; the first one has a detail.
        status: what it answers to polls, where that isn't 200 or 304.
        error: why its data are a minute old; None: they aren't.
        polls: the status of each answer to a poll, that is a request by the script.
        sent: the forms that have been posted.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/ops/"
        self.rows = [row(1, State.OPEN, reason=FAILED, retry_after=12.0)]
        self.status = 200
        self.error: str | None = None
        self.polls: list[int] = []
        self.sent: list[dict[str, list[str]]] = []

    def page(self, path: str, context: Context, wanted: str = "") -> str:
        """The page at a path below the mount; the filter `wanted` leaves nothing."""
        first = self.rows[0]
        if not path:
            counts = {state: sum(each.state is state for each in self.rows) for state in State}
            count, now = len(self.rows), time.time() - 60 * bool(self.error)
            about = ("shop", "web-1", 7, 4, 0, 0.1, self.error)
            rows = () if wanted else tuple(self.rows)
            view = Overview(*about, counts, rows, count, 1, 2, wanted, fleet=True, at=now)
            return overview(view, context)
        say = words(context.language)
        where = say("where_fleet", n=4)
        act = Action("disable", say("effect_disable", where=where), *ALLOWED)
        asked = Dialog(first, act, "op-1", "token-1")
        if path.endswith("/disable"):
            return dialog(asked, context, service="shop")
        if path.endswith("/invalid"):
            problems = {"note": "it must have 3 characters at least", "name": "it is another one"}
            wrong = asked._replace(action=act._replace(asks_name=True), note="no")
            return dialog(wrong._replace(problems=problems), context, service="shop")
        if path == "audit":
            return audit(self.in_full(first, act, say).audit, context, service="shop")
        if not path.startswith("circuits/"):
            return message("Not found", "There is no such page.", context, service="shop")
        return detail(self.in_full(first, act, say), context, service="shop")

    def in_full(self, first: Row, act: Action, say: Words) -> Detail:
        """Everything about the first circuit."""
        now, policy = time.time(), Policy()
        about = {"rate": "118", "where": say("where_fleet", n=4)}
        effects = {
            action: say(f"effect_{action}", **about)
            for action in ("open_for", "force_open", "metrics_only", "reset")
        }
        off = (False, "it is forced open already", False, True)
        actions = (
            Action("open_for", effects["open_for"], *ALLOWED),
            Action("force_open", effects["force_open"], *off),
            act,
            Action("metrics_only", effects["metrics_only"], *ALLOWED),
            Action("reset", effects["reset"], True, None, False, timed=False),
        )
        changes = (
            Change(now - 131, State.HALF_OPEN, first.state, PROBED, "fleet", ERRORS),
            Change(now - 190, State.OPEN, State.HALF_OPEN, Reason("cooldown over"), "peer"),
            Change(now - 250, State.CLOSED, State.OPEN, FAILED, "fleet", ERRORS),
        )
        counts = (1_204, 58, 340, Reason("FailureRate(0.5)"), 0.6)
        processes = [
            ProcessRow(f"web-1:{pid}:a", "web-1", pid, first.state, *counts, absent=pid == 4121)
            for pid in (4117, 4118, 4119, 4120, 4121)
        ]
        entry = Entry(
            *(now - 90_000, "alice", "10.0.0.7", first.name, first.id, "reset", None),
            *(
                "the provider says it is back",
                State.FORCED_OPEN,
                State.CLOSED,
                "done",
                None,
                "op-0",
            ),
        )
        return Detail(
            row=first,
            changes=changes,
            evidence=(say("evidence_open"),),
            policy=tuple((title, tuple(points)) for title, points in in_short(policy)),
            totals={"successes": 120_344, "failures": 1_201, "rejected": 9_120},
            settings=dict(settings_of(policy)),
            processes=tuple(processes),
            audit=(entry, entry._replace(actor="mallory", outcome="denied", after=None)),
            actions=actions,
            errors=ERRORS,
        )


class _Handler(BaseHTTPRequestHandler):
    server: Pages
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/ops/")
        if path.startswith("static/"):
            file = STATIC / path.rpartition("/")[2]
            self._answer(200, file.read_bytes(), {"Content-Type": TYPES[file.suffix]})
            return
        poll = self.headers["Sec-Fetch-Dest"] == "empty" and not path.endswith("/disable")
        tag = (
            '"'
            + hashlib.sha256(repr((self.server.rows, self.server.error)).encode()).hexdigest()[:16]
            + '"'
        )
        status = self.server.status if poll else 200
        if status == 200 and self.headers["If-None-Match"] == tag:
            status = 304
        if poll:
            self.server.polls.append(status)
        query = parse_qs(url.query)
        language = language_of(query.get("lang", [None])[-1], self.headers["Accept-Language"] or "")
        context = Context("/ops/", language, "alice", time.time(), asked="lang" in query)
        body = (
            b""
            if status != 200
            else self.server.page(path, context, query.get("filter", [""])[-1]).encode()
        )
        headers = {"Content-Type": "text/html; charset=utf-8", "ETag": tag}
        self._answer(status, body, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.sent.append(parse_qs(body, keep_blank_values=True))
        self._answer(303, b"", {"Location": self.path.rpartition("/")[0]})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        more = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", **headers}
        for name, value in more.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def pages() -> Iterator[Pages]:
    """A server of pages, in threads of its own."""
    with Pages() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
