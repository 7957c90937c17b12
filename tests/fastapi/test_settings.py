"""`install(app, config=...)`: a mapping, a TOML file, the environment. Mistakes name their path."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fluxgate import AsyncCircuitBreaker, ConfigError
from fluxgate.config import read
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureStreak
from fluxgate_fastapi import Breaker, install, registry_of

TRIPPER = "MinRequests(10) & FailureRate(0.5)"
OTHER = "MinRequests(5) & FailureRate(0.25)"


def shop(config: Any, **options: Any) -> FastAPI:
    """An application that shows the policy of any circuit."""
    app = FastAPI()
    registry = install(app, config=config, **options)

    @app.get("/{name}")
    async def policy(name: str) -> dict[str, str]:
        policy = registry[name].policy
        return {"tripper": repr(policy.tripper), "retry": repr(policy.retry)}

    return app


def shown(app: FastAPI, name: str) -> dict[str, str]:
    with TestClient(app) as client:
        answer = client.get(f"/{name}")
    assert answer.status_code == 200
    return answer.json()


def mistakes(config: Any, **options: Any) -> str:
    """What is said at the application's start, at the latest."""
    with pytest.raises(ConfigError) as caught, TestClient(shop(config, **options)):
        pytest.fail("it has started")
    return str(caught.value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    pytest.importorskip("pydantic_settings")
    return monkeypatch


def from_environment() -> Any:
    from fluxgate_fastapi.settings import FluxgateSettings

    return FluxgateSettings()


def write(folder: Path, text: str) -> Path:
    path = folder / "fluxgate.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -- where they come from


def test_a_mapping_by_name() -> None:
    app = shop({"payments": {"tripper": OTHER, "retry": Cooldown(7)}})
    assert shown(app, "payments") == {"tripper": OTHER, "retry": "Cooldown(7)"}


def test_what_it_does_not_name_has_the_usual_policy() -> None:
    app = shop({"payments": {"tripper": OTHER}})
    assert shown(app, "stock") == {"tripper": TRIPPER, "retry": "Cooldown(60.0)"}


def test_defaults_hold_for_all() -> None:
    app = shop({"defaults": {"retry": "Cooldown(7)"}, "payments": {"tripper": OTHER}})
    assert shown(app, "payments") == {"tripper": OTHER, "retry": "Cooldown(7)"}
    assert shown(app, "stock")["retry"] == "Cooldown(7)"


def test_a_mapping_in_the_shape_of_a_file() -> None:
    config = {"DEFAULTS": {"RETRY": "Cooldown(7)"}, "BREAKERS": {"payments": {"TRIPPER": OTHER}}}
    assert shown(shop(config), "payments") == {"tripper": OTHER, "retry": "Cooldown(7)"}


def test_what_the_core_has_read() -> None:
    config = read({"breakers": {"payments": {"retry": "Cooldown(7)"}}})
    assert shown(shop(config), "payments")["retry"] == "Cooldown(7)"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_toml_file(tmp_path: Path, kind: Any) -> None:
    path = write(
        tmp_path,
        f'[defaults]\nretry = "Cooldown(7)"\n[breakers.payments]\ntripper = "{OTHER}"\n',
    )
    assert shown(shop(kind(path)), "payments") == {"tripper": OTHER, "retry": "Cooldown(7)"}


def test_environment_variables(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__PAYMENTS__TRIPPER", OTHER)
    environment.setenv("FLUXGATE__PAYMENTS__MAX_HALF_OPEN_CALLS", "3")
    environment.setenv("FLUXGATE__DEFAULTS__RETRY", "Cooldown(7)")
    app = shop(from_environment())
    assert shown(app, "payments") == {"tripper": OTHER, "retry": "Cooldown(7)"}
    assert shown(app, "stock")["retry"] == "Cooldown(7)"


def test_the_variable_of_the_documentation(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__PAYMENTS__TRIPPER", "MinRequests(10) & FailureRate(0.5)")
    assert shown(shop(from_environment()), "payments")["tripper"] == TRIPPER


def test_numbers_in_environment_variables_are_numbers(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__PAYMENTS__MAX_HALF_OPEN_CALLS", "3")
    environment.setenv("FLUXGATE__PAYMENTS__PROBE_TIMEOUT", "2.5")
    app = FastAPI()
    policy = install(app, config=from_environment())["payments"].policy
    assert (policy.max_half_open_calls, policy.probe_timeout) == (3, 2.5)


@pytest.mark.usefixtures("environment")
def test_an_environment_that_says_nothing() -> None:
    assert shown(shop(from_environment()), "payments")["tripper"] == TRIPPER


def test_settings_of_the_users_own(environment: pytest.MonkeyPatch) -> None:
    """A field `fluxgate` beside others."""
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class ShopSettings(BaseSettings):
        model_config = SettingsConfigDict(env_nested_delimiter="__")
        currency: str = "EUR"
        fluxgate: dict[str, dict[str, Any]] = {}

    environment.setenv("CURRENCY", "CHF")
    environment.setenv("FLUXGATE__PAYMENTS__TRIPPER", OTHER)
    settings = ShopSettings()
    assert settings.currency == "CHF"
    assert shown(shop(settings), "payments")["tripper"] == OTHER


def test_settings_with_fields_for_each_circuit() -> None:
    """Typed models, too; what has not been set is no setting."""
    from pydantic import BaseModel

    class Circuit(BaseModel):
        tripper: str | None = None
        retry: str | None = None

    class Circuits(BaseModel):
        payments: Circuit = Circuit()

    class ShopSettings(BaseModel):
        fluxgate: Circuits = Circuits()

    given = ShopSettings.model_validate({"fluxgate": {"payments": {"retry": "Cooldown(7)"}}})
    assert shown(shop(given), "payments") == {"tripper": TRIPPER, "retry": "Cooldown(7)"}


# -- what the code and the settings say together


def test_a_dependency_gets_the_configured_circuit(drive: Any) -> None:
    app = FastAPI()
    install(app, config={"payments": {"retry": "Cooldown(7)"}})

    @app.get("/")
    async def root(
        payments: Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))],
    ) -> str:
        return repr(payments.policy.retry)

    assert drive(app).get("/").json() == "Cooldown(7)"


def test_settings_in_the_code_and_in_the_configuration_are_an_error() -> None:
    app = FastAPI()
    install(app, config={"payments": {"retry": "Cooldown(7)"}})

    @app.get("/")
    async def root(
        payments: Annotated[AsyncCircuitBreaker, Depends(Breaker("payments", retry="Cooldown(8)"))],
    ) -> str:
        return payments.name

    with pytest.raises(ConfigError, match=r"payments.*configuration"), TestClient(app) as client:
        client.get("/")


def test_a_registry_and_settings_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"registry=.*config="):
        install(FastAPI(), registry=Registry(), config={})


# -- mistakes, each with its path, at the start


@pytest.mark.parametrize(
    ("settings", "path", "hint"),
    [
        ({"tripper": "FailureRat(0.5)"}, "payments.tripper", "FailureRate"),
        ({"tripper": "FailureRate(0.5"}, "payments.tripper", ""),
        ({"tripper": "FailureRate(5)"}, "payments.tripper", "5"),
        ({"tripper": 5}, "payments.tripper", "5"),
        ({"retry": ""}, "payments.retry", "Cooldown"),
        ({"retry": "shop.nowhere.RETRY"}, "payments.retry", "shop"),
        ({"triper": "FailureRate(0.5)"}, "payments.triper", "tripper"),
        ({"max_half_open_calls": "many"}, "payments.max_half_open_calls", "many"),
        ({"listeners": "one"}, "payments.listeners", "one"),
        ({"initial_state": "shut"}, "payments.initial_state", "shut"),
        ("no settings", "payments", "no settings"),
    ],
    ids=str,
)
def test_a_mistake_in_a_mapping(settings: Any, path: str, hint: str) -> None:
    told = mistakes({"payments": settings})
    assert path in told
    assert hint in told


def test_a_mistake_in_the_defaults() -> None:
    assert "defaults.retry" in mistakes({"defaults": {"retry": "Cooldow(5)"}})


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[breakers.payments]\ntripper = "FailureRat(0.5)"\n')
    told = mistakes(path)
    assert str(path) in told
    assert "payments.tripper" in told


@pytest.mark.parametrize(
    ("text", "hint"),
    [("[breakers", "TOML"), ("[payments]\nretry = 'Cooldown(5)'", "breakers")],
    ids=["not-toml", "no-such-table"],
)
def test_a_file_of_another_shape(tmp_path: Path, text: str, hint: str) -> None:
    path = write(tmp_path, text)
    told = mistakes(path)
    assert str(path) in told
    assert hint in told


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere.toml" in mistakes(tmp_path / "nowhere.toml")


def test_a_mistake_in_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__PAYMENTS__TRIPPER", "FailureRat(0.5)")
    told = mistakes(from_environment())
    assert "payments.tripper" in told
    assert "FailureRate" in told


def test_settings_without_the_field() -> None:
    from pydantic import BaseModel

    class ShopSettings(BaseModel):
        currency: str = "EUR"

    told = mistakes(ShopSettings())
    assert "ShopSettings" in told
    assert "fluxgate" in told


@pytest.mark.parametrize("config", [5, [("payments", {})], object()])
def test_something_else_is_refused(config: Any) -> None:
    with pytest.raises((ConfigError, TypeError), match="config="):
        install(FastAPI(), config=config)


def test_all_mistakes_are_told_at_once() -> None:
    told = mistakes({"payments": {"tripper": "FailureRat(0.5)"}, "stock": {"retri": "Never()"}})
    assert "payments.tripper" in told
    assert "stock.retri" in told


def test_a_server_does_not_start_with_a_mistake(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(shop({"payments": {"tripper": "FailureRat(0.5)"}}))
    assert not server.started
    assert "payments.tripper" in caplog.text


def test_listeners_in_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__PAYMENTS__LISTENERS", "builtins.print, logging.info")
    app = FastAPI()
    registry = install(app, config=from_environment())
    with TestClient(app):
        assert registry["payments"].name == "payments"


SECRET = "redis://shop:hunter2@redis.internal:6379/0"


@pytest.mark.parametrize(
    "variables",
    [
        {"FLUXGATE__FLEET": "memory://from-the-environment"},
        {"FLUXGATE__FLEET__URL": "memory://from-the-environment"},
        {"FLUXGATE__FLEET": '{"url": "memory://from-the-environment"}'},
        {"FLUXGATE": '{"fleet": "memory://from-the-environment"}'},
    ],
    ids=["url", "key", "json", "whole"],
)
def test_a_fleet_of_the_environment(
    environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    registry = install(FastAPI(), config=from_environment())
    assert repr(registry.fleet) == "<Fleet memory://from-the-environment>"
    assert registry.fleet is not None
    registry.fleet.close()


def test_a_fleets_witnesses(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__FLEET__URL", "memory://witnesses")
    environment.setenv("FLUXGATE__FLEET__WITNESSES", "3")
    environment.setenv("FLUXGATE__FLEET__ADVISORY", "true")
    registry = install(FastAPI(), config=from_environment())
    assert registry.fleet is not None
    assert (registry.fleet.witnesses, registry.fleet.advisory) == (3, True)
    registry.fleet.close()


def test_a_fleet_without_a_url(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__FLEET__WITNESSES", "3")
    with pytest.raises(ConfigError, match=r"fleet\.url: is missing: give one such as"):
        install(FastAPI(), config=from_environment())


@pytest.mark.parametrize(
    ("variable", "error"),
    [
        ("ULR", "fleet.ulr: unknown, or given twice; known are url, witnesses, advisory; did you"),
        ("WITNESES", "did you mean 'witnesses'?"),
        ("PASSWORD", "fleet.password: unknown, or given twice; known are url, witnesses"),
    ],
)
def test_an_option_that_fleets_do_not_have(
    environment: pytest.MonkeyPatch, variable: str, error: str
) -> None:
    environment.setenv(f"FLUXGATE__FLEET__{variable}", SECRET)
    with pytest.raises(ConfigError) as caught:
        install(FastAPI(), config=from_environment())
    assert error in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("setting", ["TRIPPER", "TRIPER", "RETRY"])
def test_a_circuit_that_is_called_fleet(environment: pytest.MonkeyPatch, setting: str) -> None:
    environment.setenv(f"FLUXGATE__FLEET__{setting}", "Never()")
    registry = install(FastAPI(), config=from_environment())
    assert registry.fleet is None
    assert "fleet" in registry.config.breakers


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"FLUXGATE__FLET": "redis://:hunter2@x"}, "flet: redis://… is a URL, and no circuit's"),
        ({"FLUXGATE__DEFAULTS__FLEET": "redis://:hunter2@x"}, "a fleet is for all circuits"),
        ({"FLUXGATE__PAYMENTS__FLEET": "redis://:hunter2@x"}, "payments.fleet: unknown setting"),
    ],
)
def test_a_url_in_the_wrong_place(
    environment: pytest.MonkeyPatch, variables: dict[str, str], error: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    said = mistakes(from_environment())
    assert error in said
    assert "hunter2" not in said


def test_a_variable_that_would_be_dropped(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__FLEET", SECRET)
    environment.setenv("FLUXGATE__FLEET__WITNESSES", "3")
    with pytest.raises(ValueError, match="write FLUXGATE__FLEET__URL in place of that") as caught:
        from_environment()
    assert "FLUXGATE__FLEET__WITNESSES is not read beside FLUXGATE__FLEET:" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("redis.internal:6379", "has no scheme: write sqlite:///path/to/file"),
        ("", "has no scheme"),
        ("nowhere://shop:hunter2@x", "unknown scheme 'nowhere'"),
    ],
)
def test_a_fleet_that_can_not_be(environment: pytest.MonkeyPatch, url: str, hint: str) -> None:
    environment.setenv("FLUXGATE__FLEET", url)
    with pytest.raises(ConfigError, match="fleet") as caught:
        install(FastAPI(), config=from_environment())
    assert hint in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_no_password_of_a_fleet_is_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FLUXGATE__FLEET", SECRET)
    settings = from_environment()
    assert "hunter2" not in f"{settings!r} {settings}"
    app = FastAPI()
    registry = install(app, fleet=SECRET)
    with pytest.raises(ConfigError, match=r"with other arguments \(config=, fleet=\)") as caught:
        install(app, config={"fleet": SECRET}, fleet=f"{SECRET}0")
    assert "hunter2" not in str(caught.value)
    assert registry.fleet is not None
    registry.fleet.close()


def test_a_circuit_called_fleet() -> None:
    """Its settings have no URL; and a text that is a dotted path names a factory."""
    registry = install(FastAPI(), config={"fleet": {"retry": "Cooldown(7)"}})
    assert (registry.fleet, repr(registry["fleet"].policy.retry)) == (None, "Cooldown(7)")
    registry = install(FastAPI(), config={"fleet": f"{__name__}.make"})
    assert registry.fleet is None


def make(name: str) -> AsyncCircuitBreaker:
    return AsyncCircuitBreaker(name)


# -- a prober

asked: list[int] = []


def ping() -> None:
    asked.append(1)


def test_a_prober_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    """It closes the circuit without a request, and ends with the lifespan."""
    environment.setitem(sys.modules, "shop_health", sys.modules[__name__])
    environment.setenv("FLUXGATE__PAYMENTS__PROBER", "shop_health.ping")
    environment.setenv("FLUXGATE__PAYMENTS__PERMIT", "All()")
    app = shop(from_environment())
    circuit = registry_of(app)["payments"]
    asked.clear()
    with TestClient(app):
        circuit.update(tripper=Closed() & FailureStreak(1))
        circuit.open_for(0.02)
        end = time.monotonic() + 30
        while circuit.state != "closed" and time.monotonic() < end:
            time.sleep(0.01)
        assert circuit.state == "closed"
        assert asked
    assert circuit.listeners == ()
