"""SDKs of model providers: a refusal that they don't retry, and streams that break off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from fluxgate_httpx import HTTPPolicy
from fluxgate_httpx.httpx2 import CircuitOpenError, protect, registry_of

from ..servers import Exchange, Server, answer, stalled

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")


def at_once(refusal: CircuitOpenError) -> httpx2.Response:
    """The README's: a 503 that says not to try again."""
    headers = {"x-should-retry": "false"}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(round(refusal.retry_after))
    return httpx2.Response(503, headers=headers, json={"error": {"message": str(refusal)}})


def ask_openai(server: Server, client: httpx2.Client, **options: Any) -> Any:
    sdk = openai.OpenAI(api_key="x", base_url=f"{server.url}/v1", http_client=client)
    return sdk.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hello"}], **options
    )


def ask_anthropic(server: Server, client: httpx2.Client, **options: Any) -> Any:
    sdk = anthropic.Anthropic(api_key="x", base_url=server.url, http_client=client)
    return sdk.messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}], **options
    )


ASK = pytest.mark.parametrize("ask", [ask_openai, ask_anthropic], ids=["openai", "anthropic"])


@ASK
def test_a_refusal_is_not_retried(server: Server, ask: Callable[..., Any]) -> None:
    """Without a pause, which an SDK makes before each try."""
    seen: list[CircuitOpenError] = []

    def on_open(refusal: CircuitOpenError) -> httpx2.Response:
        seen.append(refusal)
        return at_once(refusal)

    with protect(httpx2.Client(), on_open=on_open) as client:
        registry_of(client)[server.key].force_open()
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
            ask(server, client)
    error: Any = caught.value
    assert error.status_code == 503
    assert "is forced open" in str(error)
    assert len(seen) == 1
    assert server.asked == []


@ASK
def test_529_opens(server: Server, ask: Callable[..., Any]) -> None:
    """Its own retries are calls of the circuit, and a rate limit is none of its failures."""
    server.otherwise = answer(529, {"retry-after-ms": "2500", "x-should-retry": "false"})
    policy = HTTPPolicy(retry_after="respect")
    with protect(httpx2.Client(), policy=policy) as client:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
            ask(server, client)
        info = registry_of(client)[server.key].info()
    assert info.totals.failures == 1
    assert info.retry_after == pytest.approx(2.5, abs=0.5)


@ASK
def test_a_stream_that_stalls(server: Server, ask: Callable[..., Any]) -> None:
    def behave(exchange: Exchange) -> None:
        stalled({"Content-Type": "text/event-stream"})(exchange)

    server.otherwise = behave
    with protect(httpx2.Client(timeout=httpx2.Timeout(5, read=0.1))) as client:
        with pytest.raises((httpx2.ReadTimeout, openai.APIError, anthropic.APIError)):
            list(ask(server, client, stream=True))
        totals = registry_of(client)[server.key].info().totals
    assert (totals.failures, totals.successes) == (1, 0)
