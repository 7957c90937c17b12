"""`Config`: the settings of many circuits, which a registry makes breakers from.

`fluxgate.config` reads them from a mapping or a TOML file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, cast

from fluxgate._hosts import parse_host, wider
from fluxgate._naming import safe_repr
from fluxgate._settings.errors import SettingError, raise_all
from fluxgate._settings.resolve import KEYS, Breaker, Called, Factory, maker_of, resolve
from fluxgate.errors import ConfigError


class Config:
    """The settings of many circuits, for a `Registry`. Each entry is read once, on first use.

    Args:
        breakers: by circuit's name, or pattern in which `*` stands for anything: its settings
            (as for `build`), or a factory that is called with the name, or its dotted path.
        defaults: settings for what `breakers` says nothing about.
        source: where it was read from, for messages.
        fleet: what shares the circuits with other processes: a `fluxgate.fleet.Fleet`, a URL, or a
            table with `url`, `witnesses` and `advisory`.
    """

    __slots__ = ("_hosts", "_makers", "breakers", "defaults", "fleet", "source")

    def __init__(
        self,
        breakers: Mapping[str, Mapping[str, Any] | Factory | str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        *,
        source: str = "",
        fleet: object = None,
    ) -> None:
        self.source = source
        self.fleet = fleet
        self.breakers = _table(breakers, self._at("breakers"))
        self.defaults = _table(defaults, self._at("defaults"))
        self._makers: dict[str | None, Factory] = {}
        self._hosts: tuple[dict[str, str], dict[str, str]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The circuits that have settings of their own, in the order written; no patterns."""
        return tuple(name for name in self.breakers if "*" not in name)

    def entry(self, name: str) -> str | None:
        """The name or pattern whose settings hold for `name`; None: the defaults hold.

        The name itself goes first, then a host without its port, or an origin without its scheme;
        then names that are written otherwise, as hosts and URLs are (`HTTPS://API.Example.com`);
        then patterns, of which the first that fits is taken.
        """
        names = (name, *wider(name))
        for each in names:
            if each in self.breakers:
                return each
        if self._hosts is None:
            self._hosts = _by_host(self.breakers)
        exact, bare = self._hosts
        tables: tuple[dict[str, str], ...] = (exact,) if "://" in name else (exact, bare)
        for table in tables:
            for each in names:
                if each in table:
                    return table[each]
        patterns = {each: each for each in self.breakers if "*" in each}
        for table in (patterns, *tables):
            for each in names:
                for pattern, entry in table.items():
                    if "*" in pattern and _fits(each, pattern):
                        return entry
        return None

    def make(self, name: str, settings: Mapping[str, Any] | None = None) -> Breaker:
        """A new breaker by its settings (a factory's may be of either front).

        Args:
            name: the circuit's name.
            settings: used in place of the entry for that name; the defaults still apply.

        Raises:
            ConfigError: settings that can't be used; the message lists them all.
        """
        entry = self.entry(name)
        maker = self._makers.get(entry) if settings is None else None
        if maker is None:
            problems: list[SettingError] = []
            defaults = self._defaults(problems)
            if settings is None:
                maker = self._maker(entry, defaults, problems)
            else:
                maker = maker_of(settings, name, defaults, problems)
            raise_all(problems)
            if settings is None:
                self._makers[entry] = maker
        return maker(name)

    def problems(self) -> list[SettingError]:
        """All errors in these settings, found without waiting for a first use.

        Dotted paths are imported; factories are not called.
        """
        problems: list[SettingError] = []
        defaults = self._defaults(problems)
        problems += self.fleet_problems()
        sound = not problems
        entries: list[str | None] = [*self.breakers, None]
        for entry in entries:
            before = len(problems)
            maker = self._maker(entry, defaults, problems)
            if sound and len(problems) == before and not isinstance(maker, Called):
                try:
                    maker(entry or "defaults")
                except SettingError as error:
                    problems.append(error)
        return problems

    def fleet_problems(self) -> list[SettingError]:
        """Mistakes in the fleet's settings; its store is not connected."""
        if self.fleet is None:
            return []
        from fluxgate.fleet._fleet import fleet_of  # not at import: most have none

        try:
            fleet_of(self.fleet)
        except SettingError as error:
            return [error.at(self._at(error.path))]
        except ConfigError as error:  # of the URL: "fleet: the URL ..."
            said = str(error).removeprefix("fleet: ").removeprefix("fleet ")
            return [SettingError(said, self._at("fleet"))]
        return []

    def under(self, defaults: Mapping[str, Any]) -> Config:
        """A copy with further defaults; the ones set here take precedence."""
        known = {key.lower(): value for key, value in defaults.items()}
        own = {key.lower(): value for key, value in self.defaults.items()}
        return Config(self.breakers, {**known, **own}, source=self.source, fleet=self.fleet)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what was written; the rest is made of it again."""
        return _config, (type(self), self.breakers, self.defaults, self.source, self.fleet)

    def _at(self, *path: str) -> str:
        where = ".".join(path)
        return f"{self.source}: {where}" if self.source else where

    def _defaults(self, problems: list[SettingError]) -> dict[str, Any]:
        return resolve(self.defaults, self._at("defaults"), problems)

    def _maker(
        self, entry: str | None, defaults: Mapping[str, Any], problems: list[SettingError]
    ) -> Factory:
        if entry is None:
            return maker_of({}, self._at("defaults"), defaults, problems)
        return maker_of(self.breakers[entry], self._at(entry), defaults, problems)

    def __repr__(self) -> str:
        return f"<Config {self.source or 'of'} {', '.join(self.breakers) or 'no names'}>"


def _config(kind: type[Config], breakers: Any, defaults: Any, source: str, fleet: Any) -> Config:
    return kind(breakers, defaults, source=source, fleet=fleet)


def _by_host(entries: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The entries by the names of hosts that they mean: exactly, and whatever the scheme."""
    exact: dict[str, str] = {}
    bare: dict[str, str] = {}
    for entry in entries:
        host = parse_host(entry)
        if host.host and not host.rest:
            for table, names in ((exact, host.names), (bare, host.bare_names)):
                for name in names:
                    table.setdefault(name, entry)
    return exact, bare


def _table(given: Mapping[str, Any] | None, path: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(
            f"{safe_repr(given)} is not a table: write it with names and settings",
            path,
        )
    for name in given:
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError(f"names are strings that are not empty, not {safe_repr(name)}", path)
    return dict(given)


def _fits(name: str, pattern: str) -> bool:
    """Whether `name` fits a pattern in which `*` stands for anything. In linear time."""
    first, *middle, last = pattern.split("*")
    if not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


Entries: TypeAlias = Mapping[str, Mapping[str, Any] | Factory | str]


def by_name(settings: Entries | None) -> Entries | None:
    """The settings of a `Registry`, once it is clear that they are by name.

    Raises:
        ConfigError: an entry is a table of `config.read`, which would be taken for a circuit's.
    """
    if not isinstance(settings, Mapping):
        return settings  # whatever it is, `Config` says so
    for key, entry in settings.items():
        if _is_table(str(key).lower(), entry):
            raise SettingError(
                f"Registry takes settings by circuit's name, and {safe_repr(key)} is a table of "
                "fluxgate.config.read: write Registry(read(...))"
            )
    return settings


def _is_table(key: str, entry: object) -> bool:
    if not isinstance(entry, Mapping):
        return False
    names = {str(each).lower() for each in cast("Mapping[str, Any]", entry)}
    if key == "breakers":  # a circuit of this name would have a breaker's settings
        return bool(names) and not names & {*KEYS}
    return key == "defaults" or (key == "fleet" and "url" in names)
