"""Listeners: logs, Slack, metrics, traces, and a thread for listeners that wait.

A listener is any callable that takes a `Signal`. It may also have

- `rejected(error)`: called with the `CallNotPermittedError` of every refused call, on that call's
  path, so it must be quick;
- `call_ended(call)`: called with the `Call` of every call, refused ones included, on its path;
- `close()`, or `async def aclose()`: called by integrations when the application stops.

A breaker calls its listeners on the path of the call. One that waits (for a network, a disk), or is
`async`, is wrapped in `Background`, which calls it on a thread of its own.

Each name is imported when it is first used: those for Slack, Prometheus and OpenTelemetry need a
third-party package, the extras `slack`, `prometheus` and `otel`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fluxgate.listeners.background import Background
    from fluxgate.listeners.log import LogListener
    from fluxgate.listeners.otel import OpenTelemetryListener
    from fluxgate.listeners.prometheus import PrometheusCollector, PrometheusListener
    from fluxgate.listeners.slack import SlackListener

__all__ = [
    "Background",
    "LogListener",
    "OpenTelemetryListener",
    "PrometheusCollector",
    "PrometheusListener",
    "SlackListener",
]

_HOMES: Final = {
    "Background": "background",
    "LogListener": "log",
    "OpenTelemetryListener": "otel",
    "PrometheusCollector": "prometheus",
    "PrometheusListener": "prometheus",
    "SlackListener": "slack",
}

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import the module of a listener when it is first used."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{home}"), name)

    def __dir__():
        """List the names before they are imported, too."""
        return sorted({*globals(), *__all__})
