"""The settings: what is particular here are the app, the middleware and FLUXGATE."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "no secret: this project keeps nothing to protect")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "shop.urls"
TIME_ZONE = "UTC"

INSTALLED_APPS = ["fluxgate_django"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    # Ours stands above SessionMiddleware and whatever else asks a database; there is none here.
    # Exceptions of views come to the last one first: it answers refusals, and only then does the
    # other answer errors. A refusal by an httpx transport is both.
    "shop.middleware.BadGatewayMiddleware",
    "fluxgate_django.middleware.CircuitBreakerMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [os.path.join(os.path.dirname(__file__), "templates")],
    }
]

FLUXGATE = {
    "DEFAULTS": {
        "TRIPPER": "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.5, 1.0))",
        "TRACKER": 'TypeOf("httpx.HTTPError")',
        "RETRY": "Backoff(5, jitter_ratio=0.1)",
        "LISTENERS": ["shop.alerts.listener"],
    },
    "BREAKERS": {
        "payments": {"TRIPPER": "MinRequests(5) & FailureRate(0.5)"},
        # One order that fails costs more than one price that is old.
        "prices": {"TRIPPER": "MinRequests(10) & FailureRate(0.8)"},
        "search": "shop.breakers.make_search",
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"fluxgate": {"handlers": ["console"], "level": "INFO"}},
}

UPSTREAM_URL = os.environ.get("UPSTREAM_URL", "http://127.0.0.1:9000")
# Seconds. It belongs inside the protected call, as here, where the HTTP client has it: then it is
# a failure that the circuit counts. Around the call it would be a cancellation, which says nothing.
UPSTREAM_TIMEOUT = float(os.environ.get("UPSTREAM_TIMEOUT", "2"))
