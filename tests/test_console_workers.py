"""The consoles on real servers with four workers that share a fleet in a file; and the command."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .consolepages import form, named
from .consoleservers import (
    OPERATOR,
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
from .django.live_servers import POSIX

pytestmark = [pytest.mark.slow, POSIX]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with an_upstream() as upstream:
        yield upstream


@pytest.fixture(params=[fastapi_site, django_site], ids=["uvicorn", "gunicorn"])
def site(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Site]:
    with request.param(tmp_path, upstream.url) as site:
        yield site


def payments(client: httpx.Client, mount: str = "/circuits/") -> dict[str, Any]:
    """The circuit as the console has it; empty until it has it."""
    answer = client.get(f"{mount}api/v1/state")
    assert answer.status_code == 200, answer.text
    known = any(each["name"] == "payments" for each in answer.json()["circuits"])
    return named(answer.json(), "payments") if known else {}


def use(
    client: httpx.Client, action: str, mount: str = "/circuits/", **more: str
) -> httpx.Response:
    """Use a control of `payments`: its page comes from one worker, the form goes to another."""
    path = f"{mount}circuits/{payments(client, mount)['id']}/{action}"
    page = client.get(path)
    assert page.status_code == 200, page.text
    headers = {"sec-fetch-site": "same-origin"}
    return client.post(path, data=form(page.text, **more), headers=headers)


def everywhere(site: Site, status: int) -> Callable[[], bool]:
    """Whether each worker answers orders so, as far as twenty connections can tell."""
    return lambda: set(site.orders(20)) == {status}


def test_an_outage(site: Site, upstream: Upstream) -> None:
    """It is seen with its reason, and a control reaches all workers."""
    assert set(site.orders(20)) == {200}
    with site.client(OPERATOR) as client:
        # A worker that has got no order yet has no circuit, and isn't a part of the fleet.
        eventually(lambda: site.orders(20) and payments(client).get("processes") == 4)
        upstream.answers(500)
        site.orders(40)
        eventually(lambda: payments(client)["state"] == "open")
        eventually(lambda: "FailureRate(0.5)" in (payments(client)["reason"] or ""))
        upstream.answers(200)

        assert use(client, "disable", name="payments").status_code == 303
        eventually(everywhere(site, 200))
        eventually(lambda: payments(client)["state"] == "disabled")
        eventually(lambda: "by operator: a drill" in (payments(client)["reason"] or ""))
        eventually(lambda: use(client, "force_open").status_code == 303)  # one a second
        eventually(everywhere(site, 503))
        eventually(lambda: use(client, "reset").status_code == 303)
        eventually(everywhere(site, 200))


def test_only_readers(site: Site) -> None:
    site.orders(20)
    with site.client(OPERATOR) as operator, site.client(READER) as reader:
        eventually(lambda: payments(reader))
        path = f"/circuits/circuits/{payments(operator)['id']}/force_open"
        filled = form(operator.get(path).text)
        if site.login == "form":
            reader.get("/circuits/")
            filled["csrfmiddlewaretoken"] = reader.cookies["csrftoken"]
        headers = {"sec-fetch-site": "same-origin"}
        assert reader.post(path, data=filled, headers=headers).status_code == 403
        assert set(site.orders(20)) == {200}


def test_the_command(tmp_path: Path, upstream: Upstream) -> None:
    """It sees the processes of an application, and its controls reach them."""
    with fastapi_site(tmp_path, upstream.url, workers=2) as site:
        site.orders(10)
        with command(tmp_path, "--control") as alone, httpx.Client(base_url=alone.app) as client:
            assert fleet_url(tmp_path) in alone.log
            eventually(lambda: site.orders(4) and payments(client, "/").get("processes") == 2)
            assert use(client, "force_open", "/").status_code == 303
            eventually(everywhere(site, 503))
            alone.process.send_signal(signal.SIGINT)
            assert alone.process.wait(30) == 0
            assert "Traceback" not in alone.log
