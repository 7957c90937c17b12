"""`SlackListener`, against a server on this machine: well, slow, failing, rate-limiting."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fluxgate import CircuitBreaker, Reason, Signal, SignalKind, State
from fluxgate.listeners import Background, SlackListener, _slack_http, _slack_outages
from fluxgate.listeners import _slack_words as words
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, tripped
from fluxgate.trippers import FailureStreak

PATIENCE = 30.0
TOKEN = "xoxb-1234567890-SECRETTOKEN"
HOOK = "services/T0001/B0002/SECRETHOOK"
RATE = Reason(
    "FailureRate(0.5)",
    0.62,
    100,
    "CountWindow(100)",
    (("httpx.ConnectTimeout", 58), ("OSError", 4)),
)


@dataclass
class Request:
    path: str
    authorization: str | None
    body: dict[str, Any]


@dataclass
class Slack:
    """A server that answers as Slack does, but for what is in `troubles`, one for each request."""

    url: str
    requests: list[Request] = field(default_factory=list)
    troubles: list[Any] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def texts(self) -> list[str]:
        return [request.body["text"] for request in self.requests]

    @property
    def methods(self) -> list[str]:
        return [request.path.rpartition("/")[2] for request in self.requests]


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "gethostname", lambda: "web-1")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.requests.append(Request(self.path, self.headers.get("Authorization"), body))
            number = len(served.requests)
            trouble = served.troubles.pop(0) if served.troubles else None
            if trouble == "wait":
                served.released.wait(PATIENCE)
                trouble = None
            if trouble == "slow":
                served.released.wait(PATIENCE)
                self.close_connection = True
                return
            if trouble == "hang up":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, headers, answer = trouble or self.well(body, number)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def well(self, body: dict[str, Any], number: int) -> Any:
            if self.path.startswith("/services"):
                return 200, {}, b"ok"
            ts = body.get("ts", f"1700000000.{number:06}")
            answer = {"ok": True, "channel": "C123", "ts": ts}
            return 200, {}, json.dumps(answer).encode()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Slack(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.released.set()
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the listener would have waited between its tries."""
    waited: list[float] = []
    monkeypatch.setattr(_slack_http, "sleep", waited.append)
    return waited


@pytest.fixture
def listener(slack: Slack) -> Iterator[Callable[..., SlackListener]]:
    """Makes listeners that talk to that server, by token or (with `hook=True`) by webhook."""
    made: list[SlackListener] = []

    def make(*, hook: bool = False, **options: Any) -> SlackListener:
        if hook:
            given: dict[str, Any] = {"webhook_url": slack.url + HOOK}
        else:
            given = {"token": TOKEN, "channel": "#incidents", "base_url": slack.url + "api/"}
        made.append(SlackListener(**given, **options))
        return made[-1]

    yield make
    slack.released.set()
    for each in made:
        assert each.close(PATIENCE)


CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
PROBE = Reason("probe failed")
WELL = Reason("probes succeeded")


def tell(told: SlackListener, *moves: tuple[float, State, State], name: str = "payments") -> None:
    """Tell it of moves at their times (seconds since the first signal), and wait."""
    for number, (at, old, new) in enumerate(moves):
        reason = RATE if (old, new) == (CLOSED, OPEN) else PROBE if new is OPEN else WELL
        told(Signal(name, old, new, 1_700_000_000.0 + at, number, reason))
    assert told.flush(PATIENCE)


OUTAGE = (
    (0, CLOSED, OPEN),
    (60, OPEN, HALF_OPEN),
    (61, HALF_OPEN, OPEN),
    (121, OPEN, HALF_OPEN),
    (192, HALF_OPEN, CLOSED),
)


# -- what it says


def test_an_outage_is_one_thread(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    tell(listener(service="shop"), *OUTAGE)
    post, update = "chat.postMessage", "chat.update"
    assert slack.methods == [post, post, post, post, post, update]
    assert {request.path for request in slack.requests} == {f"/api/{post}", f"/api/{update}"}
    assert {request.authorization for request in slack.requests} == {f"Bearer {TOKEN}"}
    first, *replies, changed = [request.body for request in slack.requests]
    assert first["channel"] == "#incidents"
    assert "thread_ts" not in first
    for reply in replies:
        assert (reply["channel"], reply["thread_ts"]) == ("C123", "1700000000.000001")
    assert [reply["reply_broadcast"] for reply in replies] == [False, False, False, True]
    assert (changed["channel"], changed["ts"]) == ("C123", "1700000000.000001")

    opened, probing, reopened, _, recovered, resolved = slack.texts
    assert opened == (
        ":red_circle: `payments` is open: calls are refused\n"
        ">`FailureRate(0.5): 0.62 over 100 calls in CountWindow(100); "
        "last errors: 58 × httpx.ConnectTimeout, 4 × OSError`\n"
        "shop on web-1"
    )
    assert probing.startswith(":large_yellow_circle: `payments` is half-open")
    assert reopened.startswith(":red_circle: `payments` is open")
    assert "`probe failed`" in reopened
    assert "1 min 1 s after it first opened" in reopened
    assert recovered.startswith(":large_green_circle: `payments` is closed")
    assert "3 min 12 s after it first opened" in recovered
    assert resolved.startswith(":large_green_circle: resolved: `payments` was open for 3 min 12 s")
    assert "FailureRate(0.5): 0.62 over 100 calls" in resolved


def test_the_next_outage_is_another_thread(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    told = listener()
    tell(told, *OUTAGE)
    tell(told, *((at + 3600, old, new) for at, old, new in OUTAGE))
    parents = [
        request.body["thread_ts"] for request in slack.requests if "thread_ts" in request.body
    ]
    assert parents == ["1700000000.000001"] * 4 + ["1700000000.000007"] * 4


def test_each_circuit_has_its_thread(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    told = listener()
    tell(told, (0, CLOSED, OPEN), name="a")
    tell(told, (1, CLOSED, OPEN), name="b")
    tell(told, (60, OPEN, HALF_OPEN), name="a")
    tell(told, (60, OPEN, HALF_OPEN), name="b")
    parents = [request.body.get("thread_ts") for request in slack.requests]
    assert parents == [None, None, "1700000000.000001", "1700000000.000002"]


def test_a_webhook_is_told_of_the_outage_and_of_its_end(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    tell(listener(hook=True), *OUTAGE)
    assert [request.path for request in slack.requests] == [f"/{HOOK}"] * 2
    assert [request.authorization for request in slack.requests] == [None, None]
    opened, recovered = slack.texts
    assert "`payments` is open" in opened
    assert "`payments` is closed" in recovered
    assert "3 min 12 s after it first opened" in recovered
    assert all(set(r.body) == {"text", "unfurl_links", "unfurl_media"} for r in slack.requests)


def test_from_a_breaker_with_the_time_to_its_probe(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    clock, told = ManualClock(), listener()
    breaker = CircuitBreaker(
        "slack-payments",
        tripper=FailureStreak(3),
        retry=Cooldown(90),
        permit=All(),
        clock=clock,
        listeners=[told],
    )
    tripped(breaker)
    assert told.flush(PATIENCE)
    clock.advance(90)
    breaker.call(int)
    assert told.flush(PATIENCE)
    opened, probing, recovered, _ = slack.texts
    assert "`FailureStreak(3): 3" in opened
    assert opened.endswith("web-1 · probes in 1 min 30 s")
    assert "half-open" in probing
    assert "closed" in recovered


def test_states_set_by_hand(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    told = listener(hook=True)
    by_hand = State.FORCED_OPEN
    tell(told, (0, CLOSED, by_hand), (5, by_hand, State.DISABLED), (9, State.DISABLED, CLOSED))
    forced, disabled = slack.texts  # what follows on its end is no news
    assert "is forced open: calls are refused until it is reset" in forced
    assert "is disabled" in disabled


def test_what_is_no_outage_is_not_told(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    told = listener()
    tell(told, (0, CLOSED, State.METRICS_ONLY), (1, State.METRICS_ONLY, CLOSED))
    tell(told, (2, HALF_OPEN, CLOSED))  # nobody was told that it had opened
    would = Signal("a", CLOSED, CLOSED, 0.0, 1, RATE, SignalKind.WOULD_OPEN, shadow=True)
    told(would)
    assert told.flush(PATIENCE)
    assert slack.requests == []


def test_texts_can_not_mention_or_link(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    told = listener(service="<shop> & co")
    reason = Reason("odd", errors=(("ValueError: <!channel>\n`rm` & <https://x|y>", 1),))
    told(Signal("<!here> *a*", CLOSED, OPEN, 0.0, 1, reason))
    assert told.flush(PATIENCE)
    (text,) = slack.texts
    assert "`&lt;!here&gt; *a*`" in text
    assert "&lt;!channel&gt; 'rm' &amp; &lt;https://x|y&gt;`" in text
    assert "&lt;shop&gt; &amp; co on web-1" in text
    assert "<" not in text
    assert text.count("\n") == 2


def test_an_explanation_without_end_is_cut() -> None:
    assert len(words.code("x" * 100_000)) < 2000


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (360_000, "100 h"),
    ],
)
def test_durations_as_people_say_them(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


# -- flapping


def flaps(times: int, every: float = 10.0) -> Iterator[tuple[float, State, State]]:
    for number in range(times):
        yield number * every, CLOSED, OPEN
        yield number * every + 1, OPEN, HALF_OPEN
        yield number * every + 2, HALF_OPEN, CLOSED


def test_a_circuit_that_flaps_stays_in_its_thread_and_falls_silent(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    told = listener(limit=5, window=600)
    tell(told, *flaps(20))
    posts = [r.body for r in slack.requests if r.path.endswith("postMessage")]
    assert len(posts) == 5
    assert [post.get("thread_ts") for post in posts[1:]] == ["1700000000.000001"] * 4
    assert "is open: calls are refused (again)" in posts[3]["text"]
    assert "_it changes often: for up to 10 min, further changes are not shown_" in posts[4]["text"]
    assert not any("not shown" in post["text"] for post in posts[:4])
    # Changing the first message disturbs nobody, so it always says how things stand.
    assert slack.methods[-1] == "chat.update"
    assert "resolved" in slack.texts[-1]

    tell(told, (700, CLOSED, OPEN))  # within the window since the recovery at 192: the same one
    assert "_55 changes before this one were not shown_" in slack.texts[-2]
    assert slack.requests[-2].body["thread_ts"] == "1700000000.000001"
    assert "is open" in slack.texts[-1]
    assert slack.methods[-1] == "chat.update"


def test_a_webhook_that_falls_silent_says_so_first(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    told = listener(hook=True, limit=4, window=600)
    tell(told, *flaps(20))
    assert len(slack.texts) == 4
    assert "further changes are not shown" in slack.texts[-1]
    tell(told, (5000, CLOSED, OPEN))
    assert len(slack.texts) == 5
    assert "(again)" not in slack.texts[-1]


def test_a_wall_clock_that_goes_back_silences_nobody(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    told = listener(hook=True, limit=2)
    tell(told, (0, CLOSED, OPEN), (1, OPEN, CLOSED), (-90_000, CLOSED, OPEN))
    assert len(slack.texts) == 3


def test_outages_are_forgotten_beyond_a_bound(
    slack: Slack, listener: Callable[..., SlackListener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_slack_outages, "MOST_CIRCUITS", 3)
    told = listener()
    for name in "abcd":
        tell(told, (0, CLOSED, OPEN), name=name)
    for name in "abcd":
        tell(told, (60, OPEN, HALF_OPEN), name=name)
    assert [text.split("`")[1] for text in slack.texts] == ["a", "b", "c", "d", "b", "c", "d"]


# -- circuits that change together


def together(slack: Slack, told: SlackListener, *signals: Signal) -> None:
    """Tell it of signals that wait while a message about another circuit is on its way."""
    slack.released.clear()
    slack.troubles = ["wait"]
    told(Signal("first", CLOSED, State.FORCED_OPEN, 1_700_000_000.0, 1, RATE))
    told(Signal("first", State.FORCED_OPEN, CLOSED, 1_700_000_000.0, 2, RATE))
    while not slack.requests:
        time.sleep(0.001)
    for signal in signals:
        told(signal)
    slack.released.set()
    assert told.flush(PATIENCE)
    slack.requests = [
        request for request in slack.requests if "`first`" not in request.body["text"]
    ]


def moved(name: str, old: State, new: State, at: float = 0.0) -> Signal:
    return Signal(name, old, new, 1_700_000_000.0 + at, 1, RATE if new is OPEN else WELL)


NAMES = [f"host{number}" for number in range(30)]


def test_a_storm_is_one_message(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    told = listener(service="shop")
    together(slack, told, *(moved(name, CLOSED, OPEN) for name in NAMES))
    (text,) = slack.texts
    lines = text.split("\n")
    assert lines[0] == ":red_circle: 30 circuits are open: calls are refused"
    assert lines[1] == ">`host0` `FailureRate(0.5): 0.62 over 100 calls`"
    assert len(lines) == 1 + words.MOST_LISTED + 2
    assert lines[-2] == f">and 20 more: `{', '.join(NAMES[10:])}`"
    assert lines[-1] == "shop on web-1"


def test_a_storm_is_one_thread(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    told = listener()
    together(
        slack,
        told,
        *(moved(name, CLOSED, OPEN) for name in NAMES),
        *(moved(name, OPEN, HALF_OPEN, 60) for name in NAMES),
        *(moved(name, HALF_OPEN, CLOSED, 61) for name in NAMES[1:]),
    )
    post, update = "chat.postMessage", "chat.update"
    assert slack.methods == [post, post, post, update]
    opened, probing, recovered, changed = [request.body for request in slack.requests]
    assert "thread_ts" not in opened
    assert probing["thread_ts"] == recovered["thread_ts"] == changed["ts"]
    assert probing["text"].startswith(":large_yellow_circle: 30 circuits are half-open")
    assert "whether they are back" in probing["text"]
    assert recovered["reply_broadcast"]
    assert recovered["text"].startswith(":large_green_circle: 29 circuits are closed")
    assert "1 min 1 s after the first of them opened" in recovered["text"]
    assert changed["text"].startswith(":red_circle: `host0` is open: calls are refused\n")
    assert changed["text"].endswith("_29 of 30 circuits have recovered_")

    tell(told, (120, HALF_OPEN, CLOSED), name="host0")
    assert slack.methods[-2:] == [post, update]
    assert slack.requests[-2].body["thread_ts"] == changed["ts"]
    resolved = ":large_green_circle: resolved: 30 circuits were open for up to 2 min\n"
    assert slack.texts[-1].startswith(resolved)


def test_a_circuits_order_is_kept(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    together(
        slack,
        listener(),
        moved("a", CLOSED, OPEN),
        moved("a", OPEN, HALF_OPEN, 60),
        moved("a", HALF_OPEN, OPEN, 61),
        moved("b", CLOSED, OPEN, 61),
        moved("b", OPEN, HALF_OPEN, 90),
    )
    heads = [text.partition("\n")[0] for text in slack.texts]
    assert heads == [
        ":red_circle: 2 circuits are open: calls are refused",
        ":large_yellow_circle: 2 circuits are half-open: a few calls probe whether they are back",
        ":red_circle: `a` is open: calls are refused",
    ]


def test_a_webhook_in_a_storm(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    told = listener(hook=True)
    together(
        slack,
        told,
        *(moved(name, CLOSED, OPEN) for name in NAMES),
        *(moved(name, OPEN, HALF_OPEN, 60) for name in NAMES),
        *(moved(name, HALF_OPEN, CLOSED, 61) for name in NAMES),
    )
    opened, recovered = slack.texts
    assert "30 circuits are open" in opened
    assert "30 circuits are closed" in recovered


def test_a_storm_that_flaps(slack: Slack, listener: Callable[..., SlackListener]) -> None:
    told = listener(limit=3)
    flaps: list[Signal] = []
    for at in range(0, 100, 10):
        flaps += [moved(name, CLOSED, OPEN, at) for name in NAMES]
        flaps += [moved(name, OPEN, CLOSED, at + 5) for name in NAMES]
    together(slack, told, *flaps)
    posts = [request.body["text"] for request in slack.requests if "ts" not in request.body]
    assert len(posts) == 3
    assert "_30 of them change often: for up to 10 min" in posts[-1]
    tell(told, (690, CLOSED, OPEN), name="host0")
    assert "_17 changes before this one were not shown_" in slack.texts[-2]


def test_a_storm_that_can_not_be_sent(
    slack: Slack, listener: Callable[..., SlackListener], caplog: pytest.LogCaptureFixture
) -> None:
    """Its recovery is shown all the same, and the log has how many changes were not."""
    told = listener(retries=0)
    slack.troubles = [(500, {}, b"")]
    for signal in (moved(name, CLOSED, OPEN) for name in NAMES):
        told(signal)
    assert told.flush(PATIENCE)
    sent = len(slack.requests)
    assert sent <= 30
    for signal in (moved(name, OPEN, CLOSED, 9) for name in NAMES):
        told(signal)
    assert told.flush(PATIENCE)
    assert "is reached again" in caplog.messages[-1]


# -- a server in trouble


def limited(seconds: str) -> Any:
    return 429, {"Retry-After": seconds}, b'{"ok": false, "error": "ratelimited"}'


def refused(error: str, status: int = 200) -> Any:
    return status, {}, json.dumps({"ok": False, "error": error}).encode()


def test_calls_never_wait_for_a_slow_server(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    slack.troubles = ["slow"]
    told = listener()
    breaker = CircuitBreaker("slack-slow", listeners=[told])
    breaker.force_open()
    breaker.reset()
    assert breaker.call(lambda: "fine") == "fine"
    assert not told.flush(0.0)
    slack.released.set()


def test_a_slow_server_times_out_and_is_tried_again(
    slack: Slack, listener: Callable[..., SlackListener], waits: list[float]
) -> None:
    slack.troubles = ["slow", "slow"]
    tell(listener(timeout=0.2), (0, CLOSED, OPEN))
    assert len(slack.requests) == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        "hang up",
        (500, {}, b"oops"),
        (503, {}, b""),
        refused("internal_error"),
        refused("service_unavailable", 200),
    ],
)
def test_passing_trouble_is_tried_again(
    trouble: Any,
    slack: Slack,
    listener: Callable[..., SlackListener],
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    slack.troubles = [trouble, trouble]
    tell(listener(), (0, CLOSED, OPEN))
    assert len(slack.requests) == 3
    assert len(set(slack.texts)) == 1
    first, second = waits
    assert 1.0 <= first <= 1.25
    assert 2.0 <= second <= 2.5
    assert caplog.records == []


def test_a_rate_limit_is_heeded(
    slack: Slack, listener: Callable[..., SlackListener], waits: list[float]
) -> None:
    slack.troubles = [limited("30"), limited("7"), limited("soon")]
    tell(listener(hook=True), (0, CLOSED, OPEN))
    assert len(slack.requests) == 4
    for waited, least in zip(waits, (30, 7, 4), strict=True):
        assert least <= waited <= least * 1.25


def test_a_rate_limit_of_an_hour_is_not_waited_for(
    slack: Slack,
    listener: Callable[..., SlackListener],
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    slack.troubles = [limited("3600")]
    tell(listener(), (0, CLOSED, OPEN))
    assert waits == []
    assert caplog.messages == ["circuit 'payments': Slack could not be reached: Slack's rate limit"]


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (refused("channel_not_found"), "channel_not_found"),
        (refused("invalid_auth"), "invalid_auth"),
        ((403, {}, b"invalid_token"), "HTTP 403 invalid_token"),
        ((404, {}, b"<a href='/services/T/B/SECRETHOOK'>"), "HTTP 404"),
        ((302, {"Location": "https://example.com/"}, b""), "HTTP 302"),
        ((200, {}, b"<html>log in to the hotel's network"), "an answer that is not Slack's"),
        ((200, {}, b'{"ok": false}'), "an error"),
    ],
)
def test_what_is_for_good_is_not_tried_again(
    trouble: Any,
    why: str,
    slack: Slack,
    listener: Callable[..., SlackListener],
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    slack.troubles = [trouble]
    tell(listener(), (0, CLOSED, OPEN))
    assert len(slack.requests) == 1
    assert waits == []
    assert caplog.messages == [f"circuit 'payments': Slack could not be reached: {why}"]
    assert caplog.records[0].levelname == "WARNING"


def test_a_failure_is_logged_once_until_one_gets_through(
    slack: Slack, listener: Callable[..., SlackListener], caplog: pytest.LogCaptureFixture
) -> None:
    told = listener(retries=0)
    slack.troubles = [(500, {}, b"")] * 3
    for name in "abc":
        tell(told, (0, CLOSED, OPEN), name=name)
    assert len(caplog.records) == 1
    tell(told, (0, CLOSED, OPEN), name="d")
    assert caplog.messages[1:] == ["circuit 'd': Slack is reached again; 3 changes were not shown"]
    slack.troubles = [(500, {}, b"")]
    tell(told, (0, CLOSED, OPEN), name="e")
    assert len(caplog.records) == 3


@pytest.mark.parametrize("hook", [False, True])
def test_an_outage_whose_opening_was_not_told_is_made_up_for(
    hook: bool, slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    slack.troubles = [(500, {}, b"")]
    tell(listener(retries=0, hook=hook), *OUTAGE)
    lost, reopened, *_ = slack.texts
    assert "1 min 1 s after it first opened" in reopened
    assert "is open" in lost
    assert "thread_ts" not in slack.requests[1].body


def test_nothing_told_until_the_end_is_told_at_the_end(
    slack: Slack, listener: Callable[..., SlackListener]
) -> None:
    slack.troubles = [(500, {}, b"")]
    tell(listener(retries=0), (0, CLOSED, OPEN), (50, OPEN, HALF_OPEN), (75, HALF_OPEN, CLOSED))
    assert slack.methods == ["chat.postMessage", "chat.postMessage"]
    assert "is closed" in slack.texts[1]
    assert "1 min 15 s after it first opened" in slack.texts[1]


def test_nobody_listens_at_that_address(
    slack: Slack, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        told = SlackListener(webhook_url=f"http://127.0.0.1:{unused.getsockname()[1]}/{HOOK}")
        tell(told, (0, CLOSED, OPEN))
    assert len(waits) == 3
    assert caplog.messages == ["circuit 'payments': Slack could not be reached: ConnectError"]
    assert told.close(PATIENCE)
    assert slack.requests == []


# -- secrets


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("trouble", [None, "hang up", (404, {}, b"no_service")])
def test_no_secret_is_logged_whatever_the_level(
    hook: bool,
    trouble: Any,
    slack: Slack,
    listener: Callable[..., SlackListener],
    caplog: pytest.LogCaptureFixture,
) -> None:
    slack.troubles = [trouble] * 5
    told = listener(hook=hook)
    with caplog.at_level(logging.DEBUG):
        tell(told, *OUTAGE)
    shown = caplog.text + repr(told) + str(told) + "".join(map(repr, map(vars, caplog.records)))
    assert "HTTP Request" in caplog.text or trouble == "hang up"  # httpx does log what it requests
    assert "SECRET" not in shown
    assert "127.0.0.1" in shown
    assert slack.requests


def test_it_shows_where_it_posts(listener: Callable[..., SlackListener]) -> None:
    assert repr(listener()) == "SlackListener(channel='#incidents')"
    assert repr(listener(hook=True)) == "SlackListener(webhook)"


# -- what it is, and what it refuses


def test_it_is_a_background(listener: Callable[..., SlackListener], slack: Slack) -> None:
    told = listener()
    assert isinstance(told, Background)
    assert not hasattr(told, "rejected")
    outer = Background(told)  # needless, and harmless
    outer(Signal("payments", CLOSED, OPEN, 0.0, 1, RATE))
    assert outer.close(PATIENCE)
    assert len(slack.texts) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "either webhook_url=, or token= and channel="),
        ({"token": TOKEN}, ValueError, "either webhook_url=, or token= and channel="),
        ({"channel": "#a"}, ValueError, "either webhook_url=, or token= and channel="),
        (
            {"webhook_url": "https://x/", "token": TOKEN, "channel": "#a"},
            ValueError,
            "either webhook_url=, or token= and channel=",
        ),
        ({"webhook_url": "hooks.slack.com/SECRET"}, ValueError, "webhook_url must be a URL"),
        ({"webhook_url": "https://x:SECRET/"}, ValueError, "the URL can't be read"),
        ({"webhook_url": b"https://x/"}, TypeError, "webhook_url must be a str, not bytes"),
        ({"token": "SECRET token", "channel": "#a"}, ValueError, "token must not be empty, nor"),
        ({"token": TOKEN, "channel": ""}, ValueError, "channel must not be empty"),
        ({"webhook_url": "https://x/", "service": 5}, TypeError, "service must be a str"),
        ({"webhook_url": "https://x/", "timeout": 0}, ValueError, "timeout must be 1e-9 to 1e6"),
        ({"webhook_url": "https://x/", "retries": -1}, ValueError, "retries must be 0 to"),
        ({"webhook_url": "https://x/", "limit": 1}, ValueError, "limit must be 2 to"),
        ({"webhook_url": "https://x/", "window": "1h"}, TypeError, "window must be a number"),
        ({"webhook_url": "https://x/", "maxsize": 0}, ValueError, "maxsize must be 1 to"),
    ],
)
def test_what_makes_no_sense_is_refused_without_quoting_secrets(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        SlackListener(**options)
    assert "SECRET" not in str(caught.value)


def test_without_httpx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "fluxgate.listeners._slack_http")
    monkeypatch.delitem(sys.modules, "fluxgate.listeners._slack_outages")
    with pytest.raises(ImportError, match=r'pip install "fluxgate-core\[slack\]"'):
        SlackListener(webhook_url="https://hooks.slack.com/services/T/B/X")
