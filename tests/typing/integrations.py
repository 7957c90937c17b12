"""Never run, only type-checked: what the integrations promise."""

from collections.abc import Coroutine
from typing import Any, assert_type

from django.http import HttpRequest, HttpResponse
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

import fluxgate_django
import fluxgate_fastapi
import fluxgate_httpx
from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
from fluxgate_django import breakers, circuit, refusal_of

assert_type(fluxgate_django.__version__, str)
assert_type(fluxgate_fastapi.__version__, str)
assert_type(fluxgate_httpx.__version__, str)

# -- Django

assert_type(breakers["payments"], CircuitBreaker)
assert_type(breakers.asynchronous["payments"], AsyncCircuitBreaker)


@circuit("search", on_open="shop.views.closed")
def search(request: HttpRequest, word: str) -> HttpResponse:
    return HttpResponse(request.path + word)


@circuit("search")
async def search_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.path)


assert_type(refusal_of(HttpRequest()), CallNotPermittedError)
assert_type(search(HttpRequest(), "flux"), HttpResponse)
answer: Coroutine[Any, Any, HttpResponse] = search_async(HttpRequest())

# -- FastAPI


def page(request: Request, refusal: CallNotPermittedError) -> HTMLResponse | None:
    return HTMLResponse(refusal.name) if request.method == "GET" else None


fluxgate_fastapi.install(FastAPI(), hook=page)
