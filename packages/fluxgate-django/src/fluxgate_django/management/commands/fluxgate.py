"""Command `manage.py fluxgate`: the circuits that the settings make, and checks of the settings.

Circuits live in the memory of each process. So what this shows is the settings as they come out,
and circuits that nobody has used yet. Those of the web workers it shows and sets with `--fleet`,
where `FLUXGATE["FLEET"]` is set; else their health check, their logs and their metrics show them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn, TextIO, cast

from django.core import checks
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fluxgate import CircuitBreaker, ConfigError, FluxgateError, Info, Policy
from fluxgate.cli import fleet
from fluxgate.integration import columns, did_you_mean
from fluxgate_django.checks import TAG
from fluxgate_django.registry import breakers

_LEVELS = {
    getattr(checks, name): name for name in ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
}
_HEADINGS = ("NAME", "STATE", "SINCE", "CALLS", "FAILED", "RETRY AFTER", "LAST TRIP")
_OWN = "These are this process's own circuits, made of the settings just now; "
_NOTES = {
    False: f"{_OWN}those of the web workers are in the workers' memory: see their health check, "
    "logs and metrics.",
    True: f"{_OWN}--fleet shows those that all processes share.",
}
_FLEETLESS = (
    '--fleet is for circuits that processes share: set FLUXGATE["FLEET"] to a URL, such as '
    '"sqlite:///run/shop/fluxgate.db" for the processes of one host, or "redis://host:6379/0"'
)
_CONTROLS = {
    # what it means, the method, and what the settings can do in its place
    "open": ("open circuits by hand", "force_open()", "forced_open"),
    "reset": ("close circuits and forget their calls", "reset()", None),
    "disable": ("let every call through", "disable()", "disabled"),
}
_COUNTS = {"list": 0, "show": 1, "check": 0, "watch": 0}
"""How many names an action takes; the controls take one or more."""
_ACTIONS = (*_COUNTS, *_CONTROLS)
_ACTIONS_IN_WORDS = (
    "list: all configured circuits; show NAME: one, its policy in words; check: the system checks "
    "of fluxgate_django alone; open, reset, disable NAME... --fleet: set circuits in every "
    "process; watch --fleet: each change, until interrupted"
)


class Command(BaseCommand):
    """Lists and explains the circuits of the settings, and checks the settings. No database."""

    help = "Lists and explains the circuits that the FLUXGATE settings make, and checks them."
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """An action, and what it needs."""
        parser.add_argument("action", choices=_ACTIONS, help=_ACTIONS_IN_WORDS)
        parser.add_argument("names", nargs="*", metavar="name", help="circuits")
        parser.add_argument(
            "--format",
            choices=("text", "json"),
            default="text",
            help="of list, show, watch and check",
        )
        parser.add_argument(
            "--fleet",
            action="store_true",
            help="the circuits that all processes share (list, show, watch, open, reset, disable)",
        )
        parser.add_argument("--note", help="why: open, reset and disable hand it on to every log")
        parser.add_argument("--by", help="who; by default the user of this shell")
        parser.add_argument(
            "--seconds", type=float, help="after which open or disable ends by itself"
        )
        parser.add_argument("--deploy", action="store_true", help="check for a deployment, too")
        parser.add_argument(
            "--fail-level",
            default="ERROR",
            choices=tuple(_LEVELS.values()),
            help="the level from which check fails; ERROR by default",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for.

        Raises:
            CommandError: a name that nobody knows (return code 1), settings that can't be used,
                a control of a circuit that is not shared, or a fleet that is not there or can't
                be reached (return code 2).
        """
        action, names = options["action"], options["names"]
        if options["deploy"] and action != "check":
            raise CommandError(f"--deploy goes with check, not with {action}")
        _check_count(action, names)
        if not options["fleet"]:
            _check_said(action, options)
        if options["fleet"] and action == "check":
            raise CommandError("--fleet goes with the other actions, not with check")
        if action == "watch" and not options["fleet"]:
            raise CommandError("watch goes with --fleet: it shows what all processes share")
        if action == "check":
            self._check(options)
            return
        try:
            if options["fleet"]:
                self._fleet(action, names, options)
            elif action == "list":
                self._list(options["format"])
            elif action == "show":
                self._show(names[0], options["format"])
            else:
                _refuse(action, names)
        except ConfigError as error:
            told = f"{error}\n`manage.py fluxgate check` lists all mistakes."
            raise CommandError(told) from error

    # -- the fleet

    def _fleet(self, action: str, names: Sequence[str], options: dict[str, Any]) -> None:
        shared = breakers.registry.fleet
        if shared is None:
            raise CommandError(_FLEETLESS, returncode=2)
        endings = self.stdout.ending, self.stderr.ending
        self.stdout.ending = self.stderr.ending = ""  # the lines that are written have one
        try:
            fleet.run(
                shared,
                action,
                names,
                command=f"manage.py fluxgate {action}",
                as_json=options["format"] == "json",
                plain=options["no_color"],
                seconds=options["seconds"],
                note=options["note"],
                by=options["by"],
                known=_names(),
                out=cast("TextIO", self.stdout),
                err=cast("TextIO", self.stderr),
            )
        except fleet.UnknownCircuitError as error:
            raise CommandError(str(error), returncode=1) from error
        except FluxgateError as error:
            raise CommandError(str(error), returncode=2) from error
        finally:
            self.stdout.ending, self.stderr.ending = endings

    # -- list and show

    def _list(self, form: str) -> None:
        infos = [breakers[name].info() for name in _names()]
        patterns = [name for name in breakers.registry.config.breakers if "*" in name]
        if form == "json":
            circuits = [_as_json(info) for info in infos]
            self._dump({**_scope(), "circuits": circuits, "patterns": patterns})
            return
        if infos:
            for line in columns([_HEADINGS, *(_row(info) for info in infos)]):
                self.stdout.write(line)
        elif not patterns:
            self.stdout.write('No circuit is configured: FLUXGATE["BREAKERS"] is empty.')
        for pattern in patterns:
            self.stdout.write(f"{pattern}  (a pattern: circuits are made when asked for)")
        self.stdout.write(_note())

    def _show(self, name: str, form: str) -> None:
        breaker = _found(name)
        info, policy = breaker.info(), breaker.policy
        described = _described(policy)
        if form == "json":
            settings = {key: repr(getattr(policy, key)) for key in policy.__match_args__}
            words = {subject: sentence for subject, _, sentence in described}
            self._dump({**_scope(), **_as_json(info), "policy": settings, "in_words": words})
            return
        lines: list[tuple[str, str]] = []
        for subject, expression, sentence in described:
            lines += [(subject, expression), ("", sentence)]
        lines += [
            (heading.lower(), value)
            for heading, value in zip(_HEADINGS[1:], _row(info)[1:], strict=True)
        ]
        self.stdout.write(self.style.MIGRATE_HEADING(name))
        for line in columns([line for line in lines if any(line)]):
            self.stdout.write(f"  {line}")
        self.stdout.write(_note())

    # -- check

    def _check(self, options: dict[str, Any]) -> None:
        level: int = getattr(checks, options["fail_level"])
        if options["format"] == "text":
            self.check(
                tags=[TAG],
                display_num_errors=True,
                include_deployment_checks=options["deploy"],
                fail_level=level,
            )
            return
        found = checks.run_checks(tags=[TAG], include_deployment_checks=options["deploy"])
        told = [message for message in found if not message.is_silenced()]
        self._dump(
            {
                "problems": [
                    {
                        "id": each.id,
                        "level": _LEVELS.get(each.level, str(each.level)),
                        "where": str(each.obj),
                        "message": each.msg,
                        "hint": each.hint,
                    }
                    for each in told
                ],
                "silenced": len(found) - len(told),
            }
        )
        serious = sum(each.is_serious(level) for each in told)
        if serious:
            raise CommandError(f"{serious} of level {options['fail_level']} or above")

    def _dump(self, value: object) -> None:
        self.stdout.write(json.dumps(value, indent=2))


def _check_count(action: str, names: Sequence[str]) -> None:
    wanted = _COUNTS.get(action)
    if wanted is None and not names:
        raise CommandError(f"{action} takes one name or more")
    if wanted is not None and len(names) != wanted:
        raise CommandError(f"{action} takes {'one name' if wanted else 'no name'}")


def _check_said(action: str, options: dict[str, Any]) -> None:
    for name in ("seconds", "note", "by"):
        if options[name] is not None and action not in _CONTROLS:
            raise CommandError(f"--{name} goes with {', '.join(_CONTROLS)}, not with {action}")


def _refuse(action: str, names: Iterable[str]) -> NoReturn:
    what, method, state = _CONTROLS[action]
    if breakers.registry.fleet is not None:  # which may know circuits that the settings don't
        raise CommandError(
            f"this process's own circuits end with it, so nothing was changed: add --fleet to "
            f"{what} in every process"
        )
    for name in names:
        _found(name)
    restart = f', or set "INITIAL_STATE": "{state}" and restart them' if state else ""
    raise CommandError(
        f"{', '.join(map(repr, names))}: not shared between processes, so this command can't "
        f"{what} where it matters, which is in the web workers. Nothing was changed. Give "
        f'FLUXGATE["FLEET"] and --fleet, or call breakers[name].{method} in each of them{restart}.'
    )


def _names() -> list[str]:
    """The circuits that the settings name, and those that this process has made besides."""
    registry = breakers.registry
    return list(dict.fromkeys([*registry.config.names, *registry]))


def _found(name: str) -> CircuitBreaker:
    """The circuit of that name, if the settings (or this process) know it."""
    registry = breakers.registry
    if registry.knows(name) or name in registry:
        return breakers[name]
    known = [*_names(), *(each for each in registry.config.breakers if "*" in each)]
    if not known:
        raise CommandError(f'no circuit is called {name!r}: FLUXGATE["BREAKERS"] is empty')
    hint = did_you_mean(name, known)
    raise CommandError(f"no circuit is called {name!r}; known are {', '.join(known)}{hint}")


def _described(policy: Policy) -> list[tuple[str, str, str]]:
    """The settings of a policy: the subject, the expression, and the same in words."""
    probes = (f"{policy.max_half_open_calls}", f"{policy.probe_timeout:g} s")
    lines = [
        ("judges", repr(policy.window), policy.window.describe()),
        ("opens when", repr(policy.tripper), policy.tripper.describe()),
        ("failures are", repr(policy.tracker), f"exceptions that are {policy.tracker.describe()}"),
        ("stays open", repr(policy.retry), policy.retry.describe()),
        ("half-open", repr(policy.permit), policy.permit.describe()),
        ("probes", ", ".join(probes), f"at most {probes[0]} at once, for {probes[1]} each"),
    ]
    if policy.healthy is not None:
        words = f"exceptions that are {policy.healthy.describe()}"
        lines.append(("successes are", repr(policy.healthy), words))
    if policy.result_tracker is not None:
        tracks = policy.result_tracker
        name = f"{tracks.__module__}.{getattr(tracks, '__qualname__', tracks)}"
        lines.append(("and results", name, "results for which it returns true"))
    if (limit := policy.cancelled_after) is not None:
        words = f"calls that are cancelled after {limit:g} s or more"
        lines.append(("and cancelled", f"{limit:g}", words))
    if policy.shadow is not None:
        lines.append(("tries out", repr(policy.shadow), policy.shadow.describe()))
    return lines


def _scope() -> dict[str, Any]:
    return {"scope": "process", "note": _note()}


def _note() -> str:
    return _NOTES[breakers.registry.fleet is not None]


def _as_json(info: Info) -> dict[str, Any]:
    return {
        "name": info.name,
        "state": str(info.state),
        "since": datetime.fromtimestamp(info.since, UTC).isoformat(),
        "calls": info.metrics.total_count,
        "failure_rate": info.metrics.failure_rate,
        "retry_after": info.retry_after,
        "last_trip": None if info.last_trip is None else str(info.last_trip),
        "reopens": info.reopens,
        "rejected": info.totals.rejected,
        "shared": info.fleet is not None,
    }


def _row(info: Info) -> tuple[str, ...]:
    rate, after = info.metrics.failure_rate, info.retry_after
    since = timezone.localtime(datetime.fromtimestamp(info.since, UTC))
    return (
        info.name,
        info.state.replace("_", " "),
        since.isoformat(sep=" ", timespec="seconds"),
        str(info.metrics.total_count),
        "-" if rate is None else f"{100 * rate:.3g} %",
        "-" if after is None else f"{round(after, 1):g} s",
        "-" if info.last_trip is None else str(info.last_trip),
    )
