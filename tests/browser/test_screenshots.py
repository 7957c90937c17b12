"""What the console looks like in an outage: pictures, of which the docs show two, in each language.

python3 noxfile.py -s browser -- --screenshots docs/images -k "overview or dialog"
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fluxgate.signals import Reason
from fluxgate.state import State

from .scripted import PROBED, Pages, pages, row

LIMIT = 150_000
"""Bytes of a picture."""
CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
LANGUAGES = [("", "en-US"), (".ko", "ko-KR")]
"""Ends of a picture's name, which Sphinx chooses by the page's language, and a browser's locale."""
QUIET = ("catalogue", "carts", "delivery.example.net", "invoices", "mail", "prices", "stock", "tax")


def outage() -> Iterator[Any]:
    """The circuits of a shop at three in the morning."""
    now = time.time()
    yield row(
        1,
        OPEN,
        name="payments.example.com",
        since=now - 131,
        reason=PROBED,
        calls_rate=0.2,
        failed=0.58,
        slow=0.12,
        refused_rate=118.0,
        retry_after=21.0,
        reopens=2,
        strip=(*[CLOSED] * 27, OPEN, HALF_OPEN, OPEN),
    )
    forced = State.FORCED_OPEN
    yield row(
        2,
        forced,
        name="search.internal:9200",
        since=now - 1_870,
        reason=Reason(
            "force_open()", 2700.0, note="the index is being rebuilt, INC-2291", by="alice"
        ),
        calls_rate=0.0,
        failed=None,
        slow=None,
        refused_rate=34.0,
        reverts_in=840.0,
        strip=(forced,) * 30,
    )
    yield row(
        3,
        HALF_OPEN,
        name="recommendations",
        open_in=0,
        since=now - 4,
        reason=Reason("cooldown over"),
        calls_rate=0.6,
        refused_rate=8.2,
        reopens=1,
        strip=(*[CLOSED] * 20, *[OPEN] * 9, HALF_OPEN),
    )
    yield row(
        4,
        State.METRICS_ONLY,
        name="geo.lookup",
        since=now - 86_000,
        calls_rate=61.0,
        failed=0.012,
        slow=0.04,
        shadow=Reason("FailureRate(0.01)", 0.012, 1000, "CountWindow(1000)"),
        strip=(State.METRICS_ONLY,) * 30,
    )
    for number, name in enumerate(QUIET, 5):
        rate = 7.3 * number
        since = now - 7_000.0 * number
        yield row(number, name=name, calls_rate=rate, since=since, strip=(CLOSED,) * 30)


@pytest.fixture
def server() -> Iterator[Pages]:
    with pages() as server:
        server.rows = list(outage())
        yield server


@pytest.fixture
def taken(
    tab: Callable[..., Page], server: Pages, pytestconfig: pytest.Config, tmp_path: Path
) -> Callable[..., bytes]:
    """A function that takes one picture: of a path, by a name, after something was done."""

    def take(
        name: str,
        path: str = "",
        before: Callable[[Page], object] = lambda _: None,
        height: int = 640,
        width: int = 1200,
        **options: Any,
    ) -> bytes:
        page = tab(viewport={"width": width, "height": height}, **options)
        page.goto(f"{server.url}{path}")
        expect(page.locator("html")).to_have_class("js live")
        before(page)
        chosen = pytestconfig.getoption("screenshots")
        folder = tmp_path if chosen is None else Path(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        picture = page.screenshot(path=folder / f"console-{name}.png")
        assert len(picture) <= LIMIT
        return picture

    return take


def ask(page: Page) -> None:
    page.locator("a[href$='/disable'], a[href*='/disable?']").click()
    page.locator("#note").fill("the provider's status page says it is over, INC-2290")


@pytest.mark.parametrize(("name", "locale"), LANGUAGES)
def test_overview(taken: Callable[..., bytes], name: str, locale: str) -> None:
    assert taken(f"overview{name}", locale=locale)


def test_detail(taken: Callable[..., bytes]) -> None:
    assert taken("detail", f"circuits/{1:024x}", height=720)


@pytest.mark.parametrize(("name", "locale"), LANGUAGES)
def test_dialog(taken: Callable[..., bytes], name: str, locale: str) -> None:
    assert taken(f"dialog{name}", f"circuits/{1:024x}", ask, locale=locale)


def test_korean(taken: Callable[..., bytes]) -> None:
    assert taken("korean", f"circuits/{1:024x}", locale="ko-KR", height=720)


def test_dark(taken: Callable[..., bytes]) -> None:
    assert taken("dark", color_scheme="dark") != taken("light")


def test_narrow(taken: Callable[..., bytes]) -> None:
    assert taken("narrow", width=400, height=900)
