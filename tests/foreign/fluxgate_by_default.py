"""A pytest plugin: what a suite makes gets our part, as if an application had put it there.

`FLUXGATE_FOREIGN` names the suite; where it is empty, nothing is changed. Each session, client and
application has circuits of its own, with the default policy.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any


def after(kind: type, addition: Callable[[Any], None]) -> None:
    """Have `addition(self)` follow the constructor of a class."""
    original = kind.__init__

    @functools.wraps(original)
    def with_addition(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        addition(self)

    kind.__init__ = with_addition


def requests() -> None:
    """Every `Session`, those of `requests.get()` included, goes through our adapter."""
    import requests

    from fluxgate_httpx.requests import protect

    after(requests.Session, protect)


def httpx() -> None:
    """Every client's transport is wrapped, one that it was given included."""
    import httpx

    from fluxgate_httpx import protect

    after(httpx.Client, protect)
    after(httpx.AsyncClient, protect)


def starlette() -> None:
    """Every application is one that `install()` was called for."""
    from starlette.applications import Starlette

    from fluxgate_fastapi import install

    after(Starlette, install)


def fastapi() -> None:
    """The same for FastAPI's."""
    from fastapi import FastAPI

    from fluxgate_fastapi import install

    after(FastAPI, install)


SUITES = {each.__name__: each for each in (requests, httpx, starlette, fastapi)}

if chosen := os.environ.get("FLUXGATE_FOREIGN"):
    SUITES[chosen]()
