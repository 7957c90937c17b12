"""What the tests of the Django package share: a project in memory, a clock set by hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings as django_settings

if not django_settings.configured:
    import django

    sys.modules["no_urls"] = ModuleType("no_urls")
    sys.modules["no_urls"].urlpatterns = []  # type: ignore[attr-defined]
    django_settings.configure(
        SECRET_KEY="for tests alone",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="no_urls",  # each test has its own
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "fluxgate_django",
            *(app for app in ("rest_framework", "ninja", "health_check") if find_spec(app)),
        ],
        MIDDLEWARE=["fluxgate_django.middleware.CircuitBreakerMiddleware"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [
                        ("django.template.loaders.locmem.Loader", {}),
                        "django.template.loaders.app_directories.Loader",
                    ],
                },
            }
        ],
        STATIC_URL="/static/",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()

from django.utils.log import configure_logging

from fluxgate import CircuitBreaker
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals, tripped
from fluxgate_django import breakers


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signals() -> RecordedSignals:
    return RecordedSignals()


@pytest.fixture
def policy(clock: ManualClock, signals: RecordedSignals) -> dict[str, Any]:
    """A breaker's settings: two failures open it, for 30 s of the clock."""
    return {
        "TRIPPER": "MinRequests(2) & FailureRate(0.5)",
        "RETRY": "Cooldown(30)",
        "PERMIT": "All()",
        "MAX_HALF_OPEN_CALLS": 1,
        "CLOCK": clock,
        "DICE": LoadedDice(0.0),
        "LISTENERS": [signals],
    }


@pytest.fixture
def fluxgate(settings: Any, policy: dict[str, Any]) -> dict[str, Any]:
    """`FLUXGATE` as the test finds it: every circuit by `policy`."""
    settings.FLUXGATE = {"DEFAULTS": policy}
    return settings.FLUXGATE


@pytest.fixture
def opened(fluxgate: dict[str, Any]) -> Callable[[str], CircuitBreaker]:  # noqa: ARG001
    """Opens a circuit, as an outage would, whatever it was."""

    def trip(name: str) -> CircuitBreaker:
        breaker = breakers[name]
        breaker.reset()
        return tripped(breaker)

    return trip


@pytest.fixture
def set_up_logging() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Sets logging up as Django does it, from what `LOGGING` holds; undone after the test."""
    loggers = [logging.getLogger(name) for name in ("fluxgate", "django", "django.server")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    yield lambda settings: configure_logging("logging.config.dictConfig", settings)
    for logger, handlers, level, propagate in before:
        for added in set(logger.handlers) - set(handlers):
            added.close()
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def atomic(transactional_db: None) -> Iterator[Callable[[], int]]:  # noqa: ARG001
    """`ATOMIC_REQUESTS`, and a table `orders` to write into; gives the number of its rows."""
    from django.db import connection

    def rows() -> int:
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from orders")
            return cursor.fetchone()[0]

    with connection.cursor() as cursor:
        cursor.execute("create table orders (id integer)")
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield rows
    connection.settings_dict["ATOMIC_REQUESTS"] = False
    with connection.cursor() as cursor:
        cursor.execute("drop table orders")


@pytest.fixture
def templates() -> Iterator[dict[str, str]]:
    """Django's templates, by name; what a test puts there is gone after it."""
    from django.template import engines

    loader = engines["django"].engine.template_loaders[0]
    yield loader.templates_dict
    loader.templates_dict.clear()
