"""The middleware: a refusal becomes a 503, from wherever it comes, sync and async."""

# ruff: noqa: ARG001 - views take a request, whether they look at it or not

from __future__ import annotations

import gettext
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.conf import settings as django_settings
from django.core.signals import got_request_exception
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils import translation
from django.utils.decorators import sync_and_async_middleware

import fluxgate_django
from fluxgate import CallNotPermittedError, CircuitBreaker
from fluxgate.testing import ManualClock
from fluxgate_django import breakers, circuit
from fluxgate_django.responses import refusal_response
from fluxgate_django.signals import circuit_rejected

OURS = "fluxgate_django.middleware.CircuitBreakerMiddleware"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


# -- the application


def refused(request: HttpRequest) -> HttpResponse:
    breakers["payments"].call(int)
    return HttpResponse("paid")


async def refused_async(request: HttpRequest) -> HttpResponse:
    async def pay() -> None: ...

    await breakers.asynchronous["payments"].call(pay)
    return HttpResponse("paid")


def grouped(request: HttpRequest) -> HttpResponse:
    try:
        breakers["payments"].call(int)
    except CallNotPermittedError as error:
        raise ExceptionGroup("several", [ValueError("beside it"), error]) from None
    return HttpResponse("paid")


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError("broken")


def writing(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("insert into orders values (1)")
    breakers["payments"].call(int)
    return HttpResponse("paid")


def rendering(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, engines["django"].from_string("{{ pay }}"), {"pay": pay})


def pay() -> None:
    breakers["payments"].call(int)


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    def items() -> Iterator[bytes]:
        yield b"first"
        breakers["payments"].call(int)

    return StreamingHttpResponse(items())


urlpatterns = [
    path("pay", refused),
    path("pay-async", refused_async),
    path("pay-circuit", circuit("payments")(refused)),
    path("grouped", grouped),
    path("broken", broken),
    path("writing", writing),
    path("rendering", rendering),
    path("streaming", streaming),
    path("fine", lambda _: HttpResponse("fine")),
]


@pytest.fixture(autouse=True)
def _application(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture(params=["sync", "async"])
def get(request: pytest.FixtureRequest) -> Callable[..., HttpResponse]:
    """Asks the application through the sync or the async handler."""

    def ask(where: str, *, method: str = "get", **headers: str) -> HttpResponse:
        kind = Client if request.param == "sync" else AsyncClient
        client = kind(raise_request_exception=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        send = getattr(client, method)
        if request.param == "async":
            send = async_to_sync(send)
        return send(where, headers=named)

    return ask


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any]]]:
    """What `circuit_rejected` and `got_request_exception` said, and to whom."""
    news: list[tuple[str, Any]] = []

    def rejected(**sent: Any) -> None:
        news.append(("rejected", sent["request"]))

    def trouble(**sent: Any) -> None:
        news.append(("exception", sent["request"]))

    circuit_rejected.connect(rejected)
    got_request_exception.connect(trouble)
    yield news
    circuit_rejected.disconnect(rejected)
    got_request_exception.disconnect(trouble)


# -- what the client gets


@pytest.mark.parametrize("where", ["/pay", "/pay-async", "/pay-circuit", "/rendering"])
def test_a_refusal_is_a_503(
    where: str, get: Callable[..., HttpResponse], opened: Callable[[str], CircuitBreaker]
) -> None:
    assert get(where).status_code == 200
    opened("payments")
    response = get(where)
    assert response.status_code == 503
    assert response["Content-Type"] == "application/problem+json"
    assert response["Retry-After"] == "30"
    assert response["Cache-Control"] == "no-store"
    assert json.loads(response.content) == {
        "type": "urn:fluxgate:problem:circuit-open",
        "title": "Service temporarily unavailable",
        "status": 503,
        "detail": ("A service that this request needs is not available: try again in 30 seconds."),
        "retry_after": 30,
    }


def test_seconds_are_rounded_up(
    get: Callable[..., HttpResponse], opened: Callable[[str], CircuitBreaker], clock: ManualClock
) -> None:
    opened("payments")
    clock.advance(29.5)
    assert get("/pay")["Retry-After"] == "1"


def test_no_retry_after_where_nobody_knows(
    get: Callable[..., HttpResponse], fluxgate: dict[str, Any]
) -> None:
    del fluxgate
    breakers["payments"].force_open()
    response = get("/pay")
    assert response.status_code == 503
    assert "Retry-After" not in response


def test_names_and_a_type_of_ones_own(
    get: Callable[..., HttpResponse], policy: dict[str, Any], settings: Any
) -> None:
    settings.FLUXGATE = {
        "DEFAULTS": policy,
        "RESPONSE": {"SHOW_NAME": True, "TYPE": "https://shop.example/problems/503"},
    }
    breakers["payments"].open_for(5)
    problem = json.loads(get("/pay").content)
    assert problem["circuit"] == "payments"
    assert problem["type"] == "https://shop.example/problems/503"
    assert problem["detail"].startswith("The circuit 'payments' is open (")


def test_other_errors_are_none_of_ours(
    get: Callable[..., HttpResponse], told: list[tuple[str, Any]], fluxgate: dict[str, Any]
) -> None:
    del fluxgate
    assert get("/broken").status_code == 500
    assert get("/nowhere").status_code == 404
    assert [what for what, _ in told] == ["exception"]


def test_a_refusal_in_a_group(
    get: Callable[..., HttpResponse],
    opened: Callable[[str], CircuitBreaker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened("payments")
    assert get("/grouped")["Retry-After"] == "30"
    beside = [record.exc_info for record in caplog.records if record.name == "fluxgate"]
    assert len(beside) == 1
    assert repr(beside[0][1]) == "ExceptionGroup('several', [ValueError('beside it')])"


def test_head_has_the_headers_alone(
    get: Callable[..., HttpResponse], opened: Callable[[str], CircuitBreaker]
) -> None:
    opened("payments")
    whole, head = get("/pay"), get("/pay", method="head")
    assert (head.status_code, head.content) == (503, b"")
    assert head["Content-Length"] == str(len(whole.content))
    assert head["Retry-After"] == "30"


def test_once_a_stream_has_begun_nothing_else_can_be_said(
    opened: Callable[[str], CircuitBreaker],
) -> None:
    opened("payments")
    response = Client().get("/streaming")
    assert response.status_code == 200
    with pytest.raises(CallNotPermittedError):
        list(response)


# -- who is told


def test_a_refusal_is_no_error(
    get: Callable[..., HttpResponse],
    opened: Callable[[str], CircuitBreaker],
    told: list[tuple[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened("payments")
    for where in ("/pay", "/pay-circuit", "/rendering"):
        get(where)
    assert [what for what, _ in told] == ["rejected"] * 3
    assert [request.path for _, request in told] == ["/pay", "/pay-circuit", "/rendering"]
    logged = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert logged == [
        ("django.request", "WARNING", "Service Unavailable: /pay"),
        ("django.request", "WARNING", "Service Unavailable: /pay-circuit"),
        ("django.request", "WARNING", "Service Unavailable: /rendering"),
    ], "warnings, so that no mail goes to the administrators for each refusal"


def test_in_debug_there_is_no_page_with_a_traceback(
    get: Callable[..., HttpResponse], opened: Callable[[str], CircuitBreaker], settings: Any
) -> None:
    settings.DEBUG = True
    opened("payments")
    assert get("/pay")["Content-Type"] == "application/problem+json"


# -- HTML


@pytest.fixture
def page(settings: Any, policy: dict[str, Any], templates: dict[str, str]) -> dict[str, str]:
    """The settings have a template; the test fills it."""
    settings.FLUXGATE = {"DEFAULTS": policy, "RESPONSE": {"TEMPLATE": "503.html"}}
    templates["503.html"] = (
        "<h1>{{ problem.title }}</h1><p>{{ request.path }}: back in {{ retry_after }} s</p>"
    )
    return templates


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/*", True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("text/html;q=0.4, application/json;q=0.5", False),
        ("application/json", False),
        ("application/problem+json, text/html;q=0.9", False),
        ("*/*", False),
        (None, False),
        ("", False),
        ("image/png", False),
        (",;q=,*", False),
    ],
)
def test_html_for_those_who_prefer_it(
    accept: str | None, is_html: bool, get: Callable[..., HttpResponse], page: dict[str, str]
) -> None:
    del page
    breakers["payments"].open_for(30)
    response = get("/pay", **({} if accept is None else {"accept": accept}))
    assert response.status_code == 503
    assert response["Retry-After"] == "30"
    assert response["Vary"] == "Accept, HX-Request"
    if is_html:
        assert response["Content-Type"] == "text/html; charset=utf-8"
        assert response.content.decode() == (
            "<h1>Service temporarily unavailable</h1><p>/pay: back in 30 s</p>"
        )
    else:
        assert response["Content-Type"] == "application/problem+json"


def test_the_page_without_a_template(get: Callable[..., HttpResponse], fluxgate: Any) -> None:
    breakers["payments"].open_for(30)
    response = get("/pay", accept=BROWSER)
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert '<html lang="en-us" dir="ltr">' in response.text
    assert "try again in 30 seconds." in response.text


def test_a_503_html_needs_no_setting(
    get: Callable[..., HttpResponse], fluxgate: Any, templates: dict[str, str]
) -> None:
    templates["503.html"] = "<h1>{{ title }}</h1>"
    breakers["payments"].open_for(30)
    assert get("/pay", accept=BROWSER).text == "<h1>Service temporarily unavailable</h1>"
    assert get("/pay", accept="application/json").json()["status"] == 503


def test_htmx_gets_html(get: Callable[..., HttpResponse], fluxgate: Any) -> None:
    breakers["payments"].open_for(30)
    response = get("/pay", accept="*/*", hx_request="true")
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert "HX-Request" in response["Vary"]


@pytest.mark.parametrize(
    ("seconds", "sentence"), [(1, "1초 후에 다시 시도해"), (30, "30초 후에"), (None, "나중에")]
)
def test_korean_texts(
    seconds: int | None, sentence: str, get: Callable[..., HttpResponse], fluxgate: Any
) -> None:
    if seconds is None:
        breakers["payments"].force_open()
    else:
        breakers["payments"].open_for(seconds)
    with override_settings(LANGUAGE_CODE="ko"), translation.override("ko"):
        page, problem = get("/pay", accept=BROWSER), get("/pay")
    assert "서비스를 일시적으로 사용할 수 없습니다" in page.text
    assert '<html lang="ko" dir="ltr">' in page.text
    assert sentence in page.text
    assert sentence in problem.json()["detail"]


def test_every_text_is_translated() -> None:
    """And the compiled catalogue is that of the source beside it."""
    folder = Path(str(fluxgate_django.__file__)).parent / "locale/ko/LC_MESSAGES"
    texts = re.findall(r'^msgid "(.+)"$', (folder / "django.po").read_text(), re.M)
    with (folder / "django.mo").open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    assert len(texts) == 3
    for text in texts:
        assert catalogue.gettext(text) != text
        assert f'msgstr "{catalogue.gettext(text)}"' in (folder / "django.po").read_text()


# -- the hook


def hooked(request: HttpRequest, refusal: CallNotPermittedError) -> HttpResponse | None:
    if request.path == "/pay":
        return HttpResponse(f"{refusal.name} rests", status=503)
    return None


def failing(request: HttpRequest, refusal: CallNotPermittedError) -> HttpResponse:
    raise LookupError("a bug in the hook")


async def awaited(request: HttpRequest, refusal: CallNotPermittedError) -> None: ...


@pytest.mark.parametrize("by", ["function", "path"])
def test_a_hook_answers(
    by: str, get: Callable[..., HttpResponse], settings: Any, policy: dict[str, Any]
) -> None:
    hook = hooked if by == "function" else f"{__name__}.hooked"
    settings.FLUXGATE = {"DEFAULTS": policy, "RESPONSE": {"HOOK": hook}}
    breakers["payments"].open_for(30)
    assert get("/pay").text == "payments rests"
    assert get("/grouped")["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "hook", [failing, f"{__name__}.awaited", "nowhere.hook"], ids=["raises", "async", "import"]
)
def test_a_hook_that_fails(
    hook: Any,
    get: Callable[..., HttpResponse],
    settings: Any,
    policy: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.FLUXGATE = {"DEFAULTS": policy, "RESPONSE": {"HOOK": hook}}
    breakers["payments"].open_for(30)
    response = get("/pay")
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert "the usual answer was sent" in caplog.text


# -- middleware below and above


class Saving:
    """Middleware that asks a database after the view, as that of sessions does."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self._acall(request)
        response = self.get_response(request)
        breakers["db"].call(int)
        return response

    async def _acall(self, request: HttpRequest) -> Any:
        response = await self.get_response(request)
        breakers["db"].call(int)
        return response


@pytest.mark.parametrize("handler", ["sync", "async"])
@pytest.mark.parametrize("debug", [False, True])
def test_sessions_that_can_not_be_saved(
    handler: str, debug: bool, settings: Any, policy: dict[str, Any]
) -> None:
    """A refused database in the middleware below ours, which stands inside CORS's."""
    settings.DEBUG = debug
    settings.FLUXGATE = {"DEFAULTS": policy}
    settings.MIDDLEWARE = [f"{__name__}.cors", OURS, f"{__name__}.Saving"]
    client = (Client if handler == "sync" else AsyncClient)(raise_request_exception=False)
    send = client.get if handler == "sync" else async_to_sync(client.get)
    assert send("/fine").status_code == 200
    breakers["db"].open_for(30)
    refused = send("/fine")
    assert (refused.status_code, refused["Retry-After"]) == (503, "30")
    assert refused["Access-Control-Allow-Origin"] == "*"


@sync_and_async_middleware
def cors(get_response: Any) -> Any:
    """The part of django-cors-headers that matters here."""

    def allowed(response: HttpResponse) -> HttpResponse:
        response["Access-Control-Allow-Origin"] = "*"
        return response

    if iscoroutinefunction(get_response):

        async def acall(request: HttpRequest) -> HttpResponse:
            return allowed(await get_response(request))

        return acall
    return lambda request: allowed(get_response(request))


@pytest.mark.parametrize(
    "template",
    [None, "{% nonsense %}", "{{ problem.nothing.at|date:request.all }}{% include 'x' %}"],
    ids=["missing", "syntax", "raising"],
)
def test_a_template_that_fails_is_logged_and_replaced(
    template: str | None,
    get: Callable[..., HttpResponse],
    page: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    del page["503.html"]
    if template is not None:
        page["503.html"] = template
    breakers["payments"].open_for(30)
    response = get("/pay", accept=BROWSER)
    assert (response.status_code, response["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "try again in 30 seconds" in response.text
    assert [
        (record.name, record.levelname, record.getMessage(), record.exc_info is not None)
        for record in caplog.records
        if record.name == "fluxgate"
    ] == [
        (
            "fluxgate",
            "ERROR",
            "the template '503.html' could not be rendered; the built-in page was sent instead",
            True,
        )
    ]


def test_the_page_runs_no_context_processors_and_so_asks_no_database(page: dict[str, str]) -> None:
    """pytest-django forbids the database here: a query would raise, and be logged."""
    page["503.html"] = "{{ user }}{{ perms }}{{ csrf_token }}down"
    options = {"context_processors": ["django.contrib.auth.context_processors.auth"]}
    templates = [
        {**each, "OPTIONS": {**each["OPTIONS"], **options}} for each in django_settings.TEMPLATES
    ]
    with override_settings(TEMPLATES=templates):
        breakers["payments"].open_for(30)
        response = Client().get("/pay", headers={"accept": BROWSER})
    assert response.content == b"down"


def test_the_database_is_not_asked(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("payments")
    asked: list[object] = []
    with connection.execute_wrapper(lambda *query: asked.append(query)):
        assert Client().get("/pay").status_code == 503
    assert asked == []


def test_a_transaction_of_the_request_is_rolled_back(
    atomic: Callable[[], int], opened: Callable[[str], CircuitBreaker]
) -> None:
    assert Client().get("/writing").status_code == 200
    assert atomic() == 1
    opened("payments")
    assert Client().get("/writing").status_code == 503
    assert atomic() == 1


# -- among other middleware


def raising_middleware(get_response: Any) -> Any:
    """Asks a circuit before the view; a classic that only knows sync."""

    def middleware(request: HttpRequest) -> HttpResponse:
        breakers["sessions"].call(int)
        return get_response(request)

    return middleware


class RaisingAsync:
    """The same, async alone."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        breakers["sessions"].call(int)
        return await self.get_response(request)


class RaisingInProcessView:
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_view(self, *_: object) -> None:
        breakers["sessions"].call(int)


@pytest.mark.parametrize("middleware", [raising_middleware, RaisingAsync, RaisingInProcessView])
def test_what_middleware_below_raises_is_answered(
    middleware: Any,
    get: Callable[..., HttpResponse],
    opened: Callable[[str], CircuitBreaker],
    told: list[tuple[str, Any]],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "middleware_of_theirs", sys.modules[__name__])
    settings.MIDDLEWARE = [OURS, f"middleware_of_theirs.{middleware.__name__}"]
    assert get("/fine").content == b"fine"
    opened("sessions")
    response = get("/fine")
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert response["Content-Type"] == "application/problem+json"
    assert ("rejected", "/fine") in [(what, request.path) for what, request in told]
    breakers["sessions"].reset()
    assert get("/broken").status_code == 500


class Fallible:
    """Answers exceptions with a page of its own, refusals included."""

    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, *_: object) -> HttpResponse:
        return HttpResponse("sorry", status=500)


def test_the_last_middleware_is_asked_first(
    get: Callable[..., HttpResponse],
    opened: Callable[[str], CircuitBreaker],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "middleware_of_theirs", sys.modules[__name__])
    opened("payments")
    settings.MIDDLEWARE = ["middleware_of_theirs.Fallible", OURS]
    assert get("/pay").status_code == 503
    assert get("/broken").content == b"sorry"
    settings.MIDDLEWARE = [OURS, "middleware_of_theirs.Fallible"]
    assert get("/pay").content == b"sorry"


def test_without_the_middleware_a_refusal_is_a_500(
    get: Callable[..., HttpResponse], opened: Callable[[str], CircuitBreaker], settings: Any
) -> None:
    settings.MIDDLEWARE = []
    opened("payments")
    assert get("/pay").status_code == 500


caught_by_trying: list[Exception] = []


def trying(get_response: Any) -> Any:
    """What breakers for Django have been: a `try` around the rest of the stack."""

    def middleware(request: HttpRequest) -> HttpResponse:
        try:
            return get_response(request)
        except Exception as error:
            caught_by_trying.append(error)
            raise

    return middleware


def test_a_try_around_get_response_would_see_nothing(
    opened: Callable[[str], CircuitBreaker], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "middleware_of_theirs", sys.modules[__name__])
    opened("payments")
    settings.MIDDLEWARE = ["middleware_of_theirs.trying"]
    assert Client(raise_request_exception=False).get("/pay").status_code == 500
    settings.MIDDLEWARE = [OURS, "middleware_of_theirs.trying"]
    assert Client().get("/pay").status_code == 503
    assert caught_by_trying == []


# -- by hand


def test_the_response_for_ones_own_handlers(opened: Callable[[str], CircuitBreaker]) -> None:
    request = RequestFactory().get("/")
    with pytest.raises(CallNotPermittedError) as caught:
        opened("payments").call(int)
    assert refusal_response(request, caught.value)["Retry-After"] == "30"
    with pytest.raises(TypeError, match="there is no CallNotPermittedError"):
        refusal_response(request, ValueError())


def test_the_log_of_the_package_is_that_of_django(
    tmp_path: Path, set_up_logging: Callable[[dict[str, Any]], None]
) -> None:
    file = tmp_path / "log"
    set_up_logging(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "file": {"class": "logging.FileHandler", "filename": str(file), "delay": True}
            },
            "loggers": {"fluxgate": {"handlers": ["file"], "level": "WARNING"}},
        }
    )

    def broken_listener(_: object) -> None:
        raise ValueError("listener broke")

    with override_settings(FLUXGATE={"DEFAULTS": {"LISTENERS": [broken_listener]}}):
        breakers["payments"].force_open()
    assert "ValueError: listener broke" in file.read_text()
