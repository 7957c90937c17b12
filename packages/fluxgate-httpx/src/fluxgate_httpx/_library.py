"""The HTTP library behind a transport: httpx, or one that has its names, such as httpx2."""

from __future__ import annotations

from typing import Any, NamedTuple

from fluxgate import CallNotPermittedError, FluxgateError, Reason, State
from fluxgate_httpx._guard import ErrorTypes


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


class Library(NamedTuple):
    """An HTTP library, as the transports and `protect` need it.

    Attributes:
        module: the library's module.
        errors: its exceptions.
        home: our module with the transports for it, named in messages.
    """

    module: Any
    errors: ErrorTypes
    home: str


def _status_of(error: BaseException) -> None:
    """None: no exception of these libraries' transports stands for a status."""


def library_of(module: Any, refusal: type[Refusal], *, home: str) -> Library:
    """The library in `module`, which is httpx or has its names."""
    errors = ErrorTypes(
        refusal=refusal,
        # A transport that maps no errors of its own raises Python's.
        failures=(module.TransportError, ConnectionError, TimeoutError),
        neutral=(module.LocalProtocolError, module.UnsupportedProtocol, module.PoolTimeout),
        status_of=_status_of,
    )
    return Library(module, errors, home)


def wrong_kind(
    library: Library, ours: str, wanted: str, given: object, remedies: dict[str, str]
) -> TypeError:
    """The error for an argument of another kind than `wanted`; it names what to use instead."""
    module = library.module
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
    return TypeError(f"{ours} of {library.home} takes an {name}.{wanted}; {said}")
