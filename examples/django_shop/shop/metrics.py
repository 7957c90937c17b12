"""The circuits for Prometheus: read when it asks, so that measuring costs the calls nothing."""

import os

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from fluxgate.listeners import PrometheusCollector

registry = CollectorRegistry()
PrometheusCollector(registry)
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Several workers, each with circuits of its own: they write their figures to that folder
    # (empty it before the server starts), and whichever of them is asked adds them up.
    MultiProcessCollector(registry)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)
