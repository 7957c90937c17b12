"""The console's pages about one circuit: its detail, and the dialog of a control."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fluxgate.console import _markup as html
from fluxgate.console._html import (
    REFUSING,
    Context,
    banner,
    document,
    next_step,
    open_in,
    trial,
    why,
)
from fluxgate.console._html_audit import attempts, control, outcome
from fluxgate.console._names import errors_in_words, measurement
from fluxgate.console._reasons import sentence
from fluxgate.console._view import Action, Change, Detail, Dialog, ProcessRow, Row
from fluxgate.console._words import Words, words
from fluxgate.signals import Reason
from fluxgate.state import State

_DURATIONS: Final = (60.0, 300.0, 900.0, 1800.0, 3600.0, 14_400.0, 86_400.0)
"""Durations that a dialog offers, in seconds."""
_HARSH: Final = frozenset({"open_for", "force_open", "disable"})
"""Controls whose button is red: they refuse calls, or take the protection away."""


def detail(view: Detail, context: Context, *, service: str = "") -> str:
    """The page of a circuit: its state and why, the controls, and how it came to that."""
    say, row = words(context.language), view.row
    body = (
        banner(context)
        + _notice(view, context, say)
        + _head(view, context, say)
        + _controls(view, context, say)
        + "<div class=columns><div>"
        + _section(say("changes"), _changes(view.changes, context, say), "changes")
        + _processes(view, say)
        + _section(say("audit"), attempts(view.audit, context, say), "audit")
        + "</div><div>"
        + _section(say("evidence"), _evidence(view, say), "evidence")
        + _section(say("policy"), _policy(view, say), "policy")
        + _numbers(view, say)
        + _settings(view, say)
        + "</div></div>"
    )
    return document(
        f"{say.state(row.state)} · {row.name}",
        body,
        context,
        path=f"circuits/{row.id}",
        service=service,
        alarm=row.state in REFUSING,
        poll=True,
    )


def dialog(view: Dialog, context: Context, *, service: str = "") -> str:
    """The page that asks for a reason and a duration before it uses a control."""
    say, row, action = words(context.language), view.row, view.action
    name = say.action(action.action)
    path = f"circuits/{row.id}/{action.action}"
    hidden = (*context.fields, ("token", view.token), ("operation", view.operation))
    fields = "".join(
        f'<input type=hidden name="{html.text(key)}" value="{html.text(value)}">'
        for key, value in hidden
    )
    form = (
        f'<form class=dialog method=post action="{context.link(path)}" autocomplete=off>{fields}'
        f"<h1 id=asks>{name} {html.bdi(row.name, html.NAME)}</h1>"
        f"<p class=effect>{html.state(say, row.state)} <span>{html.text(action.effect)}</span></p>"
        + _problems(view, say)
        + (_asks_name(view, say) if action.asks_name else "")
        + _asks_note(view, say)
        + (_asks_seconds(view, say) if action.timed else "")
        + f"<p class=buttons><button class={'harsh' if action.action in _HARSH else 'plain'}>"
        f"{name}</button> "
        f'<a class="button cancel" href="{context.link(f"circuits/{row.id}")}">'
        f"{say('cancel')}</a></p></form>"
    )
    title = f"{name} · {row.name}"
    return document(title, banner(context) + form, context, path=path, service=service)


def _head(view: Detail, context: Context, say: Words) -> str:
    row = view.row
    facts: list[tuple[str, str]] = []
    if row.since is not None:
        began = html.moment(row.since, context.now)
        facts.append((say("since"), f"{began} · {html.since(say, row.since, context.now)}"))
    if then := next_step(row, context, say):
        facts.append((say("next_step"), then))
    numbers = (
        ("calls_rate", html.rate(row.calls_rate)),
        ("failed", html.percent(row.failed)),
        ("slow", html.percent(row.slow)),
        ("refused_rate", html.rate(row.refused_rate)),
        ("rounds", str(row.reopens or "")),
    )
    facts += [(say(key), shown) for key, shown in numbers if shown]
    listed = "".join(f"<div><dt>{name}</dt><dd>{shown}</dd></div>" for name, shown in facts)
    found = ((why(row, say), row.reason), (trial(row, say), row.shadow))
    reasons = "".join(f"<p class=why>{each}{_measured(of)}</p>" for each, of in found if each)
    return (
        f"<section class='head {row.state}'>"
        f'<p class=back><a href="{context.link()}">{say("back")}</a></p>'
        f"<h1 data-state={row.state}>{html.name(say, row.name, None)}</h1>"
        f"<p class=now>{html.state(say, row.state)}{open_in(row, say)}"
        f" <span class=quiet>{say(f'{row.state}_means')}</span></p>{reasons}"
        f"<figure>{html.strip(say, row.strip)}<figcaption>{say('history')}</figcaption></figure>"
        f"<dl class=facts>{listed}</dl></section>"
    )


def _notice(view: Detail, context: Context, say: Words) -> str:
    """The outcome of the operation that led here, as the audit has it."""
    found = [each for each in view.audit if each.operation and each.operation == context.operation]
    if not found:
        return ""
    entry = found[-1]  # the first attempt: those after it repeat it
    good = entry.outcome == "done"
    return (
        f"<div class='banner {'good' if good else 'bad'}'>"
        f"{control(entry, say)}: {outcome(entry, say)}</div>"
    )


def _controls(view: Detail, context: Context, say: Words) -> str:
    allowed = [each for each in view.actions if each.allowed]
    reasons = {each.why_not for each in view.actions if not each.allowed and each.why_not}
    if not view.actions or (not allowed and len(reasons) == 1):
        why = "".join(html.text(each) for each in reasons)
        return f"<p class='quiet controls-off'>{say('controls')}: {why}</p>" if why else ""
    items = "".join(_control(each, view.row, context, say) for each in view.actions)
    return f'<nav aria-label="{say("controls")}"><ul class=controls>{items}</ul></nav>'


def _control(action: Action, row: Row, context: Context, say: Words) -> str:
    name = say.action(action.action)
    if not action.allowed:
        why = html.text(action.why_not or "")
        return f"<li><span class='button off'>{name}</span> <small>{why}</small>"
    url = context.link(f"circuits/{row.id}/{action.action}")
    return (
        f'<li><a class=button data-dialog href="{url}">{name}</a> '
        f"<small>{html.text(action.effect)}</small>"
    )


def _section(title: str, inner: str, name: str) -> str:
    return f"<section><h2 id={name}>{title}</h2>{inner}</section>" if inner else ""


def _changes(changes: Iterable[Change], context: Context, say: Words) -> str:
    rows = [
        (
            html.moment(each.at, context.now),
            f"{html.state(say, each.old)} <span class=to>→</span> {html.state(say, each.new)}",
            _reason(each, say),
            _who(each, say),
        )
        for each in changes
    ]
    if not rows:
        return f"<p class=quiet>{say('changes_none')}</p>"
    heads = [say(key) for key in ("at", "change", "reason", "by")]
    return html.table(say("changes"), heads, rows, "words")


def _reason(change: Change, say: Words) -> str:
    reason = change.reason
    probes = change.old is State.HALF_OPEN
    shown = html.prose(sentence(reason, say, probes=probes, said=False)) + _measured(reason)
    if change.errors:
        shown += f"<p>{say('errors')}: {html.bdi(errors_in_words(change.errors), 600)}</p>"
    return shown + (f"<p>{html.bdi(reason.note)}</p>" if reason.note else "")


def _measured(reason: Reason | None) -> str:
    """The expression behind a sentence, where it has measured something."""
    if reason is None or reason.calls is None:
        return ""
    window = "" if reason.window is None else f" in {reason.window}"
    return f" <code>{html.text(f'{measurement(reason)}{window}', 300)}</code>"


def _who(change: Change, say: Words) -> str:
    by = html.bdi(change.reason.by, html.NAME) if change.reason.by else ""
    where = say(change.origin) if change.origin in ("fleet", "peer") else ""
    return by + (f"<p>{where}</p>" if where else "")


def _processes(view: Detail, say: Words) -> str:
    heads = [
        *(say(key) for key in ("process", "state", "calls", "failures", "refusals", "reason")),
        say("heard"),
    ]
    rows = [_process(each, say) for each in view.processes]
    return _section(
        say("processes"),
        html.table(say("processes"), heads, rows, "words") if rows else "",
        "processes",
    )


def _process(row: ProcessRow, say: Words) -> tuple[str, ...]:
    known = row.host and row.pid is not None
    name = html.bdi(f"{row.host} {row.pid}" if known else row.process, html.NAME)
    gone = f"<span class='s absent'>{say('absent')}</span>" if row.absent else ""
    return (
        name,
        gone or html.state(say, row.state),
        _count(row.calls),
        _count(row.failures),
        _count(row.refused),
        html.prose(sentence(row.reason, say)) if row.reason else "",
        say("ago", time=say.duration(row.age)),
    )


def _evidence(view: Detail, say: Words) -> str:
    found = "".join(f"<li>{html.prose(each)}" for each in view.evidence)
    errors = [(html.bdi(label), f"{count:,}") for label, count in view.errors]
    shown = f"<ul>{found}</ul>" * bool(found)
    if errors:
        heads = (say("error"), say("count"))
        shown += f"<h3>{say('errors')}</h3>{html.table(say('errors'), heads, errors, 'words')}"
    return shown


def _policy(view: Detail, say: Words) -> str:
    """`explain`'s words: they are English in every language, and marked as such."""
    if not view.policy:
        return f"<p class=quiet>{say('not_here')}</p>"
    parts = "".join(
        f"<h3>{html.text(title)}</h3>" * bool(title)
        + "".join(f"<p>{html.bdi(line)}</p>" for line in lines)
        for title, lines in view.policy
    )
    return f"<div lang=en>{parts}</div>"


def _numbers(view: Detail, say: Words) -> str:
    items = "".join(
        f"<div><dt>{say(f'total_{name}')}</dt><dd>{count:,}</dd></div>"
        for name, count in view.totals.items()
    )
    return _section(say("totals"), f"<dl class=facts>{items}</dl>" if items else "", "totals")


def _settings(view: Detail, say: Words) -> str:
    lines = "\n".join(f"{name} = {value}" for name, value in view.settings.items())
    if not lines:
        return ""
    shown = "\n".join(html.text(each) for each in lines.split("\n"))
    return _section(say("settings"), f"<pre tabindex=0>{shown}</pre>", "settings")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _problems(view: Dialog, say: Words) -> str:
    if not view.problems:
        return ""
    items = "".join(
        f"<li id={field or 'whole'}-problem>{html.text(problem)}"
        for field, problem in view.problems.items()
    )
    return f"<div class='banner bad' role=alert><p>{say('problems')}</p><ul>{items}</ul></div>"


def _described(view: Dialog, field: str, hint: str = "") -> str:
    """Attributes that tie a field to its hint, and to what is wrong with it."""
    wrong = field in view.problems
    ids = " ".join([hint] * bool(hint) + [f"{field}-problem"] * wrong)
    return (f' aria-describedby="{ids}"' if ids else "") + " aria-invalid=true" * wrong


def _asks_note(view: Dialog, say: Words) -> str:
    return (
        f"<p><label for=note>{say('note')}</label>"
        f'<input id=note name=note value="{html.text(view.note)}" required minlength=3'
        f" maxlength=200{_described(view, 'note', 'note-hint')}"
        f"{'' if view.action.asks_name else ' autofocus'}>"
        f"<small id=note-hint>{say('note_hint')}</small></p>"
    )


def _asks_name(view: Dialog, say: Words) -> str:
    return (
        f"<p><label for=name>{say('name')}</label><small id=name-hint>{say('name_hint')} "
        f"<code>{html.bdi(view.row.name)}</code></small>"
        f"<input id=name name=name required{_described(view, 'name', 'name-hint')} autofocus></p>"
    )


def _asks_seconds(view: Dialog, say: Words) -> str:
    given = () if view.seconds is None else (view.seconds,)
    choices = sorted({*_DURATIONS, *given})
    options = "".join(
        f"<option value={each:.15g}{' selected' * (each == view.seconds)}>{say.duration(each)}"
        for each in choices
    )
    if view.action.action != "open_for":  # it is for a time, or it isn't `open_for`
        options += f"<option value=''{' selected' * (view.seconds is None)}>{say('until_reset')}"
    return (
        f"<p><label for=seconds>{say('seconds')}</label>"
        f"<select id=seconds name=seconds{_described(view, 'seconds')}>{options}</select></p>"
    )
