"""Libraries that freeze the time of tests don't reach the clock of a breaker.

Each runs in a process of its own: what matters is that fluxgate is imported while time is frozen.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

INSIDE = """
    from fluxgate import CallNotPermittedError, CircuitBreaker
    from fluxgate.retries import Cooldown
    from fluxgate.testing import tripped

    inside = CircuitBreaker("inside", retry=Cooldown(60))
    tripped(inside)
"""

OUTSIDE = """
outside = CircuitBreaker("outside", retry=Cooldown(60))
tripped(outside)
for breaker in (inside, outside):
    try:
        breaker.call(int)
    except CallNotPermittedError as error:
        assert 0 < error.retry_after <= 60, (breaker, error.retry_after)
    else:
        raise AssertionError(breaker)
"""

BY_HAND = """
import time

real, frozen = time.perf_counter, True
time.perf_counter = lambda: 1.7e9 if frozen else real()  # as freezegun does it
if True:
"""


def run(script: str) -> None:
    """Run a script with warnings as errors."""
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", script], check=True)


def test_first_import_while_frozen() -> None:
    pytest.importorskip("freezegun")
    run(f'import freezegun\nwith freezegun.freeze_time("2031-01-01"):{INSIDE}{OUTSIDE}')


def test_first_import_by_another_clock() -> None:
    run(f"{BY_HAND}{INSIDE}\nfrozen = False\n{OUTSIDE}")
