"""What the tests of the console share: a console, and requests to it as plain values."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from fluxgate import CircuitBreaker
from fluxgate.console import Console, Request, Response
from fluxgate.console._names import id_of

SECRET = "a secret of the tests, which is long enough"
made: list[Console] = []
"""The consoles of a test, which are closed after it."""
HOST = {"host": "shop.example"}
HERE = {**HOST, "origin": "http://shop.example"}
PLAIN = {"accept-encoding": "identity", **HOST}
PACKED = {"accept-encoding": "gzip", **HOST}


def console(source: Any = None, **options: Any) -> Console:
    """A console that lets everybody in as `ann`, who may do anything; of this process alone."""
    options = {
        "read": lambda _: "ann",
        "control": lambda _: "ann",
        "secret": SECRET,
        "single_process": True,
        **options,
    }
    page = Console(source, **options)
    made.append(page)
    return page


def get(page: Console, path: str = "", /, **query: str) -> Response:
    """The response to whoever reads."""
    return page.handle(Request("GET", path, query=query, headers=PLAIN, peer="192.0.2.7"))


def read(page: Console, path: str = "api/v1/state", /, **query: str) -> Any:
    """The JSON of a response."""
    response = get(page, path, **query)
    assert response.status == 200, response.body
    return json.loads(response.body)


def rows(page: Console, /, **query: str) -> dict[str, Any]:
    """The circuits of the overview, by name."""
    return {row["name"]: row for row in read(page, **query)["circuits"]}


def detail(page: Console, name: str) -> Any:
    """One circuit in full."""
    return read(page, f"api/v1/circuits/{id_of(name)}")


def operation(page: Console, name: str, action: str) -> dict[str, str]:
    """The id and the token that a control needs."""
    found = next(each for each in detail(page, name)["actions"] if each["action"] == action)
    return {"operation": found["operation"], "token": found["token"]}


def post(
    page: Console,
    name: str,
    action: str,
    fields: dict[str, Any],
    *,
    api: bool = True,
    headers: dict[str, str] | None = None,
    **request: Any,
) -> Response:
    """The response to whoever sends a control, as a script or a form does."""
    path = f"{'api/v1/' * api}circuits/{id_of(name)}/{action}"
    body = json.dumps(fields) if api else urlencode(fields)
    kind = "application/json" if api else "application/x-www-form-urlencoded"
    return page.handle(
        Request(
            **{
                "method": "POST",
                "path": path,
                "headers": {**(HERE if headers is None else headers), "content-type": kind},
                "body": body.encode(),
                "peer": "192.0.2.7",
                **request,
            }
        )
    )


def use(page: Console, name: str, action: str, /, **fields: Any) -> Response:
    """Use a control as the page does: with a token, and a reason."""
    return post(page, name, action, {"note": "a drill", **operation(page, name, action), **fields})


@contextmanager
def somebody_reading(page: Console) -> Iterator[threading.Event]:
    """A reading in another thread, which began before and ends with the block, or the event."""
    began, end = threading.Event(), threading.Event()

    def reading() -> None:
        with page._site._snapshots._reading_on.here():
            began.set()
            end.wait(60)

    thread = threading.Thread(target=reading)
    thread.start()
    began.wait(60)
    try:
        yield end
    finally:
        end.set()
        thread.join()


def header(response: Response, name: str) -> str | None:
    """A header of a response."""
    return dict(response.headers).get(name)


def failing(name: str, calls: int = 10, **settings: Any) -> CircuitBreaker:
    """A breaker whose calls all failed."""
    breaker = CircuitBreaker(name, **settings)
    for _ in range(calls):
        breaker.attempt().fail()
    return breaker
