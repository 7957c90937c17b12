"""Event loops: the few steps of a waiting task in which asyncio and trio differ."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Protocol


class Loop(Protocol):
    """An event loop, and an alarm that any thread may set."""

    def wake(self) -> None:
        """Set the alarm, on any thread."""
        ...

    def clear(self) -> None:
        """Take the alarm back."""
        ...

    async def wait(self, timeout: float | None) -> None:
        """Wait for the alarm, at most so many seconds; None: however long it takes."""
        ...

    async def limited(
        self, function: Callable[[], Awaitable[Any]], timeout: float
    ) -> tuple[bool, Any]:
        """Whether it has ended in time, and its result."""
        ...

    async def start(self, run: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
        """Start a task; what is returned ends it."""
        ...


class Asyncio:
    """The running loop of asyncio."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._alarm = asyncio.Event()

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._alarm.set)
        except RuntimeError:  # it is closed
            return

    def clear(self) -> None:
        self._alarm.clear()

    async def wait(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._alarm.wait()
        except TimeoutError:
            return

    async def limited(
        self, function: Callable[[], Awaitable[Any]], timeout: float
    ) -> tuple[bool, Any]:
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return True, await function()
        except TimeoutError:
            if scope.expired():
                return False, None
            raise

    async def start(self, run: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
        task = asyncio.create_task(run())

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

        return end


class Trio:
    """The running loop of trio."""

    def __init__(self) -> None:
        self._trio: Any = sys.modules["trio"]
        self._token = self._trio.lowlevel.current_trio_token()
        self._alarm = self._trio.Event()

    def wake(self) -> None:
        try:
            self._token.run_sync_soon(lambda: self._alarm.set())
        except self._trio.RunFinishedError:
            return

    def clear(self) -> None:
        self._alarm = self._trio.Event()

    async def wait(self, timeout: float | None) -> None:
        with self._trio.move_on_after(inf if timeout is None else timeout):
            await self._alarm.wait()

    async def limited(
        self, function: Callable[[], Awaitable[Any]], timeout: float
    ) -> tuple[bool, Any]:
        result: Any = None
        ended = False
        with self._trio.move_on_after(timeout):
            result = await function()
            ended = True
        return ended, result

    async def start(self, run: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
        manager = self._trio.open_nursery()
        nursery = await manager.__aenter__()
        nursery.start_soon(run)

        async def end() -> None:
            nursery.cancel_scope.cancel()
            await manager.__aexit__(None, None, None)

        return end


def running_loop() -> Loop:
    """The loop of the task that asks."""
    try:
        return Asyncio()
    except RuntimeError:
        return Trio()
