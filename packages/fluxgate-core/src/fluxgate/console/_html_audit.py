"""The console's page of the audit: attempts to use controls, of one circuit or of all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fluxgate.console import _markup as html
from fluxgate.console._html import Context, banner, document
from fluxgate.console._view import Entry
from fluxgate.console._words import Words, words

_CONTROLS: Final = frozenset({"open_for", "force_open", "disable", "metrics_only", "reset"})


def audit(entries: Iterable[Entry], context: Context, *, service: str = "") -> str:
    """The page of the latest attempts on all circuits."""
    say = words(context.language)
    body = (
        banner(context)
        + "<section class=head>"
        + f'<p class=back><a href="{context.link()}">{say("back")}</a></p>'
        + f"<h1>{say('audit')}</h1><p class=quiet>{say('audit_means')}</p></section>"
        + attempts(entries, context, say, named=True)
    )
    return document(say("audit"), body, context, path="audit", service=service, poll=True)


def attempts(entries: Iterable[Entry], context: Context, say: Words, *, named: bool = False) -> str:
    """A table of attempts, newest first.

    Args:
        entries: the attempts.
        context: what the page depends on.
        say: the words of its language.
        named: whether it says of which circuit each is.
    """
    rows = [_row(each, context, say, named) for each in entries]
    if not rows:
        return f"<p class=quiet>{say('audit_none')}</p>"
    keys = ("at", "actor", *(["circuit"] * named), "action", "note", "outcome")
    return html.table(say("audit"), [say(key) for key in keys], rows, "words")


def _row(entry: Entry, context: Context, say: Words, named: bool) -> tuple[str, ...]:
    where = ""
    if entry.address:
        where = f"<p>{say('from_address', address=html.bdi(entry.address))}</p>"
    return (
        html.moment(entry.at, context.now),
        html.bdi(entry.actor, html.NAME) + where,
        *([_circuit(entry, context)] * named),
        control(entry, say),
        html.bdi(entry.note) if entry.note else "",
        outcome(entry, say),
    )


def _circuit(entry: Entry, context: Context) -> str:
    """The name, as a link; the id where there is no such circuit."""
    if not entry.circuit:
        return f"<code>{html.bdi(entry.id, html.NAME)}</code>"
    name = html.bdi(entry.circuit, html.NAME)
    return f'<a href="{context.link(f"circuits/{entry.id}")}">{name}</a>'


def control(entry: Entry, say: Words) -> str:
    """The control, by its name or as it was asked for."""
    known = entry.action in _CONTROLS
    return say.action(entry.action) if known else html.bdi(entry.action, html.NAME)


def outcome(entry: Entry, say: Words) -> str:
    """The outcome: what was changed and for how long, or why nothing was."""
    known = entry.outcome in ("done", "repeated", "denied", "invalid")
    shown = say(entry.outcome if known else "outcome_failed")
    if entry.outcome == "done" and entry.before and entry.after:
        before, after = html.state(say, entry.before), html.state(say, entry.after)
        shown += f" <p>{before} <span class=to>→</span> {after}</p>"
    if entry.seconds is not None:
        shown += f" <p>{say('for_time', time=say.duration(entry.seconds))}</p>"
    return shown + (f" <p>{html.bdi(entry.why)}</p>" if entry.why else "")
