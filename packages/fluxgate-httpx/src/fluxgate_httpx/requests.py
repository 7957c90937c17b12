"""Fluxgate for requests: an adapter with one circuit per host.

    session = protect(requests.Session())
    session.mount("https://api.example.com/", CircuitBreakerAdapter(HTTPAdapter(max_retries=2)))

Keys, `HTTPPolicy`, `Retry-After` and settings are those of the httpx transports; a registry can
be shared with them. requests has no extensions: to give some URLs a key of their own, mount an
adapter for them.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Unpack

try:
    import requests
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("needs requests: pip install 'fluxgate-httpx[requests]'") from error

import urllib3.exceptions
from requests import exceptions
from requests.adapters import BaseAdapter, HTTPAdapter

from fluxgate import CallNotPermittedError
from fluxgate.registry import Registry
from fluxgate_httpx import FAILING_STATUSES, HTTPPolicy, by_host, by_origin
from fluxgate_httpx._blame import causes
from fluxgate_httpx._guard import Admitted, ErrorTypes, Guard, Options
from fluxgate_httpx._library import Refusal
from fluxgate_httpx._urllib3 import upload_of, watch

__all__ = [
    "FAILING_STATUSES",
    "CircuitBreakerAdapter",
    "CircuitOpenError",
    "HTTPPolicy",
    "by_host",
    "by_origin",
    "protect",
    "registry_of",
]


class CircuitOpenError(Refusal, requests.RequestException):
    """A circuit refused the request: it was not sent. A `requests.RequestException`."""


_GIVEN_UP = re.compile(r"too many ([1-5][0-9]{2}) error responses")


def _status_of(error: BaseException) -> int | None:
    """The status over which urllib3 gave up retrying: it is in the message alone."""
    if isinstance(error, exceptions.RetryError):
        for each in causes(error):
            if isinstance(each, urllib3.exceptions.ResponseError):
                found = _GIVEN_UP.search(str(each))
                return None if found is None else int(found[1])
    return None


_ERRORS = ErrorTypes(
    refusal=CircuitOpenError,
    # While a body is read, urllib3's own errors come through.
    failures=(
        requests.ConnectionError,
        requests.Timeout,
        exceptions.ChunkedEncodingError,
        exceptions.RetryError,
        urllib3.exceptions.HTTPError,
        ConnectionError,
        TimeoutError,
    ),
    neutral=(
        exceptions.InvalidHeader,
        exceptions.InvalidURL,
        urllib3.exceptions.DecodeError,
        urllib3.exceptions.LocationValueError,
        urllib3.exceptions.EmptyPoolError,
        urllib3.exceptions.ClosedPoolError,
    ),
    status_of=_status_of,
)


class AdapterOptions(Options, total=False):
    """The keyword arguments of the adapter."""

    max_retries: Any
    pool_connections: int
    pool_maxsize: int
    pool_block: bool


_POOL: Final = ("max_retries", "pool_connections", "pool_maxsize", "pool_block")


class CircuitBreakerAdapter(BaseAdapter):
    """An adapter for `requests.Session` that sends a request if its host's circuit permits it.

    What it has not itself, such as `max_retries` or `poolmanager`, is the wrapped adapter's. It can
    be pickled if its options can: the copy has circuits of its own.

    Args:
        wrapped: the adapter that makes the calls; an `HTTPAdapter` by default. Its own retries
            are one call to the circuit.
        options: those of that `HTTPAdapter`, where none is given (`max_retries`,
            `pool_connections`, `pool_maxsize`, `pool_block`), and the keyword arguments of
            `fluxgate_httpx.CircuitBreakerTransport`; `on_open` returns a `requests.Response`.

    Raises:
        TypeError: an argument is of the wrong kind; the message says what to use.
    """

    _wrapped: BaseAdapter
    _guard: Guard

    def __init__(
        self, wrapped: BaseAdapter | None = None, **options: Unpack[AdapterOptions]
    ) -> None:
        every: dict[str, Any] = {**options}
        pool = {name: every.pop(name) for name in _POOL if name in every}
        if wrapped is None:
            wrapped = HTTPAdapter(**pool)
        elif pool:
            raise TypeError(
                f"{next(iter(pool))}= is the wrapped adapter's: give it to "
                f"{type(wrapped).__name__}(...)"
            )
        self._set_up(wrapped, Guard(_ERRORS, **every))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._wrapped, name)

    def __setattr__(self, name: str, value: object) -> None:
        # As an HTTPAdapter's: a max_retries that nobody reads would be lost without a word.
        ours = name.startswith("_") or hasattr(type(self), name)
        if ours or not hasattr(self._wrapped, name):
            super().__setattr__(name, value)
        else:
            setattr(self._wrapped, name, value)

    def _set_up(self, wrapped: BaseAdapter, guard: Guard) -> None:
        super().__init__()
        if not isinstance(wrapped, BaseAdapter):
            remedy = "; for a session, use protect(session)"
            raise TypeError(
                f"CircuitBreakerAdapter takes an adapter of requests, not {wrapped!r}"
                f"{remedy if isinstance(wrapped, requests.Session) else ''}"
            )
        self._wrapped = wrapped
        self._guard = guard

    @classmethod
    def _with_guard(cls, wrapped: BaseAdapter, guard: Guard) -> CircuitBreakerAdapter:
        adapter = cls.__new__(cls)
        adapter._set_up(wrapped, guard)
        return adapter

    @property
    def wrapped(self) -> BaseAdapter:
        """The adapter that makes the calls."""
        return self._wrapped

    @property
    def registry(self) -> Registry:
        """The circuits, by key."""
        return self._guard.registry

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request if its circuit permits it.

        Raises:
            CircuitOpenError: the circuit refuses it, and there is no `on_open`.
        """
        guard = self._guard
        send: Callable[..., requests.Response] = self._wrapped.send
        options = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        call: Admitted | None
        try:
            call = guard.admit(request, request.url or "")
        except CallNotPermittedError as refusal:
            if guard.on_open is None:
                raise
            return self._substituted(request, guard.on_open(refusal))
        if call is None:
            return send(request, **options)
        body: Any = request.body
        upload: Any = upload_of(body)
        if upload is not None:
            request.body = upload
        try:
            response = send(request, **options)
        except BaseException as error:
            guard.raised(call[1], error, upload)
            raise
        finally:
            if request.body is upload:
                request.body = body  # it may be sent again
        answer: Any = response
        answer.connection = self  # over which digest authentication sends its second request
        method, raw = (request.method or "").upper(), answer.raw
        whole = not hasattr(raw, "stream")
        settlement = guard.answered(call, method, response, whole=whole)
        if settlement is not None and not watch(raw, settlement):
            settlement.ended()  # no response of urllib3's: its end can't be seen
        return response

    def _substituted(
        self, request: requests.PreparedRequest, response: object
    ) -> requests.Response:
        if not isinstance(response, requests.Response):
            raise TypeError(
                f"on_open={self._guard.on_open!r} must return a requests.Response, "
                f"not {response!r}; let it raise the refusal where it has no answer"
            )
        if not response.url:
            response.request = request
            response.url = request.url or ""
        return response

    def close(self) -> None:
        """Close the wrapped adapter."""
        self._wrapped.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self._wrapped!r}: {self.registry!r}>"


class _Adapters(OrderedDict[str, BaseAdapter]):
    """A protected session's adapters: one that is mounted later is protected, too."""

    guard: Guard

    def __setitem__(self, prefix: str, adapter: BaseAdapter) -> None:
        ours = isinstance(adapter, CircuitBreakerAdapter) or not isinstance(adapter, BaseAdapter)
        super().__setitem__(
            prefix, adapter if ours else CircuitBreakerAdapter._with_guard(adapter, self.guard)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _adapters, (self.guard, list(self.items()))


def _adapters(guard: Guard, items: Iterable[tuple[str, BaseAdapter]]) -> _Adapters:
    made = _Adapters()
    made.guard = guard
    for prefix, adapter in items:
        made[prefix] = adapter
    return made


def protect(session: requests.Session, **options: Unpack[Options]) -> requests.Session:
    """Protect every call of a session, and return it.

    Its adapters are wrapped where they are mounted, and share their circuits; so is each that is
    mounted later. What is protected already is left alone.

    Args:
        session: a `requests.Session`.
        options: the keyword arguments of `fluxgate_httpx.CircuitBreakerTransport`.

    Raises:
        TypeError: it is no session of requests, or an argument is of the wrong kind.
    """
    if not isinstance(session, requests.Session):
        raise TypeError(f"protect() of {__name__} takes a requests.Session, not {session!r}")
    adapters: Any = session.adapters
    ours = [each for each in adapters.values() if isinstance(each, CircuitBreakerAdapter)]
    if options or not (ours or isinstance(adapters, _Adapters)):
        guard = Guard(_ERRORS, **options)
    else:
        guard = adapters.guard if isinstance(adapters, _Adapters) else ours[0]._guard
    session.adapters = _adapters(guard, adapters.items())
    return session


def registry_of(session: requests.Session, url: str = "https://") -> Registry:
    """The circuits of a protected session, by key.

    Args:
        session: the session.
        url: whose adapter is meant, where several are mounted that don't share their circuits.

    Raises:
        TypeError: it is no session, or not protected.
    """
    if not isinstance(session, requests.Session):
        raise TypeError(f"registry_of() of {__name__} takes a requests.Session, not {session!r}")
    adapter = session.get_adapter(url)
    if not isinstance(adapter, CircuitBreakerAdapter):
        raise TypeError(f"{session!r} is not protected: use protect(session) first")
    return adapter.registry
