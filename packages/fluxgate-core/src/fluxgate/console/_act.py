"""Controls: what each would do, who may use it, and its use, each attempt of which is audited."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qsl

from fluxgate._controls import MAX_NOTE
from fluxgate._values import MAX_SECONDS
from fluxgate.console._access import is_same_origin
from fluxgate.console._audit import NOBODY, Audit
from fluxgate.console._claims import Claim, Claims
from fluxgate.console._exchange import Actor, Request
from fluxgate.console._history import worst
from fluxgate.console._markup import rate as rate_in_words
from fluxgate.console._names import shown
from fluxgate.console._reading import Item, Reading
from fluxgate.console._tokens import OPERATION, Tokens
from fluxgate.console._view import Action, Entry
from fluxgate.console._words import Words, words
from fluxgate.fleet import Fleet, StoreError
from fluxgate.fleet._by_hand import ACTIONS
from fluxgate.fleet.store import key_of
from fluxgate.state import State

SHORTEST_NOTE: Final = 3
DEFAULT: Final = 900.0
"""Seconds of a control that nobody gave a duration for."""
MAX_BODY: Final = 16 * 1024
"""Bytes of a request's body, at most."""
UNTIMED: Final = "reset"
_IN_ORDER: Final = (*(action for action in ACTIONS if action != UNTIMED), UNTIMED)
TIMEOUT: Final = 2.0
"""Seconds that a control waits for the fleet's store, at most."""

_WORDS: Final = words("en")


class Problem(NamedTuple):
    """Why something was not done.

    Attributes:
        status: the HTTP status.
        key: the sentence, as a key of the words.
        field: the field that it is about; empty: as a whole.
        values: what stands in the sentence.
        outcome: the outcome in the audit.
    """

    status: int
    key: str
    field: str = ""
    values: Mapping[str, str] = {}
    outcome: str = "denied"

    def sentence(self, say: Words) -> str:
        """The sentence in a language."""
        return say(self.key, **self.values)


class Form(NamedTuple):
    """The fields that come with a control.

    Attributes:
        note: why; as it was given.
        seconds: for how long; None: until reset.
        name: the circuit's name, where it had to be typed.
        operation: the id of the operation.
        token: the token.
        problem: why a field can't be used; None if all can.
    """

    note: str = ""
    seconds: float | None = None
    name: str = ""
    operation: str = ""
    token: str = ""
    problem: Problem | None = None


class Outcome(NamedTuple):
    """The outcome of an attempt.

    Attributes:
        entry: as the audit has it.
        form: what was given.
        problem: why it was not done; None if it was, now or before.
    """

    entry: Entry
    form: Form
    problem: Problem | None


class Controls:
    """The controls of a console.

    Args:
        fleet: the fleet that they go to; None: to the breakers of this process.
        audit: hears of every attempt.
        claims: sees to it that an operation is done once.
        tokens: None where a token can't be had, and every front has its own proof.
        enabled: whether there are any.
        single: whether this process is the only one of its service.
        critical: names of circuits that are disabled only by whoever types the name.
        wall: gives seconds since the epoch.
    """

    def __init__(
        self,
        fleet: Fleet | None,
        audit: Audit,
        claims: Claims,
        tokens: Tokens | None,
        *,
        enabled: bool,
        single: bool,
        critical: Collection[str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._audit = audit
        self._claims = claims
        self.tokens = tokens
        self._enabled = enabled
        self._single = single
        # As a fleet has them, which cuts long names.
        self._critical = frozenset(map(key_of, critical))
        self._wall = wall

    # -- what there is

    def why_not(self, actor: Actor) -> Problem | None:
        """Why an actor may not use the controls; None if it may."""
        if not self._enabled:
            return Problem(403, "why_off")
        if not actor.control:
            return Problem(403, "why_view", values={"actor": shown(actor.name)})
        if self._fleet is None and not self._single:
            return Problem(403, "why_single")
        return None

    def actions(self, item: Item, reading: Reading, actor: Actor, say: Words) -> tuple[Action, ...]:
        """The controls of a circuit, those that this actor may not use included."""
        problem = self.why_not(actor)
        why_not = None if problem is None else problem.sentence(say)
        return tuple(
            Action(
                action=action,
                effect=_effect(action, item, reading, say),
                allowed=problem is None,
                why_not=why_not,
                asks_name=self._asks_name(action, item),
                timed=action != UNTIMED,
            )
            for action in _IN_ORDER
        )

    def _asks_name(self, action: str, item: Item) -> bool:
        return action == "disable" and key_of(item.name) in self._critical

    # -- their use

    def use(
        self,
        request: Request,
        actor: Actor | None,
        circuit: str,
        item: Item | None,
        action: str,
        unread: str | None = None,
    ) -> Outcome:
        """Use a control, if that is allowed; audited in any case.

        Args:
            request: the request.
            actor: who; None: nobody was let in.
            circuit: the circuit's id, as the request has it.
            item: the circuit; None where there is none of that id.
            action: the control.
            unread: why the circuits can't be read; None if they can.
        """
        form = Form() if actor is None else read_form(request)
        problem = self._refusal(request, actor, circuit, item, action, form)
        before = None if item is None else item.state
        if problem is None and unread is not None:
            problem = Problem(503, "problem_store", values={"why": unread}, outcome="failed")
        gone = item is None or (self._fleet is None and not item.breakers)
        if problem is None and gone:
            problem = Problem(404, "no_circuit", outcome="invalid")
        if problem is None and item is not None:
            problem = form.problem or self._unfit(item, action, form)
        after, repeated, claimed = None, False, False
        if problem is None and actor is not None and item is not None:
            try:
                claim = self._claims.claim(form.operation, actor.name)
                repeated, claimed = claim is Claim.REPEATED, claim is Claim.WON
                if claim is Claim.SOON:
                    problem = Problem(429, "problem_soon")
                elif claim is Claim.UNCERTAIN:
                    problem = Problem(409, "problem_uncertain", outcome="failed")
                elif claimed:
                    after = self._set(item, action, form, actor)
            except StoreError as error:
                why = {"why": shown(str(error))}
                problem = Problem(503, "problem_store", values=why, outcome="failed")
        outcome = "repeated" if repeated else "done" if problem is None else problem.outcome
        entry = Entry(
            at=self._wall(),
            actor=NOBODY if actor is None else shown(actor.name),
            address=None if request.peer is None else shown(request.peer),
            circuit="" if item is None else shown(item.name),
            id=shown(circuit),
            action=shown(action),
            seconds=form.seconds if action != UNTIMED else None,
            note=shown(form.note) or None,
            before=before,
            after=after,
            outcome=outcome,
            why=None if problem is None else problem.sentence(_WORDS),
            operation=shown(form.operation) or None,
        )
        self._audit.note(entry)
        if claimed:
            # Else it is done, and logged; the other processes won't show who did it.
            with suppress(StoreError):
                self._claims.note(entry)
        return Outcome(entry, form, problem)

    def _refusal(
        self,
        request: Request,
        actor: Actor | None,
        circuit: str,
        item: Item | None,
        action: str,
        form: Form,
    ) -> Problem | None:
        """Why a request is refused, whatever it asks for; None if it isn't."""
        if actor is None:
            return Problem(403, "not_let_in")
        if request.method != "POST":
            return Problem(405, "no_method")
        if not (request.trusted or is_same_origin(request)):
            return Problem(403, "problem_origin")
        if (problem := self.why_not(actor)) is not None:
            return problem
        if action not in ACTIONS:
            return Problem(404, "no_page", outcome="invalid")
        if form.problem is not None and not form.operation:
            return form.problem
        good = OPERATION.fullmatch(form.operation)
        if not good or not (request.trusted or self._is_signed(actor, circuit, action, form)):
            return Problem(403, "problem_token")
        return None

    def _is_signed(self, actor: Actor, circuit: str, action: str, form: Form) -> bool:
        tokens = self.tokens
        return tokens is not None and tokens.check(
            form.token, actor.name, circuit, action, form.operation
        )

    def _unfit(self, item: Item, action: str, form: Form) -> Problem | None:
        """Why a control can't be used as it was asked for; None if it can."""
        if not SHORTEST_NOTE <= len(form.note) <= MAX_NOTE:
            return Problem(422, "problem_note", "note", outcome="invalid")
        if action == "open_for" and form.seconds is None:
            return Problem(422, "problem_open_for", "seconds", outcome="invalid")
        if self._asks_name(action, item) and form.name not in (item.name, shown(item.name)):
            return Problem(422, "problem_name", "name", outcome="invalid")
        return None

    def _set(self, item: Item, action: str, form: Form, actor: Actor) -> State:
        """Do it; the state after. May raise `StoreError`."""
        said: dict[str, Any] = {"note": form.note, "by": actor.name.strip() or None}
        if action != UNTIMED:
            said["seconds"] = form.seconds
        if self._fleet is not None:
            return self._fleet.control(item.name, action, **said, timeout=TIMEOUT).state
        breakers = item.breakers
        for breaker in breakers:
            getattr(breaker, action)(**said)
        return worst(breaker.state for breaker in breakers)


def _effect(action: str, item: Item, reading: Reading, say: Words) -> str:
    row = reading.row(item)
    where = say("where_here") if row.processes is None else say("where_fleet", n=row.processes)
    rates = [rate for rate in (row.calls_rate, row.refused_rate) if rate is not None]
    calls = sum(rates)
    key = f"effect_{action}"
    if action in ("open_for", "force_open"):
        if calls < 0.05:
            return say(f"{key}_all", where=where)
        return say(key, rate=rate_in_words(calls), where=where)
    return say(key, where=where)


def read_form(request: Request) -> Form:
    """The fields of a control, of a form or of JSON; never raises."""
    if _is_long(request):
        return Form(problem=Problem(413, "problem_long", outcome="invalid"))
    fields = _fields(request)
    if fields is None:
        return Form(problem=Problem(400, "problem_body", outcome="invalid"))
    texts = {name: fields.get(name, "") for name in ("note", "name", "operation", "token")}
    if not all(isinstance(text, str) for text in texts.values()):
        return Form(problem=Problem(400, "problem_body", outcome="invalid"))
    texts["note"] = " ".join(texts["note"].split())
    seconds, problem = _seconds(fields)
    return Form(**texts, seconds=seconds, problem=problem)


def _is_long(request: Request) -> bool:
    """Whether a body is longer than any that is read; a front hands on as much as shows that."""
    length = request.headers.get("content-length", "0")
    said = length.isascii() and length.isdecimal()
    return len(request.body) > MAX_BODY or (said and (len(length) > 9 or int(length) > MAX_BODY))


def _fields(request: Request) -> dict[str, Any] | None:
    if not request.headers.get("content-length", "0").isdecimal():
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = request.body.decode()
        if kind == "application/json":
            found: object = json.loads(text)
            return cast("dict[str, Any]", found) if isinstance(found, dict) else None
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=50))
    except (ValueError, RecursionError):
        pass
    return None


def _seconds(fields: Mapping[str, Any]) -> tuple[float | None, Problem | None]:
    """The duration: the default where none is given, until reset where that is said."""
    given = fields.get("seconds", DEFAULT)
    if given is None or given == "":
        return None, None
    bad = Problem(422, "problem_seconds", "seconds", outcome="invalid")
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        return DEFAULT, bad
    try:
        seconds = float(given)
    except (ValueError, OverflowError):
        return DEFAULT, bad
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        return DEFAULT, bad
    return seconds, None
