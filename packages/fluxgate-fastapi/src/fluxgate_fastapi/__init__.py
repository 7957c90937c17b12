"""Fluxgate for FastAPI: circuits as dependencies, refusals as 503 responses.

    app = FastAPI()
    install(app)
    Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]

    @app.post("/charge", responses=CIRCUIT_OPEN)
    async def charge(order: Order, payments: Payments):
        return await payments.call(gateway.charge, order)

The rest is help for that: settings, guards for one's own endpoints, OpenAPI, a health page.
"""

from typing import TYPE_CHECKING

# First, since it says where our files were overwritten.
import fluxgate.integration  # noqa: F401  # pyright: ignore[reportUnusedImport]
from fluxgate_fastapi._console import console
from fluxgate_fastapi._declaration import BreakerSettings
from fluxgate_fastapi._dependency import Breaker
from fluxgate_fastapi._guard import guard
from fluxgate_fastapi._handler import CircuitOpenHandler, Hook
from fluxgate_fastapi._health import CircuitHealth, Health, health
from fluxgate_fastapi._install import install
from fluxgate_fastapi._middleware import CircuitBreakerMiddleware
from fluxgate_fastapi._openapi import CIRCUIT_OPEN, CIRCUIT_OPEN_PLAIN
from fluxgate_fastapi._registry import default_registry, registry_of
from fluxgate_fastapi._route import BreakerRoute

__all__ = [
    "CIRCUIT_OPEN",
    "CIRCUIT_OPEN_PLAIN",
    "Breaker",
    "BreakerRoute",
    "BreakerSettings",
    "CircuitBreakerMiddleware",
    "CircuitHealth",
    "CircuitOpenHandler",
    "Health",
    "Hook",
    "console",
    "default_registry",
    "guard",
    "health",
    "install",
    "registry_of",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        """Look `__version__` up when it is asked for, so that importing stays cheap."""
        if name == "__version__":
            from importlib.metadata import version

            return version("fluxgate-fastapi")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
