"""`install(app)`: once, with what it finds out at the start, and what it closes at the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket, routing
from starlette.testclient import TestClient

from fluxgate import (
    AsyncCircuitBreaker,
    CircuitBreaker,
    ConfigError,
    FluxgateError,
    Signal,
    WrongFrontError,
)
from fluxgate.registry import Registry, UnknownCircuitError
from fluxgate_fastapi import Breaker, BreakerRoute, guard, install
from fluxgate_fastapi._registry import AppState

Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]


async def fine() -> str:
    return "charged"


def with_charge(app: FastAPI) -> FastAPI:
    @app.get("/charge")
    async def charge(payments: Payments) -> str:
        return await payments.call(fine)

    return app


def start(app: FastAPI) -> None:
    """Start it, and stop it again."""
    with TestClient(app):
        pass


# -- once


def test_gives_the_registry(registry: Registry) -> None:
    assert install(FastAPI(), registry=registry) is registry
    assert isinstance(install(FastAPI()), Registry)


def test_applications_have_registries_of_their_own_by_default() -> None:
    assert install(FastAPI()) is not install(FastAPI())


def _hook(*_: object) -> None:
    """Answers nothing."""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"registry": Registry()},
        {"problem_json": False},
        {"config": {"payments": {"retry": "Cooldown(7)"}}},
        {"hook": _hook, "show_name": True},
        {"strict": True, "config": {"payments": {}}},
    ],
    ids=lambda options: "+".join(options) or "none",
)
def test_twice_with_equal_settings_is_once(drive: Any, options: dict[str, Any]) -> None:
    app = with_charge(FastAPI())
    first = install(app, **options)
    lifespan, handlers = app.router.lifespan_context, dict(app.exception_handlers)
    assert install(app, **options) is first
    assert app.router.lifespan_context is lifespan
    assert app.exception_handlers == handlers
    assert drive(app).get("/charge").json() == "charged"


def test_twice_with_equal_settings_after_the_start(over_test_client: Any) -> None:
    app = with_charge(FastAPI())
    registry = install(app)
    client = over_test_client(app)
    assert client.get("/charge").status_code == 200
    assert install(app) is registry


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"problem_json": False}),
        ({"problem_json": False}, {}),
        ({}, {"registry": Registry()}),
        ({"registry": Registry()}, {"registry": Registry()}),
        ({"config": {"payments": {}}}, {"config": {"stock": {}}}),
        ({}, {"strict": True}),
        ({}, {"hook": _hook}),
        ({}, {"show_name": True}),
        ({}, {"type": "https://example.com/problem"}),
    ],
)
def test_twice_with_other_settings_is_an_error(
    over_test_client: Any, first: dict[str, Any], second: dict[str, Any]
) -> None:
    app = with_charge(FastAPI())
    registry = install(app, **first)
    with pytest.raises(ConfigError, match=r"install\(\)"):
        install(app, **second)
    client = over_test_client(app)  # the first one's stand
    registry["payments"].force_open()
    answer = client.get("/charge")
    assert answer.status_code == 503
    problem = first.get("problem_json", True)
    assert (answer.headers["content-type"] == "application/problem+json") is problem


@pytest.mark.parametrize("app", [object(), None, "app", APIRouter(), lambda: None])
def test_something_else_is_refused(app: Any) -> None:
    with pytest.raises(TypeError, match="application"):
        install(app)


def test_too_late_is_an_error(over_test_client: Any) -> None:
    """Starlette has taken its handlers by then; it would do nothing."""
    app = with_charge(FastAPI())
    client = over_test_client(app)
    assert client.get("/charge").status_code == 200
    with pytest.raises(RuntimeError, match="started"):
        install(app)


# -- mistakes, at the start


def starting(app: FastAPI) -> str:
    """What is complained about at the application's start."""
    with pytest.raises(FluxgateError) as caught:
        start(app)
    return str(caught.value)


def strict_app() -> FastAPI:
    app = FastAPI()
    install(app, config={"payments": {"retry": "Cooldown(7)"}}, strict=True)
    return app


def test_an_unknown_name_in_strict_mode() -> None:
    app = strict_app()

    @app.get("/charge")
    async def charge(
        payments: Annotated[AsyncCircuitBreaker, Depends(Breaker("paymnets"))],
    ) -> None: ...

    with pytest.raises(UnknownCircuitError) as caught:
        start(app)
    told = str(caught.value)
    assert "paymnets" in told
    assert "payments" in told  # the nearest
    assert "/charge" in told


@pytest.mark.skipif(
    hasattr(routing, "_IncludedRouter") and not hasattr(routing, "iter_route_contexts"),
    reason="this FastAPI keeps included routers apart and can't list their routes",
)
@pytest.mark.parametrize("place", ["router", "sub", "websocket", "guard", "route", "app", "sync"])
def test_an_unknown_name_wherever_it_stands(place: str) -> None:
    app = strict_app()
    router = APIRouter(prefix="/v1")

    async def sub(payments: Annotated[Any, Depends(Breaker("paymnets"))]) -> Any:
        return payments

    if place == "router":
        router = APIRouter(prefix="/v1", dependencies=[Depends(Breaker("paymnets"))])
        router.add_api_route("/charge", fine)
    elif place == "sub":
        router.add_api_route("/charge", fine, dependencies=[Depends(sub)])
    elif place == "guard":
        router.add_api_route("/charge", fine, dependencies=[guard("paymnets")])
    elif place == "route":
        router = APIRouter(prefix="/v1", route_class=BreakerRoute.named("paymnets"))
        router.add_api_route("/charge", fine)
    elif place == "sync":
        router.add_api_route(
            "/charge", fine, dependencies=[Depends(Breaker("paymnets", sync=True))]
        )
    elif place == "websocket":

        @router.websocket("/charge")
        async def feed(websocket: WebSocket, payments: Annotated[Any, Depends(sub)]) -> None: ...

    outer = APIRouter(prefix="/outer")
    outer.include_router(router)
    if place == "app":
        outer.add_api_route("/v1/charge", fine)
        app.include_router(outer, dependencies=[Depends(Breaker("paymnets"))])
    else:
        app.include_router(outer)
    told = starting(app)
    assert "paymnets" in told
    assert "/outer/v1/charge" in told


def test_a_known_name_in_strict_mode(over_test_client: Any) -> None:
    app = with_charge(strict_app())
    assert over_test_client(app).get("/charge").json() == "charged"


def test_a_name_with_settings_of_its_own_is_known_in_strict_mode(over_test_client: Any) -> None:
    app = strict_app()

    @app.get("/")
    async def root(
        stock: Annotated[AsyncCircuitBreaker, Depends(Breaker("stock", retry="Cooldown(7)"))],
    ) -> str:
        return stock.name

    assert over_test_client(app).get("/").json() == "stock"


def test_an_unknown_name_at_its_first_use_without_a_lifespan() -> None:
    app = strict_app()

    @app.get("/charge")
    async def charge(
        payments: Annotated[AsyncCircuitBreaker, Depends(Breaker("paymnets"))],
    ) -> None: ...

    client = TestClient(app)  # not entered
    with pytest.raises(UnknownCircuitError, match="paymnets"):
        client.get("/charge")


def with_sync_endpoint(app: FastAPI) -> FastAPI:
    @app.get("/charge")
    def charge(payments: Payments) -> str:
        return payments.name  # to call it would give a coroutine that nobody awaits

    return app


def test_a_sync_function_with_an_async_breaker() -> None:
    app = with_sync_endpoint(FastAPI())
    install(app)
    with pytest.raises(WrongFrontError) as caught:
        start(app)
    told = str(caught.value)
    assert "/charge" in told
    assert "charge()" in told
    assert "sync=True" in told


@pytest.mark.parametrize("installed", [True, False])
def test_a_sync_function_with_an_async_breaker_without_a_lifespan(installed: bool) -> None:
    """Then at its first use, before the function runs; and at each one after."""
    app = with_sync_endpoint(FastAPI())
    if installed:
        install(app)
    client = TestClient(app)
    for _ in range(2):
        with pytest.raises(WrongFrontError, match="sync=True"):
            client.get("/charge")


def test_an_async_function_may_have_either_front(over_test_client: Any, registry: Registry) -> None:
    """A sync breaker in async code is unusual, and fine for what doesn't wait."""
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/")
    async def root(
        payments: Annotated[CircuitBreaker, Depends(Breaker("payments", sync=True))],
    ) -> int:
        return payments.call(int)

    assert over_test_client(app).get("/").json() == 0


def test_what_is_not_handed_in_is_not_misused(over_test_client: Any, registry: Registry) -> None:
    """A sync endpoint whose route merely depends on a breaker never sees it."""
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/", dependencies=[Depends(Breaker("payments"))])
    def root() -> str:
        return "here"

    assert over_test_client(app).get("/").json() == "here"


def test_an_override_of_an_async_breaker_by_a_sync_one_is_the_tests_affair(
    over_test_client: Any, registry: Registry
) -> None:
    app = with_charge(FastAPI())
    install(app, registry=registry)
    app.dependency_overrides[Breaker("payments")] = lambda: AsyncCircuitBreaker("fake")
    assert over_test_client(app).get("/charge").status_code == 200


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"tripper": "MinRequests("}, "tripper"),
        ({"tripper": "FailureRat(0.5)"}, "FailureRate"),
        ({"retry": "Cooldown('soon')"}, "retry"),
        ({"tripper": "__import__('os').getcwd()"}, "tripper"),
        ({"window": "CountWindow(5)", "tripper": "MinRequests(10) & FailureRate(0.5)"}, "10"),
        ({"max_half_open_calls": 0}, "max_half_open_calls"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["Breaker", "guard", "BreakerRoute"])
def test_an_invalid_expression(kind: str, settings: dict[str, Any], hint: str) -> None:
    app = FastAPI()
    install(app)
    if kind == "Breaker":
        depends = Depends(Breaker("payments", **settings))
        app.add_api_route("/charge", fine, dependencies=[depends])
    elif kind == "guard":
        app.add_api_route("/charge", fine, dependencies=[guard("payments", **settings)])
    else:
        app.router.route_class = BreakerRoute.named("payments", **settings)
        app.add_api_route("/charge", fine)
    told = starting(app)
    assert "payments" in told
    assert "GET /charge" in told
    assert hint in told


def test_an_invalid_expression_without_a_lifespan() -> None:
    app = FastAPI()
    app.add_api_route(
        "/charge", fine, dependencies=[Depends(Breaker("broken", tripper="FailureRat(1)"))]
    )
    with pytest.raises(ConfigError, match=r"broken\.tripper"):
        TestClient(app).get("/charge")


def test_all_mistakes_are_told_at_once() -> None:
    app = with_sync_endpoint(strict_app())
    app.add_api_route("/stock", fine, dependencies=[Depends(Breaker("stock"))])
    app.add_api_route("/bad", fine, dependencies=[Depends(Breaker("bad", retry="Cooldow(1)"))])
    told = starting(app)
    assert "sync=True" in told
    assert "stock" in told
    assert "bad.retry" in told


def test_a_server_does_not_start_with_a_mistake(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = with_sync_endpoint(FastAPI())
    install(app)
    assert not serve(app).started
    assert "sync=True" in caplog.text


def test_what_the_users_own_start_adds_is_checked_as_well() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with_sync_endpoint(app)
        yield

    app = FastAPI(lifespan=lifespan)
    install(app)
    assert "/charge" in starting(app)


# -- the lifespan


class Listener:
    """One with something to close, such as a thread."""

    def __init__(self, log: list[str], name: str = "listener") -> None:
        self.log, self.name = log, name

    def __call__(self, signal: Signal) -> None:
        self.log.append(f"{self.name} hears {signal.new_state}")

    def close(self) -> None:
        self.log.append(f"{self.name} closed")


class AsyncListener(Listener):
    async def aclose(self) -> None:
        self.log.append(f"{self.name} closed on the loop")


def listened(log: list[str], *listeners: Any, **options: Any) -> tuple[FastAPI, Registry]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
        log.append("started")
        yield {"greeting": "hello"}
        log.append("stopped")

    app = with_charge(FastAPI(lifespan=lifespan))
    registry = Registry(listeners=list(listeners or [Listener(log)]))
    install(app, registry=registry, **options)
    return app, registry


def test_listeners_are_closed_at_the_end() -> None:
    log: list[str] = []
    app, registry = listened(log)
    with TestClient(app) as client:
        registry["payments"].force_open()
        assert client.get("/charge").status_code == 503
        assert log == ["started", "listener hears forced_open"]
    assert sorted(log[2:]) == ["listener closed", "stopped"]


def test_listeners_are_closed_when_a_real_server_stops(serve: Any) -> None:
    log: list[str] = []
    app, _ = listened(log)
    server = serve(app)
    assert log == ["started"]
    server.stop()
    assert sorted(log[1:]) == ["listener closed", "stopped"]


def test_async_listeners_are_closed_on_the_loop() -> None:
    log: list[str] = []
    app, _ = listened(log, AsyncListener(log))
    start(app)
    assert "listener closed on the loop" in log
    assert "listener closed" not in log


def test_each_listener_is_closed_once() -> None:
    """Though it hears several circuits, and install() was called twice."""
    log: list[str] = []
    listener = Listener(log)
    app = FastAPI()
    registry = Registry({"a": {"listeners": [listener]}, "b": {"listeners": [listener]}})
    install(app, registry=registry)
    install(app, registry=registry)
    start(app)
    assert log == ["listener closed"]


def test_listeners_of_dependencies_are_closed() -> None:
    log: list[str] = []
    app = FastAPI()
    install(app)
    for kind in (Breaker, guard):
        name = kind.__name__
        made: Any = kind(name, listeners=[Listener(log, name)])
        depends = Depends(made) if kind is Breaker else made
        app.add_api_route(f"/{name}", fine, dependencies=[depends])
    start(app)
    assert sorted(log) == ["Breaker closed", "guard closed"]


def test_listeners_without_close_are_left_alone() -> None:
    log: list[str] = []
    heard: list[Signal] = []
    app, _ = listened(log, heard.append, Listener(log))
    start(app)
    assert "listener closed" in log


def test_one_that_can_not_be_closed_does_not_keep_the_others_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(Listener):
        def close(self) -> None:
            raise OSError("stuck")

    log: list[str] = []
    app, _ = listened(log, Stuck(log), Listener(log))
    start(app)
    assert sorted(log) == ["listener closed", "started", "stopped"]
    assert "stuck" in caplog.text


def test_a_shared_registry_is_closed_by_the_last_application() -> None:
    log: list[str] = []
    registry = Registry(listeners=[Listener(log)])
    apps = [FastAPI(), FastAPI()]
    for app in apps:
        install(app, registry=registry)
    with TestClient(apps[0]):
        start(apps[1])
        assert log == []
    assert log == ["listener closed"]


def test_listeners_are_closed_when_the_users_own_end_fails() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        raise OSError("the pool is stuck")

    app = FastAPI(lifespan=lifespan)
    install(app, registry=Registry(listeners=[Listener(log)]))
    with pytest.raises(OSError, match="the pool is stuck"):
        start(app)
    assert log == ["listener closed"]


def test_the_users_own_lifespan_and_its_state_are_kept(over_test_client: Any) -> None:
    log: list[str] = []
    app, _ = listened(log)

    @app.websocket("/state")
    async def state(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.greeting)
        await websocket.close()

    with over_test_client(app).websocket_connect("/state") as session:
        assert session.receive_text() == "hello"


def test_an_application_can_be_started_again() -> None:
    """As tests do."""
    log: list[str] = []
    app, _ = listened(log)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/charge").status_code == 200
    assert log.count("listener closed") == log.count("started") == 2


def test_circuits_outlive_a_restart() -> None:
    app = with_charge(FastAPI())
    registry = install(app)
    with TestClient(app) as client:
        registry["payments"].force_open()
        assert client.get("/charge").status_code == 503
    with TestClient(app) as client:
        assert client.get("/charge").status_code == 503


def test_on_trio() -> None:
    log: list[str] = []
    app, _ = listened(log, Listener(log), AsyncListener(log, "other"))
    with TestClient(app, backend="trio") as client:
        assert client.get("/charge").json() == "charged"
    assert sorted(log) == ["listener closed", "other closed on the loop", "started", "stopped"]


def test_a_shared_registry_closes_what_each_application_declared() -> None:
    log: list[str] = []
    registry = Registry()
    apps = [FastAPI(), FastAPI()]
    for name, app in zip("ab", apps, strict=True):
        install(app, registry=registry)
        depends = Depends(Breaker(name, listeners=[Listener(log, name)]))
        app.add_api_route("/charge", fine, dependencies=[depends])
    with TestClient(apps[0]), TestClient(apps[1]):
        assert log == []
    assert sorted(log) == ["a closed", "b closed"]


def test_what_an_application_declared_is_closed_though_it_stopped_before() -> None:
    """With the last one; and again with whoever uses the registry next: it may have been told."""
    log: list[str] = []
    registry = Registry()
    apps = [FastAPI(), FastAPI()]
    for app in apps:
        install(app, registry=registry)
    depends = Depends(Breaker("a", listeners=[Listener(log)]))
    apps[1].add_api_route("/charge", fine, dependencies=[depends])
    with TestClient(apps[0]):
        start(apps[1])
        assert log == []
    assert log == ["listener closed"]
    start(apps[0])
    assert log == ["listener closed"] * 2


def test_a_registry_that_two_servers_share_is_closed_by_the_last(serve: Any) -> None:
    """Each in a thread of its own; whichever stops last."""
    log: list[str] = []
    registry = Registry()
    servers: list[Any] = []
    for name in "ab":
        app = FastAPI()
        install(app, registry=registry)
        depends = Depends(Breaker(name, listeners=[Listener(log, name)]))
        app.add_api_route("/charge", fine, dependencies=[depends])
        servers.append(serve(app))
    servers[0].stop()
    assert log == []
    servers[1].stop()
    assert sorted(log) == ["a closed", "b closed"]


# -- mounted applications: nobody runs their lifespans, so the parent's does their work


def mounted(sub: FastAPI) -> FastAPI:
    app = FastAPI()
    install(app)
    app.mount("/sub", sub)
    return app


def test_mistakes_in_a_mounted_application_are_told_at_the_parents_start() -> None:
    sub = with_sync_endpoint(FastAPI())
    install(sub)
    assert "sync=True" in starting(mounted(sub))


@pytest.mark.parametrize("shared", [True, False])
def test_listeners_of_a_mounted_application_are_closed_at_the_parents_end(shared: bool) -> None:
    log: list[str] = []
    sub = FastAPI()
    app = mounted(sub)
    install(sub, registry=install(app) if shared else None)
    depends = Depends(Breaker("payments", listeners=[Listener(log)]))
    sub.add_api_route("/charge", fine, dependencies=[depends])
    with TestClient(app) as client:
        assert client.get("/sub/charge").json() == "charged"
        assert log == []
    assert log == ["listener closed"]


# -- what comes late


def test_a_mistake_in_a_route_that_is_added_later_is_told_at_its_first_use() -> None:
    app = FastAPI()
    install(app)
    with TestClient(app) as client:
        with_sync_endpoint(app)
        with pytest.raises(WrongFrontError, match="sync=True"):
            client.get("/charge")


def test_a_mistake_in_a_router_that_is_included_later_is_told_at_its_first_use() -> None:
    app = with_charge(FastAPI())
    install(app)
    router = APIRouter()

    @router.get("/refund")
    def refund(payments: Payments) -> str:
        return payments.name

    with TestClient(app) as client:
        app.include_router(router, prefix="/late")
        assert client.get("/charge").json() == "charged"
        for _ in range(2):
            with pytest.raises(WrongFrontError, match="sync=True"):
                client.get("/late/refund")


@pytest.mark.skipif(
    hasattr(routing, "_IncludedRouter") and not hasattr(routing, "iter_route_contexts"),
    reason="this FastAPI keeps included routers apart and can't list their routes",
)
def test_what_the_start_has_checked_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = with_charge(FastAPI())
    install(app)
    router = APIRouter()
    router.add_api_route("/", fine, dependencies=[Depends(Breaker("stock"))])
    app.include_router(router, prefix="/stock")

    def again(_: AppState, scope: Any) -> None:
        pytest.fail(f"{scope['path']} was checked again")

    with TestClient(app) as client:
        monkeypatch.setattr(AppState, "first_use", again)
        assert client.get("/charge").json() == "charged"
        assert client.get("/stock/").json() == "charged"


def test_the_users_own_end_runs_though_a_mistake_kept_it_from_starting() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.append("pool opened")
        try:
            yield
        finally:
            log.append("pool closed")

    app = FastAPI(lifespan=lifespan)
    install(app, config={"payments": {"retry": "Cooldow(5)"}})
    assert "payments.retry" in starting(app)
    assert log == ["pool opened", "pool closed"]


def test_listeners_of_a_route_that_came_late_are_closed() -> None:
    log: list[str] = []
    app = FastAPI()
    install(app, registry=Registry())

    depends = Depends(Breaker("late", listeners=[Listener(log)]))
    with TestClient(app) as client:
        app.add_api_route("/late", fine, dependencies=[depends])
        assert client.get("/late").status_code == 200
        assert log == []
    assert log == ["listener closed"]
