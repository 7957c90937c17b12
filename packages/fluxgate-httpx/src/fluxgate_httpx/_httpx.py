"""The transports for httpx. Imported when one of their names is used first."""

from __future__ import annotations

from typing import TypeVar, Unpack

import httpx

from fluxgate.registry import Registry
from fluxgate_httpx import _bodies, _guard, _library, _protect, _transports

C = TypeVar("C", httpx.Client, httpx.AsyncClient)


class CircuitOpenError(_library.Refusal, httpx.TransportError):
    """A circuit refused the request: it was not sent.

    An `httpx.TransportError`, but none of those that retrying libraries retry.
    """

    __module__ = "fluxgate_httpx"


_LIBRARY = _library.library_of(httpx, CircuitOpenError, home="fluxgate_httpx")


class _Body(_bodies.SyncBody, httpx.SyncByteStream):
    pass


class _AsyncBody(_bodies.AsyncBody, httpx.AsyncByteStream):
    pass


class _Upload(_bodies.RequestBody, httpx.SyncByteStream, httpx.AsyncByteStream):
    pass


class CircuitBreakerTransport(
    _transports.SyncTransportBase[httpx.BaseTransport, httpx.Request, httpx.Response],
    httpx.BaseTransport,
):
    """A transport for `httpx.Client` that sends a request if its host's circuit permits it."""

    __module__ = "fluxgate_httpx"
    _library, _body, _upload = _LIBRARY, _Body, _Upload


class AsyncCircuitBreakerTransport(
    _transports.AsyncTransportBase[httpx.AsyncBaseTransport, httpx.Request, httpx.Response],
    httpx.AsyncBaseTransport,
):
    """A transport for `httpx.AsyncClient` that sends a request if its host's circuit permits."""

    __module__ = "fluxgate_httpx"
    _library, _body, _upload = _LIBRARY, _AsyncBody, _Upload


def protect(client: C, **options: Unpack[_guard.Options]) -> C:
    """Protect every call of an `httpx.Client` or `httpx.AsyncClient`, and return it.

    All that it was made with stays: TLS settings, HTTP/2, limits, mounts and proxies, the
    environment's too. Their transports are wrapped where they are, and share their circuits. What
    is protected already is left alone. Do it before the first request.

    Args:
        client: the client.
        options: the keyword arguments of `CircuitBreakerTransport`.

    Raises:
        TypeError: it is no client of httpx, or an argument is of the wrong kind.
    """
    kinds = CircuitBreakerTransport, AsyncCircuitBreakerTransport
    _protect.protected(client, _LIBRARY, *kinds, **options)
    return client


def registry_of(client: httpx.Client | httpx.AsyncClient) -> Registry:
    """The circuits of a protected client, by key.

    Args:
        client: a client that `protect` returned, or that was made with one of these transports.

    Raises:
        TypeError: it is no client of httpx, or not protected.
    """
    return _protect.registry_in(client, _LIBRARY)
