"""`Depends(Breaker(...))`: who gets which circuit, wherever FastAPI solves dependencies."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Annotated, Any, get_args

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.requests import HTTPConnection
from starlette.testclient import TestClient

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, ConfigError, State
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureStreak
from fluxgate_fastapi import Breaker, install

Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]
SyncPayments = Annotated[CircuitBreaker, Depends(Breaker("payments", sync=True))]


async def fine() -> str:
    return "charged"


async def broken() -> str:
    raise ConnectionError("down")


def shop(registry: Registry) -> FastAPI:
    """An application that charges, sync and async, and can be told to fail."""
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/charge")
    async def charge(payments: Payments) -> dict[str, str]:
        return {"result": await payments.call(fine), "front": type(payments).__name__}

    @app.get("/fail")
    async def fail(payments: Payments) -> str:
        return await payments.call(broken)

    @app.get("/sync/charge")
    def charge_in_a_thread(payments: SyncPayments) -> dict[str, str]:
        return {"result": payments.call(lambda: "charged"), "front": type(payments).__name__}

    @app.get("/sync/fail")
    def fail_in_a_thread(payments: SyncPayments) -> None:
        payments.call(int, "no number")

    return app


# -- endpoints


def test_an_async_endpoint_gets_the_async_front(drive: Any, registry: Registry) -> None:
    answer = drive(shop(registry)).get("/charge")
    assert answer.json() == {"result": "charged", "front": "AsyncCircuitBreaker"}
    assert registry["payments"].info().totals.successes == 1


def test_a_sync_endpoint_gets_a_sync_front_of_the_same_circuit(
    drive: Any, registry: Registry
) -> None:
    app = drive(shop(registry))
    assert app.get("/sync/charge").json() == {"result": "charged", "front": "CircuitBreaker"}
    assert app.get("/charge").status_code == 200
    assert list(registry) == ["payments"]
    assert registry["payments"].info().totals.successes == 2


@pytest.mark.parametrize("first", ["/fail", "/sync/fail"])
def test_failures_of_either_front_open_it_for_both(
    drive: Any, registry: Registry, first: str
) -> None:
    app = drive(shop(registry))
    other = {"/fail": "/sync/fail", "/sync/fail": "/fail"}[first]
    assert [app.get(path).status_code for path in (first, other)] == [500, 500]
    assert registry["payments"].state is State.OPEN
    assert [app.get(path).status_code for path in ("/charge", "/sync/charge")] == [503, 503]


def test_all_requests_share_one_circuit(over_test_client: Any, registry: Registry) -> None:
    app = over_test_client(shop(registry))
    for _ in range(5):
        assert app.get("/charge").status_code == 200
    assert registry["payments"].info().totals.successes == 5


def test_getting_a_circuit_costs_no_thread_hop(registry: Registry) -> None:
    """A sync dependency is run in a thread pool; this one is async, all the way."""
    assert inspect.iscoroutinefunction(Breaker("payments").__call__)
    assert inspect.iscoroutinefunction(Breaker("payments", sync=True).__call__)

    async def main() -> list[str]:
        transport = httpx.ASGITransport(shop(registry))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            assert (await client.get("/charge")).status_code == 200
        return [thread.name for thread in threading.enumerate()]

    assert not [name for name in asyncio.run(main()) if "AnyIO" in name]


# -- wherever dependencies are


def test_a_sub_dependency(drive: Any, registry: Registry) -> None:
    app = FastAPI()
    install(app, registry=registry)

    class Gateway:
        def __init__(self, payments: Payments) -> None:
            self.payments = payments

        async def charge(self) -> str:
            return await self.payments.call(fine)

    async def receipt(gateway: Annotated[Gateway, Depends()]) -> str:
        return f"receipt: {await gateway.charge()}"

    @app.get("/charge")
    async def charge(
        receipt: Annotated[str, Depends(receipt)], payments: Payments
    ) -> dict[str, str]:
        return {"receipt": receipt, "again": await payments.call(fine)}

    answer = drive(app).get("/charge")
    assert answer.json() == {"receipt": "receipt: charged", "again": "charged"}
    assert registry["payments"].info().totals.successes == 2


def test_a_dependency_with_yield(over_test_client: Any, registry: Registry) -> None:
    app = FastAPI()
    install(app, registry=registry)

    async def session(payments: Payments) -> Any:
        async with payments:
            yield "session"

    @app.get("/fine")
    async def use(session: Annotated[str, Depends(session)]) -> str:
        return session

    @app.get("/broken")
    async def misuse(session: Annotated[str, Depends(session)]) -> str:
        raise ConnectionError(session)

    client = over_test_client(app)
    assert client.get("/fine").json() == "session"
    assert client.get("/broken").status_code == 500
    totals = registry["payments"].info().totals
    assert (totals.successes, totals.failures) == (1, 1)


def test_routers_at_any_depth(drive: Any, registry: Registry) -> None:
    inner = APIRouter(prefix="/cards")

    @inner.get("/charge")
    async def charge(payments: Payments) -> str:
        return await payments.call(fine)

    outer = APIRouter(prefix="/shop", dependencies=[Depends(Breaker("stock"))])
    outer.include_router(inner)
    app = FastAPI()
    install(app, registry=registry)
    app.include_router(outer, prefix="/v1")

    assert drive(app).get("/v1/shop/cards/charge").json() == "charged"
    assert sorted(registry) == ["payments", "stock"]
    assert registry["payments"].info().totals.successes == 1


def test_a_router_that_is_included_after_the_application_has_started(
    over_test_client: Any, registry: Registry
) -> None:
    app = FastAPI()
    install(app, registry=registry)
    client = over_test_client(app)
    router = APIRouter()

    @router.get("/late")
    async def late(payments: Payments) -> str:
        return await payments.call(fine)

    app.include_router(router)
    assert client.get("/late").json() == "charged"


def test_dependencies_of_the_whole_application(over_test_client: Any, registry: Registry) -> None:
    app = FastAPI(dependencies=[Depends(Breaker("everything"))])
    install(app, registry=registry)

    @app.get("/")
    async def root() -> str:
        return "here"

    assert over_test_client(app).get("/").json() == "here"
    assert list(registry) == ["everything"]


def test_a_websocket(over_test_client: Any, registry: Registry) -> None:
    app = FastAPI()
    install(app, registry=registry)

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, payments: Payments) -> None:
        await websocket.accept()
        await websocket.send_text(await payments.call(fine))
        await websocket.close()

    with over_test_client(app).websocket_connect("/feed") as session:
        assert session.receive_text() == "charged"
    assert registry["payments"].info().totals.successes == 1


def test_a_websocket_over_the_wire(serve: Any, registry: Registry) -> None:
    from websockets.sync.client import connect

    app = FastAPI()
    install(app, registry=registry)

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, payments: Payments) -> None:
        await websocket.accept()
        await websocket.send_text(await payments.call(fine))
        await websocket.close()

    url = serve(app).url.replace("http", "ws")
    with connect(f"{url}/feed", proxy=None) as session:
        assert session.recv(timeout=20) == "charged"
    assert registry["payments"].info().totals.successes == 1


def test_it_asks_nothing_of_the_client(registry: Registry) -> None:
    """Not one parameter in the schema comes from the dependency."""
    operation = shop(registry).openapi()["paths"]["/charge"]["get"]
    assert "parameters" not in operation
    assert "requestBody" not in operation
    parameters = inspect.signature(Breaker("payments")).parameters
    assert len(parameters) == 1


# -- overrides, by equality


def test_an_equal_breaker_overrides(drive: Any, registry: Registry) -> None:
    app = shop(registry)
    fake = AsyncCircuitBreaker("fake")
    app.dependency_overrides[Breaker("payments")] = lambda: fake
    client = drive(app)
    assert client.get("/charge").json()["result"] == "charged"
    assert client.get("/sync/charge").json()["result"] == "charged"
    assert fake.info().totals.successes == 1
    assert registry["payments"].info().totals.successes == 1  # the sync front's, not overridden

    fake.force_open()
    assert client.get("/charge").status_code == 503
    assert client.get("/sync/charge").status_code == 200


def test_the_sync_front_is_overridden_by_itself(over_test_client: Any, registry: Registry) -> None:
    app = shop(registry)
    fake = CircuitBreaker("fake", initial_state="forced_open")
    app.dependency_overrides[Breaker("payments", sync=True)] = lambda: fake
    client = over_test_client(app)
    assert client.get("/sync/charge").status_code == 503
    assert client.get("/charge").status_code == 200


def test_another_name_does_not_override(over_test_client: Any, registry: Registry) -> None:
    app = shop(registry)
    app.dependency_overrides[Breaker("stock")] = lambda: pytest.fail("of another name")
    assert over_test_client(app).get("/charge").status_code == 200


def test_an_override_may_be_another_breaker(drive: Any, registry: Registry) -> None:
    app = shop(registry)
    app.dependency_overrides[Breaker("payments")] = Breaker("sandbox")
    assert drive(app).get("/charge").status_code == 200
    assert registry["sandbox"].info().totals.successes == 1
    assert registry["payments"].info().totals.successes == 0


# -- the value


def test_equal_by_name_and_front_alone() -> None:
    assert Breaker("a") == Breaker("a")
    assert hash(Breaker("a")) == hash(Breaker("a"))
    assert Breaker("a") == Breaker("a", retry=Cooldown(5))
    assert hash(Breaker("a")) == hash(Breaker("a", retry=Cooldown(5)))
    assert len({Breaker("a"), Breaker("b"), Breaker("a", sync=True), Breaker("a")}) == 3
    assert Breaker("a") != Breaker("b")
    assert Breaker("a") != Breaker("a", sync=True)
    assert Breaker("a") != "a"


def test_hashable_with_settings_that_are_not() -> None:
    breaker = Breaker("a", listeners=[print])
    assert {breaker: 1}[Breaker("a")] == 1


def test_frozen() -> None:
    breaker = Breaker("a")
    with pytest.raises(AttributeError):
        breaker.name = "b"  # type: ignore[misc]
    assert breaker == Breaker("a")


def test_shows_what_it_is() -> None:
    assert "'a'" in repr(Breaker("a"))
    assert "sync" in repr(Breaker("a", sync=True))


@pytest.mark.parametrize("name", ["", 5, None, b"payments"])
def test_a_name_that_is_none_is_refused_where_it_is_written(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(?i)name"):
        Breaker(name)


def test_a_setting_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises((TypeError, ValueError), match=r"triper.*tripper"):
        Breaker("a", triper="FailureStreak(1)")


def test_can_be_called_by_hand(registry: Registry) -> None:
    """As frameworks and tests do: with a connection, for the breaker."""
    app = FastAPI()
    install(app, registry=registry)
    connection = HTTPConnection({"type": "http", "app": app, "headers": []})

    async def both() -> tuple[object, object]:
        return (
            await Breaker("payments")(connection),
            await Breaker("payments", sync=True)(connection),
        )

    asynchronous, sync = asyncio.run(both())
    assert isinstance(asynchronous, AsyncCircuitBreaker)
    assert isinstance(sync, CircuitBreaker)
    sync.force_open()
    assert asynchronous.state is State.FORCED_OPEN


# -- settings


def settings_app(registry: Registry, *breakers: Any) -> FastAPI:
    """One endpoint for each dependency; it opens the circuit's books."""
    app = FastAPI()
    install(app, registry=registry)
    for number, breaker in enumerate(breakers):

        @app.get(f"/{number}")
        async def policy(given: Annotated[Any, Depends(breaker)]) -> dict[str, str]:
            return {"tripper": repr(given.policy.tripper), "retry": repr(given.policy.retry)}

    return app


def test_takes_the_breakers_own_parameters(over_test_client: Any) -> None:
    app = settings_app(
        Registry(), Breaker("a", tripper=FailureStreak(3), retry=Cooldown(7), sync=True)
    )
    assert over_test_client(app).get("/0").json() == {
        "tripper": "FailureStreak(3)",
        "retry": "Cooldown(7)",
    }


def test_parameters_may_be_expressions(over_test_client: Any) -> None:
    app = settings_app(Registry(), Breaker("a", tripper="FailureStreak(3)", retry="Cooldown(7)"))
    assert over_test_client(app).get("/0").json() == {
        "tripper": "FailureStreak(3)",
        "retry": "Cooldown(7)",
    }


def test_the_same_settings_again_are_fine(over_test_client: Any) -> None:
    """Whether they are objects or expressions, and for either front."""
    registry = Registry()
    app = over_test_client(
        settings_app(
            registry,
            Breaker("a", retry=Cooldown(7)),
            Breaker("a", retry="Cooldown(7)"),
            Breaker("a", retry=Cooldown(7), sync=True),
        )
    )
    assert {app.get(f"/{number}").json()["retry"] for number in range(3)} == {"Cooldown(7)"}
    assert list(registry) == ["a"]


def _asked(app: FastAPI, *paths: str) -> None:
    """Ask an application whose errors come through."""
    with TestClient(app) as client:
        for path in paths:
            assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "later",
    [
        Breaker("payments", retry=Cooldown(8)),
        Breaker("payments", retry=Cooldown(8), sync=True),
        Breaker("payments", retry=Cooldown(7), tripper=FailureStreak(1)),
        Breaker("payments", tripper=FailureStreak(1)),
    ],
    ids=["other", "other-front", "more", "else"],
)
def test_other_settings_under_the_same_name_are_an_error(later: Any) -> None:
    app = settings_app(Registry(), Breaker("payments", retry=Cooldown(7)), later)
    with pytest.raises(ConfigError, match="payments") as caught:
        _asked(app, "/0", "/1")
    assert "Cooldown(7)" in str(caught.value)


def test_settings_need_be_given_only_once(over_test_client: Any) -> None:
    """With a lifespan, all that is declared is known before the first use: order means nothing."""
    app = settings_app(Registry(), Breaker("payments"), Breaker("payments", retry=Cooldown(8)))
    client = over_test_client(app)
    assert [client.get(path).json()["retry"] for path in ("/0", "/1")] == ["Cooldown(8)"] * 2


def test_settings_that_come_after_the_first_use_are_an_error() -> None:
    """Without a lifespan, nobody can have known of them."""
    app = settings_app(Registry(), Breaker("payments"), Breaker("payments", retry=Cooldown(8)))
    client = TestClient(app)  # not entered: the lifespan doesn't run
    assert client.get("/0").status_code == 200
    with pytest.raises(ConfigError, match="payments"):
        client.get("/1")


def test_declarations_of_equal_names_do_not_become_one() -> None:
    """`typing` keeps one of two equal Annotated; the settings of the other must not get lost."""
    plain = Annotated[AsyncCircuitBreaker, Depends(Breaker("a"))]
    set_up = Annotated[AsyncCircuitBreaker, Depends(Breaker("a", retry=Cooldown(5)))]
    depends = [get_args(each)[1].dependency for each in (plain, set_up)]
    assert depends == [Breaker("a"), Breaker("a")]
    assert "Cooldown(5)" not in repr(depends[0])
    assert "Cooldown(5)" in repr(depends[1])


def test_other_settings_are_an_error_without_install_too(fresh_name: str) -> None:
    app = FastAPI()

    @app.get("/0")
    async def first(
        given: Annotated[Any, Depends(Breaker(fresh_name, retry="Cooldown(7)"))],
    ) -> str:
        return given.name

    @app.get("/1")
    async def later(
        given: Annotated[Any, Depends(Breaker(fresh_name, retry="Cooldown(8)"))],
    ) -> str:
        return given.name

    _asked(app, "/0", "/0")
    with pytest.raises(ConfigError, match="Cooldown"):
        _asked(app, "/1")
    _asked(app, "/0")  # the first goes on as it was


# -- without install


def plain_app(name: str) -> FastAPI:
    """An application that has never heard of install()."""
    app = FastAPI()

    @app.get("/")
    async def root(
        breaker: Annotated[AsyncCircuitBreaker, Depends(Breaker(name, tripper="FailureStreak(1)"))],
    ) -> str:
        return await breaker.call(fine)

    @app.get("/fail")
    def fail(
        breaker: Annotated[
            CircuitBreaker, Depends(Breaker(name, sync=True, tripper="FailureStreak(1)"))
        ],
    ) -> None:
        breaker.call(int, "no number")

    return app


def test_nothing_need_be_installed(drive: Any, fresh_name: str) -> None:
    assert drive(plain_app(fresh_name)).get("/").json() == "charged"


def test_applications_without_install_share_the_process_wide_registry(
    over_test_client: Any, fresh_name: str
) -> None:
    one, two = (over_test_client(plain_app(fresh_name)) for _ in range(2))
    assert two.get("/").status_code == 200
    assert one.get("/fail").status_code == 500
    assert two.get("/").status_code == 500  # refused, and nobody makes a 503 of it


# -- several applications, several event loops


def test_two_applications_in_a_process_have_circuits_of_their_own(
    over_uvicorn: Any, policy: dict[str, Any]
) -> None:
    registries = [Registry(**policy) for _ in range(2)]
    one, two = (over_uvicorn(shop(registry)) for registry in registries)
    assert [one.get("/fail").status_code for _ in range(3)] == [500, 500, 503]
    assert two.get("/charge").status_code == 200
    assert [registry["payments"].state for registry in registries] == [State.OPEN, State.CLOSED]


def test_two_applications_may_share_a_registry(over_uvicorn: Any, registry: Registry) -> None:
    one, two = (over_uvicorn(shop(registry)) for _ in range(2))
    assert [one.get("/fail").status_code for _ in range(3)] == [500, 500, 503]
    assert two.get("/charge").status_code == 503


def test_one_application_on_event_loops_one_after_another(registry: Registry) -> None:
    app = shop(registry)

    async def ask(path: str) -> int:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return (await client.get(path)).status_code

    assert [asyncio.run(ask("/fail")) for _ in range(3)] == [500, 500, 503]
    assert asyncio.run(ask("/charge")) == 503


def test_one_application_on_event_loops_at_once(
    serve: Callable[..., Any], registry: Registry
) -> None:
    """Two servers, each with its loop and thread, and one circuit, made once."""
    app = shop(registry)
    urls = [serve(app, lifespan="off").url for _ in range(2)]
    start = threading.Barrier(8)
    statuses: list[int] = []

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False) as client:
            start.wait(20)
            statuses.extend(client.get("/charge").status_code for _ in range(5))

    threads = [threading.Thread(target=ask, args=(urls[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 40
    assert registry["payments"].info().totals.successes == 40


def test_on_trio(over_test_client: Any, registry: Registry) -> None:
    client = over_test_client(shop(registry), backend="trio")
    assert client.get("/charge").json()["result"] == "charged"
    assert client.get("/sync/charge").json()["result"] == "charged"
    assert [client.get("/fail").status_code for _ in range(3)] == [500, 500, 503]
