"""`Retry-After`: a server says for how long to stay away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxgate import State

from .drivers import Flavour, Web
from .servers import Server, answer

pytestmark = pytest.mark.anyio

HOST = "example.org"
URL = f"http://{HOST}/"
DAY = 24 * 60 * 60.0
SYNC = [Flavour(library, "sync") for library in ("httpx", "httpx2")]


def respecting(web: Web, **options: Any) -> Any:
    return web.flux.HTTPPolicy(retry_after="respect", **options)


async def after(
    web: Web, header: str | bytes | None, status: int = 503, **options: Any
) -> float | None:
    """For how long the circuit is open after one such answer; None if it is not."""
    options.setdefault("policy", respecting(web))
    name = b"Retry-After"
    raw = header.encode("latin-1") if isinstance(header, str) else header
    headers = [] if raw is None else [(name, raw)]
    mock = web.mock(lambda _: web.lib.Response(status, headers=headers))
    async with web.client(web.guard(mock, **options)) as session:
        response = await session.get(URL)
    assert response.status_code == status
    assert [value for key, value in response.headers.raw if key == name] == (
        [] if raw is None else [raw]
    )
    info = web.info(HOST)
    assert (info.state is State.OPEN) == (info.retry_after is not None)
    return info.retry_after


def date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


async def test_seconds(web: Web) -> None:
    assert await after(web, "7") == 7
    assert web.info(HOST).last_trip is not None


@pytest.mark.parametrize("status", [403, 429, 503, 529])
async def test_four_statuses_open_at_once(web: Web, status: int) -> None:
    """One answer is enough: the server has said so itself."""
    assert await after(web, "120", status) == 120


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After-Ms": " 250 ", "Retry-After": "7"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "7"}, 7),
        ({"retry-after-ms": "99999999"}, 300),
        ({"retry-after-ms": "0", "Retry-After": "7"}, None),
        ({"retry-after-ms": "1e3"}, None),
    ],
)
async def test_milliseconds_go_first(
    web: Web, headers: dict[str, str], seconds: float | None
) -> None:
    mock = web.mock(lambda _: web.lib.Response(429, headers=headers))
    async with web.client(web.guard(mock, policy=respecting(web))) as session:
        await session.get(URL)
    assert web.info(HOST).retry_after == seconds


async def test_a_403_alone_is_an_answer(web: Web) -> None:
    assert await after(web, None, 403) is None
    assert web.counted(HOST) == {"successes": 1}


async def test_a_date(web: Web) -> None:
    seconds = await after(web, date(90))
    assert seconds is not None
    assert 80 <= seconds <= 91


@pytest.mark.parametrize("status", [200, 301, 404, 500, 502, 504])
async def test_other_statuses_do_not_open(web: Web, status: int) -> None:
    assert await after(web, "60", status) is None


@pytest.mark.parametrize("status", [429, 503])
async def test_by_default_the_breaker_decides_itself(web: Web, status: int) -> None:
    assert await after(web, "60", status, policy=web.flux.HTTPPolicy()) is None


async def test_without_the_header_the_tripper_decides(web: Web) -> None:
    assert await after(web, None) is None
    assert web.counted(HOST) == {"failures": 1}
    assert await after(web, None) == 30


async def test_too_many_requests_without_the_header_says_nothing(web: Web) -> None:
    assert await after(web, None, 429) is None
    assert web.counted(HOST) == {"ignored": 1}


async def test_it_is_refused_until_then_and_probed_after(web: Web) -> None:
    answers = [
        web.lib.Response(429, headers={"Retry-After": "45"}),
        web.lib.Response(200),
    ]
    guard = web.guard(web.mock(lambda _: answers.pop(0)), policy=respecting(web))
    async with web.client(guard) as session:
        await session.get(URL)
        web.clock.advance(44)
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(URL)
        assert caught.value.retry_after == 1
        web.clock.advance(1)
        assert (await session.get(URL)).status_code == 200
    assert web.state(HOST) is State.CLOSED


async def test_a_probe_that_is_told_to_wait(web: Web) -> None:
    web.half_open(HOST)
    assert await after(web, "300", 429) == 300
    assert web.info(HOST).probes == 0


async def test_it_never_shortens_an_opening(web: Web) -> None:
    """The breaker's own 30 seconds stand when the server asks for two."""
    web.registry[HOST].attempt().fail()
    seconds = await after(web, "2")
    assert seconds is not None
    assert seconds >= 30


async def test_absurdly_long_is_capped(web: Web) -> None:
    seconds = await after(web, "999999999")
    assert seconds is not None
    assert 0 < seconds <= DAY


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("9" * 30, id="30 digits"),
        pytest.param("9" * 10_000, id="10,000 digits"),  # more than int() takes
        "Fri, 31 Dec 9999 23:59:59 GMT",
        pytest.param("1" + "0" * 400, id="beyond a float"),
    ],
)
async def test_absurd_values_are_capped_or_dropped(web: Web, header: str) -> None:
    seconds = await after(web, header)
    assert seconds is None or 0 < seconds <= DAY


NONSENSE = [
    "",
    " ",
    "-5",
    "-0",
    "0",
    "00",
    "soon",
    "nan",
    "inf",
    "-inf",
    "1e9",
    "0x10",
    "1_000",
    "+ 7",
    "7 seconds",
    "7, 8",
    "\xb2",  # isdigit() says yes, int() says no
    "\xbd",
    "Fri, 99 Foo 2024 25:61:61 GMT",
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Wed, 21 Oct 2015 07:28:00",  # without a zone
    "Wed, 21 Oct 0000 07:28:00 GMT",
    "Thu, 01 Jan 1970 00:00:00 -9999",
    ",,,",
    "()" * 50,
]


@pytest.mark.parametrize("flavour", SYNC, ids=str, indirect=True)
@pytest.mark.parametrize("header", NONSENSE)
async def test_nonsense_and_the_past_open_nothing(web: Web, header: str) -> None:
    assert await after(web, header) is None
    assert web.counted(HOST) == {"failures": 1}


@pytest.mark.parametrize("header", ["-5", "0", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_a_429_with_nonsense_says_nothing(web: Web, header: str) -> None:
    assert await after(web, header, 429) is None
    assert web.counted(HOST) == {"ignored": 1}


@pytest.mark.parametrize("flavour", SYNC, ids=str, indirect=True)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.binary(max_size=40), st.integers().map(lambda n: str(n).encode())))
async def test_no_header_breaks_the_call(web: Web, header: bytes) -> None:
    web.registry.clear()
    seconds = await after(web, header)
    assert seconds is None or 0 < seconds <= DAY


async def test_several_headers_do_no_harm(web: Web) -> None:
    headers = [("Retry-After", "10"), ("Retry-After", "20")]
    mock = web.mock(lambda _: web.lib.Response(503, headers=headers))
    async with web.client(web.guard(mock, policy=respecting(web))) as session:
        assert (await session.get(URL)).status_code == 503
    info = web.info(HOST)
    assert info.retry_after is None or 0 < info.retry_after <= 30


async def test_only_its_own_host_is_held_open(web: Web) -> None:
    def handler(request: Any) -> Any:
        tired = request.url.host == HOST
        return web.lib.Response(503 if tired else 200, headers={"Retry-After": "9"})

    async with web.client(web.guard(web.mock(handler), policy=respecting(web))) as session:
        await session.get(URL)
        assert (await session.get("http://example.com")).status_code == 200
    assert web.state(HOST) is State.OPEN
    assert web.state("example.com") is State.CLOSED


async def test_a_state_set_by_hand_stays(web: Web) -> None:
    web.registry[HOST].disable()
    assert await after(web, "60") is None
    assert web.state(HOST) is State.DISABLED


@pytest.mark.parametrize("status", [429, 503])
async def test_over_the_wire(web: Web, server: Server, status: int) -> None:
    url = server.on(answer(status, {"Retry-After": "11"}, b"come back later"))
    async with web.client(web.guard(policy=respecting(web))) as session:
        assert (await session.get(url)).text == "come back later"
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(server.url)
    assert caught.value.retry_after == 11
    assert len(server.asked) == 1


async def test_the_body_of_such_an_answer_can_break(web: Web, server: Server) -> None:
    """What the headers said holds all the same."""
    from .servers import truncated

    url = server.on(truncated({"Retry-After": "11"}))
    async with web.client(web.guard(policy=respecting(web, statuses={200}))) as session:
        with pytest.raises(web.lib.RemoteProtocolError):
            await session.get(url)
    assert web.counted(server.key) == {"failures": 1}


@pytest.mark.parametrize("value", ["Respect", 5, True, "always"])
def test_a_misspelt_setting_is_refused(web: Web, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="retry_after"):
        web.flux.HTTPPolicy(retry_after=value)
