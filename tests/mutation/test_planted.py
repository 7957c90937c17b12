"""Mutation testing in its short form: a few faults are planted, and must be found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .planting import listed_in

pytestmark = pytest.mark.slow

RUN = Path(__file__).with_name("run.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")
def test_planted_faults_are_found() -> None:
    """And no test finds any in the sources as they are, which are planted first."""
    command = [sys.executable, str(RUN), "--planted"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, "left out" in run.stderr) == (0, False), run.stderr
    planted = len(listed_in("planted.toml"))
    assert run.stdout.split("\nall")[1].split()[:4] == [str(planted), str(planted), "0", "0"]


def test_listed_mutants_exist() -> None:
    """What nobody can find is listed with a reason, and stands in the source, in one place."""
    for listed in listed_in("equivalent.toml"):
        assert listed.planted().change == listed.change
        assert listed.reason
