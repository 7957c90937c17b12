"""The link to the store: attached or not, and one log line for each change."""

from __future__ import annotations

import logging  # its fork hooks have to run before ours, which start threads that may log
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fluxgate.fleet.store import StoreBusy, StoreError

PATIENCE: Final = 1.0
"""Seconds for which a busy store is no reason to detach."""


class Link:
    """Whether the store of a fleet answers.

    Args:
        label: how logs name the store; it shows no secret.
        clock: gives seconds.

    Attributes:
        attached: whether the store answered when it was last asked.
        last_error: what it last failed with; None if it never has.
    """

    def __init__(self, label: str, clock: Callable[[], float]) -> None:
        self.attached = False
        self.last_error: str | None = None
        self._label = label
        self._clock = clock
        self._warned = False
        self._busy_since: float | None = None

    def answered(self) -> None:
        """The store has answered."""
        self._busy_since = None
        if self.attached:
            return
        self.attached = True
        if self._warned:
            self._warned = False
            _log(f"fleet {self._label}: the store is back; circuits are shared again")

    def impatient(self, error: StoreBusy) -> bool:
        """Whether a store that somebody else has is as good as lost by now."""
        now = self._clock()
        if self._busy_since is None:
            self._busy_since = now
        return now - self._busy_since >= PATIENCE

    def lost(self, error: StoreError) -> None:
        """The store can't be used."""
        self.last_error = str(error)
        self._busy_since = None
        if self.attached or not self._warned:
            self._warned = True
            _log(
                f"fleet {self._label}: the store can't be used ({error}); every process goes on "
                "by itself until it can"
            )
        self.attached = False


def _log(sentence: str) -> None:
    with suppress(Exception):  # there is nowhere left to report it
        logging.getLogger("fluxgate").warning("%s", sentence)
