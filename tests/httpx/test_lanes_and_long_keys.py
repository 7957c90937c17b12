"""What a healthy request goes through, and keys that somebody made too long."""

from __future__ import annotations

import copy
import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from fluxgate import State, trippers
from fluxgate_httpx import by_host
from fluxgate_httpx._extension import HealthyExtensions

from .drivers import Web

pytestmark = pytest.mark.anyio

URL = "http://a.test/"


async def test_every_request_is_counted_whichever_way_it_went(web: Web) -> None:
    """The first ones are asked for, the others go through the lane."""
    async with web.client(web.guard(web.mock())) as session:
        for _ in range(600):
            response = await session.get(URL)
            assert response.extensions["fluxgate"] == {
                "key": "a.test",
                "probe": False,
                "refused": False,
            }
    assert web.counted("a.test") == {"successes": 600}


async def test_nobody_can_change_what_other_responses_tell(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        for _ in range(4):
            told = (await session.get(URL)).extensions["fluxgate"]
        with pytest.raises(TypeError, match=r"dict\(...\)"):
            told["key"] = "mine"
        for change in (told.clear, told.popitem, lambda: told.update(key="mine")):
            with pytest.raises(TypeError, match="shared"):
                change()
        assert (await session.get(URL)).extensions["fluxgate"]["key"] == "a.test"
    plain = {"key": "a.test", "probe": False, "refused": False}
    assert told == plain
    assert repr(told) == repr(plain)
    assert json.loads(json.dumps(told)) == plain
    for copied in (pickle.loads(pickle.dumps(told)), copy.deepcopy(told), dict(told)):
        assert type(copied) is dict
        assert copied == plain


def test_what_is_told_of_healthy_calls_is_bounded() -> None:
    told = HealthyExtensions()
    for number in range(10_000):
        assert told[str(number)]["key"] == str(number)
    assert len(told) <= 2048


async def test_the_result_tracker_sees_a_response_that_went_through_the_lane(web: Web) -> None:
    seen: list[int] = []
    registry = web.make_registry(result_tracker=lambda response: seen.append(response.status_code))
    async with web.client(web.guard(web.mock(), registry=registry)) as session:
        for _ in range(5):
            await session.get(URL)
    assert seen == [200] * 5


async def test_a_slow_answer_through_the_lane_is_slow(web: Web) -> None:
    def handler(_: Any) -> Any:
        web.clock.advance(2.0)
        return web.lib.Response(200)

    rule = trippers.MinRequests(5) & trippers.SlowRate(0.5, 1.0)
    registry = web.make_registry(tripper=rule)
    async with web.client(web.guard(web.mock(handler), registry=registry)) as session:
        for _ in range(5):
            await session.get(URL)
    assert registry["a.test"].state is State.OPEN


async def test_a_trip_says_which_statuses_and_errors_there_were(web: Web) -> None:
    answers = iter([503, 503, 503, None, None])

    def handler(request: Any) -> Any:
        if (status := next(answers)) is None:
            raise web.lib.ConnectTimeout("slow", request=request)
        return web.lib.Response(status)

    registry = web.make_registry(tripper=trippers.FailureStreak(5))
    async with web.client(web.guard(web.mock(handler), registry=registry)) as session:
        for _ in range(3):
            await session.get(URL)
        for _ in range(2):
            with pytest.raises(web.lib.ConnectTimeout):
                await session.get(URL)
    reason = registry["a.test"].info().last_trip
    assert reason is not None
    assert reason.errors[0] == ("HTTP 503", 3)
    assert reason.errors[1][0].endswith("ConnectTimeout")
    assert reason.errors[1][1] == 2


@pytest.mark.parametrize("where", ["extension", "function"])
async def test_keys_of_a_hundred_thousand_characters_are_cut(web: Web, where: str) -> None:
    """Logs, metrics and memory are spared, and two keys are still two circuits."""
    keys = ["k" * 100_000 + tail for tail in ("a", "b", "b", "\ud800")]
    now = iter(keys)
    guard = (
        web.guard(web.mock(), key=lambda _: next(now))
        if where == "function"
        else web.guard(web.mock())
    )
    async with web.client(guard) as session:
        for key in keys:
            own = {} if where == "function" else {"extensions": {"fluxgate": {"key": key}}}
            response = await session.get(URL, **own)
            assert len(response.extensions["fluxgate"]["key"]) < 100
    assert len(web.registry) == 3
    assert all(key.startswith("k" * 64 + "~") for key in web.registry)


async def test_a_key_of_512_characters_stays_as_it_is(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        for key in ("x" * 512, "y" * 513):
            await session.get(URL, extensions={"fluxgate": {"key": key}})
    assert [len(key) for key in web.registry] == [512, 81]


@pytest.mark.parametrize("key", [42, b"bytes", ["list"], ""])
async def test_a_key_function_that_gives_no_key_is_told_so(web: Web, key: Any) -> None:
    async with web.client(web.guard(web.mock(), key=lambda _: key)) as session:
        with pytest.raises(TypeError, match="a key is a string that is not empty"):
            await session.get(URL)


@pytest.mark.parametrize("netloc", [b"a.test", b"a.test:8080", b"[::1]:8080"])
def test_a_url_of_another_make_needs_no_more_than_its_netloc(netloc: bytes) -> None:
    assert by_host(SimpleNamespace(netloc=netloc, scheme="http")) == netloc.decode()
