"""Targets of the console and the command line: requests and arguments of anybody."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from functools import cache
from typing import Any, Final
from unittest import mock

from fluxgate import CircuitBreaker, State
from fluxgate import cli as command_line
from fluxgate.cli._console.command import named_by
from fluxgate.console import Console, Request, Response
from fluxgate.console._act import read_form
from fluxgate.console._asgi import parameters
from fluxgate.console._names import id_of
from fluxgate.console._tokens import Tokens
from fluxgate.registry import Registry

from .inputs import Inputs
from .settings import EXPRESSIONS, FOLDER, TOKENS, harmless
from .targets import ENDS, Grown, target

ID: Final = id_of("payments")
PATHS: Final = (
    *("", "api/v1/state", f"circuits/{ID}", f"api/v1/circuits/{ID}", f"circuits/{ID}/force_open"),
    *(
        "audit",
        "api/v1/audit",
        f"api/v1/circuits/{ID}/open_for",
        f"api/v1/circuits/{ID}/disable",
        "static/console.css",
    ),
    *(
        "static/../_console.py",
        "api/",
        "/",
        "circuits/",
        f"circuits/{'0' * 24}",
        "\0",
        "\ud800",
        "x",
    ),
)
QUERY: Final = (
    *("filter=", "page=", "lang=", "ko", "en", "operation=", "&", "=", "%ff", "%00", "%", "+", "9"),
    *("9" * 5000, "-1", "payments", "\u0661", ";", "<script>", "a=" * 60),
)
NAMES: Final = (
    *("host", "origin", "sec-fetch-site", "content-length", "content-type", "accept-language"),
    *("accept-encoding", "if-none-match", "cookie", "x-forwarded-for", "authorization"),
)
VALUES: Final = (
    *("shop.example", "http://shop.example", "same-origin", "none", "0", "9" * 5000, "-1", "x"),
    *("application/json", "application/x-www-form-urlencoded", "text/html; charset=x", "ko;q=0.9"),
    *("ko, en;q=nan", "gzip", "gzip;q=0", "*", 'W/"x", *', "[::1]:80", "127.0.0.1", "[", "\xff"),
)
BODY: Final = (
    *(
        "note",
        "seconds",
        "name",
        "operation",
        "token",
        "a drill",
        "60",
        "nan",
        "inf",
        "-1",
        "1e999",
    ),
    *("payments", "x" * 64, "x" * 65, "\ud800", "\0", "a=" * 60),
)
HOST: Final = {"host": "shop.example", "origin": "http://shop.example"}
SECRET: Final = "a secret of the fuzzer's, which is long enough"


@cache
def _console() -> tuple[Console, CircuitBreaker]:
    registry = Registry()
    breaker = registry["payments"]
    assert isinstance(breaker, CircuitBreaker)
    breaker.attempt().fail("no")
    page = Console(
        registry, read=_reads, control=lambda _: "ann", secret=SECRET, single_process=True
    )
    ENDS.extend((page.close, _console.cache_clear))
    return page, breaker


def _reads(request: Request) -> str | None:
    return None if request.headers.get("authorization") == "x" else "ann"


def _fails(_: Request) -> Response:
    raise  # the error that is being handled


def _body(data: Inputs) -> bytes:
    kind = data.byte() % 4
    if kind == 0:
        return data.some()
    if kind == 1:
        return "&".join(f"{data.word(BODY)}={data.word(BODY)}" for _ in range(4)).encode(
            "utf-8", "replace"
        )
    sound: Any = {"note": "a drill", "seconds": 60, "operation": "x", "token": "5.x", "name": ""}
    return json.dumps(data.changed(sound, BODY), default=str).encode("utf-8", "replace")


def _headers(data: Inputs) -> dict[str, str]:
    found = dict(HOST) if data.byte() % 2 else {}
    for _ in range(data.byte() % 5):
        found[data.pick(NAMES)] = data.pick(VALUES) if data.byte() % 2 else data.word(VALUES)
    return found


def _whole(response: Response) -> None:
    assert 200 <= response.status < 500, response.status
    for name, value in response.headers:
        assert name.isascii()
        assert value.isascii()
        assert value.isprintable()
    headers = dict(response.headers)
    plain = "content-encoding" not in headers and response.body
    if plain and headers.get("content-type") == "application/json":
        json.loads(response.body)


@target(seeds=[bytes(range(n, n + 60)) for n in range(0, 200, 40)], tokens=(*QUERY, *BODY))
def console_request(data: Inputs) -> None:
    """A request of any shape has a response that isn't a 500; without a token it moves nothing."""
    page, breaker = _console()
    path = data.pick(PATHS) if data.byte() % 4 else data.word(PATHS)
    kind = data.byte() % 8
    method = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "", data.word())[kind]
    query = parameters(data.phrase(QUERY, 12))
    request = Request(
        method=method,
        path=path,
        root=data.pick(("/", "/circuits/", "//evil.example/", "/\u00e9/", "/\ud800/")),
        query=query,
        headers=_headers(data),
        body=_body(data),
        peer=data.pick((None, "192.0.2.7", "::1", "x", "\ud800")),
        secure=data.byte() % 2 == 0,
    )
    with mock.patch.object(page, "failed", _fails):
        _whole(page.handle(request))
    assert all(entry.outcome != "done" for entry in page.audit()[:2])
    assert breaker.state is State.CLOSED


def _scope(data: Inputs) -> dict[str, Any]:
    return {
        "type": "http",
        "method": data.pick(("GET", "POST", "HEAD")),
        "path": "/" + data.pick(PATHS),
        "root_path": data.pick(("", "/circuits", "/\u00e9")),
        "scheme": data.pick(("http", "https")),
        "query_string": data.phrase(QUERY, 12).encode("utf-8", "replace"),
        "headers": [
            (name.encode(), value.encode("latin-1", "replace"))
            for name, value in _headers(data).items()
        ],
        "client": data.pick((None, ("192.0.2.7", 5))),
    }


@target(seeds=[bytes(range(n, n + 60)) for n in range(0, 200, 40)], tokens=(*QUERY, *BODY))
def console_fronts(data: Inputs) -> None:
    """The same through ASGI and WSGI, as servers hand requests on."""
    page, _ = _console()
    scope, body = _scope(data), _body(data)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    async def in_thread(function: Any) -> Response:
        found: Response = function()
        return found

    with mock.patch.object(page, "failed", _fails):
        asgi = page.asgi
        with mock.patch.object(asgi, "_in_thread", in_thread), contextlib.suppress(StopIteration):
            asgi(scope, receive, send).send(None)
        assert sent[0]["status"] < 500
        environ = {
            "REQUEST_METHOD": scope["method"],
            "PATH_INFO": scope["path"].encode("utf-8", "replace").decode("latin-1"),
            "SCRIPT_NAME": scope["root_path"].encode().decode("latin-1"),
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "CONTENT_LENGTH": data.pick((str(len(body)), "", "x", "-5", "9" * 5000, "\u00b2")),
            "CONTENT_TYPE": data.pick(VALUES),
            "wsgi.url_scheme": scope["scheme"],
            "wsgi.input": io.BytesIO(body),
        }
        for name, value in _headers(data).items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        status: list[Any] = []
        list(page.wsgi(environ, lambda *given: status.extend(given)))
        assert int(status[0].split(" ")[0]) < 500


def _form(text: str) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        read_form(
            Request(
                "POST", "", headers={"content-type": kind}, body=text.encode("utf-8", "replace")
            )
        )
    parameters(text)


@target(
    seeds=[b'\0{"note":"a drill","seconds":60}', b"\1note=a+drill&seconds=60"],
    tokens=(*BODY, "{", "}", "[", '"', ":", ",", "&", "=", "%", "+", "\\u"),
    grown=Grown(_form, ("{", '{"a":', "[", '"', "&", "a=", "%", "+", ";", "\\u", "1")),
)
def console_form(data: Inputs) -> None:
    """A form of any bytes has fields in bounds, or a problem."""
    kind = data.pick(("application/json", "application/x-www-form-urlencoded", "x"))
    headers = {"content-type": kind, "content-length": data.pick(("0", "5", "9" * 5000, "\u00b2"))}
    form = read_form(Request("POST", "", headers=headers, body=data.rest()))
    assert form.seconds is None or 0 < form.seconds <= 1e9
    assert form.problem is None or 400 <= form.problem.status < 500
    for text in (form.note, form.name, form.operation, form.token):
        assert isinstance(text, str)


@target(seeds=[b"\0\0\0\0", bytes(range(30))], tokens=BODY)
def console_token(data: Inputs) -> None:
    """A token is good for what it was made for, and no other is."""
    tokens = Tokens(SECRET.encode(), lambda: 1764312000.0)
    parts = [data.word(BODY) for _ in range(4)]
    sound = tokens.sign(*parts)
    assert tokens.check(sound, *parts)
    other = [data.word(BODY) for _ in range(4)]
    assert tokens.check(sound, *other) == (other == parts)
    pair = f"ann{data.word(BODY)}:{SECRET}{data.word(BODY) * (data.byte() % 2)}"
    given = base64.b64encode(pair.encode("utf-8", "replace")).decode()
    at = data.byte() % len(given)
    given = given[:at] + data.word(BODY) * (data.byte() % 2) + given[at:]
    assert named_by(f"Basic {given}", SECRET) is None or SECRET in base64.b64decode(given).decode()
    forged = data.changed(sound, BODY)
    if isinstance(forged, str):
        assert tokens.check(forged, *parts) == (forged == sound)


# -- the command line

WORDS: Final = (
    *("explain", "diagram", "fleet", "replay", "--help", "--version", "list", "show", "open", "-"),
    *(
        "--json",
        "--plain",
        "--window",
        "--retry",
        "--seconds",
        "--note",
        "--by",
        "--calls",
        "--",
        "",
    ),
    *(
        "memory://fuzz",
        "redis://:hunter2@",
        "payments",
        "0",
        "-1",
        "1e999",
        "nan",
        "9" * 5000,
        "svg",
    ),
    *("--format", "--map", "--failed", "--key", "--config", "--simulate", "--seed", "--permit"),
    *(text for _, text in EXPRESSIONS),
    *("start=ts", "status >= 500", "recorded", "/nowhere", "\udcff", "\x1b[31m", "--tracker", "é"),
)


@target(tokens=(*WORDS, *TOKENS), seeds=[b"\4\0\1\0\5", b"\3\1\0\2", b"\4\2\6\0\3\1"])
@harmless
def arguments(data: Inputs) -> None:
    """Arguments of the command give 0, 1 or 2, and never a traceback."""
    command = ("explain", "diagram", "fleet", "replay", data.word(WORDS))[data.byte() % 5]
    if command == "console":
        return  # it serves until it is stopped
    given = [command, *(data.pick(WORDS) for _ in range(data.byte() % 6))]
    if data.byte() % 3 == 0:
        given.append(data.phrase(TOKENS, 30))
    if any(
        each.startswith("wa") or each.startswith(("-o", "--o", "--w", "--html")) for each in given
    ):
        return  # `watch` goes on until it is stopped; and no file is written
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    here = os.getcwd()
    os.chdir(FOLDER)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command_line.main(given)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    finally:
        os.chdir(here)
    assert code in (0, 1, 2)
