"""The page's script: it patches what differs, and disturbs nobody who reads or types."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fluxgate.signals import Reason
from fluxgate.state import State

from .conftest import PATIENCE
from .scripted import Pages, pages, row

HIDE = """(hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
}"""


@pytest.fixture
def server() -> Iterator[Pages]:
    with pages() as server:
        yield server


@pytest.fixture
def page(tab: Callable[..., Page], server: Pages) -> Page:
    """The overview in a tab whose time goes on when a test says so."""
    return paused(tab(), server.url)


def paused(page: Page, url: str, chance: float = 1.0) -> Page:
    """Open a page whose time stands still; it throws a constant, and counts how often."""
    page.add_init_script(f"window.thrown = 0; Math.random = () => (window.thrown += 1, {chance})")
    now = time.time()
    page.clock.install(time=now)
    page.clock.pause_at(now + 1)
    page.goto(url)
    return page


def poll(page: Page, seconds: float = 2) -> None:
    """Let time go on until a poll has come back, and the next one is due."""
    before = page.evaluate("thrown")
    page.clock.run_for(round(seconds * 1000))
    deadline = time.monotonic() + PATIENCE / 1000
    while page.evaluate("thrown") == before:
        assert time.monotonic() < deadline, "it didn't poll"


def cells(page: Page, number: int) -> list[str]:
    return page.locator(f"tr:has(a[href$='{number:024x}']) td").all_inner_texts()


def test_a_row_is_patched(page: Page, server: Pages) -> None:
    link = page.get_by_role("link", name="api-1.example.com")
    link.focus()
    handle = link.element_handle()
    server.rows[0] = row(
        1,
        State.FORCED_OPEN,
        reason=Reason("force_open()", note="INC-7", by="alice"),
        refused_rate=120.0,
    )
    poll(page)
    expect(page.get_by_text("by alice: INC-7")).to_be_visible()
    assert cells(page, 1)[0].split() == ["forced", "open", "in", "4", "of", "4"]
    assert cells(page, 1)[5] == "120"
    assert handle is not None
    assert handle.evaluate("(node) => node === document.activeElement")
    assert page.title().startswith("1 circuit refuses calls")


def test_rows_come_go_and_move(page: Page, server: Pages) -> None:
    server.rows = [row(each) for each in range(1, 60)]
    poll(page)
    expect(page.locator("tbody tr")).to_have_count(59)
    link = page.get_by_role("link", name="api-30.example.com")
    page.evaluate("scrollTo(0, 500)")
    link.focus()
    seen = link.bounding_box()
    page.locator(".scroll").first.evaluate("(node) => { node.kept = 'the same' }")
    server.rows = [*server.rows[40:], row(70, State.OPEN), *server.rows[10:40]]
    poll(page)
    expect(page.locator("tbody tr")).to_have_count(50)
    names = page.locator("tbody th bdi").all_inner_texts()
    assert names == [each.name for each in server.rows]
    expect(link).to_be_focused()
    now = link.bounding_box()
    assert seen is not None
    assert now is not None
    assert now["y"] == pytest.approx(seen["y"], abs=1)
    assert page.locator(".scroll").first.evaluate("(node) => node.kept") == "the same"


def test_what_is_typed_stays(page: Page, server: Pages) -> None:
    box = page.get_by_role("searchbox")
    box.fill("pay")
    server.rows = [row(1)]
    poll(page)
    expect(page.get_by_text("No circuit refuses calls")).to_be_visible()
    expect(box).to_have_value("pay")


def test_nothing_new_is_a_304(page: Page, server: Pages) -> None:
    for _ in range(4):
        poll(page)
    assert server.polls == [200, 304, 304, 304]


def test_a_hidden_tab_is_silent(page: Page, server: Pages) -> None:
    poll(page)
    page.evaluate(HIDE, True)
    page.clock.run_for(60_000)
    assert len(server.polls) == 1
    server.rows = [row(1)]
    with page.expect_response("**/ops/"):
        page.evaluate(HIDE, False)  # looked at again, it asks at once
    expect(page.get_by_text("No circuit refuses calls")).to_be_visible()


def test_faults_grey_the_page(page: Page, server: Pages) -> None:
    poll(page)
    server.status = 500
    for seconds in (2, 4, 8, 16, 30, 30):
        poll(page, seconds)
        page.clock.run_for(1)
    assert server.polls[1:] == [500] * 6
    expect(page.locator("html")).to_have_class("js old")
    expect(page.locator("#fresh")).to_have_text("Data 1 min 30 s old; trying again")
    server.status = 200
    poll(page, 30)
    expect(page.locator("html")).to_have_class("js live")
    expect(page.locator("#fresh")).to_have_text("Live, 0 s old")


def test_a_dead_server_greys_too(page: Page) -> None:
    poll(page)
    page.context.set_offline(True)
    page.clock.run_for(2_000)
    expect(page.locator("html")).to_have_class("js old")


def test_old_data_grey_the_page(page: Page, server: Pages) -> None:
    server.error = "database is locked"
    poll(page)
    expect(page.locator("html")).to_have_class("js old")
    expect(page.get_by_text("database is locked")).to_be_visible()
    poll(page, 10)  # a 304: nothing is new, but for the age
    fresh = page.locator("#fresh")
    expect(fresh).to_have_text(re.compile(r"Data 1 min 1\d s old; trying again"))
    assert page.locator(".banner time").inner_text() in fresh.inner_text()
    server.error = None
    poll(page)
    expect(page.locator("html")).to_have_class("js live")


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 1_600), (0.999, 1_999)])
def test_polls_have_jitter(
    tab: Callable[..., Page], server: Pages, chance: float, wait: int
) -> None:
    page = paused(tab(), server.url, chance)
    page.clock.run_for(wait - 100)
    page.evaluate("() => 0")
    assert not server.polls
    poll(page, 0.2)
    assert server.polls == [200]


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_signed_out_is_told(page: Page, server: Pages, status: int) -> None:
    server.status = status
    page.clock.run_for(2_000)
    expect(page.locator("#fresh")).to_have_text("Not updated: sign in again")
    page.clock.run_for(120_000)
    assert server.polls == [status]


def test_announcements_are_rare(page: Page, server: Pages) -> None:
    said = page.get_by_role("status")
    server.rows = [row(1), row(2)]
    poll(page)
    page.clock.run_for(1)
    expect(said).to_have_text("api-1.example.com: closed")
    server.rows = [row(1, State.OPEN), row(2, State.HALF_OPEN)]
    poll(page)
    server.rows = [row(1, State.OPEN), row(2, State.OPEN), row(3, calls_rate=40.0)]
    poll(page)
    expect(page.locator("tbody tr")).to_have_count(3)
    page.clock.run_for(500)
    expect(said).to_have_text("api-1.example.com: closed")  # not before 5 s are over
    page.clock.run_for(1_000)
    expect(said).to_have_text("api-1.example.com: open. api-2.example.com: open")


def test_only_transitions_are_said(page: Page, server: Pages) -> None:
    server.rows = [row(1, State.OPEN, calls_rate=99.0), row(2)]
    poll(page)
    expect(page.locator("tbody tr")).to_have_count(2)
    page.clock.run_for(6_000)
    expect(page.get_by_role("status")).to_be_empty()


def test_times_go_on_between_polls(page: Page, server: Pages) -> None:
    server.rows = [row(1, State.OPEN, retry_after=100.0), row(2, State.OPEN, reverts_in=890.0)]
    poll(page)
    expect(page.locator("tbody tr")).to_have_count(2)
    server.status = 500
    before = cells(page, 1)
    page.clock.run_for(60_000)
    after = cells(page, 1)
    assert before[1].replace("4 min", "5 min") == after[1]
    assert before[6].replace("1 min ", "") == after[6]
    assert cells(page, 2)[6].startswith("ends in 13 min")
    page.clock.run_for(120_000)
    assert cells(page, 1)[6] == "probe at the next call"


def test_times_in_the_browsers_zone(tab: Callable[..., Page], server: Pages) -> None:
    page = tab(timezone_id="Asia/Seoul", locale="ko-KR")
    page.goto(f"{server.url}circuits/{1:024x}")
    expect(page.locator("#zone")).to_have_text("시간대: Asia/Seoul")
    shown = page.locator("time[data-at]").first
    utc = shown.get_attribute("datetime")
    assert utc is not None
    hours = (int(utc[11:13]) + 9) % 24
    assert f"{hours:02}{utc[13:19]}" in shown.inner_text()


def test_a_detail_is_patched(tab: Callable[..., Page], server: Pages) -> None:
    page = paused(tab(), f"{server.url}circuits/{1:024x}")
    server.rows[0] = row(1)
    poll(page)
    expect(page.locator(".now .s")).to_have_text("closed")
    page.clock.run_for(1)
    expect(page.get_by_role("status")).to_have_text("api-1.example.com: closed")


def test_a_dialog_by_keyboard(tab: Callable[..., Page], server: Pages) -> None:
    page = tab()
    page.goto(f"{server.url}circuits/{1:024x}")
    link = page.get_by_role("link", name="Disable")
    link.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Disable api-1.example.com")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_have_count(0)
    page.keyboard.press("Enter")
    dialog.get_by_label("Reason").fill("the index is rebuilt")
    dialog.get_by_label("For how long").select_option("until reset")
    dialog.get_by_label("For how long").focus()
    page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    (sent,) = server.sent
    assert sent == {
        **{"token": ["token-1"], "operation": ["op-1"]},
        **{"note": ["the index is rebuilt"], "seconds": [""]},
    }


def test_a_dialog_survives_polls(tab: Callable[..., Page], server: Pages) -> None:
    page = paused(tab(), f"{server.url}circuits/{1:024x}")
    page.get_by_role("link", name="Disable").click()
    note = page.get_by_role("dialog").get_by_label("Reason")
    note.fill("the index")
    server.rows[0] = row(1)
    poll(page)
    expect(page.locator(".now .s")).to_have_text("closed")
    expect(note).to_have_value("the index")
    expect(note).to_be_focused()


def test_everything_can_be_reached(page: Page) -> None:
    names: list[Any] = []
    for _ in range(9):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "() => { const at = document.activeElement;"
                " return at.getAttribute('aria-label') || at.textContent.trim() || at.name }"
            )
        )
    assert names == [
        *("Skip to the circuits", "Circuits", "English", "한국어", "Audit", "filter", "Filter"),
        *("Circuits", "api-1.example.com"),
    ]
