"""System checks. The table of mistakes in docs/how-to/django.md is what they are tested by."""

from __future__ import annotations

import ast
import gc
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db.utils import ConnectionHandler
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

import fluxgate_django.checks
from fluxgate_django import breakers, circuit
from fluxgate_django.middleware import CircuitBreakerMiddleware
from fluxgate_django.views import CircuitMixin

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "django.md").read_text(encoding="utf-8")
SOURCES = Path(fluxgate_django.checks.__file__).parents[1].rglob("*.py")

OURS = "fluxgate_django.middleware.CircuitBreakerMiddleware"
DRF = "fluxgate_django.drf.exception_handler"
SETTINGS = {"FLUXGATE", "MIDDLEWARE", "REST_FRAMEWORK"}


def table(heading: str) -> list[list[str]]:
    """The cells of the page's table with that heading, without their back-ticks."""
    rows = PAGE[PAGE.index(heading) :].split("\n\n")[0].splitlines()[2:]
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    return [[_plain(cell) for cell in row] for row in cells]


def _plain(cell: str) -> str:
    text = cell.strip().replace("\\|", "|")
    if text.startswith("``"):
        return text.strip("`").strip(" ") if text.count("`") == 4 else text[3:-3]
    return text[1:-1] if text.startswith("`") else text


MISTAKES = table("| wrong | id | what it says |")
named = fluxgate_django.checks._settings._named
subscripts = fluxgate_django.checks._settings._subscripts
IDS = {code for code, _ in table("| id | what is wrong |")}


class Sessions(MiddlewareMixin):
    """A middleware that handles no exceptions."""


class Reports(MiddlewareMixin):
    """A middleware that handles all exceptions of views."""

    def process_exception(self, request: Any, error: Exception) -> HttpResponse:
        return HttpResponse(status=418)


@pytest.fixture(autouse=True)
def _shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the page's project that its table names."""
    shop = ModuleType("shop")
    shop.__path__ = []
    monkeypatch.setitem(sys.modules, "shop", shop)
    for name, members in {
        "middleware": {"Sessions": Sessions, "Reports": Reports},
        "metrics": {"listener": print},
        "breakers": {},
        "errors": {},
        "views": {"wrong": 5},
    }.items():
        module = ModuleType(f"shop.{name}")
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(shop, name, module, raising=False)


@pytest.fixture(autouse=True)
def _in_order(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A project without mistakes, for tests to make one in."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.setattr("fluxgate_django.checks._settings._named", list)  # of other tests' modules
    monkeypatch.setattr("fluxgate_django.checks._settings._subscripts", list)
    with override_settings(
        FLUXGATE={}, MIDDLEWARE=[OURS], REST_FRAMEWORK={"EXCEPTION_HANDLER": DRF}
    ):
        yield


def found(*, deploy: bool = False) -> list[checks.CheckMessage]:
    return checks.run_checks(tags=["fluxgate"], include_deployment_checks=deploy)


def made(code: str) -> dict[str, Any]:
    """The settings that a cell of the table stands for."""
    name, _, value = code.partition(" = ")
    read = eval(value, {"OURS": OURS})
    if name in SETTINGS:
        return {name: read}
    return {"FLUXGATE": {name: read} if name.isupper() else {"BREAKERS": {name: read}}}


@pytest.mark.parametrize(("code", "check", "says"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told(code: str, check: str, says: str) -> None:
    if "requests" in code:
        pytest.importorskip("requests")
    if check == "I001":
        pytest.importorskip("rest_framework")
    with override_settings(**made(code)):
        at_once = found()
        at_deployment = [each for each in found(deploy=True) if each not in at_once]
    if not at_once:
        at_once = [each for each in at_deployment if check == "I002" or each.id[-4:] != "I002"]
    assert [(each.id, each.msg) for each in at_once] == [(f"fluxgate.{check}", says)]
    assert at_once[0].obj, "it says where"
    level = {"E": checks.Error, "W": checks.Warning, "I": checks.Info}[check[0]]
    assert isinstance(at_once[0], level)


def test_there_are_many_kinds_of_mistakes() -> None:
    assert len(MISTAKES) >= 20
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES)


def test_the_page_has_every_id_and_no_other() -> None:
    written = {
        code for path in SOURCES for code in re.findall(r"fluxgate\.([EWI]\d{3})", path.read_text())
    }
    assert written == IDS
    elsewhere = {"E007", "W005", "W007", "W101", "W102"}  # of code, databases, caches, the console
    assert {row[1] for row in MISTAKES} == IDS - elsewhere


def test_nothing_is_said_of_what_is_right() -> None:
    assert found() == []
    right = {
        "DEFAULTS": {"RETRY": "Cooldown(30)", "LISTENERS": ["shop.metrics.listener"]},
        "BREAKERS": {"payments": {"TRIPPER": "MinRequests(10) & FailureRate(0.5)"}},
        "STRICT": True,
    }
    with override_settings(FLUXGATE=right):
        assert found() == []


@pytest.mark.parametrize(
    ("code", "where", "hint"),
    [
        (
            'payments = {"TRIPER": "FailureRate(0.5)"}',
            "FLUXGATE: payments.TRIPER",
            "Did you mean 'TRIPPER'?",
        ),
        (
            'payments = {"tripper": "FailRate(0.5)"}',
            "FLUXGATE: payments.TRIPPER",
            "Did you mean 'FailureRate'?",
        ),
        ('DEFAULTS = {"RETRY": "Cooldown(-1)"}', "FLUXGATE: DEFAULTS.RETRY", None),
        ('defaults = {"MAX_HALF_OPEN_CALLS": 0}', "FLUXGATE: DEFAULTS.MAX_HALF_OPEN_CALLS", None),
        ('RESPONSE = {"TEMPLAT": ""}', "FLUXGATE: RESPONSE.TEMPLAT", "Did you mean 'TEMPLATE'?"),
        (
            'FLUXGATE = {"quite_else": 1}',
            "FLUXGATE: quite_else",
            "See the settings reference of fluxgate-django.",
        ),
    ],
)
def test_it_says_where_and_what_to_do(code: str, where: str, hint: str | None) -> None:
    name, _, value = code.partition(" = ")
    settings = made(code)
    if name == "defaults":  # in lower case, as settings may be
        settings = {"FLUXGATE": {"defaults": ast.literal_eval(value)}}
    with override_settings(**settings):
        message = found()[0]
    assert (message.obj, message.hint) == (where, hint)
    assert str(message).startswith(f"{where}: (fluxgate.")


def test_all_mistakes_at_once() -> None:
    wrong = {
        "DEFAULTS": {"RETRY": "Cooldown(-1)"},
        "BREAKERS": {"a": {"WINDOW": 5}, "b": {"TRIPER": ""}},
        "STRICKT": True,
    }
    with override_settings(FLUXGATE=wrong):
        codes = sorted(each.id[-4:] for each in found())
    assert codes == ["E001", "E001", "E004", "E004"]


def test_a_mistake_stops_commands_as_djangos_own_do() -> None:
    with override_settings(FLUXGATE={"BREAKERS": {"payments": {"TRIPER": ""}}}):
        with pytest.raises(SystemCheckError, match="Did you mean 'TRIPPER'"):
            call_command("check", tags=["fluxgate"])
        with override_settings(SILENCED_SYSTEM_CHECKS=["fluxgate.E001"]):
            call_command("check", tags=["fluxgate"])


# -- the template


def test_a_template_that_is_there(templates: dict[str, str]) -> None:
    templates["503.html"] = "Back soon"
    with override_settings(FLUXGATE={"RESPONSE": {"TEMPLATE": "503.html"}}):
        assert found() == []
        templates["503.html"] = "{% if %}"
        (message,) = found()
    assert message.id == "fluxgate.E006"
    assert "it can't be read" in message.msg
    assert "Unexpected end of expression" in message.msg


def test_the_template_is_not_looked_for_while_the_settings_are_wrong() -> None:
    with override_settings(FLUXGATE={"RESPONSE": {"TEMPLATE": "504.html", "SHOW_NAME": 1}}):
        assert [each.id for each in found()] == ["fluxgate.E004"]


# -- the middleware


class Own(CircuitBreakerMiddleware):
    """A project's own."""


@pytest.mark.parametrize(
    "middleware",
    [
        [OURS],
        ["shop.middleware.Reports", OURS],
        [OURS, "shop.middleware.Sessions"],
        ["shop.middleware.Own"],
        [OURS, "shop.middleware.Reports", OURS],  # the second sees refusals before Reports does
        [OURS, "django.contrib.sessions.middleware.SessionMiddleware"],
        [OURS, "shop.middleware.NotThere"],  # Django says that itself
    ],
)
def test_middleware_in_its_place(middleware: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop.middleware.Own", Own, raising=False)
    with override_settings(MIDDLEWARE=middleware):
        assert found() == []


def refusing(_request: Any) -> HttpResponse:
    breakers["payments"].force_open()
    return breakers["payments"].call(HttpResponse)


urlpatterns = [path("refusing", refusing)]


@pytest.mark.parametrize(
    ("middleware", "status"),
    [([OURS, "shop.middleware.Reports"], 418), (["shop.middleware.Reports", OURS], 503)],
)
def test_what_the_order_of_middleware_does(middleware: list[str], status: int) -> None:
    """Why W003 warns."""
    with override_settings(MIDDLEWARE=middleware, ROOT_URLCONF=__name__):
        assert Client().get("/refusing").status_code == status


# -- projects that lack what is looked at


def test_without_rest_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: name != "rest_framework")
    with override_settings(REST_FRAMEWORK={}):
        assert found() == []


def test_without_urls() -> None:
    with override_settings(ROOT_URLCONF=None):
        assert found() == []


# -- circuits that the code names


def test_a_name_that_the_settings_nearly_have(monkeypatch: pytest.MonkeyPatch) -> None:
    @circuit("paymets")
    def view(request: object) -> None: ...

    _only_uses_here(monkeypatch, "test_a_name_that_the_settings_nearly_have")
    assert found() == [], "whoever configures nothing has the defaults"
    with override_settings(FLUXGATE={"BREAKERS": {"payments": {}}}):
        (message,) = found()
    assert message.id == "fluxgate.W005"
    assert message.hint == "Did you mean 'payments'?"
    assert message.obj == f"circuit('paymets') on {view.__module__}.{view.__qualname__}"
    with override_settings(FLUXGATE={"BREAKERS": {"pay*": {}, "payments": {}}}):
        assert found() == [], "a pattern fits"


def test_a_name_that_strict_settings_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    class View(CircuitMixin):
        circuit = "stock"

    _only_uses_here(monkeypatch, "test_a_name_that_strict_settings_lack")
    with override_settings(FLUXGATE={"STRICT": True, "BREAKERS": {"payments": {}}}):
        (message,) = found()
    assert message.id == "fluxgate.E007"
    assert message.hint == "Add it to BREAKERS; {} has the defaults."
    assert View.__qualname__ in message.obj
    with override_settings(FLUXGATE={"STRICT": True, "BREAKERS": {"stock": {}}}):
        assert found() == []


@pytest.mark.parametrize("decorate", [True, False])
def test_on_open_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch, decorate: bool) -> None:
    """It would be found out by the first outage."""
    if decorate:

        @circuit("search", on_open="shop.views.nothing")
        def holder(request: object) -> None: ...

    else:

        class holder(CircuitMixin):
            circuit = "search"
            circuit_on_open = "shop.views.nothing"

    _only_uses_here(monkeypatch, "test_on_open_that_leads_nowhere")
    (message,) = found()
    assert message.id == "fluxgate.E003"
    assert message.msg.startswith("on_open='shop.views.nothing' can't be imported: ")
    assert message.obj.endswith(holder.__qualname__)


def test_the_urls_are_imported_to_know_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    class Urls(ModuleType):
        @property
        def urlpatterns(self) -> list[Any]:
            imported.append(self.__name__)
            return []

    monkeypatch.setitem(sys.modules, "shop.urls", Urls("shop.urls"))
    with override_settings(ROOT_URLCONF="shop.urls"):
        assert found() == []
    assert imported
    with override_settings(ROOT_URLCONF="shop.nowhere"):
        assert found() == [], "Django's own checks tell"


def _only_uses_here(monkeypatch: pytest.MonkeyPatch, test: str) -> None:
    gc.collect()  # classes of the same test with other parameters
    monkeypatch.setattr(
        "fluxgate_django.checks._settings._named",
        lambda: [each for each in named() if f"{test}.<locals>" in each[0].where],
    )


# -- circuits of databases and caches

CACHES = {
    "default": {
        "BACKEND": "fluxgate_django.cache.CircuitBreakerCache",
        "WRAPS": "django.core.cache.backends.locmem.LocMemCache",
    },
    "plain": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "broken": {"BACKEND": "shop.nowhere.Cache"},  # Django says that itself
}


def test_strict_settings_that_lack_a_database_or_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be found out by the first request."""
    databases = ConnectionHandler(
        {
            "default": {"ENGINE": "fluxgate_django.db.sqlite3", "NAME": ":memory:"},
            "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        }
    )
    monkeypatch.setattr("fluxgate_django.checks._settings.connections", databases)
    with override_settings(CACHES=CACHES, FLUXGATE={"STRICT": True}):
        told = [(each.id, each.obj) for each in found()]
    assert told == [
        ("fluxgate.E007", "circuit('db.default') on DATABASES[\"default\"]"),
        ("fluxgate.E007", "circuit('cache.default') on CACHES[\"default\"]"),
    ]
    with override_settings(CACHES=CACHES, FLUXGATE={"BREAKERS": {"cache.defaults": {}}}):
        assert [each.id for each in found()] == ["fluxgate.W005"]
    strict = {"STRICT": True, "BREAKERS": {"db.*": {}, "cache.default": {}}}
    with override_settings(CACHES=CACHES, FLUXGATE=strict):
        assert found() == []
    assert databases["default"].connection is None, "nobody connected"


# -- deployments


def test_process_local_circuits_are_an_info_of_deployments_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found() == []
    (message,) = found(deploy=True)
    assert (message.id, message.level) == ("fluxgate.I002", checks.INFO)
    assert message.msg.startswith("each worker process has circuits of its own")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert found(deploy=True)[0].msg.startswith("WEB_CONCURRENCY is 4, and each worker process")
    with override_settings(SILENCED_SYSTEM_CHECKS=["fluxgate.I002"]):
        assert found(deploy=True)[0].is_silenced()


def test_settings_that_are_wrong_are_no_concern_of_the_deployment() -> None:
    with override_settings(FLUXGATE={"BREAKERS": []}):
        codes = {each.id for each in found(deploy=True)}
    assert codes == {"fluxgate.E004", "fluxgate.I002"}


def test_factories_are_not_called() -> None:
    called: list[str] = []
    with override_settings(FLUXGATE={"BREAKERS": {"search": called.append}}):
        found(deploy=True)
    assert called == []


# -- names in code, and caches that hide their errors


def test_a_name_in_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`breakers["paymnets"]`, wherever an imported module has it, by whatever name."""
    file = tmp_path / "shop_code.py"
    file.write_text(
        "from fluxgate_django import breakers as circuits\n"
        "def pay():\n"
        "    circuits['payments'].call(int)\n"
        "    circuits['paymnets'].call(int)\n"
        "    circuits.asynchronous['serach']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop_code", raising=False)
    module = importlib.import_module("shop_code")
    monkeypatch.setattr(
        "fluxgate_django.checks._settings._subscripts",
        lambda: [use for use in subscripts() if use.where.startswith(module.__name__)],
    )
    with override_settings(FLUXGATE={"BREAKERS": {"payments": {}, "search": {}}}):
        told = found()
    assert [(each.id, each.hint, each.obj) for each in told] == [
        ("fluxgate.W005", "Did you mean 'payments'?", "circuit('paymnets') on shop_code, line 4"),
        ("fluxgate.W005", "Did you mean 'search'?", "circuit('serach') on shop_code, line 5"),
    ]


def test_a_near_name_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(FLUXGATE={"BREAKERS": {"payments": {}, "db.*": {}}}):
        for name in ("payments", "db.users", "hosts.example", "paymnets"):
            breakers[name].call(int)
            breakers[name].call(int)
    messages = [each.getMessage() for each in caplog.records if each.name == "fluxgate"]
    assert messages == [
        "circuit 'paymnets' has the defaults: BREAKERS has none of that name; "
        "did you mean 'payments'?"
    ]


@pytest.mark.parametrize(
    ("wraps", "options", "hidden"),
    [
        ("django_redis.cache.RedisCache", {"IGNORE_EXCEPTIONS": True}, "IGNORE_EXCEPTIONS"),
        ("django_redis.cache.RedisCache", {}, None),
        ("django.core.cache.backends.locmem.LocMemCache", {}, None),
    ],
)
def test_caches_that_hide_errors(wraps: str, options: dict[str, Any], hidden: str | None) -> None:
    if wraps.startswith("django_redis"):
        pytest.importorskip("django_redis")
    entry = {
        "BACKEND": "fluxgate_django.cache.CircuitBreakerCache",
        "WRAPS": wraps,
        "LOCATION": "redis://127.0.0.1:1",
        "OPTIONS": options,
    }
    with override_settings(CACHES={"default": entry}):
        told = found()
    assert [each.id for each in told] == ([] if hidden is None else ["fluxgate.W102"])
    assert all(str(hidden) in each.msg for each in told)
