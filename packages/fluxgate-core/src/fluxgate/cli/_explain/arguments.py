"""The policy to explain, from the command's arguments."""

from __future__ import annotations

import argparse
import re
from typing import Any, NamedTuple

from fluxgate import config
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean, raise_all
from fluxgate._settings.resolve import made, resolve
from fluxgate.breaker import CircuitBreaker
from fluxgate.policy import DEFAULT, Policy
from fluxgate.state import State

OPTIONS: dict[str, str] = {
    "window": "which calls are counted, such as CountWindow(100) or TimeWindow(60)",
    "tracker": 'which exceptions are failures, such as TypeOf("ConnectionError")',
    "healthy": "which exceptions are successes",
    "result_tracker": "a dotted path: which results are failures",
    "retry": "how long it stays open, such as Cooldown(60) or Backoff(1)",
    "permit": "who probes, such as All() or RampUp(0.1, 1.0, 60)",
    "max_half_open_calls": "probes at once",
    "probe_timeout": "seconds after which a probe is given up",
    "cancelled_after": "seconds from which a cancelled call is a failure",
    "shadow": "another tripper that is tried beside it",
    "initial_state": "where it starts: closed, metrics_only, disabled or forced_open",
}
"""The settings that have an option, and its help; the tripper is the positional argument."""


class Given(NamedTuple):
    """A policy to explain.

    Attributes:
        name: the circuit's name; may be empty.
        policy: the settings.
        starts: the state that it starts in.
        note: a remark on where the settings come from; may be empty.
    """

    name: str
    policy: Policy
    starts: State
    note: str = ""


def read(options: argparse.Namespace) -> Given:
    """The policy of a file's entry or the defaults, with the settings that are given beside it.

    Raises:
        ConfigError: settings that can't be used; the message lists them all.
    """
    base = (
        _from_file(options) if options.config else Given(options.name or "", DEFAULT, State.CLOSED)
    )
    written = {key: value for key in OPTIONS if (value := getattr(options, key)) is not None}
    if options.tripper is not None:
        written = {"tripper": options.tripper, **written}
    problems: list[SettingError] = []
    changes = resolve(written, "", problems)
    raise_all([_pointed_at(problem, written) for problem in problems])
    if not changes:
        return base
    settings: dict[str, Any] = {key: getattr(base.policy, key) for key in Policy.__match_args__}
    settings |= {"initial_state": base.starts, **changes}
    try:
        breaker = made(CircuitBreaker, base.name or "policy", settings, "")
    except SettingError as error:
        raise error.at(error.path.lstrip(".")) from error
    return base._replace(policy=breaker.policy, starts=breaker.state)


def _from_file(options: argparse.Namespace) -> Given:
    found = config.load(options.config)
    name: str = options.name or ""
    if not name:
        if len(found.names) != 1:
            known = f": {', '.join(found.names)}" if found.names else ""
            raise SettingError(
                f"say with --name which of its circuits is meant{known}",
                options.config,
                Mistake.UNKNOWN,
            )
        (name,) = found.names
    breaker = found.make(name)
    entry = found.entry(name)
    note = ""
    if entry is None:
        note = f"{options.config} has no entry for {name!r}, so its defaults hold"
        note += f"{did_you_mean(name, found.names)}."
    elif entry != name:
        note = f"These are the settings of the pattern {entry!r} in {options.config}."
    return Given(name, breaker.policy, breaker.state, note)


def _pointed_at(problem: SettingError, written: dict[str, Any]) -> SettingError:
    """A problem without the dot before its path, and with a mark under the column."""
    path = problem.path.lstrip(".")
    text = written[path]
    column = re.search(r": column (\d+): ", problem.problem)
    if column is None or not text.isprintable() or len(text) > 100:
        return problem.at(path)
    mark = " " * (int(column[1]) - 1) + "^"
    return SettingError(f"{problem.problem}\n    {text}\n    {mark}", path, problem.mistake)
