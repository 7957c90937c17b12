"""Fluxgate for httpx2: every name that `fluxgate_httpx` has, with httpx2's types.

client = httpx2.Client(transport=CircuitBreakerTransport(httpx2.HTTPTransport(http2=True)))
"""

from __future__ import annotations

from typing import TypeVar, Unpack

try:
    import httpx2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("needs httpx2: pip install 'fluxgate-httpx[httpx2]'") from error

from fluxgate.registry import Registry
from fluxgate_httpx import (
    FAILING_STATUSES,
    HTTPPolicy,
    _bodies,
    _guard,
    _library,
    _protect,
    _transports,
    by_host,
    by_origin,
)

__all__ = [
    "FAILING_STATUSES",
    "AsyncCircuitBreakerTransport",
    "CircuitBreakerTransport",
    "CircuitOpenError",
    "HTTPPolicy",
    "by_host",
    "by_origin",
    "protect",
    "registry_of",
]

C = TypeVar("C", httpx2.Client, httpx2.AsyncClient)


class CircuitOpenError(_library.Refusal, httpx2.TransportError):
    """A circuit refused the request: it was not sent. An `httpx2.TransportError`."""


_LIBRARY = _library.library_of(httpx2, CircuitOpenError, home=__name__)


class _Body(_bodies.SyncBody, httpx2.SyncByteStream):
    pass


class _AsyncBody(_bodies.AsyncBody, httpx2.AsyncByteStream):
    pass


class _Upload(_bodies.RequestBody, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    pass


class CircuitBreakerTransport(
    _transports.SyncTransportBase[httpx2.BaseTransport, httpx2.Request, httpx2.Response],
    httpx2.BaseTransport,
):
    """A transport for `httpx2.Client` that sends a request if its host's circuit permits it."""

    _library, _body, _upload = _LIBRARY, _Body, _Upload


class AsyncCircuitBreakerTransport(
    _transports.AsyncTransportBase[httpx2.AsyncBaseTransport, httpx2.Request, httpx2.Response],
    httpx2.AsyncBaseTransport,
):
    """A transport for `httpx2.AsyncClient` that sends a request if its circuit permits it."""

    _library, _body, _upload = _LIBRARY, _AsyncBody, _Upload


def protect(client: C, **options: Unpack[_guard.Options]) -> C:
    """Protect every call of an `httpx2.Client` or `httpx2.AsyncClient`, and return it.

    As `fluxgate_httpx.protect`.

    Args:
        client: the client.
        options: the keyword arguments of `CircuitBreakerTransport`.

    Raises:
        TypeError: it is no client of httpx2, or an argument is of the wrong kind.
    """
    kinds = CircuitBreakerTransport, AsyncCircuitBreakerTransport
    _protect.protected(client, _LIBRARY, *kinds, **options)
    return client


def registry_of(client: httpx2.Client | httpx2.AsyncClient) -> Registry:
    """The circuits of a protected client, by key.

    Args:
        client: a client that `protect` returned, or that was made with one of these transports.

    Raises:
        TypeError: it is no client of httpx2, or not protected.
    """
    return _protect.registry_in(client, _LIBRARY)
