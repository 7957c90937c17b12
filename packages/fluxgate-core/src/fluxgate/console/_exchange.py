"""Requests and responses of the console as plain values, between the fronts and `respond()`."""

from __future__ import annotations

from collections.abc import Mapping

from fluxgate._values import Record

__all__ = ["Actor", "Request", "Response"]


class Request(Record):
    """An HTTP request to the console, without a framework.

    Attributes:
        method: such as `GET`, in upper case.
        path: the path below the mount, decoded, without a leading slash: `api/v1/state`.
        root: the path of the mount as a browser sees it, decoded; it begins and ends with a slash.
        query: the parameters after `?`; of one that is repeated, the last.
        headers: by name in lower case; a header that is repeated is joined by `, `.
        body: the body.
        peer: the address that the connection comes from; None where nobody knows.
        secure: whether the browser speaks HTTPS with the service.
        trusted: whether the front has proved already that the console's own page made the request
            (Django's CSRF check); no token is asked for then.
        fields: names and values of hidden fields that the front wants in each form, for that.
    """

    method: str
    path: str
    root: str = "/"
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    peer: str | None = None
    secure: bool = False
    trusted: bool = False
    fields: tuple[tuple[str, str], ...] = ()


class Response(Record):
    """The response to a `Request`.

    Attributes:
        status: the HTTP status.
        headers: names (lower case) and values, all that are to be sent but those of the connection.
        body: the body; empty of a response to `HEAD`, and of a 304.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Actor(Record):
    """Whoever is allowed to read the console.

    Attributes:
        name: such as a user's name; it stands in the audit and in the reasons of controls.
        control: whether it may use the controls, too.
    """

    name: str
    control: bool = False
