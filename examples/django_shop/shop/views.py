"""Every way of having a circuit in a view. None of them handles a refusal: the middleware does."""

import httpx
from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from fluxgate import CallNotPermittedError
from fluxgate_django import breakers, circuit
from shop import clients

known_prices: dict[str, str] = {}


class OrderForm(forms.Form):
    item = forms.RegexField(r"\A[a-z]{1,20}\Z")
    amount = forms.IntegerField(min_value=1, max_value=1000)


@csrf_exempt  # it asks for no cookie, so there is nothing that a foreign page could use
@require_POST
async def order(request: HttpRequest) -> HttpResponse:
    form = OrderForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    payments = breakers.asynchronous["payments"]
    path = f"/pay/{form.cleaned_data['item']}"
    return JsonResponse({"text": await payments.call(clients.get_async, path)})


@require_safe
def receipt(_request: HttpRequest, number: int) -> HttpResponse:
    text = breakers["payments"].call(clients.get, f"/receipt/{number}")  # the same circuit
    return JsonResponse({"text": text})


@require_safe
async def price(_request: HttpRequest, item: str) -> HttpResponse:
    def last_known(error: Exception) -> JsonResponse:
        # A fallback gets every error: answer to those that are meant, and raise the others.
        if item in known_prices and isinstance(error, (CallNotPermittedError, httpx.HTTPError)):
            return JsonResponse({"text": known_prices[item], "fresh": False})
        raise error

    async def fetch() -> JsonResponse:
        known_prices[item] = text = await clients.get_async(f"/price/{item}")
        return JsonResponse({"text": text, "fresh": True})

    return await breakers.asynchronous["prices"].call_with_fallback(fetch, last_known)


def no_results(_request: HttpRequest, word: str) -> HttpResponse:
    """What answers while the circuit of `search` is open."""
    return JsonResponse({"word": word, "results": [], "complete": False})


@require_safe
@circuit("search", on_open=no_results)
def search(_request: HttpRequest, word: str) -> HttpResponse:
    found = clients.get(f"/search/{word}")
    return JsonResponse({"word": word, "results": [found], "complete": True})


@require_safe
def stock(_request: HttpRequest, item: str) -> HttpResponse:
    answer = clients.with_circuits.get(f"/stock/{item}")
    return JsonResponse({"text": answer.raise_for_status().text})


@require_safe
def circuits(_request: HttpRequest) -> HttpResponse:
    """What the circuits of this process are doing."""
    found = {}
    for name, breaker in sorted(breakers.items()):
        info = breaker.info()
        found[name] = {
            "state": info.state,
            "retry_after": info.retry_after,
            "last_trip": info.last_trip and str(info.last_trip),
        }
    return JsonResponse(found)
