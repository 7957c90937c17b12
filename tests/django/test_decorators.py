"""`@circuit("search")` on functions and function views: what counts, and who answers."""

# ruff: noqa: ARG001, ARG005 - views take a request, whether they look at it or not

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestAborted,
    SuspiciousOperation,
)
from django.core.management import BaseCommand, call_command
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.test import RequestFactory, override_settings
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from fluxgate import CallNotPermittedError, CircuitBreaker, ConfigError, WrongFrontError
from fluxgate.testing import ManualClock, tripped
from fluxgate_django import breakers, circuit, refusal_of
from fluxgate_django.decorators import uses

pytestmark = pytest.mark.usefixtures("fluxgate")
GET = RequestFactory().get("/search")


def counts(name: str = "search") -> tuple[int, int, int]:
    """Successes, failures, ignored."""
    totals = breakers[name].info().totals
    return totals.successes, totals.failures, totals.ignored


def raising(error: BaseException) -> Callable[..., Any]:
    def view(request: HttpRequest) -> HttpResponse:
        raise error

    return view


# -- on any function


def test_a_function_gives_what_it_gives() -> None:
    @circuit("search")
    def add(a: int, *, b: int) -> int:
        """Add two numbers."""
        return a + b

    assert add(1, b=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add two numbers.")
    assert str(inspect.signature(add)).replace("'", "") == "(a: int, *, b: int) -> int"
    assert counts() == (1, 0, 0)


def test_it_opens_refuses_and_closes_again(clock: ManualClock) -> None:
    @circuit("search")
    def divide(by: int) -> float:
        return 1 / by

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            divide(0)
    with pytest.raises(CallNotPermittedError):
        divide(1)
    clock.advance(30)
    assert divide(1) == 1
    assert divide(1) == 1
    assert counts() == (2, 2, 0)


def test_the_circuit_is_that_of_the_settings_at_the_call() -> None:
    @circuit("search")
    def find() -> str:
        return "found"

    settings = {"BREAKERS": {"search": {"INITIAL_STATE": "forced_open"}}}
    with override_settings(FLUXGATE=settings), pytest.raises(CallNotPermittedError):
        find()
    assert find() == "found"
    with override_settings(FLUXGATE={"STRICT": True}), pytest.raises(ConfigError):
        find()


def test_settings_that_can_not_be_used_are_no_refusal() -> None:
    @circuit("search", fallback=lambda _: "stale", on_open=lambda: "closed for today")
    def find() -> str:
        return "found"

    with override_settings(FLUXGATE={"STRICT": True}), pytest.raises(ConfigError):
        find()


def test_what_is_a_method_of_any_kind() -> None:
    class Search:
        @circuit("search")
        def find(self, what: str) -> str:
            return f"{type(self).__name__} {what}"

        @circuit("search")
        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

        @staticmethod
        @circuit("search")
        def of_nobody() -> str:
            return "static"

    assert Search().find("it") == "Search it"
    assert Search.of_class() == "Search"
    assert Search.of_nobody() == "static"
    assert counts() == (3, 0, 0)


def test_what_is_no_function_at_all() -> None:
    class Callable_:
        def __call__(self, word: str) -> str:
            return f"called with {word}"

    assert circuit("search")(Callable_())("tea") == "called with tea"
    assert circuit("search")(functools.partial("{} {}".format, "a"))("b") == "a b"
    assert circuit("search")([].append)(1) is None
    assert counts() == (3, 0, 0)


def test_a_task() -> None:
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(bind=True, max_retries=0)
    @circuit("search", fallback=lambda error: f"stale: {error}")
    def find(self: Any, word: str) -> str:
        if not word:
            raise ValueError("nothing to find")
        return f"{self.name} found {word}"

    assert find.name.endswith(".find")
    assert find.delay("tea").get() == f"{find.name} found tea"
    assert find.delay("").get() == "stale: nothing to find"
    assert counts() == (1, 1, 0)


def test_a_command(opened: Callable[[str], CircuitBreaker]) -> None:
    class Command(BaseCommand):
        requires_system_checks = ()

        @circuit("search")
        def handle(self, *args: Any, **options: Any) -> str:
            return "done"

    assert call_command(Command()) == "done"
    opened("search")
    with pytest.raises(CallNotPermittedError):
        call_command(Command())


def test_annotations_that_stand_for_nothing_stay_as_they_are() -> None:
    @circuit("search")
    def find(a: Nowhere, b: int) -> Nowhere: ...  # noqa: F821

    parameters = inspect.signature(find).parameters
    assert (parameters["a"].annotation, parameters["b"].annotation) == ("Nowhere", int)


def one(item: int) -> Iterator[int]:
    yield item


def test_generators_are_admitted_at_their_first_item() -> None:
    @circuit("search")
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken off")

    @circuit("search")
    async def later() -> AsyncIterator[int]:
        yield 1
        yield 2

    made = circuit("search")(functools.partial(one, 2))()
    assert counts() == (0, 0, 0)
    assert list(made) == [2]
    assert counts() == (1, 0, 0)
    breakers["search"].reset()
    made = items()
    with pytest.raises(ValueError, match="broken off"):
        list(made)

    async def main() -> list[int]:
        return [item async for item in later()]

    assert asyncio.run(main()) == [1, 2]
    assert counts() == (2, 1, 0)


def test_a_returned_response_of_an_http_library_is_no_answer_of_ours() -> None:
    class Response:
        status_code = 503

    assert isinstance(circuit("search")(lambda: Response())(), Response)
    assert counts() == (1, 0, 0)


# -- what counts for a view


@pytest.mark.parametrize("status", [200, 302, 404, 429, 501])
def test_other_statuses_are_successes(status: int) -> None:
    circuit("search")(lambda _: HttpResponse(status=status))(GET)
    assert counts() == (1, 0, 0)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_some_returned_statuses_are_failures(status: int) -> None:
    view = circuit("search")(lambda _: HttpResponse(status=status))
    assert [view(GET).status_code for _ in range(2)] == [status, status]
    assert counts() == (0, 2, 0)
    reason = breakers["search"].info().last_trip
    assert reason is not None
    assert reason.errors == ((f"HTTP {status}", 2),)


def test_which_statuses_can_be_said() -> None:
    view = circuit("search", statuses={404, 429})
    view(lambda _: HttpResponse(status=429))(GET)
    with pytest.raises(Http404):
        view(raising(Http404()))(GET)
    assert counts() == (0, 2, 0)
    breakers["search"].reset()
    view(lambda _: HttpResponse(status=503))(GET)
    assert counts() == (1, 2, 0)


@pytest.mark.parametrize("error", [Http404("no such thing"), PermissionDenied()])
def test_exceptions_that_are_answers_count_by_status(error: Exception) -> None:
    with pytest.raises(type(error)):
        circuit("search")(raising(error))(GET)
    assert counts() == (1, 0, 0)


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(),
        SuspiciousOperation(),
        MultiPartParserError(),
        UnreadablePostError("hung up"),
        RequestAborted(),
    ],
)
def test_what_the_client_did_wrong_says_nothing(error: Exception) -> None:
    with pytest.raises(type(error)):
        circuit("search")(raising(error))(GET)
    assert counts() == (0, 0, 1)


def test_the_tracker_judges_other_exceptions(policy: dict[str, Any]) -> None:
    with override_settings(FLUXGATE={"DEFAULTS": {**policy, "TRACKER": 'TypeOf("LookupError")'}}):
        for error in (KeyError("x"), ValueError("y")):
            with pytest.raises(type(error)):
                circuit("search")(raising(error))(GET)
        assert counts() == (0, 1, 1)


def test_the_result_tracker_judges_other_responses(policy: dict[str, Any]) -> None:
    is_empty = lambda response: response.content == b""  # noqa: E731
    with override_settings(FLUXGATE={"DEFAULTS": {**policy, "RESULT_TRACKER": is_empty}}):
        circuit("search")(lambda _: HttpResponse())(GET)
        circuit("search")(lambda _: HttpResponse("found"))(GET)
        assert counts() == (1, 1, 0)


def test_a_refusal_from_further_in_is_ignored(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("payments")
    with pytest.raises(CallNotPermittedError):
        circuit("search")(circuit("payments")(lambda _: HttpResponse()))(GET)
    assert counts() == (0, 0, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_what_ends_the_program_is_a_cancellation(error: BaseException) -> None:
    asked: list[Exception] = []
    with pytest.raises(type(error)):
        circuit("search", fallback=asked.append)(raising(error))(GET)
    assert asked == []
    assert breakers["search"].info().totals.cancelled == 1


# -- fallbacks


def test_the_fallback_gets_every_exception(opened: Callable[[str], CircuitBreaker]) -> None:
    asked: list[Exception] = []

    def stale(error: Exception) -> HttpResponse:
        asked.append(error)
        return HttpResponse("stale")

    failing, missing = ValueError(), Http404()
    assert circuit("search", fallback=stale)(raising(failing))(GET).content == b"stale"
    assert circuit("search", fallback=stale)(raising(missing))(GET).content == b"stale"
    opened("payments")
    assert circuit("payments", fallback=stale)(raising(failing))(GET).content == b"stale"
    assert asked[:2] == [failing, missing]
    assert isinstance(asked[2], CallNotPermittedError)
    assert counts() == (1, 1, 0)


def test_a_fallback_may_raise_what_it_has_no_answer_to() -> None:
    def picky(error: Exception) -> HttpResponse:
        raise error

    failing = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        circuit("search", fallback=picky)(raising(failing))(GET)
    assert caught.value is failing
    assert counts() == (0, 1, 0)


def test_a_fallback_is_not_asked_after_a_good_result() -> None:
    assert circuit("search", fallback=lambda _: "stale")(lambda: "fresh")() == "fresh"


def test_an_async_fallback_needs_an_async_function() -> None:
    async def stale(_: Exception) -> str:
        return "stale"

    with pytest.raises(WrongFrontError, match=r"fallback .*stale is async, and .*find is not"):

        @circuit("search", fallback=stale)
        def find() -> str: ...

    class Hidden:
        def __call__(self, error: Exception) -> Any:
            return stale(error)

    tripped(breakers["search"])
    with pytest.raises(WrongFrontError, match="is async, and the call not"):
        circuit("search", fallback=Hidden())(lambda: "fresh")()


def test_a_fallback_hides_no_mistake_about_what_is_async() -> None:
    async def search() -> None: ...

    asked: list[Exception] = []
    with pytest.raises(WrongFrontError):
        circuit("search", fallback=asked.append)(lambda: breakers["inner"].call(search))()
    assert asked == []


# -- views for an open circuit


def closed_today(request: HttpRequest, word: str = "", **_: Any) -> HttpResponse:
    refusal = request.refusal  # type: ignore[attr-defined]
    return HttpResponse(f"no results for {word}, {refusal.name} is {refusal.state}")


class ClosedToday(View):
    def get(self, request: HttpRequest, word: str) -> HttpResponse:
        return closed_today(request, word)


@pytest.mark.parametrize(
    "on_open",
    [closed_today, f"{__name__}.closed_today", ClosedToday, ClosedToday.as_view()],
    ids=["function", "dotted", "class", "as_view"],
)
def test_on_open_answers_with_the_arguments_of_the_view(
    on_open: Any, opened: Callable[[str], CircuitBreaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    opened("search")
    view = circuit("search", on_open=on_open, fallback=lambda _: HttpResponse("stale"))
    response = view(lambda request, word: HttpResponse("found"))(GET, word="tea")
    assert response.content == b"no results for tea, search is open"


def test_on_open_answers_only_for_its_own_circuit(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("payments")
    inner = circuit("payments")(lambda _: HttpResponse())
    with pytest.raises(CallNotPermittedError):
        circuit("search", on_open=closed_today)(inner)(GET)
    with pytest.raises(ValueError, match="mine"):
        circuit("search", on_open=closed_today)(raising(ValueError("mine")))(GET)


def test_on_open_of_a_method_gets_no_self(opened: Callable[[str], CircuitBreaker]) -> None:
    class Search:
        @circuit("search", on_open=closed_today)
        def find(self, request: HttpRequest, word: str) -> HttpResponse:
            raise AssertionError("it is open")

    opened("search")
    assert Search().find(GET, "tea").content == b"no results for tea, search is open"


def test_on_open_of_what_is_no_view_gets_the_arguments(
    opened: Callable[[str], CircuitBreaker],
) -> None:
    opened("search")
    assert circuit("search", on_open=lambda a, b: a + b)(lambda a, b: 0)(1, b=2) == 3


@pytest.mark.parametrize(
    ("on_open", "told"),
    [
        ("nowhere.view", "circuit 'search': on_open='nowhere.view': No module named 'nowhere'"),
        ("os.nothing", "circuit 'search': on_open='os.nothing': Module \"os\" does not define"),
        ("os.name", "circuit 'search': on_open='posix' is not a view"),
    ],
)
def test_an_on_open_that_is_nowhere_is_told(
    on_open: str, told: str, opened: Callable[[str], CircuitBreaker]
) -> None:
    opened("search")
    with pytest.raises(ConfigError) as caught:
        circuit("search", on_open=on_open)(lambda _: HttpResponse())(GET)
    assert str(caught.value).startswith(told)


# -- what it is put on


def test_attributes_of_views_are_kept() -> None:
    @circuit("search")
    @csrf_exempt
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert view.csrf_exempt is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ((5,), TypeError, r'the name comes first, as in @circuit\("search"\)'),
        ((len,), TypeError, "the name comes first"),
        (("",), ValueError, "must not be empty"),
    ],
)
def test_a_name_is_needed(arguments: Any, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        circuit(*arguments)


@pytest.mark.parametrize(
    ("keywords", "kind", "told"),
    [
        ({"fallback": 5}, TypeError, "fallback must be callable with the exception: 5"),
        ({"on_open": 5}, TypeError, "on_open must be a view or its dotted path: 5"),
        (
            {"statuses": {"503"}},
            TypeError,
            "statuses has '503', which is no status code such as 503",
        ),
        ({"statuses": {53}}, ValueError, "statuses has 53, and status codes are from 100 to 599"),
    ],
)
def test_arguments_are_checked(keywords: Any, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        circuit("search", **keywords)


def test_what_it_can_not_be_put_on_is_told() -> None:
    with pytest.raises(TypeError, match=r"ClosedToday is a class: inherit from CircuitMixin"):
        circuit("search")(ClosedToday)
    with pytest.raises(TypeError, match="can't be called: 5"):
        circuit("search")(5)  # type: ignore[arg-type]

    def items() -> Iterator[int]:
        yield 1

    def also_items(_: Exception) -> Iterator[int]:
        yield 1

    for keywords in ({"fallback": list}, {"on_open": closed_today}):
        with pytest.raises(TypeError, match="is a generator: it may fail after its first items"):
            circuit("search", **keywords)(items)
    with pytest.raises(TypeError, match="is a generator: it must give a result"):
        circuit("search", fallback=also_items)


def test_uses_are_known_as_long_as_they_last() -> None:
    @circuit("a name that only this test has")
    def find() -> None: ...

    ours = [use for use in uses() if use.name == "a name that only this test has"]
    assert [use.where for use in ours] == [f"{__name__}.{find.__qualname__}"]
    del find
    gc.collect()
    assert not [use for use in uses() if use.name == "a name that only this test has"]


def search(request: HttpRequest) -> HttpResponse:
    return HttpResponse("found")


urlpatterns = [path("search", circuit("search")(search))]


def test_in_an_application(client: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    assert client.get("/search").content == b"found"
    assert counts() == (1, 0, 0)


def test_the_refusal_has_a_type(fluxgate: Any) -> None:
    del fluxgate
    request = RequestFactory().get("/")
    with pytest.raises(LookupError, match="on_open="):
        refusal_of(request)

    @circuit("typed", on_open=lambda request: HttpResponse(refusal_of(request).name))
    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse("through")

    breakers["typed"].force_open()
    assert view(request).content == b"typed"


# -- calls of the same circuit inside


@pytest.mark.parametrize("style", ["sync", "async"])
def test_calls_inside_join_the_probe(clock: ManualClock, style: str) -> None:
    """With one slot, a view that calls what it is guarded by could never close its circuit."""
    breakers["search"].update(max_half_open_calls=1)
    tripped(breakers["search"])
    clock.advance(10_000)

    def found() -> HttpResponse:
        return breakers["search"].call(lambda: HttpResponse("found"))

    if style == "sync":

        @circuit("search")
        def view(request: HttpRequest) -> HttpResponse:
            return found()

        answer = view(GET)
    else:

        @circuit("search")
        async def async_view(request: HttpRequest) -> HttpResponse:
            return found()

        answer = asyncio.run(async_view(GET))
    assert answer.content == b"found"
    assert breakers["search"].info().totals.rejected == 0
    assert breakers["search"].info().totals.ignored == 1
