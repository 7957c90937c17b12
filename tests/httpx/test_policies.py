"""Each host by its own rules: from a factory, from settings, from a TOML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, ConfigError, State, retries, trippers
from fluxgate.config import load, read
from fluxgate.registry import Registry

from .drivers import Web

pytestmark = pytest.mark.anyio

TOML = """
[defaults]
tripper = "MinRequests(4) & FailureRate(0.5)"
retry = "Cooldown(30)"

[breakers."api.stripe.com"]
tripper = "FailureStreak(1)"
retry = "Cooldown(5)"

[breakers."*.internal"]
tripper = "FailureStreak(2)"
initial_state = "metrics_only"
"""


async def failures_until_open(web: Web, guard: Any, url: str, most: int = 6) -> int | None:
    """How many failures it took; None if that many did nothing."""
    async with web.client(guard) as session:
        for failures in range(most + 1):
            try:
                await session.get(url)
            except web.flux.CircuitOpenError:
                return failures
    return None


def failing(web: Web) -> Any:
    return web.mock(lambda _: web.lib.Response(503))


# -- factories


@pytest.mark.parametrize("front", [CircuitBreaker, AsyncCircuitBreaker])
async def test_a_factory_by_key_may_return_either_front(web: Web, front: Any) -> None:
    asked: list[str] = []

    def factory(key: str) -> Any:
        asked.append(key)
        streak = 1 if key == "strict.test" else 3
        return front(key, tripper=trippers.FailureStreak(streak), clock=web.clock)

    guard = web.guard_class(failing(web), circuits=factory)
    assert await failures_until_open(web, guard, "http://strict.test") == 1
    assert await failures_until_open(web, guard, "http://other.test:8080") == 3
    assert asked == ["strict.test", "other.test:8080"]
    assert guard.registry["strict.test"].name == "strict.test"


async def test_a_class_is_a_factory(web: Web) -> None:
    guard = web.guard_class(web.mock(), circuits=CircuitBreaker)
    async with web.client(guard) as session:
        await session.get("http://a.test")
    assert web.counted("a.test", guard.registry) == {"successes": 1}


async def test_one_breaker_for_all_is_a_matter_of_the_factory(web: Web) -> None:
    """Many keys, one circuit: what all hosts fail for, all hosts are refused for."""
    shared = CircuitBreaker("everything", tripper=trippers.FailureStreak(2), clock=web.clock)
    guard = web.guard_class(failing(web), circuits=lambda _: shared)
    async with web.client(guard) as session:
        await session.get("http://a.test")
        await session.get("http://b.test")
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get("http://c.test")
    assert caught.value.name == "everything"


async def test_a_factory_that_returns_something_else_says_so(web: Web) -> None:
    guard = web.guard_class(web.mock(), circuits=lambda _: None)
    async with web.client(guard) as session:
        with pytest.raises(ConfigError, match="breaker"):
            await session.get("http://a.test")


async def test_a_result_tracker_sees_the_response(web: Web) -> None:
    """A breaker's own judgement of results still counts."""
    seen: list[Any] = []

    def factory(key: str) -> CircuitBreaker:
        def result_tracker(response: Any) -> bool:
            seen.append(response)
            return bool(response.headers.get("x-degraded"))

        return CircuitBreaker(key, result_tracker=result_tracker, clock=web.clock)

    answers = [web.lib.Response(200), web.lib.Response(200, headers={"x-degraded": "1"})]
    guard = web.guard_class(web.mock(lambda _: answers.pop(0)), circuits=factory)
    async with web.client(guard) as session:
        await session.get("http://a.test")
        await session.get("http://a.test")
    assert len(seen) == 2
    assert web.counted("a.test", guard.registry) == {"successes": 1, "failures": 1}


async def test_a_tracker_has_its_say_about_errors(web: Web) -> None:
    from fluxgate.trackers import TypeOf

    guard = web.guard_class(
        web.raising(web.lib.ReadTimeout("x")),
        circuits=lambda key: CircuitBreaker(key, tracker=TypeOf(web.lib.ConnectError)),
    )
    async with web.client(guard) as session:
        with pytest.raises(web.lib.ReadTimeout):
            await session.get("http://a.test")
    assert web.counted("a.test", guard.registry) == {"ignored": 1}


# -- settings


def config_file(folder: Path) -> Path:
    path = folder / "fluxgate.toml"
    path.write_text(TOML)
    return path


@pytest.mark.parametrize("form", ["path", "str", "config", "whole mapping", "mapping"])
async def test_settings_by_host_name(web: Web, tmp_path: Path, form: str) -> None:
    path = config_file(tmp_path)
    breakers = dict(load(path).breakers)
    forms: dict[str, Any] = {
        "path": path,
        "str": os.fspath(path),
        "config": load(path),
        "whole mapping": {"defaults": dict(load(path).defaults), "breakers": breakers},
        "mapping": {**breakers, "*": dict(load(path).defaults)},
    }
    guard = web.guard_class(failing(web), circuits=forms[form])
    assert await failures_until_open(web, guard, "https://api.stripe.com") == 1
    assert await failures_until_open(web, guard, "http://elsewhere.test") == 4
    assert guard.registry["api.stripe.com"].policy.retry == retries.Cooldown(5)
    assert guard.registry["elsewhere.test"].policy.retry == retries.Cooldown(30)


async def test_patterns(web: Web, tmp_path: Path) -> None:
    guard = web.guard_class(failing(web), circuits=config_file(tmp_path))
    for url in ("http://billing.internal", "http://deep.down.internal"):
        assert await failures_until_open(web, guard, url) is None
    assert guard.registry["billing.internal"].state is State.METRICS_ONLY
    assert guard.registry["billing.internal"].info().would_open is not None
    assert guard.registry["deep.down.internal"].state is State.METRICS_ONLY
    assert await failures_until_open(web, guard, "http://internal") == 4


async def test_a_host_in_the_settings_stands_for_all_its_ports(web: Web, tmp_path: Path) -> None:
    """Nobody who writes `"*.internal"` means port 80 alone."""
    guard = web.guard_class(failing(web), circuits=config_file(tmp_path))
    assert await failures_until_open(web, guard, "http://billing.internal:8080") is None
    assert guard.registry["billing.internal:8080"].state is State.METRICS_ONLY
    assert await failures_until_open(web, guard, "https://api.stripe.com:8443") == 1
    assert await failures_until_open(web, guard, "https://api.stripe.com") == 1  # their own circuit


async def test_a_host_with_a_port_in_the_settings_is_that_port(web: Web) -> None:
    settings = {
        "a.test:8080": {"tripper": "FailureStreak(1)"},
        "a.test": {"tripper": "FailureStreak(3)"},
    }
    guard = web.guard_class(failing(web), circuits=settings)
    assert await failures_until_open(web, guard, "http://a.test:8080") == 1
    assert await failures_until_open(web, guard, "http://a.test:9090") == 3
    assert await failures_until_open(web, guard, "http://a.test") == 3


async def test_settings_by_host_hold_for_origins(web: Web) -> None:
    settings = {"a.test": {"tripper": "FailureStreak(1)"}}
    guard = web.guard_class(failing(web), circuits=settings, key=web.flux.by_origin)
    assert await failures_until_open(web, guard, "https://a.test:8443") == 1
    assert list(guard.registry) == ["https://a.test:8443"]


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("API.Example.com", "https://api.example.com"),
        ("api.example.com.", "https://api.example.com"),
        ("https://api.example.com", "https://API.example.com"),
        ("HTTPS://Api.Example.com:443/", "https://api.example.com."),
        ("api.example.com:443", "https://api.example.com"),
        ("http://api.example.com:80", "http://api.example.com:80"),
        ("http://api.example.com:8080", "http://api.example.com:8080"),
        ("bücher.example", "https://bücher.example"),
        ("*.bücher.example", "https://shop.bücher.example:8443"),
        ("*.Internal", "http://search.internal:8080"),
        ("https://*.internal", "https://search.internal"),
        ("[2001:DB8:0::1]:8080", "http://[2001:db8::1]:8080"),
        ("2001:DB8::1", "http://[2001:db8::1]:8080"),
    ],
)
@pytest.mark.parametrize("key", ["by_host", "by_origin"])
@pytest.mark.parametrize("through", ["circuits", "registry"])
async def test_rules_as_hosts_are_written(
    web: Web, rule: str, url: str, key: str, through: str
) -> None:
    rules = {"other.test": {}, rule: {"tripper": "FailureStreak(3)"}}
    given: Any = rules if through == "circuits" else Registry(rules)
    options = {through: given, "key": getattr(web.flux, key)}
    guard = web.guard_class(failing(web), **options)
    assert await failures_until_open(web, guard, url) == 3


async def test_rules_tell_origins_apart(web: Web) -> None:
    rules = {
        "https://a.test": {"tripper": "FailureStreak(2)"},
        "http://a.test": {"tripper": "FailureStreak(3)"},
        "a.test:8080": {"tripper": "FailureStreak(4)"},
    }
    guard = web.guard_class(failing(web), circuits=rules, key=web.flux.by_origin)
    assert await failures_until_open(web, guard, "https://a.test") == 2
    assert await failures_until_open(web, guard, "http://a.test") == 3
    assert await failures_until_open(web, guard, "http://a.test:8080") == 4


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        (["https://a.test/v1"], r"https://a\.test/v1: .*without '/v1'"),
        (["a.test/v1"], "without '/v1'"),
        (["https://me@a.test"], "without 'me@'"),
        (["https://"], "names no host"),
        (["a b.test"], "names no host"),
        (["a.test:80000"], "no port 80000"),
        (["a.test", "A.test."], r"A\.test\.: it is the same circuit as 'a\.test'"),
        (["http://a.test", "https://a.test"], "key=by_origin"),
        (["*", "*.internal"], r"'\*' stands before it"),
        (["*.internal", "a.*.internal"], "put it first"),
    ],
)
async def test_rules_that_cannot_match(web: Web, rules: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        web.guard_class(web.mock(), circuits={each: {} for each in rules})


@pytest.mark.parametrize(
    "rules",
    [["billing/eu"], ["*.internal:8080", "*.internal", "*"], ["*.internal", "*.internal:8080"]],
)
async def test_rules_that_can_match(web: Web, rules: list[str]) -> None:
    web.guard_class(web.mock(), circuits={each: {} for each in rules})


async def test_any_name_with_ones_own_key(web: Web) -> None:
    rules: dict[str, Any] = {"https://a.test/v1": {}, "A": {}, "a": {"retry": "Cooldown(7)"}}
    guard = web.guard_class(web.mock(), circuits=rules, key=lambda _: "a")
    assert guard.registry["a"].policy.retry == retries.Cooldown(7)


async def test_a_named_key_finds_its_settings(web: Web) -> None:
    settings = {"billing": {"tripper": "FailureStreak(1)"}}
    guard = web.guard_class(failing(web), circuits=settings)
    async with web.client(guard) as session:
        extensions = {"fluxgate": {"key": "billing"}}
        await session.get("http://a.test", extensions=extensions)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get("http://b.test", extensions=extensions)


async def test_a_registry_with_settings_and_a_clock(web: Web) -> None:
    registry = web.make_registry(read({"breakers": {"a.test": {"retry": "Cooldown(7)"}}}))
    guard = web.guard(failing(web), registry=registry)
    assert await failures_until_open(web, guard, "http://a.test") == 2
    assert web.info("a.test", registry).retry_after == 7


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"a.test": {"tripper": "FailureRate(1.5)"}}, r"a\.test\.tripper.*ratio"),
        ({"a.test": {"tripperr": "FailureRate(0.5)"}}, "tripper"),
        ({"a.test": 42}, r"a\.test"),
    ],
)
async def test_wrong_settings_name_the_host_and_the_remedy(
    web: Web, settings: Any, complaint: str
) -> None:
    async def use() -> None:
        guard = web.guard_class(web.mock(), circuits=settings)
        async with web.client(guard) as session:
            await session.get("http://a.test")

    with pytest.raises(ConfigError, match=complaint):
        await use()


async def test_a_file_that_is_not_there(web: Web, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        web.guard_class(web.mock(), circuits=tmp_path / "nowhere.toml")


# -- HTTPPolicy itself


async def test_policies_are_values_that_may_be_shared(web: Web) -> None:
    policy = web.flux.HTTPPolicy(statuses=[500, 500, 503], ignore=(web.lib.ReadTimeout,))
    one = web.guard(web.mock(), policy=policy)
    other = web.guard(web.mock(), policy=policy, registry=web.make_registry())
    assert one.registry is not other.registry
    assert "500" in repr(policy)
    assert "503" in repr(policy)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"statuses": 500}, "statuses"),
        ({"statuses": "500"}, "statuses"),
        ({"statuses": {"500"}}, "statuses"),
        ({"statuses": {True}}, "statuses"),
        ({"statuses": {1000}}, "statuses"),
        ({"ignore": ValueError}, "ignore"),
        ({"ignore": ("ValueError",)}, "ignore"),
        ({"ignore": (int,)}, "ignore"),
        ({"stati": {500}}, "stati"),
    ],
)
def test_policies_that_make_no_sense_are_refused(
    web: Web, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        web.flux.HTTPPolicy(**arguments)


async def test_both_libraries_have_the_same_names(web: Web) -> None:
    import fluxgate_httpx

    assert len(set(web.flux.__all__)) == len(web.flux.__all__)
    assert set(fluxgate_httpx.__all__) <= set(web.flux.__all__) | {"__version__"}
    for name in web.flux.__all__:
        assert getattr(web.flux, name) is not None
    assert web.flux.HTTPPolicy is fluxgate_httpx.HTTPPolicy
    assert web.flux.by_origin is fluxgate_httpx.by_origin
