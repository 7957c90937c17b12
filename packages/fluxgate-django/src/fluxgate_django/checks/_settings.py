"""Checks of `FLUXGATE`, of the circuits that code names, and of wrapped caches."""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, cast

from django.conf import settings
from django.core.cache import caches
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as Caution
from django.db import connections
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import get_resolver
from django.utils.module_loading import import_string

from fluxgate import ConfigError
from fluxgate.config import KEYS, Mistake, SettingError
from fluxgate.integration import nearest
from fluxgate_django import _guard, conf
from fluxgate_django._async import is_async
from fluxgate_django._guard import Use
from fluxgate_django.registry import breakers
from fluxgate_django.responses import TEMPLATE

TAG: Final = "fluxgate"
"""`manage.py check --tag fluxgate` runs these alone."""

_IDS: Final = {
    Mistake.UNKNOWN: "fluxgate.E001",
    Mistake.SYNTAX: "fluxgate.E002",
    Mistake.IMPORT: "fluxgate.E003",
}
_VALUE: Final = "fluxgate.E004"
_IDLE: Final = "fluxgate.E005"
_HINTS: Final = {
    "fluxgate.E001": "See the settings reference of fluxgate-django.",
    "fluxgate.E002": (
        "Expressions are calls with numbers and strings, joined by & and |; what needs more can be "
        "built in code and named by its dotted path."
    ),
    _IDLE: "Such a circuit would never open, or open on success.",
}
_NEVER_RIGHT: Final = ("can never fire", "is never reached", "fires on fast successes")
"""How the core speaks of a tripper that can't do its work."""
_NEAREST: Final = "; did you mean "
_TABLE: Final = re.compile(rf"^{conf.NAME}: (defaults|breakers)(?=\.|$)")


@register(TAG)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Everything in `FLUXGATE`: its shape, names, expressions, dotted paths and values."""
    return [_error(problem) for problem in conf.problems()]


def _error(problem: SettingError) -> Error:
    told, _, meant = problem.problem.partition(_NEAREST)
    code = _IDS.get(problem.mistake, _VALUE)
    if code is _VALUE and any(phrase in told for phrase in _NEVER_RIGHT):
        code = _IDLE
    hint = _HINTS.get(code)
    if meant:
        name = meant.strip("'?")
        hint = f"Did you mean {name.upper() if name in KEYS else name!r}?"
    lower = ", ".join(KEYS)
    return Error(told.replace(lower, lower.upper()), hint=hint, obj=_place(problem.path), id=code)


def _place(path: str) -> str:
    """The path in Django's upper case, whoever wrote it: `FLUXGATE: payments.TRIPPER`."""
    tables, dot, key = path.rpartition(".")
    if key in KEYS:
        path = f"{tables}{dot}{key.upper()}"
    return _TABLE.sub(lambda found: found[0].upper(), path) or conf.NAME


@register(TAG)
def check_response(**_: Any) -> list[CheckMessage]:
    """Whether the page for browsers, and the handler for other exceptions, are there."""
    try:
        response = conf.settings().response
    except ConfigError:
        return []  # check_settings tells
    found: list[CheckMessage] = []
    template = response.template or TEMPLATE
    try:
        get_template(template)
    except TemplateDoesNotExist:
        if response.template is not None:
            found.append(_no_template(template, "there is no such template"))
    except Exception as error:
        found.append(_no_template(template, f"it can't be read: {error}"))
    functions = {"HOOK": response.hook, "EXCEPTION_HANDLER": response.exception_handler}
    for key, function in functions.items():
        path = f"FLUXGATE: RESPONSE.{key}"
        if isinstance(function, str):
            try:
                function = import_string(function)
            except Exception as error:  # a module may raise anything
                problem = f"{function!r} can't be imported: {error}"
                found.append(_error(SettingError(problem, path, Mistake.IMPORT)))
                continue
            if not callable(function) or is_async(function):
                problem = f"{function!r} is no function, or async: give one that is not"
                found.append(_error(SettingError(problem, path)))
    return found


def _no_template(name: str, why: str) -> Error:
    return Error(
        f"{name!r}: {why}",
        hint="A template's name is its path below the directories of TEMPLATES.",
        obj="FLUXGATE: RESPONSE.TEMPLATE",
        id="fluxgate.E006",
    )


@register(TAG)
def check_uses(**_: Any) -> list[CheckMessage]:
    """Whether `BREAKERS` has what code, databases and caches name, and `on_open` is there."""
    try:
        kept = conf.settings()
    except ConfigError:
        return []  # check_settings tells
    if getattr(settings, "ROOT_URLCONF", None):
        with suppress(Exception):  # Django's own checks tell
            list(get_resolver().url_patterns)  # imports the views
    found: list[CheckMessage] = []
    for name in kept.console.critical:  # it may be another application's, which shares the fleet
        if not kept.registry.knows(name):
            use = Use(name, "FLUXGATE: CONSOLE.CRITICAL")
            found += _unknown(use, kept.config.names, strict=False)
    others = [*_wrapped(), *sorted(set(_subscripts()))]
    for use, on_open in [*_named(), *((use, None) for use in others)]:
        if not kept.registry.knows(use.name):
            found += _unknown(use, kept.config.names, strict=kept.registry.strict)
        if isinstance(on_open, str):
            try:
                import_string(on_open)
            except Exception as error:  # a module may raise anything
                problem = f"on_open={on_open!r} can't be imported: {error}"
                found.append(_error(SettingError(problem, _at(use), Mistake.IMPORT)))
    return found


def _named() -> list[tuple[Use, object]]:
    """The circuits that decorators and mixins name, and what answers while those are open."""
    return sorted(
        (
            (use, getattr(holder, "on_open", None) or getattr(holder, "circuit_on_open", None))
            for holder, use in list(_guard._uses.items())
        ),
        key=lambda each: each[0],
    )


def _wrapped() -> list[Use]:
    """The circuits of databases and caches. Neither is connected to."""
    found: list[Use] = []
    handlers: dict[str, Any] = {"DATABASES": connections, "CACHES": caches}
    for setting, handler in handlers.items():
        for alias in handler:
            with suppress(Exception):  # Django's own checks tell
                name = getattr(handler[alias], "circuit_name", None)
                if isinstance(name, str):
                    found.append(Use(name, f'{setting}["{alias}"]'))
    return found


def _subscripts() -> Iterator[Use]:
    """The circuits that modules name as `breakers["payments"]`, as far as modules are imported."""
    for module in list(sys.modules.values()):
        space = getattr(module, "__dict__", {})
        names = {name for name, value in list(space.items()) if value is breakers}
        path = space.get("__file__")
        if not names or not isinstance(path, str) or module.__name__.startswith("fluxgate_django"):
            continue
        with suppress(OSError, SyntaxError, ValueError):
            with tokenize.open(path) as file:
                tree = ast.parse(file.read())
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
                    continue
                owner = node.value
                if isinstance(owner, ast.Attribute) and owner.attr == "asynchronous":
                    owner = owner.value
                name = node.slice.value
                if isinstance(owner, ast.Name) and owner.id in names and isinstance(name, str):
                    yield Use(name, f"{module.__name__}, line {node.lineno}")


def _unknown(use: Use, names: Iterable[str], *, strict: bool) -> list[CheckMessage]:
    near = nearest(use.name, names, cutoff=0.8)
    hint = f"Did you mean {near!r}?" if near else "Add it to BREAKERS; {} has the defaults."
    told = f"BREAKERS has no {use.name!r}"
    if strict:
        problem = f"{told}, and the settings are strict: every call would raise."
        return [Error(problem, hint=hint, obj=_at(use), id="fluxgate.E007")]
    if near:
        problem = f"{told}, so this circuit has the defaults."
        return [Caution(problem, hint=hint, obj=_at(use), id="fluxgate.W005")]
    return []


def _at(use: Use) -> str:
    return f"circuit({use.name!r}) on {use.where}"


@register(TAG)
def check_caches(**_: Any) -> list[CheckMessage]:
    """Whether a wrapped cache hides its errors, so that its circuit would never open."""
    found: list[CheckMessage] = []
    for alias in caches:
        with suppress(Exception):  # Django's own checks tell
            wrapped: Any = getattr(caches[alias], "wrapped", None)
            hidden = _hidden_by(wrapped)
            if hidden is not None:
                found.append(
                    Caution(
                        f"{hidden} answers an outage with None, as for a key that is missing: the "
                        "circuit hears of no error and never opens, and each call waits for its "
                        "time limit.",
                        hint='Drop it: "ON_ERROR": "miss", the default, makes a miss of an error.',
                        obj=f'CACHES["{alias}"]',
                        id="fluxgate.W102",
                    )
                )
    return found


def _hidden_by(backend: Any) -> str | None:
    """The option by which a backend swallows the errors of its server; None if it raises them."""
    if getattr(backend, "_ignore_exceptions", False):  # django-redis, django-valkey
        return "IGNORE_EXCEPTIONS"
    options = getattr(backend, "_options", None)  # Django's memcached backends
    if isinstance(options, dict) and cast("dict[str, Any]", options).get("ignore_exc"):
        return "ignore_exc"
    return None
