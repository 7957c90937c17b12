"""Fluxgate for httpx: one circuit per host, as a transport.

    client = httpx.Client(transport=CircuitBreakerTransport(httpx.HTTPTransport(http2=True)))
    client = protect(httpx.AsyncClient())

`fluxgate_httpx.httpx2` has the same for httpx2, and `fluxgate_httpx.requests` an adapter for
requests. Importing one of the libraries never imports another.
"""

from typing import TYPE_CHECKING

from fluxgate_httpx._key import by_host, by_origin
from fluxgate_httpx._policy import FAILING_STATUSES, HTTPPolicy

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

if TYPE_CHECKING:
    from fluxgate_httpx._httpx import (
        AsyncCircuitBreakerTransport,
        CircuitBreakerTransport,
        CircuitOpenError,
        protect,
        registry_of,
    )

    __version__: str
else:

    def __getattr__(name):
        """Import httpx with the first of the names that need it, and not for its siblings."""
        if name == "__version__":
            from importlib.metadata import version

            return version("fluxgate-httpx")
        if name in __all__:
            from fluxgate_httpx import _httpx

            value = globals()[name] = getattr(_httpx, name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__, "__version__"})
