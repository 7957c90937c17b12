"""The console in FastAPI applications: who is let in, where it is mounted, what the loop pays."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBasic, OAuth2PasswordBearer

from fluxgate import CircuitBreaker, ConfigError, State
from fluxgate._engine import everywhere
from fluxgate.console import MAX_BODY, Entry
from fluxgate.registry import Registry
from fluxgate_fastapi import console, install

from ..consolepages import form, links_of, named

pytestmark = pytest.mark.usefixtures("no_other_circuits")

PATIENCE = 20.0
SECRET = "the same in all workers"


async def staff(x_user: Annotated[str | None, Header()] = None) -> str:
    """Whoever says a name is one of the staff, but for customers."""
    if x_user is None:
        raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Basic"})
    if x_user == "customer":
        raise HTTPException(403, "this is not for you")
    return x_user


async def on_call(name: Annotated[str, Depends(staff)]) -> str:
    if name != "operator":
        raise HTTPException(403, "you may look, and not act")
    return name


def router(**arguments: Any) -> APIRouter:
    own = {"read": Depends(staff), "control": Depends(on_call)}
    return console(**{**own, "secret": SECRET, "single_process": True, **arguments})


class Audit(list[Entry]):
    """What the console was used for."""

    def __call__(self, entry: Entry) -> None:
        self.append(entry)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """A console whose application has no lifespan of its own goes when that is collected."""
    yield
    gc.collect()


@pytest.fixture
def audit() -> Audit:
    return Audit()


@pytest.fixture
def app(registry: Registry, audit: Audit) -> FastAPI:
    app = FastAPI(title="shop")
    install(app, registry=registry)
    app.include_router(router(source=registry, audited=audit), prefix="/circuits")
    return app


@pytest.fixture(params=["over_uvicorn", "over_test_client"])
def drive(request: pytest.FixtureRequest) -> Any:
    """Gives a client for an application; without a lifespan, see the last test."""
    return request.getfixturevalue(request.param)


# -- what can't be


def test_nobody_decides() -> None:
    with pytest.raises(ConfigError, match="read"):
        console()
    with pytest.raises(ConfigError, match="secret"):
        console(read=Depends(staff), control=Depends(on_call))


@pytest.mark.parametrize("name", ["read", "control"])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        (staff, r"must be Depends\(...\), not"),
        (True, r"must be Depends\(...\), not True"),
        (Depends(), "name the dependency"),
        (Depends(HTTPBasic()), r"Depends\(HTTPBasic\(...\)\)\): that hands on what the client"),
        (Depends(OAuth2PasswordBearer("/token")), "checks none of it"),
    ],
    ids=["function", "value", "empty", "basic", "bearer"],
)
def test_no_dependency(name: str, given: Any, why: str) -> None:
    arguments = {"read": Depends(staff), "secret": SECRET} | {name: given}
    with pytest.raises(ConfigError, match=rf"console\({name}=.*{why}"):
        console(**arguments)


# -- who is let in


def as_user(name: str) -> dict[str, str]:
    return {"x-user": name}


OPERATOR, READER = as_user("operator"), as_user("reader")


def test_it_shows_the_circuits(drive: Any, app: FastAPI, opened: Callable[[str], Any]) -> None:
    opened("payments")
    client = drive(app)
    page = client.get("/circuits/", headers=READER)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "payments" in page.text
    assert "shop" in page.text
    state = client.get("/circuits/api/v1/state", headers=READER).json()
    assert named(state, "payments")["state"] == "open"
    for path in links_of(page.text):
        assert path.startswith("/circuits/"), path
        assert client.get(path, headers=READER).status_code == 200, path


def test_an_application_answers(drive: Any, app: FastAPI) -> None:
    """What a dependency raises is its answer, and nothing of the console's is shown."""
    client = drive(app)
    for path in ("", "static/console.css", "api/v1/state", "nowhere"):
        refused = client.get(f"/circuits/{path}")
        assert (refused.status_code, refused.json()) == (401, {"detail": "who are you?"})
        assert refused.headers["www-authenticate"] == "Basic"
        assert client.get(f"/circuits/{path}", headers=as_user("customer")).status_code == 403


class NotSignedInError(Exception):
    """Of an application that redirects to its login."""


def test_a_login_of_the_application(over_test_client: Any, registry: Registry) -> None:
    app = FastAPI()
    install(app, registry=registry)

    def signed_in() -> str:
        raise NotSignedInError

    @app.exception_handler(NotSignedInError)
    async def to_login(request: Request, _: Exception) -> RedirectResponse:
        return RedirectResponse(f"/login?next={request.url.path}", 303)

    app.include_router(console(read=Depends(signed_in)), prefix="/circuits")
    answer = over_test_client(app).get("/circuits/x", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/circuits/x")


@pytest.mark.parametrize(
    ("value", "actor"),
    [
        ("alice", "alice"),
        (SimpleNamespace(username="alice"), "alice"),
        (SimpleNamespace(name="Alice  B"), "Alice B"),
        ({"username": "alice"}, "alice"),
        (True, "somebody"),
    ],
    ids=["text", "username", "name", "mapping", "true"],
)
def test_who_it_is(
    over_test_client: Any, registry: Registry, audit: Audit, value: Any, actor: str
) -> None:
    app = FastAPI()
    install(app, registry=registry)
    who = Depends(lambda: value)
    made = router(source=registry, read=who, control=who, audited=audit)
    app.include_router(made, prefix="/circuits")
    client = over_test_client(app)
    use(client, registry["payments"], {})
    assert [(each.actor, each.outcome) for each in audit] == [(actor, "done")]


@pytest.mark.parametrize("value", [None, False])
def test_nobody(over_test_client: Any, value: Any) -> None:
    app = FastAPI()
    app.include_router(console(read=Depends(lambda: value)), prefix="/circuits")
    assert over_test_client(app).get("/circuits/").status_code in (401, 403)


def test_a_value_without_a_name(over_test_client: Any) -> None:
    app = FastAPI()
    app.include_router(console(read=Depends(lambda: 7)), prefix="/circuits")
    client = over_test_client(app, raise_server_exceptions=True)
    with pytest.raises(ConfigError, match="returned a int without a username or name"):
        client.get("/circuits/")


def test_overrides(over_test_client: Any, app: FastAPI) -> None:
    app.dependency_overrides[staff] = lambda: "reader"
    client = over_test_client(app)
    assert "reader" in client.get("/circuits/").text
    app.dependency_overrides[on_call] = lambda: "tester"
    assert "tester" in client.get("/circuits/").text


# -- acting


def use(
    client: Any,
    breaker: CircuitBreaker,
    headers: dict[str, str],
    action: str = "force_open",
    **more: str,
) -> Any:
    """Use a control as a browser does, by its dialog."""
    state = client.get("/circuits/api/v1/state", headers=headers).json()
    path = f"/circuits/circuits/{named(state, breaker.name)['id']}/{action}"
    page = client.get(path, headers=headers)
    assert page.status_code == 200, page.text
    origin = {"sec-fetch-site": "same-origin"}
    return client.post(path, data=form(page.text, **more), headers={**headers, **origin})


def test_a_control(drive: Any, app: FastAPI, registry: Registry, audit: Audit) -> None:
    client = drive(app)
    answer = use(client, registry["payments"], OPERATOR, "disable", name="payments")
    assert answer.status_code in (200, 303)
    assert registry["payments"].state is State.DISABLED
    (entry,) = audit
    assert (entry.actor, entry.action, entry.note) == ("operator", "disable", "a drill")
    assert (entry.before, entry.after, entry.outcome) == (State.CLOSED, State.DISABLED, "done")
    reason = registry["payments"].info().reason
    assert str(reason) == "disable(): 900 s, by operator: a drill"


def tried(client: Any, who: dict[str, str] | None, **changed: Any) -> Any:
    """A form that the operator's page has made, sent by somebody, somehow."""
    state = client.get("/circuits/api/v1/state", headers=OPERATOR).json()
    path = f"/circuits/circuits/{named(state, 'payments')['id']}/force_open"
    made = changed.pop("made_by", OPERATOR)
    other = f"/circuits/circuits/{named(state, changed.pop('made_for', 'payments'))['id']}"
    page = client.get(f"{other}/force_open", headers=made)
    headers = {"sec-fetch-site": "same-origin", **(who or {}), **changed}
    return client.post(path, data=form(page.text), headers=headers)


@pytest.mark.parametrize(
    ("who", "changed", "status"),
    [
        (None, {}, 401),
        (as_user("customer"), {}, 403),
        (READER, {}, 403),
        (OPERATOR, {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
        (OPERATOR, {"sec-fetch-site": "same-site"}, 403),
        (OPERATOR, {"sec-fetch-site": "none"}, 403),
        (OPERATOR, {"made_for": "search"}, 403),
        (OPERATOR, {"made_by": as_user("another")}, 403),
    ],
    ids=["anonymous", "customer", "reader", "cross-site", "same-site", "typed", "replay", "others"],
)
def test_refused(
    drive: Any,
    app: FastAPI,
    registry: Registry,
    audit: Audit,
    who: dict[str, str] | None,
    changed: dict[str, Any],
    status: int,
) -> None:
    """Refused, audited, and nothing has changed."""
    app.dependency_overrides[on_call] = allow_others if "made_by" in changed else on_call
    breaker = registry["payments"]
    registry["search"].call(int)
    assert tried(drive(app), who, **changed).status_code == status
    assert breaker.state is State.CLOSED
    (entry,) = audit
    assert (entry.outcome, entry.circuit, entry.action) == ("denied", "payments", "force_open")
    assert entry.after is None
    assert entry.why


def allow_others(name: Annotated[str, Depends(staff)]) -> str:
    return name


def test_what_is_not_there(over_test_client: Any, app: FastAPI, audit: Audit) -> None:
    client = over_test_client(app)
    state = client.get("/circuits/api/v1/state", headers=OPERATOR).json()
    assert state["circuits"] == []
    sent = {"sec-fetch-site": "same-origin", **OPERATOR}
    unknown = f"/circuits/circuits/{'0' * 24}/reset"
    assert client.post(unknown, headers=sent).status_code in (400, 403, 404)
    assert client.post("/circuits/nowhere", headers=sent).status_code in (404, 405)
    assert [each.outcome in ("denied", "invalid") for each in audit] == [True]


def test_an_error_of_the_dependency(over_test_client: Any, registry: Registry) -> None:
    """A page goes without controls; an attempt is audited, and the error is the application's."""
    app, audit = FastAPI(), Audit()
    install(app, registry=registry)

    def broken(name: Annotated[str, Depends(staff)]) -> str:
        raise LookupError(name)

    made = router(source=registry, control=Depends(broken), audited=audit)
    app.include_router(made, prefix="/circuits")
    client = over_test_client(app)
    registry["payments"].call(int)
    state = client.get("/circuits/api/v1/state", headers=OPERATOR).json()
    found = named(state, "payments")["id"]
    assert client.get(f"/circuits/circuits/{found}", headers=OPERATOR).status_code == 200
    sent = {"sec-fetch-site": "same-origin", **OPERATOR}
    assert client.post(f"/circuits/circuits/{found}/reset", headers=sent).status_code == 500
    assert [(each.actor, each.outcome) for each in audit] == [("operator", "denied")]


# -- where it is mounted


@pytest.mark.parametrize("prefix", ["/circuits", "/ops/circuits", "/서킷", "/a b", ""])
def test_prefixes(over_uvicorn: Any, registry: Registry, prefix: str) -> None:
    app = FastAPI()
    install(app, registry=registry)
    app.include_router(router(source=registry), prefix=prefix)
    follow(over_uvicorn(app), registry, "", prefix)


def follow(client: Any, registry: Registry, outside: str, prefix: str) -> None:
    """Every link of the page, and a form, as a browser behind a proxy that cuts `outside` off."""
    breaker = registry["payments"]
    page = client.get(f"{prefix}/", headers=OPERATOR)
    assert page.status_code == 200
    whole = httpx.URL(f"http://x{outside}{prefix}/").raw_path.decode()
    found = links_of(page.text)
    assert found
    for path in found:
        assert path.startswith(whole), path
        assert client.get(path.removeprefix(outside), headers=OPERATOR).status_code == 200, path
    (detail,) = [path for path in found if "/circuits/" in path.removeprefix(whole[:-1])]
    page = client.get(f"{detail.removeprefix(outside)}/reset", headers=OPERATOR)
    (action,) = [path for path in links_of(page.text) if path.endswith("/reset")]
    assert action == f"{detail}/reset"
    sent = {"sec-fetch-site": "same-origin", **OPERATOR}
    breaker.force_open()
    filled = form(page.text)
    where = action.removeprefix(outside)
    answer = client.post(where, data=filled, headers=sent, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(detail)
    assert breaker.state is State.CLOSED


def test_behind_a_proxy(serve: Any, registry: Registry) -> None:
    """A server that is told of what its proxy cuts off; and an application that is mounted."""
    inner = FastAPI()
    outer = FastAPI(lifespan=lambda _: inner.router.lifespan_context(inner))
    install(inner, registry=registry)
    inner.include_router(router(source=registry), prefix="/circuits")
    outer.mount("/sub", inner)
    url = serve(outer, root_path="/shop").url
    with httpx.Client(base_url=url, trust_env=False) as client:
        follow(client, registry, "/shop", "/sub/circuits")


def test_an_application_of_its_own_root_path(over_test_client: Any, registry: Registry) -> None:
    app = FastAPI()
    install(app, registry=registry)
    app.include_router(router(source=registry), prefix="/circuits")
    follow(over_test_client(app, root_path="/api"), registry, "/api", "/circuits")


def test_without_the_slash(drive: Any, app: FastAPI) -> None:
    answer = drive(app).get("/circuits", headers=READER, follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"].endswith("/circuits/")


def test_methods_and_paths(drive: Any, app: FastAPI) -> None:
    client = drive(app)
    head = client.request("HEAD", "/circuits/", headers=READER)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/html; charset=utf-8"
    for path in ("nowhere", "api/v1/nowhere", "static/../secret", "static/%2e%2e/x", "a%00b"):
        assert client.get(f"/circuits/{path}", headers=READER).status_code == 404, path
    assert client.request("PUT", "/circuits/", headers=READER).status_code == 405
    assert client.request("DELETE", "/circuits/api/v1/state", headers=READER).status_code == 405


def test_a_page_that_is_known(drive: Any, app: FastAPI) -> None:
    client = drive(app)
    page = client.get("/circuits/static/console.css", headers=READER)
    again = {"if-none-match": page.headers["etag"], **READER}
    known = client.get("/circuits/static/console.css", headers=again)
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_without_end(over_uvicorn: Any, app: FastAPI, audit: Audit, chunked: bool) -> None:
    """It is not read to its end, which may never come."""
    client = over_uvicorn(app)
    sent = iter([b"x" * 65_536] * 64) if chunked else b"x" * (MAX_BODY + 1)
    path = f"/circuits/circuits/{'0' * 24}/reset"
    answer = client.post(path, content=sent, headers={"sec-fetch-site": "same-origin", **OPERATOR})
    assert answer.status_code == 413
    assert all(each.outcome != "done" for each in audit)


# -- the schema


def test_no_trace_in_the_schema(over_test_client: Any, app: FastAPI) -> None:
    schema = over_test_client(app).get("/openapi.json").json()
    assert schema["paths"] == {}
    assert "components" not in schema


# -- the loop, and the end


def test_it_works_in_threads(serve: Any, registry: Registry) -> None:
    threads: set[int] = set()
    app = FastAPI()
    install(app, registry=registry)
    note = lambda _: threads.add(threading.get_ident())  # noqa: E731
    app.include_router(router(source=registry, audited=note), prefix="/circuits")
    server = serve(app)
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        use(client, registry["payments"], OPERATOR)
    assert threads
    assert server.thread_id not in threads


def test_a_pool_that_is_full(over_uvicorn: Any, app: FastAPI) -> None:
    """Sync endpoints that wait for what is down hold every thread of the application's pool."""
    over, waiting = threading.Event(), threading.Semaphore(0)

    @app.get("/stuck")
    def stuck() -> None:
        waiting.release()
        over.wait(PATIENCE)

    client = over_uvicorn(app)
    calls = [threading.Thread(target=client.get, args=("/stuck",)) for _ in range(60)]
    for call in calls:
        call.start()
    try:
        for _ in range(40):
            assert waiting.acquire(timeout=PATIENCE)
        assert client.get("/circuits/", headers=READER).status_code == 200
    finally:
        over.set()
        for call in calls:
            call.join(PATIENCE)


def test_a_lifespan_of_the_application(over_test_client: Any, registry: Registry) -> None:
    """Both run; the history begins with the application, not with the first page."""
    begun: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        begun.append("begun")
        yield
        begun.append("ended")

    app = FastAPI(lifespan=lifespan)
    install(app, registry=registry)
    app.include_router(router(source=registry), prefix="/circuits")
    with_client = over_test_client(app)
    assert begun == ["begun"]
    breaker = registry["payments"]
    breaker.force_open(note="before anybody looked")
    state = with_client.get("/circuits/api/v1/state", headers=READER).json()
    found = named(state, "payments")["id"]
    page = with_client.get(f"/circuits/circuits/{found}", headers=READER)
    assert "before anybody looked" in page.text


def test_without_a_lifespan(over_asgi: Any, registry: Registry) -> None:
    """The console is made for the first page, and goes with the application."""
    app = FastAPI()
    install(app, registry=registry)
    app.include_router(router(), prefix="/circuits")
    assert over_asgi(app).get("/circuits/", headers=READER).status_code == 200
    assert len(everywhere.listeners) == 1
