"""The four kinds of call that every library is measured with."""

import asyncio

from peers import Peer
from thin import async_dependency, async_thinnest, dependency, thinnest
from timing import Turn, async_healthy, failing, healthy, rejected

KINDS = ("healthy", "rejected", "failing", "async")


def floor_of(kind: str, runner: asyncio.Runner) -> Turn:
    """The thinnest wrapper with the same calls."""
    if kind == "failing":
        return failing(thinnest(dependency))
    if kind == "async":
        return async_healthy(runner, async_thinnest(async_dependency))
    # Nothing thinner refuses: refusals are held against a healthy call.
    return healthy(thinnest(dependency))


def turn_of(kind: str, peer: Peer, runner: asyncio.Runner) -> Turn | None:
    """A new breaker of that library with these calls; None if it has no asyncio API."""
    if kind == "failing":
        return failing(peer.tolerant(dependency))
    if kind == "rejected":
        return rejected(peer.tripped(dependency), peer.refusal)
    if kind == "healthy":
        return healthy(peer.tolerant(dependency))
    if peer.async_tolerant is None:
        return None
    return async_healthy(runner, peer.async_tolerant(async_dependency))
