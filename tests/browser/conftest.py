"""A real browser for the tests of the console's page; the session `browser` runs them.

They need playwright, which is in that session alone, and a Chromium: Debian's (`apt-get install
chromium fonts-noto-cjk`), or the one that FLUXGATE_CHROMIUM names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE = 20_000
"""Milliseconds after which something that never comes fails a test instead of hanging it."""
CHROMIUM = os.environ.get("FLUXGATE_CHROMIUM") or shutil.which("chromium")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The folder that the session's `--screenshots` names."""
    parser.addoption("--screenshots", metavar="FOLDER", help="keep the pictures of the console")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser."""
    from playwright.sync_api import expect, sync_playwright

    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium fonts-noto-cjk")
    expect.set_options(timeout=PATIENCE)  # 5 s are short on a machine that does much else
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a tab in a profile of its own, with playwright's options for one.

    Whatever the page's scripts get wrong fails the test: errors, and what the Content Security
    Policy stops. `loose=True` is without that policy, for tools that add scripts of their own.
    """
    opened: list[BrowserContext] = []
    wrong: list[str] = []

    def new(*, loose: bool = False, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 800}, "timezone_id": "UTC", **options}
        context = chromium.new_context(bypass_csp=loose, **options)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => "
            "console.error('CSP', event.violatedDirective, event.blockedURI, event.sample))"
        )
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda said: (
                wrong.append(said.text)
                if said.type == "error" and "Failed to load resource" not in said.text
                else None
            ),
        )
        page.on("dialog", lambda shown: wrong.append(f"a script ran: {shown.message}"))
        return page

    yield new
    for context in opened:
        context.close()
    assert not wrong


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which looks for faults in accessibility."""
    found = find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
