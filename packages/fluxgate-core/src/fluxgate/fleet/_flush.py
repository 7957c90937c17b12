"""A flush: what members have to hand in goes to the store, and its answers move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from fluxgate._engine.circuit import Circuit
from fluxgate.fleet._member import Member
from fluxgate.fleet.store import Exchange, Move, Store, StoreBusy, StoreError, View

ROUNDS: Final = 4
"""How often one flush goes on with what its own answers have asked for."""

Due: TypeAlias = list[tuple[Member, Circuit]]
Moves: TypeAlias = list[tuple[Member, Move]]


class Flush:
    """One flush, by the flusher's thread.

    Args:
        store: where the circuits are.
        clock: gives seconds.
        answered: called when the store has answered an exchange.

    Attributes:
        lacking: why some circuit had no answer, where others had; else None.
    """

    def __init__(
        self, store: Store, clock: Callable[[], float], answered: Callable[[], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._answered = answered
        self.lacking: StoreError | None = None

    def run(self, due: Due, *, attached: bool) -> None:
        """Hand in for those that are due, and go on with what the answers ask for.

        Args:
            due: members with their circuits.
            attached: whether the store answered when it was last asked.
        """
        now = self._clock()
        moves: Moves = []
        stale = [pair for pair in due if pair[0].stale]
        if stale:
            views = self._store.read([member.name for member, _ in stale])
            for (member, _), view in zip(stale, views, strict=True):
                _add(moves, member, member.read(view))
        # Those of whom there was nothing but to read them are done, unless they are to be moved.
        moving = {id(member) for member, _ in moves}
        due = [pair for pair in due if id(pair[0]) in moving or pair[0].due(pair[1], now)]
        if not attached:
            due = due or stale[:1]  # it has to be written to: a locked file can still be read
        for _ in range(ROUNDS):
            moves += [(member, move) for member, _ in due if (move := member.wanted()) is not None]
            self._move(moves)
            moves = self._exchange(due) if due else []
            self._answered()
            if not moves:
                return
            again = {id(member) for member, _ in moves}
            due = [pair for pair in due if id(pair[0]) in again]
        self._move(moves)

    def _move(self, moves: Moves) -> None:
        for member, move in moves:
            member.moving(move, self._store.process)
            member.moved(move, self._store.move(move))

    def _exchange(self, due: Due) -> Moves:
        """Hand in for all of them; the moves that the answers ask for."""
        now = self._clock()
        handed: list[tuple[Member, Exchange]] = []
        moves: Moves = []
        try:
            for member, circuit in due:
                handed.append((member, member.request(circuit, now)))
            answers = self._store.exchange([request for _, request in handed])
        except Exception as error:
            for member, _ in handed:
                member.unanswered(counted=not isinstance(error, StoreBusy))
            raise
        for (member, _), answer in zip(handed, answers, strict=True):
            if isinstance(answer, View):
                move = member.answered(answer)
                if move is None and member.asks_for_reports(answer):
                    (reports,) = self._store.reports([member.name])
                    move = member.reported(answer, reports)
                _add(moves, member, move)
            else:
                member.unanswered(counted=not isinstance(answer, StoreBusy))
                self.lacking = answer
        return moves


def _add(moves: Moves, member: Member, move: Move | None) -> None:
    if move is not None:
        moves.append((member, move))
