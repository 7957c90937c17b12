"""The decisions behind every transport: choose a circuit, admit, settle by status or error.

Nothing here waits or does I/O, so sync and async transports share it as it is: settling is a
plain call, which a cancelled scope can't interrupt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypedDict, cast

from fluxgate import Attempt, CallNotPermittedError
from fluxgate.integration import Ticket, attempt_of, enter
from fluxgate.registry import Registry
from fluxgate_httpx._blame import causes, is_local, is_violation
from fluxgate_httpx._key import KeyFunction, bounded, by_host
from fluxgate_httpx._policy import DEFAULT_POLICY, HTTPPolicy
from fluxgate_httpx._registry import CircuitSource, registry_for
from fluxgate_httpx._settlement import Settlement, Upload

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet

Moment: TypeAlias = Literal["body", "headers"]
"""When: at the end of the body, or as soon as the headers are in."""

EXTENSION: Final = "fluxgate"
"""The key of our extension in requests and responses."""
_MOMENTS: Final = ("body", "headers")
_NO_BODY: Final = frozenset({101, 204, 304})
"""Nothing comes after these headers, or (101) another protocol."""
_EVENTS: Final = "text/event-stream"

Admitted: TypeAlias = tuple[str, Ticket | Attempt, Moment]
"""A request that its circuit let in: its key, how it got in, and when to settle. A plain tuple, the
cheapest there is."""


class ErrorTypes(NamedTuple):
    """The exceptions of an HTTP library, and what they say about the dependency.

    Attributes:
        refusal: what to raise when a circuit refuses: called with the arguments of a
            `CallNotPermittedError` and `request=`.
        failures: the exceptions that speak of the dependency, or of the way to it.
        neutral: those among them that say nothing about it: the request could not be sent as
            written, or the client's own pool had no connection for it.
        status_of: the status that an exception stands for; None for the other exceptions.
    """

    refusal: Callable[..., CallNotPermittedError]
    failures: tuple[type[Exception], ...]
    neutral: tuple[type[Exception], ...]
    status_of: Callable[[BaseException], int | None]


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
    fleet: Fleet | str | None


class Guard:
    """A transport's settings, and what it does with each request and response.

    One guard may serve several transports, which then share everything.
    """

    __slots__ = ("errors", "key", "on_open", "policy", "registry", "settle", "slow")

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
        fleet: Fleet | str | None = None,
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
        self.registry = registry_for(circuits, registry, max_hosts, key, fleet)
        self.settle: Moment = settle
        self.slow = slow
        self.on_open = on_open

    # -- before the request

    def admit(self, request: Any, url: Any, own: object = None) -> Admitted | None:
        """Let a request in through its circuit; None where it isn't protected.

        Args:
            request: what a refusal names.
            url: where it goes.
            own: the request's extension, if it has one.

        Raises:
            CallNotPermittedError: the circuit refuses it; the library's own kind of that.
        """
        key: Any
        key, settle = (self.key(url), self.settle) if own is None else self.choose(own, url)
        entered = enter(self.registry, key) or self.attempt(request, key)
        return None if entered is None else (bounded(key), entered, settle)

    def choose(self, own: object, url: Any) -> tuple[str | None, Moment]:
        """The key and the moment that a single request's extension asks for."""
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

    def attempt(self, request: Any, key: object) -> Attempt | None:
        """An attempt of a circuit whose lane let nobody in; None where the key is None.

        Raises:
            CallNotPermittedError: as of `admit`.
        """
        if key is None:
            return None
        if not isinstance(key, str) or not key:
            raise TypeError(f"a key is a string that is not empty, or None: not {key!r}")
        try:
            return self.registry[bounded(key)].attempt()
        except CallNotPermittedError as refusal:
            arguments = refusal.args
        raise self.errors.refusal(*arguments, request=request)

    # -- after it

    def raised(
        self, entered: Ticket | Attempt, error: BaseException, upload: Upload | None = None
    ) -> None:
        """Settle a call that ended with `error`.

        Args:
            entered: how the call got in.
            error: what it raised.
            upload: the request's body, where it came from the caller's code.
        """
        attempt = entered if isinstance(entered, Attempt) else attempt_of(entered)
        if not isinstance(error, Exception):
            attempt.raised(error)  # cancelled, or interrupted
            return
        if upload is not None and upload.caused(error):
            attempt.ignore()
            return
        status = self.errors.status_of(error)
        if status is not None:
            if not self._settled_by(attempt, status):
                attempt.succeed()
            return
        failure: Exception | None = error
        if isinstance(error, ExceptionGroup):
            group = cast("ExceptionGroup[Exception]", error)
            failure = group.subgroup(lambda leaf: self._is_failure(leaf))
        elif not self._is_failure(error):
            failure = None
        if failure is None:
            attempt.ignore()
        else:
            attempt.raised(failure)

    def _is_failure(self, error: BaseException) -> bool:
        """Whether the dependency is to blame for an error."""
        if isinstance(error, self.policy.neutral_errors):
            return False
        errors = self.errors
        if not isinstance(error, errors.failures):
            return is_violation(error)
        if any(isinstance(each, errors.neutral) for each in causes(error)):
            return is_violation(error)
        return not is_local(error)

    def _settlement(self, key: str, attempt: Attempt, response: Any) -> Settlement:
        """The end of a call whose body is still to come."""
        kind = response.headers.get("content-type", "")
        endless = kind[: len(_EVENTS)].lower() == _EVENTS
        enough = self.registry[key].policy.probe_timeout / 2 if attempt.probe else math.inf
        return Settlement(self, attempt, response, endless=endless, enough=enough)

    def _settled_by(self, attempt: Attempt, status: int) -> bool:
        """Settle by a status that is no plain success; whether it was one."""
        policy = self.policy
        if status in policy.statuses:
            attempt.fail(f"HTTP {status}")
        elif status in policy.neutral_statuses:
            attempt.ignore()
        else:
            return False
        return True

    def answered(
        self, call: Admitted, method: str, response: Any, *, whole: bool
    ) -> Settlement | None:
        """Settle a call by its headers if they decide; else return a `Settlement` for later.

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
        if not self._settled_by(attempt, status):
            if whole or settle == "headers" or _has_no_body(method, status, response.headers):
                attempt.returned(response)
            else:
                settlement = self._settlement(key, attempt, response)
        if status in policy.retry_after_statuses:
            seconds = policy.retry_after_seconds(response.headers)
            if seconds is not None:
                self.registry[key].open_for(seconds)
        return settlement


def _has_no_body(method: str, status: int, headers: Mapping[str, str]) -> bool:
    """Whether nothing comes after the headers, or (101) something that is no body."""
    return method == "HEAD" or status in _NO_BODY or headers.get("content-length") == "0"
