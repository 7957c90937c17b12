"""Django's `LOGGING` is all there is to configure: the logger is called `fluxgate`."""

from __future__ import annotations

import ast
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from fluxgate.listeners import LogListener
from fluxgate.testing import tripped
from fluxgate_django import breakers

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "django.md").read_text(encoding="utf-8")

listener = LogListener()


def page_logging() -> dict[str, Any]:
    """`LOGGING` as docs/how-to/django.md has it."""
    (source,) = re.findall(r"^LOGGING = (\{.*?^\})", PAGE, re.MULTILINE | re.DOTALL)
    return ast.literal_eval(source)


@pytest.fixture
def console(
    monkeypatch: pytest.MonkeyPatch, set_up_logging: Callable[[dict[str, Any]], None]
) -> io.StringIO:
    """What logging writes, set up with the page's settings."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    set_up_logging(page_logging())
    return stream


@pytest.fixture
def logged(policy: dict[str, Any]) -> Iterator[None]:
    with override_settings(
        FLUXGATE={"DEFAULTS": {**policy, "LISTENERS": [f"{__name__}.listener"]}}
    ):
        yield


@pytest.mark.usefixtures("logged")
def test_transitions_through_djangos_logging(console: io.StringIO) -> None:
    breaker = tripped(breakers["payments"])
    breaker.reset()
    opened, closed = console.getvalue().splitlines()
    assert opened.startswith(
        "WARNING fluxgate: circuit 'payments': closed -> open: FailureRate(0.5): 1 over 2 calls"
    )
    assert closed == "INFO fluxgate: circuit 'payments': open -> closed: reset()"


@pytest.mark.usefixtures("logged")
def test_the_lines_that_the_page_shows(console: io.StringIO) -> None:
    breakers["payments"].force_open()
    breakers["payments"].reset()
    assert f"```text\n{console.getvalue()}```" in PAGE


def test_a_listener_that_raises_is_logged_and_nobody_is_hurt(
    console: io.StringIO, policy: dict[str, Any]
) -> None:
    def broken(_signal: object) -> None:
        raise RuntimeError("no pager")

    with override_settings(FLUXGATE={"DEFAULTS": {**policy, "LISTENERS": [broken]}}):
        tripped(breakers["payments"])
    assert console.getvalue().startswith("ERROR fluxgate: circuit 'payments': listener")
    assert "RuntimeError: no pager" in console.getvalue()


@pytest.mark.usefixtures("logged")
def test_the_level_is_djangos_affair(console: io.StringIO) -> None:
    logging.getLogger("fluxgate").setLevel("ERROR")
    tripped(breakers["payments"])
    assert console.getvalue() == ""


def test_nothing_is_configured_for_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests' views name circuits, too, and some are wrong on purpose.
    monkeypatch.setattr("fluxgate_django.checks._settings._named", list)
    monkeypatch.setattr("fluxgate_django.checks._settings._subscripts", list)
    call_command("check", tags=["fluxgate"], stdout=io.StringIO(), stderr=io.StringIO())
    assert logging.getLogger("fluxgate").handlers == []
    assert logging.getLogger("fluxgate").level == logging.NOTSET
