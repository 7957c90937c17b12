"""What gunicorn's master loads before it forks: the circuits have been at work by then."""

from shop.wsgi import application

from fluxgate.testing import tripped
from fluxgate_django import breakers

__all__ = ["application"]

breakers["payments"].call(int)
tripped(breakers["search"])
