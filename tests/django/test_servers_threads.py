"""Eight threads of a real WSGI server on circuits that open and close all the time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from .live_servers import GUNICORN, POSIX, an_upstream, served

pytestmark = [POSIX, pytest.mark.slow]

COMMAND = (*GUNICORN, "--workers", "1", "shop.wsgi")
CIRCUITS = ("called", "decorated")
THREADS = 8
REQUESTS = 60
"""Of each thread to each circuit."""
OFTEN = {"SWITCH_INTERVAL": "1e-5"}
"""The server's threads take turns 500 times as often as usual."""


def test_exact_counts() -> None:
    """Every request is settled or rejected, once; and only the admitted ones reach the upstream."""
    with (
        an_upstream() as upstream,
        served(*COMMAND, upstream=upstream.url, env=OFTEN) as server,
    ):
        # Good and bad times that take turns, so that the circuits open, probe and close.
        upstream.status = lambda path: 500 if int(path.rpartition("/")[2]) % 40 < 15 else 200
        together = Barrier(THREADS)
        by: set[int] = set()

        def ask(_: int) -> Counter[tuple[str, int]]:
            answers: Counter[tuple[str, int]] = Counter()
            with server.client() as client:
                together.wait()
                for number in range(REQUESTS):
                    for circuit in CIRCUITS:
                        answer = client.get(f"/{circuit}/{number}")
                        answers[circuit, answer.status_code] += 1
                        if answer.status_code == 200:
                            by.add(answer.json()["thread"])
            return answers

        with ThreadPoolExecutor(THREADS) as threads:
            answers = sum(threads.map(ask, range(THREADS)), Counter())
        with server.client() as client:
            seen = client.get("/_seen").json()

    assert len(by) > 1  # they were threads indeed
    assert answers.total() == THREADS * REQUESTS * len(CIRCUITS)
    assert {status for _, status in answers} == {200, 502, 503}  # all three, and nothing else
    for circuit in CIRCUITS:
        settled = answers[circuit, 200] + answers[circuit, 502]
        assert settled + answers[circuit, 503] == THREADS * REQUESTS
        assert seen[circuit]["settled"] == settled
        assert seen[circuit]["rejected"] == answers[circuit, 503]
        assert seen[circuit]["told"] == answers[circuit, 503]  # once each, by Django's signal
        assert seen[circuit]["probes"] == 0  # none is lost
        assert upstream.reached(circuit) == settled
