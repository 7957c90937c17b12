"""The console's pages: HTML that works without its script, and that its script patches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

from fluxgate.console import _markup as html
from fluxgate.console._reasons import COOLED, sentence
from fluxgate.console._view import Overview, Row
from fluxgate.console._words import LANGUAGES, Language, Words, words
from fluxgate.state import State

REFUSING: Final = frozenset({State.OPEN, State.FORCED_OPEN})
"""States that refuse calls."""
_WORST_FIRST: Final = (
    State.OPEN,
    State.FORCED_OPEN,
    State.HALF_OPEN,
    State.DISABLED,
    State.METRICS_ONLY,
    State.CLOSED,
)


class Context(NamedTuple):
    """Conditions of a page beside its view: its place, its reader, its language.

    Attributes:
        root: the path of the mount as a browser sees it, decoded; it begins and ends with a slash.
        language: the page's language.
        actor: whoever looks at it; empty: nobody who was let in.
        now: the time, seconds since the epoch.
        asked: whether the language was asked for by `?lang=`; links then keep it.
        single: whether a banner says that this is one process of several.
        operation: the id of the operation that has just been done; its outcome is shown above.
        fields: names and values of hidden fields that each form must send (Django's CSRF token).
    """

    root: str
    language: Language
    actor: str
    now: float
    asked: bool = False
    single: bool = False
    operation: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    def link(self, path: str = "", **query: object) -> str:
        """The escaped URL of a page of the console; parameters that are empty are left out."""
        given = {name: str(value) for name, value in query.items() if value}
        if self.asked:
            given.setdefault("lang", self.language)
        url = quote("/" + self.root.lstrip("/") + path, safe="/", errors="replace")
        return html.text(f"{url}?{urlencode(given, errors='replace')}" if given else url)


def overview(view: Overview, context: Context) -> str:
    """The overview: what refuses calls, and every circuit below it."""
    say = words(context.language)
    refusing = sum(view.counts.get(each, 0) for each in REFUSING)
    headline = say("refusing", n=refusing) if refusing else say("refusing_none")
    title = f"{headline} · {view.service or view.host}"
    here = {"filter": view.filter, "page": view.page if view.page > 1 else ""}
    body = (
        _banners(view, context, say)
        + f"<section class=head><h1 class={'bad' if refusing else 'good'}>{headline}"
        f" <small>{say('of_circuits', n=sum(view.counts.values()))}</small></h1>"
        + _counts(view, say)
        + _whence(view, context, say)
        + "</section>"
        + _filter(view, context, say)
        + (_rows(view, context, say) if view.rows else _empty(view, say))
        + _pages(view, context, say)
    )
    return document(
        title,
        body,
        context,
        here=here,
        service=view.service,
        alarm=bool(refusing),
        poll=True,
        read=view.at if view.error else None,
    )


def message(title: str, sentence: str, context: Context, *, service: str = "") -> str:
    """A page that says why there is no other, such as that there is no such circuit."""
    say = words(context.language)
    back = f'<p><a href="{context.link()}">{say("back")}</a></p>' if context.actor else ""
    body = (
        f"<section class='head message'><h1>{html.text(title)}</h1>"
        f"<p>{html.text(sentence)}</p>{back}</section>"
    )
    return document(title, body, context, service=service)


def document(
    title: str,
    body: str,
    context: Context,
    *,
    path: str = "",
    here: Mapping[str, object] | None = None,
    service: str = "",
    alarm: bool = False,
    poll: bool = False,
    read: float | None = None,
) -> str:
    """A whole page.

    Args:
        title: its title, not escaped.
        body: what stands in `main`.
        context: what it depends on.
        path: its path below the mount, for the links to the other languages.
        here: its parameters, likewise.
        service: the service's name; empty: none.
        alarm: whether the page's icon says that calls are refused.
        poll: whether the script keeps it up to date.
        read: when its data were read, seconds since the epoch, where that can't be done anew.
    """
    say = words(context.language)
    static = context._replace(asked=False).link("static/")
    units = "|".join(say(unit).format(n="#") for unit in ("unit_d", "unit_h", "unit_min", "unit_s"))
    texts = {
        "now": f"{context.now:.3f}",
        "units": units,
        "in": say("probe_in", time="#"),
        "due": say("probe_now"),
        "ends": say("reverts_in", time="#"),
        "ago": say("ago", time="#"),
        "times": say("times", zone="#"),
        "live": say("live", age="#"),
        "stale": say("stale", age="#"),
        "gone": say("signed_out"),
    }
    if read is not None:
        texts["read"] = str(int(read))
    data = "".join(f' data-{name}="{html.text(value)}"' for name, value in texts.items())
    as_of = say("as_of", at=html.moment(context.now, context.now))
    fresh = f"<p id=fresh>{as_of}</p>" if poll else ""
    who = html.bdi(context.actor, html.NAME)
    actor = f"<p class=actor>{say('signed_in')} {who}</p>" if context.actor else ""
    languages = "".join(
        f"<li><a lang={code} hreflang={code}{' aria-current=true' * (code == context.language)}"
        f' href="{context.link(path, **(here or {}), lang=code)}">{name}</a>'
        for code, name in LANGUAGES.items()
    )
    return (
        f"<!DOCTYPE html>\n<html lang={context.language}>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        "<meta name=color-scheme content='light dark'>\n"
        f"<title>{html.text(title)}</title>\n"
        f'<link rel=icon type=image/svg+xml href="{static}{"alarm" if alarm else "calm"}.svg">\n'
        f'<link rel=stylesheet href="{static}console.css">\n'
        f'<script type=module src="{static}console.js"></script>\n</head>\n'
        f"<body{data}{' data-poll=2' if poll else ''}>\n"
        f"<a class=skip href=#main>{say('skip')}</a>\n"
        f'<header><p class=brand><a href="{context.link()}">{say("title")}</a>'
        f"{f' {html.bdi(service, html.NAME)}' if service else ''}</p>"
        f'{fresh}<nav aria-label="{say("language")}"><ul>{languages}</ul></nav>'
        f"{actor}</header>\n"
        f"<main id=main tabindex=-1>\n{body}\n</main>\n"
        f"<footer><p id=zone>{say('times', zone='UTC')}</p></footer>\n"
        "<p id=said class=hidden role=status></p>\n</body>\n</html>\n"
    )


def banner(context: Context) -> str:
    """The banner of a page that knows one process of a server which may have more; else empty."""
    if not context.single:
        return ""
    say = words(context.language)
    return f"<p class=banner>{say('single', pid=os.getpid())}</p>"


def _banners(view: Overview, context: Context, say: Words) -> str:
    if not view.error:
        return banner(context)
    age = html.since(say, view.at, context.now)  # it goes on while nothing new comes
    failed = say("store_failed", age=age, why=html.bdi(view.error))
    return f"{banner(context)}<p class='banner bad'>{failed}</p>"


def _counts(view: Overview, say: Words) -> str:
    items = "".join(
        f"<li>{html.state(say, each)} <b>{view.counts[each]:,}</b>"
        for each in _WORST_FIRST
        if view.counts.get(each)
    )
    return f'<ul class=counts aria-label="{say("counts")}">{items}</ul>' if items else ""


def _whence(view: Overview, context: Context, say: Words) -> str:
    parts: list[str] = []
    if view.processes is not None:
        parts.append(say("process_reports", n=view.processes))
    if view.absent:
        parts.append(f"<strong>{say('processes_absent', n=view.absent)}</strong>")
    host = html.bdi(view.host, html.NAME)
    parts.append(say("host_pid", host=host, pid=view.pid))
    parts.append(f'<a href="{context.link("audit")}">{say("audit")}</a>')
    return f"<p class=quiet>{' · '.join(parts)}</p>"


def _filter(view: Overview, context: Context, say: Words) -> str:
    language = f"<input type=hidden name=lang value={context.language}>" if context.asked else ""
    clear = f'<a href="{context.link()}">{say("clear")}</a>' if view.filter else ""
    return (
        f'<form class=filter role=search action="{context.link()}">{language}'
        f"<label for=filter>{say('filter')}</label> "
        f'<input id=filter name=filter type=search value="{html.text(view.filter)}" maxlength=200>'
        f" <button>{say('apply')}</button> {clear}</form>"
    )


def _empty(view: Overview, say: Words) -> str:
    sentence = say("empty_filter", filter=view.filter) if view.filter else say("empty")
    return f"<p class=empty>{html.text(sentence)}</p>"


def _rows(view: Overview, context: Context, say: Words) -> str:
    # The style sheet knows which columns are numbers.
    keys = (
        *("state", "circuit", "since", "calls_rate", "failed", "slow", "refused_rate"),
        *("next_step", "rounds", "history"),
    )
    head = "".join(f"<th scope=col>{say(key)}" for key in keys)
    body = "\n".join(_row(each, context, say) for each in view.rows)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{say("title")}">'
        f"<table class=circuits><caption class=hidden>{say('caption')}</caption>"
        f"<thead><tr>{head}<tbody>\n{body}\n</table></div>"
    )


def _row(row: Row, context: Context, say: Words) -> str:
    return (
        f"<tr class={row.state}><td>{html.state(say, row.state)}{open_in(row, say)}"
        f'<th scope=row><a href="{context.link(f"circuits/{row.id}")}">'
        f"{html.name(say, row.name)}</a>{_reasons(row, say)}"
        f"<td>{html.since(say, row.since, context.now)}"
        f"<td>{html.rate(row.calls_rate)}<td>{html.percent(row.failed)}"
        f"<td>{html.percent(row.slow)}<td>{html.rate(row.refused_rate)}"
        f"<td>{next_step(row, context, say)}<td>{row.reopens or ''}"
        f"<td>{html.strip(say, row.strip)}"
    )


def open_in(row: Row, say: Words) -> str:
    """In how many of the processes a circuit refuses calls; empty where that says nothing."""
    if row.open_in is None or row.processes is None:
        return ""
    if not row.open_in and row.state not in REFUSING:
        return ""
    return f" <small>{say('in_processes', n=row.open_in, of=row.processes)}</small>"


def next_step(row: Row, context: Context, say: Words) -> str:
    """When a circuit probes, or when what was set by hand ends."""
    if row.reverts_in is not None:
        return html.until(say, "reverts_in", row.reverts_in, context.now)
    if row.retry_after is not None:
        return html.until(say, "probe_in", row.retry_after, context.now)
    if row.state is State.HALF_OPEN:
        return say("probing")
    return say("until_reset") if row.state in (State.FORCED_OPEN, State.DISABLED) else ""


def why(row: Row, say: Words) -> str:
    """The sentence of a row's reason, escaped; empty where there is nothing to say."""
    if row.reason is None:
        return ""
    if row.state is State.HALF_OPEN and row.reason.clause == COOLED:
        return say("probes_decide")  # that the cooldown is over says nothing that one waits for
    # A circuit that is open again has been opened by its probes.
    probes = row.state is State.OPEN and row.reopens > 0
    return html.prose(sentence(row.reason, say, probes=probes))


def trial(row: Row, say: Words) -> str:
    """The sentence of the shadow's verdict, escaped; empty where it would not open the circuit."""
    if row.shadow is None:
        return ""
    verdict = sentence(row.shadow, say, probes=row.state is State.HALF_OPEN)
    return f"<b>{say('shadow')}</b> {html.prose(verdict)}"


def _reasons(row: Row, say: Words) -> str:
    return "".join(f"<p>{each}</p>" for each in (why(row, say), trial(row, say)) if each)


def _pages(view: Overview, context: Context, say: Words) -> str:
    if view.pages == 1:
        return ""
    steps = [f"<span>{say('page_of', n=view.page, of=view.pages)}</span>"]
    if view.page > 1:
        url = context.link(filter=view.filter, page=view.page - 1)
        steps.insert(0, f'<a rel=prev href="{url}">{say("previous")}</a>')
    if view.page < view.pages:
        url = context.link(filter=view.filter, page=view.page + 1)
        steps.append(f'<a rel=next href="{url}">{say("next")}</a>')
    return f'<nav class=pages aria-label="{say("pages")}">{" ".join(steps)}</nav>'
