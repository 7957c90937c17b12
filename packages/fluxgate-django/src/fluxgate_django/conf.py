"""Settings: `FLUXGATE`, read when it is first needed and again when it changes.

    FLUXGATE = {
        "DEFAULTS": {"RETRY": "Cooldown(30)"},      # a breaker's parameters, for every circuit
        "BREAKERS": {"payments": {"TRIPPER": "..."}}, # the same by circuit, or by pattern
        "STRICT": False,                            # whether other names are errors
        "MAX_CIRCUITS": 1024,                       # how many the registry keeps alive
        "FLEET": "redis://redis.internal:6379/0",   # what all processes share them through
        "RESPONSE": {"TEMPLATE": "503.html"},       # what a refused request is answered with
        "CONSOLE": {"CRITICAL": ["payments"]},      # the page fluxgate_django.console
    }

`manage.py check` and `problems` say what is wrong with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from fluxgate import ConfigError
from fluxgate.config import Breaker, Config, Mistake, SettingError
from fluxgate.integration import did_you_mean, nearest, raise_all
from fluxgate.problem import TYPE
from fluxgate.registry import Registry
from fluxgate_django._async import is_async
from fluxgate_django.signals import announce

__all__ = [
    "CONSOLE_KEYS",
    "KEYS",
    "RESPONSE_KEYS",
    "Conf",
    "ConsoleSettings",
    "ResponseSettings",
    "problems",
    "settings",
]

NAME: Final = "FLUXGATE"
KEYS: Final = ("DEFAULTS", "BREAKERS", "STRICT", "MAX_CIRCUITS", "FLEET", "RESPONSE", "CONSOLE")
"""The keys of `FLUXGATE`."""
_FLEET_KEYS: Final = ("URL", "WITNESSES", "ADVISORY")
"""The keys of `FLUXGATE["FLEET"]`, where that is more than a URL."""
RESPONSE_KEYS: Final = ("TEMPLATE", "SHOW_NAME", "TYPE", "HOOK", "EXCEPTION_HANDLER")
"""The keys of `FLUXGATE["RESPONSE"]`."""
CONSOLE_KEYS: Final = ("SERVICE", "CRITICAL", "SINGLE_PROCESS", "ERROR_MESSAGES", "LOGIN_URL")
"""The keys of `FLUXGATE["CONSOLE"]`."""


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """The response to a refused request: `FLUXGATE["RESPONSE"]`.

    Attributes:
        template: rendered for clients that prefer HTML; None for `503.html`, if that is there, else
            a plain built-in page.
        show_name: whether the answer names the circuit, and says why it opened.
        type: the problem's type, a URI.
        hook: called with the request and the refusal; the `HttpResponse` that it returns is sent,
            and on None the usual one.
        exception_handler: what `fluxgate_django.drf.exception_handler` hands other exceptions to;
            None for that of Django REST framework.
    """

    template: str | None = None
    show_name: bool = False
    type: str = TYPE
    hook: Callable[..., Any] | str | None = None
    exception_handler: Callable[..., Any] | str | None = None


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """The console, where `fluxgate_django.console` is in the URLconf: `FLUXGATE["CONSOLE"]`.

    Attributes:
        service: the service's name, at the head of the page.
        critical: circuits whose name must be typed before they are disabled.
        single_process: whether this server has one process only, so that controls make sense
            without a fleet, too.
        error_messages: whether the last errors are shown with their messages, which may hold data
            of users; their types are shown in any case.
        login_url: where to sign in: a URL or the name of one; None for the admin's login, or
            `LOGIN_URL` where there is no admin.
    """

    service: str | None = None
    critical: tuple[str, ...] = ()
    single_process: bool = False
    error_messages: bool = False
    login_url: str | None = None


@dataclass(frozen=True, slots=True)
class Conf:
    """`FLUXGATE` as it was read.

    Attributes:
        config: the circuits' settings.
        registry: the circuits made by them. A change of the settings brings a new, empty one.
        response: what a refused request is answered with.
        console: what the console shows, and what it asks for.
    """

    config: Config
    registry: Registry
    response: ResponseSettings = field(default_factory=ResponseSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)


_kept: dict[str, Conf] = {}


def settings() -> Conf:
    """The settings as they are now; the same object until they change.

    Raises:
        ConfigError: `FLUXGATE` doesn't have its shape; the message lists all that is wrong. What
            a circuit's own settings are worth is seen when it is made, or by `problems()`.
    """
    kept = _kept  # a change replaces it: who was reading then keeps what was read to himself
    made = kept.get(NAME)
    # setdefault is atomic: two threads that come first get the same one
    return kept.setdefault(NAME, _read_or_raise()) if made is None else made


def problems() -> list[SettingError]:
    """Everything that is wrong with `FLUXGATE`, without waiting for a first use.

    It imports what dotted paths name; factories are not called.
    """
    conf, found = _read(getattr(django_settings, NAME, {}))
    return [*found, *conf.config.problems()]


def _read_or_raise() -> Conf:
    conf, found = _read(getattr(django_settings, NAME, {}))
    raise_all(found)
    return conf


def _read(written: object) -> tuple[Conf, list[SettingError]]:
    """The usable part of the settings, and the errors of the rest."""
    found: list[SettingError] = []
    top = _Section(written, f"{NAME}: ", KEYS, found)
    response = _Section(top.table.get("RESPONSE", {}), f"{NAME}: RESPONSE.", RESPONSE_KEYS, found)
    page = _Section(top.table.get("CONSOLE", {}), f"{NAME}: CONSOLE.", CONSOLE_KEYS, found)
    try:
        config = _Announced(top.table.get("BREAKERS"), top.table.get("DEFAULTS"), source=NAME)
    except SettingError as error:
        found.append(error)
        config = _Announced(source=NAME)
    strict = top.flag("STRICT")
    config.fleet = _fleet(top.table.get("FLEET"), found)
    if wrong := config.fleet_problems():
        where = f"{NAME}: "
        found += [error.at(where + error.path.removeprefix(where).upper()) for error in wrong]
        config.fleet = None
    try:
        bound = top.table.get("MAX_CIRCUITS", 1024)
        registry = Registry(config, strict=strict, max_circuits=bound)
    except ConfigError as error:
        top.complain("MAX_CIRCUITS", str(error).removeprefix("max_circuits "))
        registry = Registry(config, strict=strict)
    answer = ResponseSettings(
        template=response.text("TEMPLATE"),
        show_name=response.flag("SHOW_NAME"),
        type=response.text("TYPE") or TYPE,
        hook=response.function("HOOK"),
        exception_handler=response.function("EXCEPTION_HANDLER"),
    )
    console = ConsoleSettings(
        service=page.text("SERVICE"),
        critical=page.names("CRITICAL"),
        single_process=page.flag("SINGLE_PROCESS"),
        error_messages=page.flag("ERROR_MESSAGES"),
        login_url=page.text("LOGIN_URL"),
    )
    return Conf(config, registry, answer, console), found


def _fleet(given: object, found: list[SettingError]) -> object:
    """`FLEET` as the core reads it, with its keys in lower case; None if they are wrong."""
    if not isinstance(given, Mapping):
        return given
    before = len(found)
    section = _Section(cast("object", given), f"{NAME}: FLEET.", _FLEET_KEYS, found)
    if len(found) > before:
        return None
    return {key.lower(): value for key, value in section.table.items()}


class _Section:
    """A mapping with known keys, read in upper case.

    Args:
        given: the value in the settings.
        path: where, up to the key.
        known: its keys.
        found: where complaints go.
    """

    def __init__(
        self, given: object, path: str, known: tuple[str, ...], found: list[SettingError]
    ) -> None:
        self.table: dict[str, Any] = {}
        self._path = path
        self._found = found
        keys = ", ".join(known)
        if not isinstance(given, Mapping):
            told = f"{given!r} is not a dict; it has the keys {keys}"
            found.append(SettingError(told, path.rstrip(":. ")))
            return
        for written, value in cast("Mapping[str, Any]", given).items():
            key = str(written).upper()
            if key not in known:
                hint = _hint(key, known, value)
                told = f"unknown setting; known are {keys}{hint}"
                found.append(SettingError(told, f"{path}{written}", Mistake.UNKNOWN))
            elif key in self.table:
                self.complain(written, "it is given twice: keep one")
            else:
                self.table[key] = value

    def complain(self, key: str, problem: str) -> None:
        """Note an error of the value of a key."""
        self._found.append(SettingError(problem, f"{self._path}{key}"))

    def flag(self, key: str) -> bool:
        """A value that is True or False; False by default."""
        value = self.table.get(key, False)
        if not isinstance(value, bool):
            self.complain(key, f"must be True or False, not {value!r}")
        return value is True

    def text(self, key: str) -> str | None:
        """A value that is a string; None by default."""
        value = self.table.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self.complain(key, f"must be a string that is not empty, not {value!r}")
        return None

    def names(self, key: str) -> tuple[str, ...]:
        """A value that lists circuits' names; none by default."""
        value = self.table.get(key, ())
        if isinstance(value, (list, tuple, set, frozenset)):
            names = list(cast("Iterable[object]", value))
            if all(isinstance(name, str) and name for name in names):
                return tuple(map(str, names))
        self.complain(key, f"must be a list of circuits' names, not {value!r}")
        return ()

    def function(self, key: str) -> Callable[..., Any] | str | None:
        """A value that is a sync function or its dotted path; None by default."""
        value = self.table.get(key)
        if not (value is None or isinstance(value, str) or callable(value)):
            self.complain(key, f"{value!r} is neither a function nor its dotted path")
            return None
        if is_async(value):
            self.complain(key, f"{value!r} is async: give a function that is not")
            return None
        return value


def _hint(key: str, known: tuple[str, ...], value: object) -> str:
    hint = did_you_mean(key, known)
    if hint:
        return hint
    if known is KEYS and isinstance(value, Mapping):
        return "; a circuit's settings stand under its name in BREAKERS"
    return ""


class _Announced(Config):
    """Settings whose circuits, those of factories included, send Django's signals."""

    __slots__ = ()

    def make(self, name: str, settings: Mapping[str, Any] | None = None) -> Breaker:
        if settings is None and self.entry(name) is None:
            near = nearest(name, self.breakers, cutoff=0.8)
            if near is not None:
                logging.getLogger("fluxgate").warning(
                    "circuit %r has the defaults: BREAKERS has none of that name; did you mean %r?",
                    name,
                    near,
                )
        breaker = super().make(name, settings)
        if announce not in breaker.listeners:
            breaker.listen(announce)
        return breaker


def _reset(*, setting: str, **_: object) -> None:
    global _kept
    if setting == NAME:
        _kept = {}


setting_changed.connect(_reset, dispatch_uid="fluxgate_django.conf")
