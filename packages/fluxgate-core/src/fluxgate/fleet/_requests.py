"""Requests to the flusher: a flush, or a question to the store, that another thread waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from fluxgate.fleet.store import Store, StoreError

T = TypeVar("T")


class Request:
    """A flush that somebody waits for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.well = False


class Inquiry(Generic[T]):
    """A question to the store that somebody waits for."""

    def __init__(self, ask: Callable[[Store], T]) -> None:
        self._ask = ask
        self._answer: list[T] = []
        self.done = threading.Event()
        self.error: StoreError | None = None

    def put_to(self, store: Store) -> None:
        """Ask; whatever comes of it, nobody waits any longer."""
        try:
            self._answer.append(self._ask(store))
        except StoreError as error:
            self.error = error
        finally:
            self.done.set()

    def answer(self) -> T:
        """The answer; raises `StoreError`."""
        if self.error is not None:
            raise self.error
        return self._answer[0]
