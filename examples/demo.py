"""A breaker saves a failing service: some twenty seconds, over real sockets.

Two groups of users call the same upstream at the same moments, one through a circuit breaker and
one without. The upstream works, then fails in three ways, then works again. What comes of it is
shown as it happens, and as figures at the end: all of them measured, in this run.
"""

import argparse
import asyncio
import sys
from pathlib import Path

import httpx
import upstream
from clients import make_breaker, make_client, with_breaker, without_breaker
from report import as_json, figures, rows, verdict
from screen import PlainLines, Screen
from traffic import SCRIPT_SECONDS, Changes, Stage, Users


async def run(service: upstream.Running, pace: float, report: Path | None) -> None:
    """Play the script, show it, and show the figures."""
    changes = Changes()
    breaker = make_breaker(pace, listeners=[changes])
    async with (
        make_client(service.url, pace) as client,
        make_client(service.url, pace) as other_client,
        httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as remote_control,
    ):

        async def tell(behaviour: str) -> None:
            try:
                (await remote_control.post(f"/_behave/{behaviour}")).raise_for_status()
            except httpx.HTTPError as error:
                sys.exit(f"The upstream does not take orders any more: {error}")

        protected = Users("with", with_breaker(client, breaker))
        unprotected = Users("without", without_breaker(other_client))
        stage = Stage(pace, breaker, changes, protected, unprotected)
        screen = choose_screen(stage)
        with screen:
            showing = asyncio.create_task(keep_showing(screen))
            try:
                await stage.play(tell)
            finally:
                showing.cancel()
        arrived: dict[str, int] = (await remote_control.get("/_arrived")).json()

    with_, without = (figures(stage, users, arrived) for users in (protected, unprotected))
    screen.summary(rows(stage, with_, without), verdict(with_))
    if report:
        report.write_text(as_json(stage, with_, without) + "\n")


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
        with upstream.running(slow_seconds=2.0 * pace) as service:
            print(f"upstream at {service.url}, process {service.pid}", flush=True)
            asyncio.run(run(service, pace, options.json))
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
