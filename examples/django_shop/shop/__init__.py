"""A Django project behind circuits: every part is one to copy.

    cd examples/django_shop
    UPSTREAM_URL=http://127.0.0.1:9000 uvicorn shop.asgi:application --lifespan off
    UPSTREAM_URL=http://127.0.0.1:9000 gunicorn --threads 8 shop.wsgi

    POST /orders              an outgoing call through a circuit; open: 503 with Retry-After
    GET  /prices/<item>       the same with a fallback: the last price known
    GET  /receipts/<order>    a sync view on the same circuit as /orders
    GET  /search/<word>       a view that is itself behind a circuit; open: another view answers
    GET  /stock/<item>        a view that knows of no circuit: its HTTP client has one per host
    GET  /metrics             for Prometheus
    GET  /health/circuits     what the circuits are doing

It needs django, httpx, fluxgate-django, fluxgate-httpx, and prometheus-client for /metrics.
"""
