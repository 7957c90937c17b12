"""Calling a listener on the worker's thread, be it sync or async; what it raises is logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from fluxgate import _log
from fluxgate._wrapping import is_awaitable

if TYPE_CHECKING:
    from asyncio import Runner


class Teller(AbstractContextManager["Teller"]):
    """Calls one listener. Async ones run on an event loop of its own, made when first needed.

    It is used on one thread. No error leaves it, an interrupt or a cancellation neither: the
    worker has nobody to hand them to.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._runner: Runner | None = None

    def tell(self, listener: Callable[[Any], object], news: Any, circuit: str) -> None:
        """Hand over one piece of news."""
        try:
            self._finish(listener(news))
        except BaseException as error:
            _log.fault(circuit, self._label, error)

    def close(self, close: Callable[[], object]) -> None:
        """Close the listener."""
        try:
            self._finish(close())
        except BaseException as error:
            report(self._label, "its listener could not be closed", error)

    def __exit__(self, *exc_info: object) -> None:
        if self._runner is not None:
            try:
                self._runner.close()
            except BaseException as error:
                report(self._label, "its event loop could not be closed", error)

    def _finish(self, answer: object) -> None:
        if not is_awaitable(answer):
            return
        if self._runner is None:
            import asyncio  # not at import: few need it

            self._runner = asyncio.Runner()
        self._runner.run(_awaited(cast("Awaitable[object]", answer)))


async def _awaited(answer: Awaitable[object]) -> None:
    await answer


def report(label: str, sentence: str, error: BaseException | None = None) -> None:
    """Log trouble that no circuit has a part in. Never raises."""
    import logging

    try:
        level = logging.WARNING if error is None else logging.ERROR
        logging.getLogger("fluxgate").log(level, "%s: %s", label, sentence, exc_info=error)
    except Exception:  # nowhere left to tell it
        return
