"""What binds the shells to httpx, or to a library that has its names."""

from __future__ import annotations

from typing import Any, NamedTuple

from fluxgate import CallNotPermittedError, FluxgateError, Reason, State
from fluxgate_httpx._guard import Library


class Refusal(CallNotPermittedError):
    """A refusal in the family of a library's errors; the second base is that family's.

    Picklable, as its request is.

    Attributes:
        request: what was refused.
    """

    def __init__(
        self,
        name: str,
        state: State,
        retry_after: float | None = None,
        reason: Reason | None = None,
        *,
        request: Any = None,
    ) -> None:
        library: Any = super(FluxgateError, self)  # the next in line after our own classes
        library.__init__(name, request=request)
        self.args = (name, state, retry_after, reason)


class Binding(NamedTuple):
    """A library of httpx's kind, for a shell.

    Attributes:
        module: the library itself.
        library: what the logic has to know of it.
        home: the module of ours that is bound to it.
    """

    module: Any
    library: Library
    home: str


def bind(module: Any, refusal: type[Refusal], *, home: str) -> Binding:
    """Bind the shells to httpx, or to what has its names."""
    library = Library(
        refusal=refusal,
        # A transport that maps no errors of its own raises Python's.
        failures=(module.TransportError, ConnectionError, TimeoutError),
        neutral=(module.LocalProtocolError, module.UnsupportedProtocol),
        pool=module.PoolTimeout,
    )
    return Binding(module, library, home)


def wrong_kind(
    binding: Binding, ours: str, wanted: str, given: object, remedies: dict[str, str]
) -> TypeError:
    """The complaint about something of another kind than `wanted`, and what to use instead."""
    module = binding.module
    name = module.__name__
    kind = given if isinstance(given, type) else type(given)
    roots = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if isinstance(given, type):
        said = f"{kind.__name__} is the class: give an instance of it"
    else:
        said = next(
            (
                f"{kind.__name__} {remedy}"
                for base, remedy in remedies.items()
                if isinstance(given, getattr(module, base))
            ),
            f"{given!r} is none",
        )
        other = {"httpx": "fluxgate_httpx", "httpx2": "fluxgate_httpx.httpx2"}
        for root in sorted(roots & other.keys() - {name}):
            said = f"{kind.__name__} belongs to {root}: use {ours} from {other[root]}"
    return TypeError(f"{ours} of {binding.home} takes an {name}.{wanted}; {said}")
