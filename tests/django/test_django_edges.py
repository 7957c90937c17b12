"""Lazy responses, headers that can't be read, and settings that make a check stumble."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from django.views import View
from django.views.generic import ListView

from fluxgate import CallNotPermittedError, CircuitBreaker, ConfigError
from fluxgate_django import CircuitMixin, breakers, circuit
from fluxgate_django.responses import refusal_response

pytestmark = pytest.mark.usefixtures("fluxgate")


class Rows:
    """As a query set: asked for when it is read."""

    def __init__(self, *, down: bool) -> None:
        self.down = down

    def __iter__(self) -> Any:
        if self.down:
            raise OSError("the database is down")
        return iter([1, 2])


def counted(name: str) -> tuple[int, int, int]:
    totals = breakers[name].info().totals
    return totals.successes, totals.failures, totals.ignored


def test_a_list_view_counts_when_it_is_rendered(templates: dict[str, str]) -> None:
    templates["rows.html"] = "{% for row in object_list %}{{ row }}{% endfor %}"

    class Listed(CircuitMixin, ListView):
        circuit = "listed"
        template_name = "rows.html"
        down = False

        def get_queryset(self) -> Any:
            return Rows(down=self.down)

    good = Listed.as_view()(RequestFactory().get("/"))
    assert counted("listed") == (0, 0, 0)
    assert good.render().content == b"12"
    assert counted("listed") == (1, 0, 0)
    assert "render" not in vars(good)  # caches pickle it

    bad = Listed.as_view(down=True)(RequestFactory().get("/"))
    with pytest.raises(OSError, match="down"):
        bad.render()
    assert counted("listed") == (1, 1, 0)


@pytest.mark.anyio
async def test_of_two_circuits_both_count_the_rendering(templates: dict[str, str]) -> None:
    templates["rows.html"] = "{% for row in rows %}{{ row }}{% endfor %}"

    @circuit("outer")
    @circuit("inner")
    async def view(request: Any, *, down: bool) -> Any:
        return TemplateResponse(request, "rows.html", {"rows": Rows(down=down)})

    with pytest.raises(OSError, match="down"):
        (await view(AsyncRequestFactory().get("/"), down=True)).render()
    assert counted("outer") == counted("inner") == (0, 1, 0)
    assert (await view(AsyncRequestFactory().get("/"), down=False)).render().content == b"12"
    assert counted("outer") == counted("inner") == (1, 1, 0)


def test_what_is_never_rendered_is_ignored() -> None:
    @circuit("dropped")
    def view(request: Any) -> Any:
        return TemplateResponse(request, "rows.html", {})

    view(RequestFactory().get("/"))
    gc.collect()
    assert counted("dropped") == (0, 0, 1)


@pytest.mark.parametrize("accept", ["text/html;a*=bogus''%41", "text/html;" + "a" * 20_000])
def test_a_header_that_django_cannot_read_is_no_error(settings: Any, accept: str) -> None:
    settings.FLUXGATE = {"RESPONSE": {"TEMPLATE": "503.html"}}
    breakers["x"].force_open()
    with pytest.raises(CallNotPermittedError) as caught:
        breakers["x"].attempt()
    request = RequestFactory().get("/", headers={"accept": accept})
    response = refusal_response(request, caught.value)
    assert response.status_code == 503
    # The oldest Django can read the long one.
    assert response.headers["Content-Type"] in (
        "application/problem+json",
        "text/html; charset=utf-8",
    )


def test_what_is_lazy_stays_so() -> None:
    def ask() -> Any:
        raise OSError("it was evaluated")

    @circuit("lazy")
    def given(value: Any) -> Any:
        return value

    assert type(given(SimpleLazyObject(ask))) is SimpleLazyObject
    assert counted("lazy") == (1, 0, 0)
    breakers["lazy"].force_open()
    with pytest.raises(CallNotPermittedError):
        given(SimpleLazyObject(ask))


@pytest.fixture
def raising(monkeypatch: Any, tmp_path: Any) -> None:
    """A module that can't be imported, for a reason of its own."""
    (tmp_path / "raises_at_import.py").write_text("raise RuntimeError('at import')\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("path", [".thing", "..thing", "raises_at_import.thing"])
@pytest.mark.usefixtures("raising")
def test_a_path_that_raises_is_told_not_raised(path: str) -> None:
    found = {"RESPONSE": {"EXCEPTION_HANDLER": path}}
    with override_settings(FLUXGATE=found, MIDDLEWARE=[path]):
        ids = [each.id for each in run_checks(tags=["fluxgate"])]
    assert {"fluxgate.E003", "fluxgate.W001"} <= {*ids}

    with override_settings(FLUXGATE={}):
        decorated = circuit("on-open", on_open=path)(lambda: None)
        told = [each for each in run_checks(tags=["fluxgate"]) if "on-open" in str(each.obj)]
        assert [each.id for each in told] == ["fluxgate.E003"]
        del decorated


def test_an_exception_handler_of_rest_framework_that_is_nowhere() -> None:
    pytest.importorskip("rest_framework")
    wrong = {"EXCEPTION_HANDLER": "fluxgate_django.drf.exception_handlr"}
    with override_settings(REST_FRAMEWORK=wrong):
        told = [each for each in run_checks(tags=["fluxgate"]) if each.obj == "REST_FRAMEWORK"]
    assert [each.id for each in told] == ["fluxgate.E003"]
    assert "exception_handlr" in told[0].msg


def test_a_name_that_is_known_at_the_call_alone(settings: Any) -> None:
    class Tenant(CircuitMixin, View):
        @property
        def circuit(self) -> str:  # type: ignore[override]
            return f"tenant.{self.kwargs['name']}"

        def get(self, request: Any, name: str) -> Any:
            return HttpResponse(name)

    settings.FLUXGATE = {"BREAKERS": {"tenant.*": {}, "payments": {}}}
    run_checks(tags=["fluxgate"])
    Tenant.as_view()(RequestFactory().get("/"), name="a")
    assert [*breakers] == ["tenant.a"]


def test_strict_settings_know_what_is_declared_and_hear_of_methods(settings: Any) -> None:
    settings.FLUXGATE = {"STRICT": True}
    breakers.declare("declared", retry="Cooldown(5)")
    declared = circuit("declared")(lambda: 1)

    @method_decorator(circuit("of-a-method"), name="get")
    class Decorated(View):
        def get(self, request: Any) -> Any:
            return HttpResponse()

    told = [str(each.obj) for each in run_checks(tags=["fluxgate"]) if each.id == "fluxgate.E007"]
    assert not any("declared" in each for each in told)
    assert any("of-a-method" in each for each in told)
    assert declared() == 1
    assert Decorated.__name__


def test_a_breaker_is_no_factory(settings: Any) -> None:
    settings.FLUXGATE = {"BREAKERS": {"payments": CircuitBreaker("payments")}}
    assert "fluxgate.E004" in [each.id for each in run_checks(tags=["fluxgate"])]
    with pytest.raises(ConfigError, match="is a breaker: give its settings, or a function"):
        breakers["payments"]


def test_a_page_of_the_projects_own_for_errors_does_not_hide_a_refusal(
    client: Any, monkeypatch: Any
) -> None:
    urls: Any = ModuleType("own_error_page")
    urls.urlpatterns = []
    urls.handler500 = lambda request: HttpResponse(request.path, status=503)
    monkeypatch.setitem(sys.modules, "own_error_page", urls)
    breakers["below"].open_for(30)
    client.raise_request_exception = False
    ours = "fluxgate_django.middleware.CircuitBreakerMiddleware"
    with override_settings(ROOT_URLCONF="own_error_page", MIDDLEWARE=[ours, f"{__name__}.below"]):
        response = client.get("/")
    assert response.status_code == 503
    assert "Retry-After" in response.headers


def below(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        breakers["below"].call(lambda: None)
        return get_response(request)

    return middleware
