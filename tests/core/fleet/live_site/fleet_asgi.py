"""A FastAPI application with one endpoint."""

from typing import Any

import httpx
from fastapi import FastAPI, Response
from fleet_settings import SETTINGS, UPSTREAM, seen

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError

application = FastAPI()
breaker = AsyncCircuitBreaker("payments", **SETTINGS)
client = httpx.AsyncClient(base_url=UPSTREAM, trust_env=False, timeout=30.0)


@breaker
async def charge() -> None:
    (await client.get("/charge")).raise_for_status()


@application.get("/pay")
async def pay() -> Response:
    try:
        await charge()
    except CallNotPermittedError:
        return Response(status_code=503)
    except httpx.HTTPError:
        return Response(status_code=502)
    return Response()


@application.get("/seen")
async def seen_by_this_worker() -> dict[str, Any]:
    return seen(breaker)
