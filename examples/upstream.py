"""A small real web service that does as it is told: answer, fail, slow down, cut its answers short.

    POST /_behave/failing     behave like that from now on: healthy, failing, slow, truncated
    GET  /_arrived            how many calls have arrived, by path
    GET  /any/other/path      a call: counted when it arrives, then answered as told

The demo runs it in a process of its own. To play with it by hand: `python upstream.py`.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving import serve

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BEHAVIOURS = ("healthy", "failing", "slow", "truncated")
WORK_SECONDS = 0.02  # what an answer costs on a good day
BODY = b"here is your order\n" * 50


class Upstream:
    """The service, as a plain ASGI application."""

    def __init__(self, slow_seconds: float) -> None:
        self.behaviour = "healthy"
        self.slow_seconds = slow_seconds
        self.arrived: Counter[str] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        command, _, argument = path[1:].partition("/")
        if command == "_behave" and argument in BEHAVIOURS:
            self.behaviour = argument
            await answer(send, 200, argument.encode())
        elif command == "_arrived":
            await answer(send, 200, json.dumps(self.arrived).encode())
        elif command.startswith("_"):
            await answer(send, 404, f"I can be {', '.join(BEHAVIOURS)}".encode())
        else:
            self.arrived[path] += 1
            await self.work(send)

    async def work(self, send: Send) -> None:
        behaviour = self.behaviour
        await asyncio.sleep(self.slow_seconds if behaviour == "slow" else WORK_SECONDS)
        if behaviour == "failing":
            await answer(send, 500, b"out of order")
        elif behaviour == "truncated":
            # Status 200 and the full length promised; then half of it, and the server hangs up.
            await begin(send, 200, len(BODY))
            await send(
                {"type": "http.response.body", "body": BODY[: len(BODY) // 2], "more_body": True}
            )
        else:
            await answer(send, 200, BODY)


async def begin(send: Send, status: int, length: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send: Send, status: int, body: bytes) -> None:
    await begin(send, status, len(body))
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slow-seconds", type=float, default=2.0, help="what a slow answer takes")
    service = Upstream(parser.parse_args().slow_seconds)
    # It is told to misbehave: nothing to complain about.
    serve(service, lifespan="off", log_level="critical")
