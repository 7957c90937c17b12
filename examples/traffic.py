"""The load: two groups of users who make the same calls at the same moments."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from time import perf_counter

import httpx
from clients import Get
from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, Signal, State

CALLS_PER_SECOND = 50  # of each group


@dataclass(frozen=True)
class Phase:
    """A stretch of the demo: what the upstream is told to be, and for how long."""

    name: str
    behaviour: str
    seconds: float
    says: str

    @property
    def outage(self) -> bool:
        return self.behaviour != "healthy"


SCRIPT = (
    Phase("healthy", "healthy", 4, "all is well"),
    Phase("errors", "failing", 4, "answers 500"),
    Phase("slow", "slow", 4, "answers later than anybody waits"),
    Phase("truncated", "truncated", 3, "hangs up in the middle of its answers"),
    Phase("recovery", "healthy", 5, "is back"),
)
SCRIPT_SECONDS = sum(phase.seconds for phase in SCRIPT)


class Outcome(StrEnum):
    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"
    """By the breaker: the call was not made."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a user made; `at` and `ended` are times of `perf_counter`, in seconds."""

    phase: Phase
    at: float
    ended: float
    outcome: Outcome

    @property
    def waited(self) -> float:
        return self.ended - self.at


@dataclass
class Users:
    """A group of users, and what became of their calls."""

    name: str
    get: Get
    calls: list[Call] = field(default_factory=list)
    waiting: int = 0
    most_waiting: int = 0

    async def call(self, phase: Phase) -> None:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        at = perf_counter()
        try:
            await self.get(f"/{self.name}/{phase.name}")  # the upstream counts by path
            outcome = Outcome.ANSWERED
        except CallNotPermittedError:
            outcome = Outcome.REFUSED
        except httpx.HTTPError:
            outcome = Outcome.FAILED
        finally:
            self.waiting -= 1
        self.calls.append(Call(phase, at, perf_counter(), outcome))

    def count(self, outcome: Outcome) -> int:
        return sum(call.outcome is outcome for call in self.calls)

    def lately(self) -> list[float]:
        """How long the calls took that ended within the last second."""
        since = perf_counter() - 1.0
        latest = takewhile(lambda call: call.ended >= since, reversed(self.calls))
        return [call.waited for call in latest]


class Changes(list[tuple[float, Signal]]):
    """The circuit's transitions, with their times; a listener of the breaker."""

    def __call__(self, signal: Signal) -> None:
        self.append((perf_counter(), signal))

    def state_at(self, when: float) -> State:
        before = [signal.new_state for at, signal in self if at <= when]
        return before[-1] if before else State.CLOSED


@dataclass
class Stage:
    """What is going on: both groups, the circuit and its changes, the phase and the time."""

    pace: float
    breaker: AsyncCircuitBreaker
    changes: Changes
    protected: Users
    unprotected: Users
    phase: Phase = SCRIPT[0]
    began: float = field(default_factory=perf_counter)
    phase_began: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return SCRIPT_SECONDS * self.pace

    def elapsed(self) -> float:
        return perf_counter() - self.began

    async def play(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """Play the script; `tell` tells the upstream how to behave."""
        self.began = next_call = perf_counter()
        end = self.began
        async with asyncio.TaskGroup() as calls:  # left when the last call has ended
            for phase in SCRIPT:
                await tell(phase.behaviour)
                self.phase = phase
                self.phase_began[phase.name] = perf_counter()
                end += phase.seconds * self.pace
                while (now := perf_counter()) < end:
                    for users in (self.protected, self.unprotected):
                        calls.create_task(users.call(phase))
                    # On a slow machine there are fewer calls, for both, but never a burst.
                    next_call = max(next_call + 1 / CALLS_PER_SECOND, now)
                    await asyncio.sleep(next_call - now)
