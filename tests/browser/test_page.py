"""The pages in a real browser: for every reader, in every state, without a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fluxgate.signals import Reason
from fluxgate.state import State

from .scripted import FAILED, Pages, pages, row

DETAIL = f"circuits/{1:024x}"
SHOWN = ("", "audit", DETAIL, f"{DETAIL}/disable", f"{DETAIL}/invalid", "missing", "?filter=zz")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "' onfocus='alert(1)' autofocus='",
    "javascript:alert(1)",
    "</title></textarea><svg onload=alert(1)>",
    "right \u202e to left \u2066",
    "alone \ud800 surrogate",
    "../../../etc/passwd",
    "%2e%2e/%00?lang=xx#main",
    "red \x00\x1b[31m\r\nSet-Cookie: a=b",
    "{n!r}{0.__class__}",
    "x" * 512,
    "가" * 512,
    "ﷺ" * 300,
    "",
)


@pytest.fixture
def server() -> Iterator[Pages]:
    with pages() as server:
        server.rows = [
            row(
                number,
                state,
                reason=FAILED,
                retry_after=12.0 if state is State.OPEN else None,
                shadow=Reason("FailureRate(0.01)"),
            )
            for number, state in enumerate((State.OPEN, *State), 1)
        ]
        yield server


def faults(page: Page, axe: str) -> list[str]:
    """What axe-core finds, by rule and element."""
    page.evaluate(axe)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found: dict[str, Any] = page.evaluate("(tags) => axe.run({ runOnly: tags })", tags)
    assert len(found["passes"]) > 15
    return [
        f"{fault['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "ko")])
def test_axe_finds_nothing(
    tab: Callable[..., Page], server: Pages, axe: str, scheme: str, language: str
) -> None:
    page = tab(loose=True, color_scheme=scheme, locale=language)
    found: list[str] = []
    for path in SHOWN:
        page.goto(f"{server.url}{path}")
        expect(page.locator("html")).to_have_attribute("lang", language)
        found += faults(page, axe)
    page.goto(f"{server.url}{DETAIL}")
    page.locator("a[href$='/disable']").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found += faults(page, axe)
    page.goto(server.url)
    page.set_viewport_size({"width": 400, "height": 800})
    found += faults(page, axe)
    server.status = 500
    expect(page.locator("html")).to_have_class("js old")
    found += faults(page, axe)
    assert not found


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_no_page_is_too_wide(tab: Callable[..., Page], server: Pages, script: bool) -> None:
    """320 CSS pixels are a window of 1280 at 400 % (WCAG 1.4.10); tables scroll by themselves."""
    server.rows[0] = row(1, State.OPEN, name="x" * 200, reason=Reason("y" * 300))
    page = tab(viewport={"width": 320, "height": 800}, java_script_enabled=script)
    for path in SHOWN:
        page.goto(f"{server.url}{path}")
        widths = page.locator("html").evaluate("(html) => [html.scrollWidth, html.clientWidth]")
        assert widths[0] <= widths[1], path


def test_as_cards_it_is_still_a_table(tab: Callable[..., Page], server: Pages) -> None:
    page = tab(viewport={"width": 400, "height": 800})
    page.goto(server.url)
    expect(page.get_by_role("row")).to_have_count(1 + len(server.rows) - 1)  # the head is hidden
    expect(page.get_by_role("rowheader").first).to_contain_text("api-1.example.com")
    label = page.locator("tbody td").nth(3)
    before = "(cell) => getComputedStyle(cell, '::before').content"
    assert label.evaluate(before) == '"Failed"'
    for empty in page.locator("tbody td:empty").all():  # no label without a value
        expect(empty).to_be_hidden()
    page.goto(f"{server.url}{DETAIL}")
    changes = page.get_by_role("table", name="Transitions")
    reason = changes.get_by_role("cell").nth(2)
    assert reason.evaluate(before) == '"Reason"'
    for scrolling in page.locator(".scroll").all():  # nothing is beyond the edge
        assert scrolling.evaluate("(each) => each.scrollWidth <= each.clientWidth")


def test_without_a_script_all_is_there(tab: Callable[..., Page], server: Pages) -> None:
    page = tab(java_script_enabled=False)
    page.goto(server.url)
    expect(page.get_by_role("table")).to_contain_text(
        "58 % of the last 100 calls failed (limit 50 %)"
    )
    expect(page.get_by_role("row")).to_have_count(1 + len(server.rows))
    page.get_by_role("link", name="api-1.example.com").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("api-1.example.com")
    page.get_by_role("link", name="Disable").click()
    page.get_by_label("Reason").fill("the index is rebuilt")
    page.get_by_label("For how long").select_option("5 min")
    page.get_by_role("button", name="Disable").click()
    page.wait_for_url(f"**/{DETAIL}")
    (sent,) = server.sent
    assert sent["note"] == ["the index is rebuilt"]
    assert sent["seconds"] == ["300"]


def test_a_reason_must_be_given(tab: Callable[..., Page], server: Pages) -> None:
    page = tab()
    page.goto(f"{server.url}{DETAIL}/disable")
    page.get_by_role("button", name="Disable").click()
    page.get_by_label("Reason").fill("no")
    page.get_by_role("button", name="Disable").click()
    assert not server.sent


def test_problems_stand_at_their_fields(tab: Callable[..., Page], server: Pages) -> None:
    page = tab()
    page.goto(f"{server.url}{DETAIL}/invalid")
    expect(page.get_by_role("alert")).to_contain_text("it must have 3 characters at least")
    note = page.get_by_label("Reason")
    expect(note).to_have_value("no")
    described = note.evaluate("(node) => node.ariaDescribedByElements.map((each) => each.id)")
    assert described == ["note-hint", "note-problem"]


def test_hostile_names_do_nothing(tab: Callable[..., Page], server: Pages) -> None:
    server.rows = [
        row(
            number,
            State.OPEN,
            name=name,
            reason=Reason(name, note=name, by=name),
            shadow=Reason(name),
        )
        for number, name in enumerate(HOSTILE, 1)
    ]
    page = tab()
    page.goto(server.url)
    expect(page.locator("tbody tr")).to_have_count(len(HOSTILE))
    assert page.locator("tbody img, main script, tbody tr svg svg").count() == 0
    assert page.locator("tbody th a bdi").nth(5).inner_text() == "right \\u202e to left \\u2066"
    assert page.locator("tbody th a bdi").nth(6).inner_text() == "alone \\ud800 surrogate"
    for number in range(len(HOSTILE)):
        server.rows = [server.rows[-1], *server.rows[:-1]]
        page.goto(f"{server.url}circuits/{number + 1:024x}")
        expect(page.locator(".now .s")).to_have_text("open")
        page.goto(f"{server.url}circuits/{number + 1:024x}/disable")
        expect(page.get_by_label("Reason")).to_be_visible()


def test_language_is_the_browsers(tab: Callable[..., Page], server: Pages) -> None:
    page = tab(locale="ko-KR")
    page.goto(server.url)
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("3 circuits refuse calls")
    page.get_by_role("link", name="api-1.example.com").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")  # it was asked for, and stays


def test_motion_only_where_it_is_liked(tab: Callable[..., Page], server: Pages) -> None:
    moving = "(row) => getComputedStyle(row).transitionDuration"
    for liked, shown in (("no-preference", "0.6s, 0.6s"), ("reduce", "0s")):
        page = tab(reduced_motion=liked)
        page.goto(server.url)
        assert page.locator("tbody tr").first.evaluate(moving) == shown


def test_states_differ_without_colour(tab: Callable[..., Page], server: Pages) -> None:
    page = tab(forced_colors="active")
    page.goto(server.url)
    shape = """(node) => { const drawn = getComputedStyle(node, '::before');
        return [drawn.clipPath, drawn.borderRadius, drawn.borderStyle, drawn.height].join() }"""
    shapes = {state: page.locator(f".counts .{state}").evaluate(shape) for state in State}
    assert len(set(shapes.values())) == len(State)
    assert len(set(page.locator(".counts .s").all_inner_texts())) == len(State)
