"""The Redis store: Redis from 6.2 on, or Valkey; one server, sentinels or a cluster.

Nothing here retries: the flusher comes again with its next tick, and what may have been counted is
not counted twice. Time-outs are long, since nobody waits for an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha1
from itertools import chain
from typing import Any, Final, NamedTuple

from fluxgate._locks import ProcessLock
from fluxgate._naming import printable
from fluxgate.fleet import _redis_scripts as scripts
from fluxgate.fleet._datagrams import read_hint
from fluxgate.fleet._process import new_name
from fluxgate.fleet._redis_rows import as_bytes, as_text, reports_of, row_of, rows_of, view_of
from fluxgate.fleet._window import write_counts
from fluxgate.fleet.store import (
    LETTERS,
    MAX_REASON,
    MAX_REPORT,
    REPORT_TTL,
    VERSION,
    Exchange,
    Hint,
    Move,
    Report,
    StoreError,
    View,
    key_of,
    name_of,
)

TIMEOUT: Final = 2.0
"""Seconds to wait for a connection or an answer."""
PREFIX: Final = f"fluxgate:{VERSION}:"
CHANNEL: Final = f"{PREFIX}moves"
OLDEST: Final = (6, 2)
"""The oldest Redis whose scripts and ACLs are as they are needed."""
_LONGEST: Final = 400  # characters of an error
_BATCH: Final = 500  # requests in one pipeline
_TOGETHER: Final = 100  # circuits that one script reads: it holds the server up for some 2 ms
_CROSSED: Final = "same slot"  # Keys in request don't hash to it, says whoever has several
_OBJECTS: Final = re.compile(r"<redis\..*>")
"""The repr of a client with all its settings, as sentinels' errors quote it."""

_SHAS: Final = {
    text: sha1(text.encode(), usedforsecurity=False).hexdigest()
    for text in (scripts.EXCHANGE, scripts.MOVE, scripts.READ, scripts.REPORTS)
}


class _TooOld(StoreError):
    """The server has no scripts or ACLs as they are needed."""


class _Call(NamedTuple):
    """A script with its keys and arguments."""

    text: str
    keys: tuple[str, ...]
    arguments: list[Any]


class RedisStore:
    """A `Store` in Redis.

    Args:
        connect: makes a client that has not connected yet, and never retries.
        pipelined: whether the client can send many scripts at once (a cluster's can't).
        secrets: what no message may contain.
    """

    def __init__(
        self, connect: Callable[[], Any], *, pipelined: bool = True, secrets: tuple[str, ...] = ()
    ) -> None:
        self.process = new_name()
        self._connect = connect
        self._pipelined = pipelined
        self._secrets = tuple(secret for secret in secrets if secret)
        self._together = _TOGETHER if pipelined else 1  # a cluster's scripts have one slot
        self._lock = ProcessLock()
        self._begin()

    def _begin(self) -> None:
        self._client: Any = None
        self._listening: Any = None  # the client of the subscription
        self._pubsub: Any = None
        self._woken = self._waiting = False
        self._dropped = False

    # -- the verbs

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        answers = self._run(
            [_Call(scripts.EXCHANGE, _keys(each.name), self._row(each)) for each in requests]
        )
        return [
            answer
            if isinstance(answer, StoreError)
            else view_of(request.name, row_of(answer), request.shape, bool(request.delta.calls))
            for request, answer in zip(requests, answers, strict=True)
        ]

    def move(self, move: Move) -> View:
        row = [
            *(self.process, -1 if move.expected is None else move.expected, move.known),
            *(LETTERS[move.state], -1 if move.remaining is None else move.remaining),
            *(move.reopens, as_bytes(move.reason[:MAX_REASON]), int(move.reassert), move.ttl),
            *(CHANNEL, key_of(move.name)),
        ]
        (answer,) = self._run([_Call(scripts.MOVE, _keys(move.name), row)])
        if isinstance(answer, StoreError):
            raise answer
        return view_of(move.name, row_of(answer))

    def read(self, names: list[str]) -> list[View]:
        views: list[View] = []
        answers = self._read_many(scripts.READ, [_keys(name) for name in names])
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, StoreError):
                raise answer
            views.append(view_of(name, answer))
        return views

    def scan(self) -> list[str]:
        keys = self._do(lambda client: list(client.scan_iter(match=f"{PREFIX}{{*}}", count=1000)))
        begin = len(PREFIX) + 1
        return sorted({name_of(as_text(key)[begin:-1]) for key in keys})

    def reports(self, names: list[str], within: int = REPORT_TTL) -> list[list[Report]]:
        answers = self._read_many(scripts.REPORTS, [_keys(name)[-1:] for name in names])
        return [reports_of(answer, within) for answer in answers]

    def wait(self, timeout: float) -> list[Hint]:
        if self._dropped:
            self._unsubscribe()
        pubsub, self._waiting = self._pubsub, True
        try:
            if self._woken:
                return []
            if pubsub is None:
                self._subscribe()
                return [Hint("")]
            hints = self._hints(pubsub.get_message(timeout=timeout))
            while len(hints) < 1000 and (more := pubsub.get_message(timeout=0.0)) is not None:
                hints += self._hints(more)
            return hints
        except Exception as error:
            self._unsubscribe()
            if self._woken:
                return []
            raise self._translated(error) from None
        finally:
            self._woken = self._waiting = False

    def wake(self) -> None:
        self._woken = True
        self._drop()

    def close(self) -> None:
        with self._lock.here():
            client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()
        self.wake()
        self._unsubscribe()
        self._woken = self._waiting

    def before_fork(self) -> None:
        # A thread that is gone in the child must not leave a lock of redis-py's or of a module
        # that it was importing held there.
        self._lock.here().acquire(timeout=TIMEOUT + 0.5)

    def after_fork_in_parent(self) -> None:
        with suppress(RuntimeError):  # another thread held it all the time
            self._lock.here().release()

    def after_fork_in_child(self) -> None:
        # A connection of redis-py closes nothing but its own descriptor in a child.
        self._begin()
        self.process = new_name()

    # -- rows

    def _row(self, request: Exchange) -> list[Any]:
        shape, delta = request.shape, request.delta
        if request.report is None:
            report = b""
        else:
            said = as_bytes(request.report)[:MAX_REPORT].decode(errors="ignore").encode()
            report = b"+" + said if said else b"-"
        probes = ";".join(f"{token}:{write_counts(counts)}" for token, counts in request.probes)
        return [
            *(request.epoch, self.process, shape.label, shape.width, shape.keep, shape.calls),
            *(write_counts(delta), delta.calls, int(request.witness), request.wants),
            *(request.slots, request.lease, probes, report, request.ttl),
        ]

    # -- the client

    def _read_many(self, script: str, keys: list[tuple[str, ...]]) -> Iterator[Any]:
        """Each circuit as a script reads it, by its keys, or a `StoreError` in its place.

        One after the other: thousands of rows at once are what the garbage collector goes through.
        """
        parts = [keys[n : n + self._together] for n in range(0, len(keys), self._together)]
        calls = [_Call(script, tuple(chain(*part)), []) for part in parts]
        answers = self._answers(calls)
        if self._together > 1 and any(_CROSSED in str(answer) for answer in answers):
            self._together = 1  # a proxy before a cluster
            return self._read_many(script, keys)
        _check(answers)
        return chain.from_iterable(map(rows_of, answers, map(len, parts)))

    def _run(self, calls: list[_Call]) -> list[Any]:
        """The answer of each script, or a `StoreError` in its place; raises where all failed."""
        answers = self._answers(calls)
        _check(answers)
        return answers

    def _answers(self, calls: list[_Call]) -> list[Any]:
        answers: list[Any] = []
        for begin in range(0, len(calls), _BATCH):
            answers += self._do(partial(self._scripts, calls=calls[begin : begin + _BATCH]))
        return answers

    def _scripts(self, client: Any, calls: list[_Call]) -> list[Any]:
        answers = self._pipeline(client, calls)
        missing = [n for n, answer in enumerate(answers) if _is(answer, "NoScriptError")]
        if missing:  # the server has none of ours, or SCRIPT FLUSH removed them
            again = [calls[n] for n in missing]
            for n, answer in zip(missing, self._pipeline(client, again, "EVAL"), strict=True):
                answers[n] = answer
        return [self._translated(a) if isinstance(a, Exception) else a for a in answers]

    def _pipeline(self, client: Any, calls: list[_Call], verb: str = "EVALSHA") -> list[Any]:
        commands = [
            (verb, text if verb == "EVAL" else _SHAS[text], len(keys), *keys, *arguments)
            for text, keys, arguments in calls
        ]
        if self._pipelined:
            with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: list[Any] = pipe.execute(raise_on_error=False)
            return answers
        return [_tried(client, command) for command in commands]

    def _do(self, action: Callable[[Any], Any]) -> Any:
        with self._lock.here():
            try:
                if self._client is None:
                    client = self._client = self._connect()
                    _check_version(client)
                return action(self._client)
            except _TooOld:
                self._hang_up()
                raise
            except StoreError:
                raise
            except Exception as error:
                self._hang_up()
                raise self._translated(error) from None

    def _hang_up(self) -> None:
        """After a failure: the next try begins with a new connection, and a new subscription."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()
        self._drop()

    def _drop(self) -> None:
        """Cut the subscription: whoever waits for it finds it closed, and begins anew."""
        pubsub = self._pubsub
        connection = None if pubsub is None else pubsub.connection
        if connection is not None:
            self._dropped = True
            with suppress(Exception):
                connection.disconnect()

    def _subscribe(self) -> None:
        with self._lock.here():
            self._listening = self._connect()
            pubsub = self._listening.pubsub(ignore_subscribe_messages=True)
            pubsub.subscribe(CHANNEL)
            self._pubsub = pubsub

    def _unsubscribe(self) -> None:
        self._dropped = False
        pubsub, self._pubsub = self._pubsub, None
        listening, self._listening = self._listening, None
        for each in (pubsub, listening):
            if each is not None:
                with suppress(Exception):
                    each.close()

    def _hints(self, message: dict[str, Any] | None) -> list[Hint]:
        if message is None or message.get("type") != "message":
            return []
        data = message.get("data")
        hint = read_hint(data) if isinstance(data, bytes) else None
        return [] if hint is None else [hint]

    def _translated(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        said = _OBJECTS.sub("…", " ".join(str(error).split())) or type(error).__name__
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return StoreError(f"redis: {printable(said, _LONGEST)}")


def _keys(name: str) -> tuple[str, ...]:
    head = f"{PREFIX}{{{key_of(name)}}}"
    return head, f"{head}:s", f"{head}:b", f"{head}:l", f"{head}:p"


def _check(answers: list[Any]) -> None:
    """Raise where all have failed."""
    if answers and all(isinstance(answer, StoreError) for answer in answers):
        raise answers[0]


def _tried(client: Any, command: tuple[Any, ...]) -> Any:
    try:
        return client.execute_command(*command)
    except Exception as error:
        if not _is(error, "ResponseError"):
            raise
        return error


def _is(error: object, kind: str) -> bool:
    """Whether it is an error of redis-py of that kind, which is not imported here."""
    return any(each.__name__ == kind for each in type(error).__mro__)


def _check_version(client: Any) -> None:
    """Raise where the server is too old; one that doesn't say is taken as it is."""
    try:
        said: dict[str, Any] = client.info("server")
    except Exception as error:
        if _is(error, "NoPermissionError"):
            return
        raise
    version = str(said.get("redis_version", ""))
    parts = version.split(".")
    readable = len(parts) >= 2 and all(part.isdecimal() for part in parts[:2])
    if readable and tuple(int(part) for part in parts[:2]) < OLDEST:
        raise _TooOld(
            f"redis: the server is {printable(version)}, and too old: 6.2 or newer is needed"
        )
