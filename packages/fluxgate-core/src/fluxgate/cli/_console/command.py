"""The command `python -m fluxgate console`: the console of a fleet, without an application."""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import re
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from fluxgate._naming import printable
from fluxgate.cli.fleet import user
from fluxgate.errors import ConfigError
from fluxgate.fleet import Fleet
from fluxgate.fleet._url import open_store, redacted

if TYPE_CHECKING:
    from fluxgate.cli._console.server import Server

PORT: Final = 8642
VARIABLE: Final = "FLUXGATE_CONSOLE_TOKEN"
"""The environment variable of the token: what stands in a command is seen by every user."""
SHORTEST: Final = 16
"""Characters of a token, at least."""
_EPILOG: Final = """\
examples:
  python -m fluxgate console sqlite:///run/shop/fluxgate.db
  python -m fluxgate console redis://redis.internal:6379/0 --control
  FLUXGATE_CONSOLE_TOKEN=... python -m fluxgate console URL --bind 0.0.0.0:8642

With a token the browser asks for a name, which stands in the audit, and for the token as password.
Tokens and pages travel as they are: put a proxy with TLS in front, or an SSH tunnel in place of
--bind. The exit status is 2 where the store or the address can't be used.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "console",
        help="serve a page that shows a fleet's circuits, and may control them",
        description="Serve the console of a fleet until interrupted: which circuits refuse calls, "
        "why, since when, and in which processes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="such as redis://host:6379/0 or sqlite:///path")
    parser.add_argument(
        "--bind",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{PORT}",
        help="where to listen (default %(default)s; port 0: any that is free)",
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"the password, {SHORTEST} characters or more, which --bind beyond loopback needs; "
        f"better in the environment, as {VARIABLE}",
    )
    parser.add_argument(
        "--control", action="store_true", help="let who is let in open, disable and reset circuits"
    )
    parser.add_argument(
        "--critical",
        metavar="NAME",
        action="append",
        default=[],
        help="a circuit whose name must be typed before it is disabled; may be repeated",
    )
    parser.add_argument("--service", metavar="NAME", help="what stands at the head of the page")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    host, port = address_of(options.bind)
    token = options.token or os.environ.get(VARIABLE) or None
    if token is not None and len(token) < SHORTEST:
        raise ConfigError(
            f"the token is too short: give {SHORTEST} characters or more, such as "
            f"{secrets.token_urlsafe(24)}"
        )
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--bind {printable(options.bind, None)} is reached from other machines: give a token "
            f"in {VARIABLE}, or bind to 127.0.0.1 and come by an SSH tunnel"
        )
    # Neither the server nor the pages are needed by the other commands.
    from fluxgate.cli._console.server import listening

    # A file that isn't there is for the processes of the fleet to make.
    store = open_store(options.url, existing=True)
    try:
        store.scan()
    finally:
        store.close()
    with suppress(KeyboardInterrupt), Fleet(options.url) as fleet, listening(host, port) as server:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _serve(fleet, server, token, options)
    return 0


def _serve(fleet: Fleet, server: Server, token: str | None, options: argparse.Namespace) -> None:
    from fluxgate.cli._console.server import Asking
    from fluxgate.console import Console

    who = _by_user() if token is None else _by_token(token)
    console = Console(
        fleet,
        read=who,
        control=who if options.control else None,
        local_only=token is None,
        critical=options.critical,
        secret=secrets.token_bytes(32),  # there is one process
        service=options.service,
    )
    try:
        app: Any = console.wsgi
        if token is not None:
            app = Asking(app, lambda header: named_by(header, token) is not None)
        server.set_app(app)
        rights = "with controls" if options.control else "to read; --control lets it act"
        print(f"{redacted(options.url)} at {server.url} ({rights}); Ctrl+C ends it", flush=True)
        server.serve_forever()
    finally:
        console.close()


# -- who it is


def _by_user() -> Callable[[Any], str]:
    name = user() or "local"
    return lambda _: name


def _by_token(token: str) -> Callable[[Any], str | None]:
    """Who has given the token, by the name that stands beside it."""

    def who(request: Any) -> str | None:
        return named_by(request.headers.get("authorization", ""), token)

    return who


def named_by(header: str, token: str) -> str | None:
    """The name in a header of HTTP Basic whose password is the token; None of any other."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except ValueError:  # no base64, no UTF-8, or not even ASCII
        return None
    if not hmac.compare_digest(password.encode(), token.encode(errors="surrogatepass")):
        return None
    return " ".join(name.split()) or "somebody"


# -- where to listen


def address_of(bind: str) -> tuple[str, int]:
    """The host and the port of `--bind`: `HOST:PORT`, `HOST`, `[::1]:PORT`, `:PORT`.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:(?P<port>[0-9]{1,5}))?", bind)
    port = PORT if found is None or found["port"] is None else int(found["port"])
    if found is None or port > 65535:
        raise ConfigError(
            f"--bind {printable(repr(bind), None)} is no address: write HOST:PORT, such as "
            f"127.0.0.1:{PORT} or [::1]:{PORT}"
        )
    return found["host"].strip("[]") or "127.0.0.1", port


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
