"""Protection of a client that exists: its transports are wrapped where they are."""

from __future__ import annotations

from typing import Any, Unpack

from fluxgate.registry import Registry
from fluxgate_httpx._guard import Options
from fluxgate_httpx._library import Library, wrong_kind
from fluxgate_httpx._transports import AsyncTransportBase, SyncTransportBase, TransportBase


def protected(
    client: Any,
    library: Library,
    sync: type[SyncTransportBase[Any, Any, Any]],
    asynchronous: type[AsyncTransportBase[Any, Any, Any]],
    **options: Unpack[Options],
) -> None:
    """Wrap a client's own transport, and those of its mounts and proxies."""
    kind: type[TransportBase[Any]]
    if isinstance(client, library.module.Client):
        kind = sync
    elif isinstance(client, library.module.AsyncClient):
        kind = asynchronous
    else:
        remedies = {
            "BaseTransport": "is a transport: use CircuitBreakerTransport(transport)",
            "AsyncBaseTransport": "is a transport: use AsyncCircuitBreakerTransport(transport)",
        }
        raise wrong_kind(library, "protect", "Client or AsyncClient", client, remedies)
    # httpx has no public way to a client's transports, and Client(transport=...) would lose
    # verify, http2, limits and the environment's proxies.
    transports = {id(each): each for each in (client._transport, *client._mounts.values())}
    wrappers: dict[int, Any] = {
        number: each for number, each in transports.items() if isinstance(each, kind)
    }
    bare = [each for each in transports.values() if each is not None and id(each) not in wrappers]
    if not bare:
        return
    first: Any = next(iter(wrappers.values()), None)
    if first is None or options:
        first = kind(bare[0], **options)
    for each in bare:
        wrappers[id(each)] = kind._with_guard(each, first._guard)
    mounts = client._mounts.items()
    client._mounts = {pattern: wrappers.get(id(each)) for pattern, each in mounts}
    client._transport = wrappers[id(client._transport)]


def registry_in(client: Any, library: Library) -> Registry:
    """The circuits of a protected client."""
    if not isinstance(client, (library.module.Client, library.module.AsyncClient)):
        raise wrong_kind(library, "registry_of", "Client or AsyncClient", client, {})
    transport = client._transport
    if not isinstance(transport, TransportBase):
        raise TypeError(
            f"{client!r} is not protected: use protect(client) first, or the transport's registry"
        )
    return transport.registry
