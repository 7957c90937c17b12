"""`Depends(Breaker("payments"))`: a circuit as a dependency."""

# FastAPI reads the annotations of __call__ as they stand here, so they are no strings.

from typing import Unpack

from fastapi.requests import HTTPConnection

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate_fastapi._declaration import BreakerSettings, Declaration
from fluxgate_fastapi._registry import state_of


class Breaker(Declaration):
    """A dependency that gives the breaker of that name, from the application's registry.

        Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]

    It works in endpoints and sub-dependencies, on routers and WebSockets. It is a frozen value,
    equal by name and front: `app.dependency_overrides[Breaker("payments")]` finds it.

    The first to be used makes the circuit, with its settings if it has any. A later one of the
    same name needs none; other settings are an error.

    Args:
        name: the circuit's name.
        sync: whether to give a `CircuitBreaker`, for a sync endpoint, in place of an
            `AsyncCircuitBreaker`. Both are fronts of the same circuit.
        settings: the breaker's parameters, such as `tripper=` and `retry=`: objects, or the
            strings that `fluxgate.config` reads.

    Raises:
        TypeError: the name is no string, or a breaker has no such parameter.
        ValueError: the name is empty.
    """

    __slots__ = ("sync",)

    sync: bool
    """Whether it gives a `CircuitBreaker`."""

    def __init__(
        self, name: str, *, sync: bool = False, **settings: Unpack[BreakerSettings]
    ) -> None:
        super().__init__(name, settings, sync)
        object.__setattr__(self, "sync", sync)

    async def __call__(self, connection: HTTPConnection) -> AsyncCircuitBreaker | CircuitBreaker:
        """The breaker; FastAPI calls this.

        Raises:
            ConfigError: the settings can't be used, or contradict others, or the registry is
                strict and doesn't know the name.
            WrongFrontError: the function that asks is not async, and this breaker is.
        """
        scope = connection.scope
        state = state_of(scope.get("app"))
        registry = state.registry
        if id(scope.get("route")) not in state.checked:
            state.first_use(scope)
        if self.settings and not self.is_declared(registry):
            self.declare(registry)
        return registry[self.name] if self.sync else registry.asynchronous[self.name]

    @property
    def gives_async(self) -> bool:
        """Whether it gives an `AsyncCircuitBreaker`."""
        return not self.sync

    def _same(self, other: Declaration) -> bool:
        return isinstance(other, Breaker) and self.name == other.name and self.sync is other.sync

    def __repr__(self) -> str:
        shown = super().__repr__()
        return f"{shown[:-1]}, sync=True)" if self.sync else shown
