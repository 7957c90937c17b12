"""Streams of bodies that are still to come: their end settles the call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from fluxgate_httpx._guard import Settlement


class SyncBody:
    """A response's stream, whose end settles the call."""

    def __init__(self, stream: Any, settlement: Settlement) -> None:
        self._stream = stream
        self._settlement = settlement

    def __iter__(self) -> Iterator[bytes]:
        settlement = self._settlement
        try:
            yield from self._stream  # chunks pass without a step in here
        except GeneratorExit:
            settlement.left()
            raise
        except BaseException as error:
            settlement.raised(error)
            raise
        settlement.ended()

    def close(self) -> None:
        """Close the stream."""
        self._settlement.left()
        self._stream.close()


class AsyncBody:
    """A response's async stream, whose end settles the call."""

    def __init__(self, stream: Any, settlement: Settlement) -> None:
        self._stream = stream
        self._settlement = settlement

    async def __aiter__(self) -> AsyncIterator[bytes]:
        settlement = self._settlement
        chunks = self._stream.__aiter__()
        try:
            async for chunk in chunks:
                yield chunk
        except GeneratorExit:
            settlement.left()
            raise
        except BaseException as error:
            settlement.raised(error)
            raise
        else:
            settlement.ended()
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()  # as httpx2 does; one that has ended doesn't wait in here

    async def aclose(self) -> None:
        """Close the stream."""
        self._settlement.left()  # first: what follows may be cancelled
        await self._stream.aclose()
