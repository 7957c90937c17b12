"""The console: a page that says which circuits refuse calls, why, since when, and where."""

from fluxgate.console._exchange import Actor, Request, Response

__all__ = ["Actor", "Request", "Response"]
