"""The one logic behind every transport: choose the circuit, admit, settle.

Nothing here waits or does I/O, so sync and async transports share it as it is: settling is a
plain call, which a cancelled scope can't interrupt.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict, cast

from fluxgate import Attempt, CallNotPermittedError
from fluxgate.integration import Ticket, attempt_of, enter
from fluxgate.registry import Registry
from fluxgate_httpx._key import KeyFunction, bounded, by_host
from fluxgate_httpx._policy import DEFAULT_POLICY, HTTPPolicy
from fluxgate_httpx._registry import CircuitSource, registry_for

Moment: TypeAlias = Literal["body", "headers"]
"""When: at the end of the body, or as soon as the headers are in."""

EXTENSION: Final = "fluxgate"
"""The key of our extension in requests and responses."""
_MOMENTS: Final = ("body", "headers")
_NO_BODY: Final = frozenset({101, 204, 304})
"""Nothing comes after these headers, or (101) another protocol."""

Admitted: TypeAlias = tuple[str, Ticket | Attempt, Moment]
"""A request that its circuit let in: its key, how it got in, and when to settle. A plain tuple, the
cheapest there is."""


class ErrorTypes(NamedTuple):
    """The exceptions of an HTTP library, and what they say about the dependency.

    Attributes:
        refusal: what to raise when a circuit refuses: called with the arguments of a
            `CallNotPermittedError` and `request=`.
        failures: the exceptions that tell of a dependency, or of the way to it.
        neutral: those among them that tell of the request alone.
        pool: a pool time-out: the request was not sent.
    """

    refusal: Callable[..., CallNotPermittedError]
    failures: tuple[type[Exception], ...]
    neutral: tuple[type[Exception], ...]
    pool: type[Exception]


class Options(TypedDict, total=False):
    """The keyword arguments of every transport."""

    key: KeyFunction
    policy: HTTPPolicy
    circuits: CircuitSource | None
    registry: Registry | None
    settle: Moment
    slow: Moment
    on_open: Callable[[Any], Any] | None
    max_hosts: int | None


class Guard:
    """A transport's settings, and what it does with each request and response.

    One guard may serve several transports, which then share everything.
    """

    __slots__ = ("errors", "key", "neutral", "on_open", "policy", "registry", "settle", "slow")

    def __init__(
        self,
        errors: ErrorTypes,
        *,
        key: KeyFunction = by_host,
        policy: HTTPPolicy = DEFAULT_POLICY,
        circuits: CircuitSource | None = None,
        registry: Registry | None = None,
        settle: Moment = "body",
        slow: Moment = "headers",
        on_open: Callable[[Any], Any] | None = None,
        max_hosts: int | None = None,
    ) -> None:
        if not callable(key):
            raise TypeError(
                f"key= takes a function of the URL, such as by_host, not {key!r}; "
                'for one request, use extensions={"fluxgate": {"key": ...}}'
            )
        if not isinstance(policy, HTTPPolicy):
            raise TypeError(
                f"policy= takes an HTTPPolicy, not {policy!r}; "
                "what a circuit does with failures is set by circuits= or registry="
            )
        for name, moment in (("settle", settle), ("slow", slow)):
            if moment not in _MOMENTS:
                raise ValueError(f'{name} must be "body" or "headers", not {moment!r}')
        if on_open is not None and not callable(on_open):
            raise TypeError(
                f"on_open= takes a function of the refusal that returns a response, not {on_open!r}"
            )
        self.errors = errors
        self.key = key
        self.policy = policy
        self.neutral = (*errors.neutral, *policy.neutral_errors)
        self.registry = registry_for(circuits, registry, max_hosts)
        self.settle: Moment = settle
        self.slow = slow
        self.on_open = on_open

    # -- before the request

    def admit(self, request: Any, url: Any, own: object = None) -> Admitted | None:
        """Let a request in through its circuit; None where it isn't protected.

        Args:
            request: what a refusal names.
            url: where it goes.
            own: what the request's extension says, if it has one.

        Raises:
            CallNotPermittedError: the circuit refuses it; the library's own kind of that.
        """
        settle: Moment = self.settle
        if own is None:
            key_of = self.key
            key = key_of(url)
        else:
            key, settle = self._asked(own, url)
        # First the way that nearly every request takes; what may be wrong with a key comes after.
        try:
            ticket = enter(self.registry, key)  # type: ignore[arg-type]
        except TypeError:  # can't be hashed
            ticket = None
        if ticket is not None:
            return key, ticket, settle  # type: ignore[return-value]
        if key is None:
            return None
        if not isinstance(key, str) or not key:
            raise TypeError(f"a key is a string that is not empty, or None: not {key!r}")
        key = bounded(key)
        try:
            return key, self.registry[key].attempt(), settle
        except CallNotPermittedError as refusal:
            arguments = refusal.args
        raise self.errors.refusal(*arguments, request=request)

    def _asked(self, own: object, url: Any) -> tuple[str | None, Moment]:
        """What a single request's extension says."""
        if not isinstance(own, Mapping) or not own.keys() <= {"key", "settle"}:
            raise TypeError(
                f'extensions["{EXTENSION}"] takes a mapping such as {{"key": "billing"}} '
                f'or {{"settle": "headers"}}, not {own!r}'
            )
        asked = cast("Mapping[str, Any]", own)
        settle: Moment = asked.get("settle", self.settle)
        if settle not in _MOMENTS:
            raise TypeError(f'extensions["{EXTENSION}"]: settle is "body" or "headers"')
        return (asked["key"] if "key" in asked else self.key(url)), settle

    # -- after it

    def raised(self, entered: Ticket | Attempt, error: BaseException) -> None:
        """Settle a call that ended with `error`."""
        attempt = entered if isinstance(entered, Attempt) else attempt_of(entered)
        told: BaseException | None = error
        if isinstance(error, ExceptionGroup):
            group = cast("ExceptionGroup[Exception]", error)
            told = group.subgroup(lambda leaf: self._tells(leaf, attempt.probe))
        elif isinstance(error, Exception) and not self._tells(error, attempt.probe):
            told = None
        if told is None:
            attempt.ignore()
        else:
            attempt.raised(told)

    def _tells(self, error: BaseException, probe: bool) -> bool:
        """Whether an error tells of the dependency."""
        errors = self.errors
        return (
            isinstance(error, errors.failures)
            and not isinstance(error, self.neutral)
            and not (probe and isinstance(error, errors.pool))
        )

    def answered(
        self, call: Admitted, method: str, response: Any, *, whole: bool
    ) -> Settlement | None:
        """Settle a call by its response's headers; or what is to hear of its body's end.

        Args:
            call: what `admit` gave.
            method: the request's, in upper case.
            response: with `status_code` and `headers`.
            whole: whether its body is there already.
        """
        key, entered, settle = call
        attempt = entered if isinstance(entered, Attempt) else attempt_of(entered)
        policy, settlement = self.policy, None
        status: int = response.status_code
        if status in policy.statuses:
            attempt.fail(f"HTTP {status}")
        elif status in policy.neutral_statuses:
            attempt.ignore()
        elif whole or settle == "headers" or _no_end(method, status, response.headers):
            attempt.returned(response)
        else:
            settlement = Settlement(self, attempt, response)
        if status in policy.retry_after_statuses:
            seconds = policy.retry_after_seconds(response.headers)
            if seconds is not None:
                self.registry[key].open_for(seconds)
        return settlement


def _no_end(method: str, status: int, headers: Mapping[str, str]) -> bool:
    """Whether there is no body's end to wait for: there is no body, or it may go on for ever."""
    return (
        method == "HEAD"
        or status in _NO_BODY
        or headers.get("content-length") == "0"
        or headers.get("content-type", "")[:17].lower() == "text/event-stream"
    )


class Settlement:
    """The end of a call whose body is still to come: whatever comes first settles it."""

    __slots__ = ("_attempt", "_elapsed", "_guard", "_response")

    def __init__(self, guard: Guard, attempt: Attempt, response: Any) -> None:
        self._guard = guard
        self._attempt = attempt
        self._elapsed = attempt.elapsed if guard.slow == "headers" else None
        # Not the response itself, which holds us: one that is dropped must be found unused at
        # once, not by the garbage collector some day.
        self._response = weakref.ref(response)

    def ended(self) -> None:
        """The body is there, all of it."""
        self._attempt.returned(self._response(), self._elapsed)

    def left(self) -> None:
        """The caller wants no more of it: good enough for a call, no proof from a probe."""
        if self._attempt.probe:
            self._attempt.ignore()
        elif not self._attempt.settled:
            self.ended()

    def raised(self, error: BaseException) -> None:
        """The body broke off."""
        self._guard.raised(self._attempt, error)
