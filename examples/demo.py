"""A breaker saves a failing service: some twenty seconds, over real sockets.

Three groups of users call the same upstream at the same moments: one through a circuit breaker,
one without, one through a FastAPI application that has circuits. The upstream works, then fails in
three ways, then works again. What comes of it is shown as it happens, and as figures at the end:
all of them measured, in this run.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

import httpx
from clients import make_client, with_breaker, without_breaker
from report import Report
from screen import PlainLines, Screen
from serving import Running, running
from traffic import SCRIPT_SECONDS, Changes, Stage, Users

from fluxgate_httpx import by_host


async def run(service: Running, app: Running, pace: float, file: Path | None) -> None:
    """Play the script, show it, and show the figures."""
    changes = Changes()
    transport = with_breaker(pace, listener=changes)
    breaker = transport.registry[by_host(service.url) or ""]
    async with (
        make_client(service.url, pace, transport) as client,
        make_client(service.url, pace, without_breaker()) as other_client,
        # The application has its own time-out towards the upstream: its users wait for its answer.
        httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=30) as app_client,
        httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as remote_control,
    ):

        async def tell(behaviour: str) -> None:
            try:
                (await remote_control.post(f"/_behave/{behaviour}")).raise_for_status()
            except httpx.HTTPError as error:
                sys.exit(f"The upstream does not take orders any more: {error}")

        def order(phase: str) -> Awaitable[httpx.Response]:
            return app_client.post("/orders", json={"item": phase, "amount": 1})

        stage = Stage(
            pace,
            breaker,
            changes,
            protected=Users("with", lambda phase: client.get(f"/with/{phase}")),
            unprotected=Users("without", lambda phase: other_client.get(f"/without/{phase}")),
            through_app=Users("charge", order),  # for an order, the app calls /charge/<item>
        )
        screen = choose_screen(stage)
        with screen:
            showing = asyncio.create_task(keep_showing(screen))
            try:
                await stage.play(tell)
            finally:
                showing.cancel()
        arrived: dict[str, int] = (await remote_control.get("/_arrived")).json()

    report = Report.of(stage, arrived)
    screen.summary(report.tables(), report.verdict())
    if file:
        file.write_text(report.as_json() + "\n")


def choose_screen(stage: Stage) -> Screen:
    """A live screen in a terminal, plain lines where there is none."""
    if sys.stdout.isatty():
        import live  # plain lines need no rich

        if live.can_draw():
            return live.LiveScreen(stage)
    return PlainLines(stage)


async def keep_showing(screen: Screen) -> None:
    while True:
        screen.update()
        await asyncio.sleep(screen.every)


def at_least_four(value: str) -> float:
    seconds = float(value)
    if not 4 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{value}: from 4 seconds to an hour")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--seconds",
        type=at_least_four,
        default=SCRIPT_SECONDS,
        metavar="N",
        help="how long it takes (default %(default)s): the same script, stretched or shortened",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    options = parser.parse_args()
    pace = options.seconds / SCRIPT_SECONDS
    try:
        with (
            running("upstream.py", "--slow-seconds", str(2.0 * pace)) as service,
            running("front.py", service.url, "--pace", str(pace)) as app,
        ):
            print(f"upstream at {service.url}, process {service.pid}")
            print(f"FastAPI application at {app.url}, process {app.pid}", flush=True)
            asyncio.run(run(service, app, pace, options.json))
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
