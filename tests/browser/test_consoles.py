"""The console as its users have it: in a browser, before real servers that share one fleet."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, expect

from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet

from ..consoleservers import (
    OPERATOR,
    PASSWORD,
    READER,
    Site,
    Upstream,
    an_upstream,
    command,
    django_site,
    eventually,
    fastapi_site,
    fleet_url,
)
from .conftest import PATIENCE
from .test_page import HOSTILE

pytestmark = pytest.mark.slow


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with an_upstream() as upstream:
        yield upstream


@pytest.fixture(params=[fastapi_site, django_site], ids=["uvicorn", "gunicorn"])
def site(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Site]:
    with request.param(tmp_path, upstream.url) as site:
        yield site


@pytest.fixture
def sign_in(tab: Callable[..., Page], site: Site) -> Callable[..., Page]:
    """A function that opens the console of the site as somebody."""

    def opened(user: str = OPERATOR, **options: object) -> Page:
        if site.login == "basic":
            options["http_credentials"] = {"username": user, "password": PASSWORD}
        page = tab(**options)
        page.goto(site.url)
        if site.login == "form":  # of the admin, which leads back
            page.fill("input[name=username]", user)
            page.fill("input[name=password]", PASSWORD)
            page.click("input[type=submit]")
            page.wait_for_url("**/circuits/")
        return page

    return opened


def state_of(page: Page, name: str) -> str:
    """The state of a circuit in the overview, as it is read; empty until it is there."""
    row = page.locator("tbody tr", has=page.get_by_role("link", name=name, exact=True))
    return row.locator(".s").inner_text() if row.count() else ""


def use(page: Page, action: str, note: str = "a drill, INC-7", name: str | None = None) -> None:
    """Use a control on a circuit's page, as one does with a mouse; once a second at most."""
    while True:
        page.get_by_role("link", name=action, exact=True).click()
        page.get_by_label("Reason").fill(note)
        if name is not None:
            page.get_by_label("The circuit's name").fill(name)
        with page.expect_navigation():
            page.get_by_role("button", name=action, exact=True).click()
        said = page.locator(".banner").first
        if "At most one control a second" not in said.inner_text():
            expect(said).to_contain_text(f"{action}: done")
            return
        page.get_by_role("link", name="Cancel").click()
        page.wait_for_timeout(1_000)


def everywhere(site: Site, status: int) -> Callable[[], bool]:
    """Whether each worker answers orders so, as far as twenty connections can tell."""
    return lambda: set(site.orders(20)) == {status}


def test_an_outage(
    site: Site,
    upstream: Upstream,
    sign_in: Callable[..., Page],
    record_property: Callable[[str, object], None],
) -> None:
    """It appears by itself with its reason; controls reach all workers; a killed one is absent."""
    assert set(site.orders(20)) == {200}
    page = sign_in()
    # A worker that has got no order yet has no circuit, and isn't a part of the fleet.
    reporting = page.get_by_text("4 processes report")
    eventually(lambda: site.orders(20) and reporting.is_visible())
    eventually(lambda: state_of(page, "payments") == "closed")

    polls: list[Response] = []
    page.on("response", lambda answer: polls.append(answer) if answer.url == page.url else None)
    upstream.answers(500)
    eventually(lambda: 503 in site.orders(4))
    opened, before = time.monotonic(), len(polls)
    eventually(lambda: state_of(page, "payments") in ("open", "half-open"))
    # It polls every 2 s, and what it is shown is a second old at most; on a machine that does much
    # else a worker's news are as late as that once more.
    assert len(polls) - before <= 3
    record_property("seconds until the outage was shown", round(time.monotonic() - opened, 2))
    why = page.locator("tbody tr").first.inner_text().replace("\N{NO-BREAK SPACE}", " ")
    # A process that has opened before the fleet reports the limit alone.
    said = ("failed (limit 50 %)", "at least 50 % of the calls failed", "probing now")
    assert any(each in why for each in said), why
    assert "refuse" in page.get_by_role("heading", level=1).inner_text()

    page.get_by_role("link", name="payments", exact=True).click()
    upstream.answers(200)
    use(page, "Disable", name="payments")
    eventually(everywhere(site, 200))
    use(page, "Force open")
    eventually(everywhere(site, 503))
    expect(page.locator(".now .s")).to_have_text("forced open")
    expect(page.locator(".why")).to_contain_text("by operator: a drill, INC-7")
    use(page, "Reset")
    eventually(everywhere(site, 200))
    expect(page.locator(".now .s")).to_have_text("closed")
    audited = page.locator("section:has(#audit) tbody tr", has_text=OPERATOR)
    expect(audited.filter(has_text="done")).to_have_count(3)

    victim = site.workers()[0]
    os.kill(victim, signal.SIGKILL)
    gone = page.locator("section:has(#processes) tr", has_text=str(victim))
    expect(gone.locator(".absent")).to_be_visible(timeout=PATIENCE * 2)


def test_who_may_only_look(site: Site, sign_in: Callable[..., Page]) -> None:
    site.orders(20)
    page = sign_in(READER)
    eventually(lambda: state_of(page, "payments") == "closed")
    page.get_by_role("link", name="payments", exact=True).click()
    expect(page.get_by_text("may look, but not act")).to_be_visible()
    expect(page.locator("a[data-dialog]")).to_have_count(0)


def test_the_command(tmp_path: Path, upstream: Upstream, tab: Callable[..., Page]) -> None:
    """It shows the fleet of an application without being a part of it; here without a script."""
    with fastapi_site(tmp_path, upstream.url) as site, ExitStack() as closing:
        site.orders(20)  # the fleet has a file now
        alone = closing.enter_context(command(tmp_path, "--control"))
        page = tab(java_script_enabled=False)

        def shown() -> str:
            page.goto(alone.url)
            return state_of(page, "payments")

        reporting = page.get_by_text("4 processes report")
        eventually(lambda: site.orders(8) and shown() == "closed" and reporting.is_visible())
        upstream.answers(500)
        eventually(lambda: 503 in site.orders(4))
        eventually(lambda: shown() in ("open", "half-open"))
        upstream.answers(200)
        page.get_by_role("link", name="payments", exact=True).click()
        use(page, "Force open")
        eventually(everywhere(site, 503))
        use(page, "Reset")
        eventually(everywhere(site, 200))


def test_hostile_names(tmp_path: Path, tab: Callable[..., Page]) -> None:
    """No script runs, no policy is broken, and each page has its parts."""
    names = [name for name in HOSTILE if name.strip()]
    with Fleet(fleet_url(tmp_path)) as fleet:
        breakers = [CircuitBreaker(name=name, fleet=fleet) for name in names]
        for number, breaker in enumerate(breakers):
            breaker.force_open(note=names[number - 1], by=names[number - 2], fleet=True)
        with command(tmp_path, "--control") as alone:
            page = tab()

            def shown() -> bool:
                page.goto(alone.url)
                return page.locator("tbody tr.forced_open").count() == len(names)

            eventually(shown)
            assert page.locator("main :is(img, script, iframe, object, embed)").count() == 0
            links = [each.get_attribute("href") for each in page.locator("tbody a").all()]
            for link in links:
                page.goto(f"{alone.app}{link}")
                expect(page.locator("html")).to_have_class("js live")
                expect(page.locator(".now .s")).to_have_text("forced open")
                expect(page.get_by_role("heading", name="Policy")).to_be_visible()
                page.get_by_role("link", name="Reset").click()
                expect(page.get_by_role("dialog")).to_be_visible()
