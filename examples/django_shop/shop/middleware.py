"""What the upstream's own errors become, while the circuit is closed."""

import httpx
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin


class BadGatewayMiddleware(MiddlewareMixin):
    """A 502 for an error of the upstream's that no view handled."""

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, httpx.HTTPError):
            return JsonResponse({"detail": "A service that this request needs failed"}, status=502)
        return None
