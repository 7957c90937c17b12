"""What Sentry's own client sends: a refusal that was answered, or an opening, is no error.

Each program runs in a fresh interpreter, since the client patches what it finds for good. Its
transport is the documented hook: it keeps what would have been sent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

PREAMBLE = """
import json, logging, sys
import sentry_sdk
from sentry_sdk.transport import Transport
from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.listeners import Background, LogListener
from fluxgate.testing import tripped

events = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            events.append(event)

def init(**options):
    # Not those that it finds by itself: importing all that is installed takes long.
    sentry_sdk.init(
        "http://key@127.0.0.1:9/1", transport=Kept, auto_enabling_integrations=False, **options
    )

def init_fastapi(**options):
    from sentry_sdk.integrations.fastapi import FastApiIntegration
    from sentry_sdk.integrations.starlette import StarletteIntegration

    init(integrations=[StarletteIntegration(), FastApiIntegration()], **options)

def kinds():
    "What each event is about: its error's type, or its message."
    return [
        event["exception"]["values"][-1]["type"] if "exception" in event
        else event["logentry"]["message"]
        for event in events
    ]

def say(answer):
    print(json.dumps(answer))

def fail():
    raise ConnectionError("down")

def refuse(breaker):
    try:
        breaker.call(fail)
    except CallNotPermittedError:
        return "a fallback"
"""


def run(program: str) -> Any:
    """What the program says, as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_an_outage_that_the_code_lives_with_is_no_event_but_breadcrumbs() -> None:
    answer = run(
        """
        init()
        logging.getLogger("fluxgate").setLevel(logging.INFO)
        breaker = tripped(CircuitBreaker("payments", listeners=[LogListener()]))
        for _ in range(100):
            refuse(breaker)
        breaker.reset()
        before = kinds()
        sentry_sdk.capture_exception(ValueError("a real one"))
        crumbs = [
            (crumb["level"], crumb["category"], crumb["message"], crumb["data"]["new_state"])
            for crumb in events[0]["breadcrumbs"]["values"]
        ]
        say([before, kinds(), crumbs])
        """
    )
    before, after, (opened, closed) = answer
    assert before == []
    assert after == ["ValueError"]
    assert opened[:2] == ["warning", "fluxgate"]
    assert "closed -> open: MinRequests(10) & FailureRate(0.5)" in opened[2] or (
        "closed -> open: FailureRate(0.5)" in opened[2]
    )
    assert opened[3] == "open"
    assert closed[0] == "info"
    assert closed[3] == "closed"


def test_openings_become_events_where_somebody_wants_that() -> None:
    answer = run(
        """
        init()
        listener = LogListener(levels={"open": "ERROR"})
        for name in ("payments", "search"):
            tripped(CircuitBreaker(name, listeners=[listener]))
        say([kinds(), [event["extra"]["circuit"] for event in events]])
        """
    )
    messages, circuits = answer
    assert messages == ["circuit %r: %s: %s"] * 2  # one issue in Sentry: grouped by template
    assert circuits == ["payments", "search"]


def test_an_answered_refusal_of_fastapi_is_no_event() -> None:
    """Nor one in a group, nor one of a mounted application. A 503 that is raised is one."""
    answer = run(
        """
        from fastapi import FastAPI, HTTPException
        from fastapi.testclient import TestClient
        from fluxgate_fastapi import guard, install

        init_fastapi()
        app = FastAPI()
        registry = install(app)

        @app.get("/guarded", dependencies=[guard("payments")])
        def guarded():
            return "fine"

        @app.get("/called")
        def called():
            registry["payments"].call(int)

        @app.get("/grouped")
        def grouped():
            try:
                registry["payments"].call(int)
            except CallNotPermittedError as error:
                raise ExceptionGroup("several", [error])

        @app.get("/raised")
        def raised():
            raise HTTPException(503)

        @app.get("/broken")
        def broken():
            fail()

        with TestClient(app, raise_server_exceptions=False) as client:
            assert client.get("/guarded").status_code == 200
            registry["payments"].force_open()
            answered = [client.get(f"/{path}").status_code for path in (
                "guarded", "called", "grouped"
            )]
            refusals = kinds()
            contrast = [client.get(f"/{path}").status_code for path in ("raised", "broken")]
        say([answered, refusals, contrast, kinds()])
        """
    )
    answered, refusals, contrast, all_kinds = answer
    assert answered == [503, 503, 503]
    assert refusals == []
    assert contrast == [503, 500]
    assert all_kinds == ["HTTPException", "ConnectionError"]  # so Sentry was listening


def test_an_answered_refusal_of_django_is_no_event() -> None:
    """Nor is the 503 that Django logs as an error. What a view raises otherwise is one."""
    answer = run(
        """
        from types import ModuleType
        import django
        from django.conf import settings
        from django.http import HttpResponse
        from django.test import Client
        from django.urls import path
        from sentry_sdk.integrations.django import DjangoIntegration

        init(integrations=[DjangoIntegration()])
        urls = sys.modules["shop_urls"] = ModuleType("shop_urls")
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF="shop_urls",
            INSTALLED_APPS=["fluxgate_django"],
            MIDDLEWARE=["fluxgate_django.middleware.CircuitBreakerMiddleware"],
            FLUXGATE={"BREAKERS": {"payments": {"INITIAL_STATE": "forced_open"}}},
        )
        django.setup()
        from fluxgate_django import circuit

        @circuit("payments")
        def guarded(request):
            return HttpResponse("fine")

        async def called(request):
            refused.call(fail)

        def broken(request):
            fail()

        refused = CircuitBreaker("called", initial_state="forced_open")
        urls.urlpatterns = [
            path("guarded", guarded), path("called", called), path("broken", broken)
        ]
        client = Client(raise_request_exception=False)
        answered = [client.get(f"/{each}").status_code for each in ("guarded", "called")]
        refusals = kinds()
        contrast = client.get("/broken").status_code
        say([answered, refusals, contrast, kinds()])
        """
    )
    assert answer == [[503, 503], [], 500, ["ConnectionError"]]


def test_a_refusal_that_escapes_is_an_event_unless_it_is_ignored() -> None:
    """The recipes of the documentation: leave them out, or have one issue for each circuit."""
    plain, ignored, grouped, sent = run(
        """
        from fastapi import FastAPI
        from fastapi.testclient import TestClient

        app = FastAPI()
        breaker = CircuitBreaker("payments", initial_state="forced_open")

        @app.get("/refused")
        def refused():
            breaker.call(fail)

        @app.get("/broken")
        def broken():
            fail()

        def before_send(event, hint):
            error = hint.get("exc_info", (None, None))[1]
            if isinstance(error, CallNotPermittedError):
                event["level"] = "warning"
                event["fingerprint"] = ["fluxgate", error.name]
            return event

        answer = []
        init_fastapi()
        client = TestClient(app, raise_server_exceptions=False)
        for options in ({}, {"ignore_errors": [CallNotPermittedError]},
                        {"before_send": before_send}):
            init_fastapi(**options)
            events.clear()
            client.get("/refused")
            client.get("/broken")
            sentry_sdk.capture_exception(CallNotPermittedError("search", State.OPEN))
            answer.append(kinds())
        answer.append([[event["level"], event.get("fingerprint")] for event in events])
        say(answer)
        """
    )
    everything = ["CallNotPermittedError", "ConnectionError", "CallNotPermittedError"]
    assert plain == everything
    assert ignored == ["ConnectionError"]
    assert grouped == everything
    assert sent == [
        ["warning", ["fluxgate", "payments"]],
        ["error", None],
        ["warning", ["fluxgate", "search"]],
    ]


def test_ignore_errors_knows_the_transports_refusals_too() -> None:
    found = run(
        """
        import httpx
        from fluxgate_httpx import CircuitBreakerTransport

        init(ignore_errors=[CallNotPermittedError])
        transport = CircuitBreakerTransport(
            httpx.MockTransport(lambda request: httpx.Response(200)),
            circuits=lambda key: CircuitBreaker(key, initial_state="forced_open"),
        )
        try:
            httpx.Client(transport=transport).get("https://api.example.com/")
        except httpx.HTTPError as error:
            sentry_sdk.capture_exception(error)
            name = type(error).__name__
        say([name, kinds()])
        """
    )
    assert found == ["CircuitOpenError", []]


def test_a_listener_that_raises_is_an_event_of_its_own_request() -> None:
    """A bug of the application's; the worker carries nothing of who made it start."""
    found = run(
        """
        init()

        def raises(signal):
            raise LookupError("a bug")

        told = Background(raises)
        with sentry_sdk.isolation_scope() as scope:
            scope.set_tag("request", "the first one's")
            tripped(CircuitBreaker("direct", listeners=[raises]))
            tripped(CircuitBreaker("behind", listeners=[told]))
        tripped(CircuitBreaker("later", listeners=[told]))
        assert told.flush(30)
        say(sorted(
            [event["logentry"]["params"][0], kind, event.get("tags", {}).get("request")]
            for event, kind in zip(events, kinds())
        ))
        """
    )
    assert found == [
        ["behind", "LookupError", None],
        ["direct", "LookupError", "the first one's"],
        ["later", "LookupError", None],
    ]
