"""Protecting a client that exists, with all that it was made with."""

from __future__ import annotations

from typing import Any, Unpack

from fluxgate_httpx._guard import Options
from fluxgate_httpx._library import Binding, wrong_kind
from fluxgate_httpx._transports import AsyncShell, Shell, SyncShell


def protected(
    client: Any,
    binding: Binding,
    sync: type[SyncShell[Any, Any, Any]],
    asynchronous: type[AsyncShell[Any, Any, Any]],
    **options: Unpack[Options],
) -> None:
    """Put shells around a client's own transport and those of its mounts and proxies."""
    shell: type[Shell[Any]]
    if isinstance(client, binding.module.Client):
        shell = sync
    elif isinstance(client, binding.module.AsyncClient):
        shell = asynchronous
    else:
        remedies = {
            "BaseTransport": "is a transport: use CircuitBreakerTransport(transport)",
            "AsyncBaseTransport": "is a transport: use AsyncCircuitBreakerTransport(transport)",
        }
        raise wrong_kind(binding, "protect", "Client or AsyncClient", client, remedies)
    # httpx has no public way to a client's transports, and Client(transport=...) would lose
    # verify, http2, limits and the environment's proxies.
    transports = {id(each): each for each in (client._transport, *client._mounts.values())}
    shells: dict[int, Any] = {
        number: each for number, each in transports.items() if isinstance(each, shell)
    }
    bare = [each for each in transports.values() if each is not None and id(each) not in shells]
    if not bare:
        return
    first: Any = next(iter(shells.values()), None)
    if first is None or options:
        first = shell(bare[0], **options)
    for each in bare:
        shells[id(each)] = shell._sharing(each, first._guard)
    mounts = client._mounts.items()
    client._mounts = {pattern: shells.get(id(each)) for pattern, each in mounts}
    client._transport = shells[id(client._transport)]
