"""The pages and the API of a console: a request and an actor in, a response out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlencode

from fluxgate.console import _html as html
from fluxgate.console import _html_audit as html_audit
from fluxgate.console import _html_circuit as html_circuit
from fluxgate.console import _json as api
from fluxgate.console._act import DEFAULT, Controls, Form, Outcome, Problem
from fluxgate.console._audit import KEPT, Audit
from fluxgate.console._bodies import HTML, JSON, PROBLEM, respond, static, tag_of, takes_gzip
from fluxgate.console._details import detail_of, overview_of
from fluxgate.console._exchange import Actor, Request, Response
from fluxgate.console._reading import Item
from fluxgate.console._snapshots import Look, Snapshots
from fluxgate.console._tokens import new_operation
from fluxgate.console._view import PAGE, PLAIN_PAGE, Action, Detail, Dialog, Entry, Row
from fluxgate.console._words import Words, language_of, words
from fluxgate.fleet import StoreError

_API: Final = "api/"
_CIRCUIT: Final = re.compile(r"(api/v1/)?circuits/([0-9a-f]{24})(?:/([a-z_]{1,32}))?")
_READING: Final = ("GET", "HEAD")


class Site:
    """Everything below a console's mount.

    Args:
        snapshots: the circuits.
        controls: their controls.
        audit: the attempts to use them.
        service: the service's name.
        single: whether a banner says that this is one process of several.
        local_only: whether requests by loopback alone are let in.
        error_messages: whether the last errors are shown with their messages.
        wall: gives seconds since the epoch.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        controls: Controls,
        audit: Audit,
        *,
        service: str,
        single: bool,
        local_only: bool,
        error_messages: bool,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._snapshots = snapshots
        self._controls = controls
        self._audit = audit
        self._service = service
        self._single = single
        self._local_only = local_only
        self._error_messages = error_messages
        self._wall = wall

    def respond(self, request: Request, actor: Actor | None) -> Response:
        """The response to a request."""
        found = _CIRCUIT.fullmatch(request.path)
        circuit, action = (found[2], found[3]) if found is not None else ("", None)
        if found is not None and action is not None:
            if request.method == "POST" or (found[1] and request.method not in _READING):
                return self._act(request, actor, circuit, action)
            if found[1]:  # a control can't be used by a link, and who tries is noted
                return self._act(request, actor, circuit, action)
        if request.path.startswith("static/") and request.method in _READING:
            # For strangers, too: the page that refuses them is made of them, and they are public.
            file = static(request, request.path.removeprefix("static/"))
            if file is not None:
                return file
        if actor is None:
            return self.problem(request, Problem(403, "not_let_in"))
        if request.method not in _READING:
            return self.problem(request, Problem(405, "no_method"), actor)
        if request.path.startswith("static/"):
            return self.problem(request, Problem(404, "no_page"), actor)
        try:
            # Whoever comes from a control, to see what became of it, waits for that.
            look = self._snapshots.look(renewed="operation" in request.query)
        except StoreError as error:
            return self.problem(request, Problem(503, "no_data", values={"why": str(error)}), actor)
        if found is None:
            if request.path in ("", "api/v1/state"):
                return self._overview(request, actor, look)
            if request.path in ("audit", "api/v1/audit"):
                return self._attempts(request, actor, look)
            return self.problem(request, Problem(404, "no_page"), actor)
        item = look.reading.by_id.get(circuit)
        if item is None:
            return self.problem(request, Problem(404, "no_circuit"), actor)
        if action is None:
            return self._circuit(request, actor, look, item)
        return self._asked(request, actor, look, item, action)

    # -- reading

    def _overview(self, request: Request, actor: Actor, look: Look) -> Response:
        page = request.query.get("page", "1")
        view = overview_of(
            look,
            service=self._service,
            text=request.query.get("filter", ""),
            page=int(page) if page.isdecimal() and len(page) < 8 else 1,
            size=PAGE if takes_gzip(request) else PLAIN_PAGE,
        )
        signature = view._replace(age=0.0, at=0.0, rows=_signed(view.rows, look))
        if request.path:
            data = api.encoded(api.state_of(view))
            return respond(request, 200, data, JSON, tag=tag_of(signature))
        context = self._context(request, actor)
        tag = tag_of(signature, context._replace(now=0.0))
        return self._page(request, lambda: html.overview(view, context), tag)

    def _circuit(self, request: Request, actor: Actor, look: Look, item: Item) -> Response:
        say = self._words(request)
        view = self._detail(look, item, actor, say)
        signed = view._replace(row=_signed((view.row,), look)[0])
        if request.path.startswith(_API):

            def sign(action: str) -> dict[str, str]:
                return self._operation(actor, item, action)

            # Compressed, its length would tell about the tokens.
            data = api.encoded(api.circuit_of(view, sign))
            return respond(request, 200, data, JSON, secret=True)
        context = self._context(request, actor, request.query.get("operation", "")[:100])
        tag = tag_of(signed, context._replace(now=0.0))
        return self._page(
            request, lambda: html_circuit.detail(view, context, service=self._service), tag
        )

    def _detail(self, look: Look, item: Item, actor: Actor, say: Words) -> Detail:
        return detail_of(
            look,
            item,
            changes=self._snapshots.history.changes(item.id),
            audit=self._entries(look, item.id),
            actions=self._controls.actions(item, look.reading, actor, say),
            error_messages=self._error_messages,
            say=say,
        )

    def _attempts(self, request: Request, actor: Actor, look: Look) -> Response:
        """The latest attempts on all circuits."""
        entries = self._entries(look)[:KEPT]
        if request.path.startswith(_API):
            data = api.encoded(api.audit_of(entries))
            return respond(request, 200, data, JSON, tag=tag_of(entries))
        context = self._context(request, actor)
        tag = tag_of(entries, context._replace(now=0.0))
        return self._page(
            request, lambda: html_audit.audit(entries, context, service=self._service), tag
        )

    def _entries(self, look: Look, circuit: str | None = None) -> tuple[Entry, ...]:
        """The attempts on a circuit, or on all; of other processes those that were done."""
        own = self._audit.entries(circuit)
        known = {entry.operation for entry in own if entry.outcome in ("done", "failed")}
        others = [
            entry
            for entry in look.reading.audit
            if circuit in (None, entry.id) and entry.operation not in known
        ]
        return tuple(sorted((*own, *others), key=lambda entry: -entry.at))

    # -- controls

    def _asked(
        self, request: Request, actor: Actor, look: Look, item: Item, action: str
    ) -> Response:
        """The dialog of a control."""
        say = self._words(request)
        found = self._action(look, item, actor, action, say)
        if found is None:
            return self.problem(request, Problem(404, "no_page"), actor)
        problem = self._controls.why_not(actor)
        if problem is not None:
            return self.problem(request, problem, actor)
        return self._dialog(request, actor, look, item, found, Form(seconds=DEFAULT), None)

    def _action(
        self, look: Look, item: Item, actor: Actor, action: str, say: Words
    ) -> Action | None:
        actions = self._controls.actions(item, look.reading, actor, say)
        return next((each for each in actions if each.action == action), None)

    def _dialog(
        self,
        request: Request,
        actor: Actor,
        look: Look,
        item: Item,
        action: Action,
        form: Form,
        problem: Problem | None,
    ) -> Response:
        problems = (
            {} if problem is None else {problem.field: problem.sentence(self._words(request))}
        )
        view = Dialog(
            row=look.reading.row(item),
            action=action,
            **self._operation(actor, item, action.action),
            note=form.note,
            seconds=form.seconds,
            problems=problems,
        )
        page = html_circuit.dialog(view, self._context(request, actor), service=self._service)
        status = 200 if problem is None else problem.status
        return respond(request, status, page, HTML, secret=True)

    def _operation(self, actor: Actor, item: Item, action: str) -> dict[str, str]:
        """A new operation and its token, which is empty where the front has a proof of its own."""
        operation, tokens = new_operation(), self._controls.tokens
        token = "" if tokens is None else tokens.sign(actor.name, item.id, action, operation)
        return {"operation": operation, "token": token}

    def _act(self, request: Request, actor: Actor | None, circuit: str, action: str) -> Response:
        """Use a control, or refuse to."""
        item, look, unread = None, None, None
        if actor is None:  # for strangers nothing is read anew
            last = self._snapshots.last
            item = None if last is None else last.by_id.get(circuit)
        else:
            try:
                look = self._snapshots.look()
                item = look.reading.by_id.get(circuit)
            except StoreError as error:
                unread = str(error)
        done = self._controls.use(request, actor, circuit, item, action, unread)
        if done.problem is None and done.entry.outcome == "done":
            self._snapshots.renew()
        if actor is None or look is None or item is None:
            return self.problem(request, done.problem or Problem(404, "no_circuit"), actor)
        if done.problem is None:
            return self._done(request, item, done)
        if request.path.startswith(_API) or done.problem.status not in (422, 429):
            return self.problem(request, done.problem, actor)
        found = self._action(look, item, actor, action, self._words(request))
        if found is None:
            return self.problem(request, done.problem, actor)
        return self._dialog(request, actor, look, item, found, done.form, done.problem)

    def _done(self, request: Request, item: Item, done: Outcome) -> Response:
        if request.path.startswith(_API):
            row = self._row_after(item)
            return respond(request, 200, api.encoded(api.outcome_of(done.entry, row)), JSON)
        query = {"operation": done.form.operation}
        if "lang" in request.query:
            query["lang"] = self._words(request).language
        # One slash: what begins with two is another host's.
        root = quote("/" + request.root.lstrip("/"), safe="/", errors="replace")
        where = f"{root}circuits/{item.id}?{urlencode(query)}"
        return respond(request, 303, b"", HTML, more={"location": where})

    def _row_after(self, item: Item) -> Row | None:
        """A circuit after a control was used; None where nobody can say: it was done all the same.

        What another process shows may follow within a second.
        """
        try:
            look = self._snapshots.look(renewed=True)
        except StoreError:
            return None
        if not look.renewed:
            return None
        return look.reading.row(look.reading.by_id.get(item.id, item))

    # -- what all have in common

    def problem(self, request: Request, problem: Problem, actor: Actor | None = None) -> Response:
        """The response that says why there is no other, and what to do about it.

        Args:
            request: the request.
            problem: why.
            actor: who made it; None is nobody, who is shown nothing of the service.
        """
        if self._local_only and problem.key == "not_let_in":
            problem = problem._replace(key="not_local")
        say = self._words(request)
        sentence = problem.sentence(say)
        headers: dict[str, str] = {}
        if problem.status == 429:
            headers["retry-after"] = "1"
        if problem.status == 405:
            control = _CIRCUIT.fullmatch(request.path)
            posts = control is not None and control[1] and control[3]
            headers["allow"] = "POST" if posts else "GET, HEAD"
        if request.path.startswith(_API):
            title = HTTPStatus(problem.status).phrase
            fields = {problem.field: sentence} if problem.field else {}
            data = api.encoded(api.problem_of(problem.status, title, sentence, fields))
            return respond(request, problem.status, data, PROBLEM, more=headers)
        context = self._context(request, actor or Actor(""))
        title = say(f"error_{problem.status}")
        service = "" if actor is None else self._service
        page = html.message(title, sentence, context, service=service)
        return respond(request, problem.status, page, HTML, more=headers)

    def _page(self, request: Request, make: Callable[[], str], tag: str) -> Response:
        return respond(request, 200, make, HTML, tag=tag)

    def _words(self, request: Request) -> Words:
        accepted = request.headers.get("accept-language", "")
        return words(language_of(request.query.get("lang"), accepted))

    def _context(self, request: Request, actor: Actor, operation: str = "") -> html.Context:
        language = self._words(request).language
        return html.Context(
            root=request.root,
            language=language,
            actor=actor.name,
            now=self._wall(),
            asked=request.query.get("lang") == language,
            single=self._single,
            operation=operation,
            fields=request.fields,
        )


def _signed(rows: tuple[Row, ...], look: Look) -> tuple[Row, ...]:
    """Rows as an `ETag` has them: in place of the times until something, when that is."""
    now = look.reading.context.wall + look.age

    def then(seconds: float | None) -> int | None:
        return None if seconds is None else round(now + seconds)

    return tuple(
        row._replace(
            since=None if row.since is None else round(row.since),
            retry_after=then(row.retry_after),
            reverts_in=then(row.reverts_in),
        )
        for row in rows
    )
