"""The first snippet of `docs/operate/replay.md` runs, and the page states the rules as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fluxgate.replay import MOST_UNKNOWN, MOST_UNUSABLE
from fluxgate.replay._replay import LIMITS
from fluxgate.replay._truth import LASTS, LEAST_BAD, LEAST_SHARE, LEAST_SLOW, TIMES_MEDIAN

PAGE = (Path(__file__).parents[3] / "docs" / "operate" / "replay.md").read_text(encoding="utf-8")


def test_the_snippet(capsys: pytest.CaptureFixture[str]) -> None:
    snippet = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    exec(compile(snippet, "replay.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no breaker 0 ")
    assert lines[1].startswith("MinRequests(10) & FailureRate(0.5) ")
    assert "recommended" in lines or "too little data" in lines or "yours is best" in lines


def test_the_numbers_of_the_rules() -> None:
    assert (LEAST_SHARE, TIMES_MEDIAN, LASTS, LEAST_BAD, LEAST_SLOW) == (0.05, 5, 30, 3, 0.1)
    assert (MOST_UNKNOWN, MOST_UNUSABLE) == (0.2, 0.01)
    text = " ".join(PAGE.split())
    assert "greater of 5 % and five times the median minute, for 30 seconds" in text
    assert "Above 20 %, nothing is recommended" in text
    assert len(re.findall(r"^- \*\*", PAGE, re.MULTILINE)) == len(LIMITS)
