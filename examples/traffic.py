"""The load: groups of users who make the same calls at the same moments."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from time import perf_counter

import httpx

from fluxgate import CircuitBreaker, Signal, State
from fluxgate_httpx import CircuitOpenError

Send = Callable[[str], Awaitable[httpx.Response]]
"""One call: takes the name of the phase, and returns the answer with all of its body."""

CALLS_PER_SECOND = 30  # of each group


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
    """By a circuit, here or in the application: the upstream was not called."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a user made; `at` and `ended` are times of `perf_counter`, in seconds."""

    phase: Phase
    at: float
    ended: float
    outcome: Outcome
    answer: str
    """Such as `200`, `503 with Retry-After`, `ReadTimeout`."""

    @property
    def waited(self) -> float:
        return self.ended - self.at


@dataclass
class Users:
    """A group of users, and what became of their calls.

    The upstream counts those that reach it by path: `/<path>/<phase>`.
    """

    path: str
    send: Send
    calls: list[Call] = field(default_factory=list)
    waiting: int = 0
    most_waiting: int = 0

    async def call(self, phase: Phase) -> None:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        at = perf_counter()
        try:
            outcome, answer = judge(await self.send(phase.name))
        except CircuitOpenError as refusal:  # an httpx.TransportError, too: so it comes first
            outcome, answer = Outcome.REFUSED, type(refusal).__name__
        except httpx.HTTPError as error:
            outcome, answer = Outcome.FAILED, type(error).__name__
        finally:
            self.waiting -= 1
        self.calls.append(Call(phase, at, perf_counter(), outcome, answer))

    def count(self, outcome: Outcome) -> int:
        return sum(call.outcome is outcome for call in self.calls)

    def lately(self) -> list[Call]:
        """The calls that ended within the last second."""
        since = perf_counter() - 1.0
        return list(takewhile(lambda call: call.ended >= since, reversed(self.calls)))


def judge(response: httpx.Response) -> tuple[Outcome, str]:
    """Say what an answer means to the user who gets it; only circuits make it a 503."""
    status = str(response.status_code)
    if response.is_success:
        return Outcome.ANSWERED, status
    if response.status_code != 503:
        return Outcome.FAILED, status
    told_when = " with Retry-After" if "retry-after" in response.headers else ""
    return Outcome.REFUSED, status + told_when


class Changes(list[tuple[float, Signal]]):
    """The circuit's transitions, with their times; a listener of the circuit."""

    def __call__(self, signal: Signal) -> None:
        self.append((perf_counter(), signal))

    def state_at(self, when: float) -> State:
        before = [signal.new_state for at, signal in self if at <= when]
        return before[-1] if before else State.CLOSED


@dataclass
class Stage:
    """What is going on: the groups, the transport's circuit and its changes, the phase."""

    pace: float
    breaker: CircuitBreaker
    changes: Changes
    protected: Users
    unprotected: Users
    apps: dict[str, Users]
    """Those who call an application that calls the upstream, by the application's framework."""
    phase: Phase = SCRIPT[0]
    began: float = field(default_factory=perf_counter)
    phase_began: dict[str, float] = field(default_factory=dict)

    @property
    def groups(self) -> list[Users]:
        return [self.protected, self.unprotected, *self.apps.values()]

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
                    for users in self.groups:
                        calls.create_task(users.call(phase))
                    # On a slow machine there are fewer calls, for all, but never a burst.
                    next_call = max(next_call + 1 / CALLS_PER_SECOND, now)
                    await asyncio.sleep(next_call - now)
