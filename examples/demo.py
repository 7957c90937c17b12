"""A breaker saves a failing service: some twenty seconds, over real sockets.

Four groups of users call the same upstream at the same moments: one through a circuit breaker,
one without, one through a FastAPI application that has circuits, one through a Django project that
has them. The upstream works, then fails in three ways, then works again. What comes of it is shown
as it happens, and as figures at the end: all of them measured, in this run.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable
from contextlib import ExitStack
from pathlib import Path

import httpx
from clients import make_client, with_breaker, without_breaker
from front import FRAMEWORKS, PASSWORD, USER
from report import Report
from scraping import scrape
from screen import PlainLines, Screen
from serving import Running, running
from traffic import SCRIPT_SECONDS, Changes, Stage, Users

from fluxgate.replay import Recorder
from fluxgate_httpx import by_host


async def run(
    service: Running,
    apps: dict[str, Running],
    pace: float,
    file: Path | None,
    recorders: list[Recorder],
) -> None:
    """Play the script, show it, and show the figures."""
    changes = Changes()
    transport = with_breaker(pace, changes, *recorders)
    breaker = transport.registry[by_host(service.url) or ""]
    async with (
        make_client(service.url, pace, transport) as client,
        make_client(service.url, pace, without_breaker()) as other_client,
        # An application has its own time-out towards the upstream: its users wait for its answer.
        httpx.AsyncClient(base_url=apps["FastAPI"].url, trust_env=False, timeout=30) as fastapi,
        httpx.AsyncClient(base_url=apps["Django"].url, trust_env=False, timeout=30) as django,
        httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as remote_control,
    ):

        async def tell(behaviour: str) -> None:
            try:
                (await remote_control.post(f"/_behave/{behaviour}")).raise_for_status()
            except httpx.HTTPError as error:
                sys.exit(f"The upstream does not take orders any more: {error}")

        def order(phase: str) -> Awaitable[httpx.Response]:
            return fastapi.post("/orders", json={"item": phase, "amount": 1})

        def order_of_django(phase: str) -> Awaitable[httpx.Response]:
            return django.post("/orders", data={"item": phase, "amount": 1})

        stage = Stage(
            pace,
            breaker,
            changes,
            protected=Users("with", lambda phase: client.get(f"/with/{phase}")),
            unprotected=Users("without", lambda phase: other_client.get(f"/without/{phase}")),
            # For an order, one application calls /charge/<item>, the other /pay/<item>.
            apps={"FastAPI": Users("charge", order), "Django": Users("pay", order_of_django)},
        )
        for app in (fastapi, django):  # ready? Django loads its views with the first request
            (await app.get("/health/circuits")).raise_for_status()
        screen = choose_screen(stage)
        with screen:
            showing = asyncio.create_task(keep_showing(screen))
            try:
                await stage.play(tell)
            finally:
                showing.cancel()
        arrived: dict[str, int] = (await remote_control.get("/_arrived")).json()
        scraped = {"FastAPI": await scrape(fastapi), "Django": await scrape(django)}

    report = Report.of(stage, arrived, scraped)
    screen.summary(report.tables(), report.raw_samples(), report.verdict())
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
    parser.add_argument(
        "--fleet",
        action="store_true",
        help="four processes with one circuit instead, and the store taken away in the middle",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="record the calls of the first group, for `python -m fluxgate replay FILE`",
    )
    parser.add_argument(
        "--stay",
        action="store_true",
        help="leave the applications running afterwards, with their consoles, until Ctrl+C",
    )
    options = parser.parse_args()
    if options.fleet:
        import fleet  # its processes import it anew

        return fleet.main()
    pace = options.seconds / SCRIPT_SECONDS
    try:
        with ExitStack() as processes:
            start = processes.enter_context
            folder = start(tempfile.TemporaryDirectory(prefix="fluxgate-demo-"))
            password = secrets.token_urlsafe(9)
            os.environ.update({PASSWORD: password, "DATABASE": f"{folder}/shop.sqlite3"})
            service = start(running("upstream.py", "--slow-seconds", str(2.0 * pace)))
            apps = {
                framework: start(running("front.py", framework, service.url, "--pace", str(pace)))
                for framework in FRAMEWORKS
            }
            print(f"upstream at {service.url}, process {service.pid}")
            for framework, app in apps.items():
                print(f"{framework} application at {app.url}, process {app.pid}", flush=True)
            for framework, app in apps.items():
                print(f"console of the {framework} application: {app.url}/circuits/")
            print(f"user of both consoles: {USER}, password {password}", flush=True)
            recorders = [Recorder(options.record)] if options.record else []
            asyncio.run(run(service, apps, pace, options.json, recorders))
            for recorder in recorders:
                recorder.close()
            while options.stay:
                time.sleep(3600)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
