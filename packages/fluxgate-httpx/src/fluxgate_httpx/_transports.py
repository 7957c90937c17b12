"""The transports' base classes, sync and async, for whichever library they are then bound to.

`fluxgate_httpx` derives those for httpx from them, `fluxgate_httpx.httpx2` those for httpx2. A
transport calls the one that it wraps, and wraps the stream of a body that is still to come; every
decision is the guard's.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar

from fluxgate import Attempt, CallNotPermittedError
from fluxgate.integration import enter, leave
from fluxgate.registry import Registry
from fluxgate_httpx._bodies import AsyncBody, RequestBody, SyncBody
from fluxgate_httpx._extension import HealthyExtensions
from fluxgate_httpx._guard import EXTENSION, Admitted, Guard, Moment
from fluxgate_httpx._key import KeyFunction, bounded, by_host
from fluxgate_httpx._library import Library, wrong_kind
from fluxgate_httpx._policy import DEFAULT_POLICY, HTTPPolicy
from fluxgate_httpx._registry import CircuitSource

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet

Wrapped = TypeVar("Wrapped")
Request = TypeVar("Request")
Response = TypeVar("Response")


class WrongClientError(TypeError, AttributeError):
    """A transport is in a client of the other kind. For `hasattr`, the name isn't there."""


class MethodOfOtherKind:
    """A method of the other kind of transport: looking it up raises an error with the remedy.

    A descriptor, since a class with `__getattr__` finds all its other attributes slowly.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __get__(self, transport: object, kind: object = None) -> NoReturn:
        raise WrongClientError(self._advice)


class TransportBase(Generic[Wrapped]):
    """The sync and the async transport have this in common."""

    _library: ClassVar[Library]
    _body: ClassVar[type[SyncBody | AsyncBody]]
    _upload: ClassVar[type[RequestBody]]
    _wraps: ClassVar[str]
    _default: ClassVar[str]
    _wrong: ClassVar[dict[str, str]]

    def __init__(
        self,
        wrapped: Wrapped | None = None,
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
        """Wrap a transport.

        Args:
            wrapped: the transport that makes the calls; the library's own by default.
            key: which circuit a URL belongs to: `by_host`, `by_origin`, or a function of the URL;
                None from it means that the request is not protected.
            policy: which answers are failures, and whether to respect `Retry-After`.
            circuits: where circuits come from: a function of the key that makes a breaker (sync
                or async, the same circuit is under both), a mapping of hosts and patterns such
                as `*.internal` to settings, a `Config`, or the path of a TOML file.
            registry: the circuits, to share them with other transports; instead of `circuits`.
            settle: when a call is over that answered well: `"body"`, when all of it is there, or
                `"headers"`. Upgrades are always settled by their headers.
            slow: the time by which a call is slow: to the `"headers"`, or to the end of
                the `"body"`.
            on_open: called with the `CircuitOpenError` in place of raising it; returns a new
                response each time (an async transport awaits what has to be awaited).
            max_hosts: how many circuits to keep, 1024 by default; idle ones go first, never one
                that is open or was set by hand.
            fleet: what shares the circuits with other processes: a `fluxgate.fleet.Fleet`, or a
                URL.

        Raises:
            TypeError: an argument is of the wrong kind; the message says what to use.
            ValueError: an argument makes no sense (`ConfigError` for settings).
        """
        if wrapped is None:
            wrapped = getattr(self._library.module, self._default)()
        guard = Guard(
            self._library.errors,
            key=key,
            policy=policy,
            circuits=circuits,
            registry=registry,
            settle=settle,
            slow=slow,
            on_open=on_open,
            max_hosts=max_hosts,
            fleet=fleet,
        )
        self._set_up(wrapped, guard)

    def _set_up(self, wrapped: Any, guard: Guard) -> None:
        module = self._library.module
        if not isinstance(wrapped, getattr(module, self._wraps)):
            raise wrong_kind(self._library, type(self).__name__, self._wraps, wrapped, self._wrong)
        self._wrapped: Wrapped = wrapped
        self._guard = guard
        self._closed = False
        self._request_type: type[Any] = module.Request
        self._plain: type[Any] = module.ByteStream
        self._special = guard.policy.special_statuses
        self._healthy = HealthyExtensions()

    @classmethod
    def _with_guard(cls, wrapped: object, guard: Guard) -> Self:
        """A transport around `wrapped` with a guard that others have, too."""
        transport = cls.__new__(cls)
        transport._set_up(wrapped, guard)
        return transport

    @property
    def wrapped(self) -> Wrapped:
        """The transport that makes the calls."""
        return self._wrapped

    @property
    def registry(self) -> Registry:
        """The circuits, by key."""
        return self._guard.registry

    def _watched_upload(self, request: Any) -> RequestBody:
        """The request's body, put into its place so that it notes an error of the caller's code."""
        upload = self._upload(request.stream)
        request.stream = upload
        return upload

    def _answered(self, call: Admitted, request: Any, response: Any) -> None:
        """Settle a call by its response's headers, or see to it that the body's end does it."""
        key, entered, _ = call
        probe = isinstance(entered, Attempt) and entered.probe
        response.extensions[EXTENSION] = {"key": key, "probe": probe, "refused": False}
        whole: bool = response.is_closed  # it brought its whole body along
        settlement = self._guard.answered(call, request.method, response, whole=whole)
        if settlement is not None:
            response.stream = self._body(response.stream, settlement)

    def _substituted(self, refusal: CallNotPermittedError, response: Any) -> Any:
        """The response that `on_open` returned, checked."""
        expected = self._library.module.Response
        if not isinstance(response, expected):
            raise TypeError(
                f"on_open={self._guard.on_open!r} must return an {expected.__module__}.Response, "
                f"not {response!r}; let it raise the refusal where it has no answer"
            )
        substitute: Any = response
        substitute.extensions[EXTENSION] = {"key": refusal.name, "probe": False, "refused": True}
        return substitute

    def _foreign(self, request: object) -> TypeError:
        return wrong_kind(self._library, type(self).__name__, "Request", request, {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self._wrapped!r}: {self.registry!r}>"


class SyncTransportBase(TransportBase[Wrapped], Generic[Wrapped, Request, Response]):
    """A sync transport around another."""

    _wraps = "BaseTransport"
    _default = "HTTPTransport"
    if not TYPE_CHECKING:
        __aenter__ = aclose = handle_async_request = MethodOfOtherKind(
            "this transport is sync: an AsyncClient takes AsyncCircuitBreakerTransport"
        )
    _wrong: ClassVar[dict[str, str]] = {
        "AsyncBaseTransport": "is async: use AsyncCircuitBreakerTransport",
        "Client": "is a client: use protect(client)",
        "AsyncClient": "is a client: use protect(client)",
    }

    def handle_request(self, request: Request) -> Response:
        """Send a request if its circuit permits it.

        Raises:
            CircuitOpenError: the circuit refuses it, and there is no `on_open`.
        """
        asked: Any = request
        if not isinstance(asked, self._request_type):
            raise self._foreign(request)
        guard = self._guard
        self._closed = False
        key: Any
        try:
            # `guard.admit`, spelled out: one more function call would be a tenth of what we cost.
            own = asked.extensions.get(EXTENSION)
            if own is None:
                key, settle = guard.key(asked.url), guard.settle
            else:
                key, settle = guard.choose(own, asked.url)
            entered = enter(guard.registry, key) or guard.attempt(asked, key)
        except CallNotPermittedError as refusal:
            if guard.on_open is None:
                raise
            substitute: Response = self._substituted(refusal, guard.on_open(refusal))
            return substitute
        transport: Any = self._wrapped
        response: Response
        if entered is None:
            response = transport.handle_request(request)
            return response
        # Bytes in memory raise nothing; any other body runs code of the caller's.
        upload = None if type(asked.stream) is self._plain else self._watched_upload(asked)
        try:
            response = transport.handle_request(request)
        except BaseException as error:
            guard.raised(entered, error, upload)
            raise
        finally:
            if upload is not None:
                upload.restore(asked)
        answer: Any = response
        # So is the commonest end.
        if type(entered) is tuple and answer.is_closed and answer.status_code not in self._special:
            answer.extensions[EXTENSION] = self._healthy[key]
            leave(entered, answer)
        else:
            self._answered((bounded(key), entered, settle), asked, answer)
        return response

    def close(self) -> None:
        """Close the wrapped transport, unless that was done and it has not been used since."""
        if not self._closed:
            self._closed = True
            transport: Any = self._wrapped
            transport.close()

    def __enter__(self) -> Self:
        self._closed = False
        transport: Any = self._wrapped
        transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if not self._closed:
            self._closed = True
            transport: Any = self._wrapped
            transport.__exit__(exc_type, exc_value, traceback)


class AsyncTransportBase(TransportBase[Wrapped], Generic[Wrapped, Request, Response]):
    """An async transport around another."""

    _wraps = "AsyncBaseTransport"
    _default = "AsyncHTTPTransport"
    if not TYPE_CHECKING:
        __enter__ = close = handle_request = MethodOfOtherKind(
            "this transport is async: a Client takes CircuitBreakerTransport"
        )
    _wrong: ClassVar[dict[str, str]] = {
        "BaseTransport": "is sync: use CircuitBreakerTransport",
        "Client": "is a client: use protect(client)",
        "AsyncClient": "is a client: use protect(client)",
    }

    async def handle_async_request(self, request: Request) -> Response:
        """Send a request if its circuit permits it.

        Raises:
            CircuitOpenError: the circuit refuses it, and there is no `on_open`.
        """
        asked: Any = request
        if not isinstance(asked, self._request_type):
            raise self._foreign(request)
        guard = self._guard
        self._closed = False
        key: Any
        try:
            # `guard.admit`, spelled out: one more function call would be a tenth of what we cost.
            own = asked.extensions.get(EXTENSION)
            if own is None:
                key, settle = guard.key(asked.url), guard.settle
            else:
                key, settle = guard.choose(own, asked.url)
            entered = enter(guard.registry, key) or guard.attempt(asked, key)
        except CallNotPermittedError as refusal:
            if guard.on_open is None:
                raise
            given = guard.on_open(refusal)
            given = await given if isawaitable(given) else given
            substitute: Response = self._substituted(refusal, given)
            return substitute
        transport: Any = self._wrapped
        response: Response
        if entered is None:
            response = await transport.handle_async_request(request)
            return response
        # Bytes in memory raise nothing; any other body runs code of the caller's.
        upload = None if type(asked.stream) is self._plain else self._watched_upload(asked)
        try:
            response = await transport.handle_async_request(request)
        except BaseException as error:
            guard.raised(entered, error, upload)
            raise
        finally:
            if upload is not None:
                upload.restore(asked)
        answer: Any = response
        # So is the commonest end.
        if type(entered) is tuple and answer.is_closed and answer.status_code not in self._special:
            answer.extensions[EXTENSION] = self._healthy[key]
            leave(entered, answer)
        else:
            self._answered((bounded(key), entered, settle), asked, answer)
        return response

    async def aclose(self) -> None:
        """Close the wrapped transport, unless that was done and it has not been used since."""
        if not self._closed:
            self._closed = True
            transport: Any = self._wrapped
            await transport.aclose()

    async def __aenter__(self) -> Self:
        self._closed = False
        transport: Any = self._wrapped
        await transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if not self._closed:
            self._closed = True
            transport: Any = self._wrapped
            await transport.__aexit__(exc_type, exc_value, traceback)
