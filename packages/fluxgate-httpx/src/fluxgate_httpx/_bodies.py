"""Wrappers of body streams: they report pieces, end, error and close to a `Settlement`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from fluxgate_httpx._settlement import Settlement, Upload


class SyncBody:
    """A response's stream, whose end settles the call."""

    def __init__(self, stream: Any, settlement: Settlement) -> None:
        self._stream = stream
        self._settlement = settlement

    def __iter__(self) -> Iterator[bytes]:
        settlement = self._settlement
        try:
            if settlement.probe:
                for chunk in self._stream:
                    settlement.arrived()
                    yield chunk
            else:
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
        probe = settlement.probe
        chunks = self._stream.__aiter__()
        try:
            async for chunk in chunks:
                if probe:
                    settlement.arrived()
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


class RequestBody(Upload):
    """A request's stream that comes from the caller's code: an error in there is the caller's."""

    def restore(self, request: Any) -> None:
        """Give the request its own stream back: it may be sent again."""
        if request.stream is self:
            request.stream = self._source

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._source
        except Exception as error:
            self.error = error
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._source:
                yield chunk
        except Exception as error:
            self.error = error
            raise

    def close(self) -> None:
        """Close the stream."""
        self._source.close()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._source.aclose()
