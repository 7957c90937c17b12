"""The settings: what is particular here are the app, the middleware and FLUXGATE.

The database is for the console's users alone: `python manage.py migrate`, `createsuperuser`.
"""

import os
import secrets
from pathlib import Path

HERE = Path(__file__).parent
# Made up here, it is another one in each worker, and sessions of one would not do for another.
SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_hex()
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "shop.urls"
TIME_ZONE = "UTC"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "fluxgate_django",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    # Ours stands above SessionMiddleware and whatever else asks a database.
    # Exceptions of views come to the last one first: it answers refusals, and only then does the
    # other answer errors. A refusal by an httpx transport is both.
    "shop.middleware.BadGatewayMiddleware",
    "fluxgate_django.middleware.CircuitBreakerMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", HERE.parent / "shop.sqlite3"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"

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
    # What workers share their circuits through, such as sqlite:///run/shop/fluxgate.db.
    "FLEET": os.environ.get("FLEET_URL"),
    "CONSOLE": {"CRITICAL": ["payments"]},
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
