"""Everything at once, for a while: no slot is lost, every call is counted, memory is flat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .proving import LONG

pytestmark = pytest.mark.slow

SECONDS = 600 if LONG else 6
BLOCKS = 2_000
"""Allocated blocks (sys.getallocatedblocks) by which a process at rest may differ from itself."""
KILOBYTES = 32_768
"""The same of its largest size, which has the garbage of a round in it."""


SOURCES = Path(__file__).parents[2] / "packages" / "fluxgate-core" / "src"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")
@pytest.mark.parametrize("without_gil", [None, "python3.13t", "python3.14t"])
def test_a_soak(without_gil: str | None) -> None:
    """With this Python, and without the GIL where there is such a build."""
    python = sys.executable if without_gil is None else shutil.which(without_gil)
    if python is None:
        pytest.skip(f"no {without_gil} on the PATH")
    # A process of its own: it has signals, forks and a collector that runs all the time.
    command = [python, "-W", "ignore", str(Path(__file__).with_name("soaking.py")), str(SECONDS)]
    # The core needs nothing but Python, so such a build needs no environment.
    own = {} if without_gil is None else {"PYTHON_GIL": "0", "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **own}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout)
    if LONG:
        print("\n", {**seen, "blocks": seen["blocks"][::20], "kilobytes": seen["kilobytes"][::20]})
    assert seen["rounds"] >= 3
    assert min(seen[part] for part in ("transitions", "interrupts", "forks", "refused")) > 0
    blocks, kilobytes = seen["blocks"], seen["kilobytes"]
    # The collector runs all the time, or at the end: such rounds leave different rests, in turns.
    assert max(blocks[-2:]) - max(blocks[:2]) < BLOCKS, blocks
    assert kilobytes[-1] - kilobytes[1] < KILOBYTES, kilobytes
