"""Real producers of access logs, spans and HARs, which serve a dependency that fails by plan.

    python tests/core/replay/producers.py tests/core/replay/data

makes the samples in `data/` anew, with nginx, apache2 and chromium from the PATH (Debian's packages
of these names) and the OpenTelemetry SDK's exporter `opentelemetry-exporter-otlp-json-file`.
"""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

NGINX_FORMAT = """\
log_format fluxgate escape=json '{"msec":"$msec","request_time":"$request_time",'
    '"status":"$status","proxy_host":"$proxy_host","upstream_addr":"$upstream_addr",'
    '"upstream_status":"$upstream_status","upstream_response_time":"$upstream_response_time"}';
"""
"""As docs/operate/replay.md shows it."""
APACHE_FORMAT = r'LogFormat "%{usec}t %D %>s %v \"%r\"" fluxgate'
"""As docs/operate/replay.md shows it."""
APACHE_COMBINED = (
    r'LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" %D" timed'
)
PATIENCE = 30.0


class Dependency(http.server.BaseHTTPRequestHandler):
    """`/200`, `/503`: that status; `/slow`: after 0.2 s; `/dead`: no answer at all."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.path.rpartition("/")[2].partition("?")[0]
        if asked == "dead":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if asked == "slow":
            time.sleep(0.2)
        self.send_response(int(asked) if asked.isdigit() else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Nothing on the screen."""


@contextlib.contextmanager
def dependency() -> Iterator[int]:
    """The port of one that runs."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dependency) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def call(port: int, *paths: str) -> None:
    """Ask for each path, once the server takes connections."""
    for path in paths:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE):
                    break
            except urllib.error.HTTPError as answer:
                answer.close()
                break
            except URLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """A server in the foreground, ended politely: it writes its log first."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        yield
    except BaseException:
        process.kill()
        print(process.communicate()[1], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def nginx(paths: tuple[str, ...]) -> str:
    """nginx's log of these calls. `static` is its own; `pair/…` is tried on two servers."""
    with tempfile.TemporaryDirectory(prefix="fluxgate-") as name, dependency() as upstream:
        folder, port, dead = Path(name), free_port(), free_port()
        folder.joinpath("nginx.conf").write_text(
            f"""
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {NGINX_FORMAT}
    access_log access.jsonl fluxgate;
    upstream shop {{ server 127.0.0.1:{upstream}; }}
    upstream pair {{ server 127.0.0.1:{dead} max_fails=0; server 127.0.0.1:{upstream} backup; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://shop; }}
        location /pair/ {{ proxy_pass http://pair; }}
        location /static {{ return 200 "static"; }}
    }}
}}
"""
        )
        with running(["nginx", "-p", name, "-c", "nginx.conf", "-e", "stderr"], folder):
            call(port, *paths)
        return folder.joinpath("access.jsonl").read_text()


def apache(paths: tuple[str, ...]) -> tuple[str, str]:
    """Apache's logs of these calls: in the precise format, and combined with `%D`."""
    with tempfile.TemporaryDirectory(prefix="fluxgate-") as name, dependency() as upstream:
        folder, port = Path(name), free_port()
        modules = Path("/usr/lib/apache2/modules")
        loaded = "\n".join(
            f"LoadModule {each}_module {modules}/mod_{each}.so"
            for each in ("mpm_event", "proxy", "proxy_http", "authz_core")
        )
        folder.joinpath("apache.conf").write_text(
            f"""
{loaded}
ServerRoot {name}
ServerName shop.example
PidFile {name}/pid
Listen 127.0.0.1:{port}
ErrorLog /dev/stderr
User www-data
Group www-data
{APACHE_FORMAT}
{APACHE_COMBINED}
CustomLog {name}/precise.log fluxgate
CustomLog {name}/combined.log timed
ProxyPass / http://127.0.0.1:{upstream}/
"""
        )
        folder.chmod(0o755)
        command = ["apache2", "-DFOREGROUND", "-f", f"{name}/apache.conf"]
        with running(command, folder):
            call(port, *paths)
        return (
            folder.joinpath("precise.log").read_text(),
            folder.joinpath("combined.log").read_text(),
        )


def otlp(path: Path) -> None:
    """Write spans of a client, as the SDK's exporter does."""
    from opentelemetry.exporter.otlp.json.file import FileSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode

    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(FileSpanExporter(path)))
    tracer = provider.get_tracer("sample")
    with tracer.start_as_current_span("GET /checkout", kind=SpanKind.SERVER):
        for status in (200, 404, 503):
            with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as span:
                span.set_attribute("http.request.method", "GET")
                span.set_attribute("server.address", "payments.example")
                span.set_attribute("server.port", 8443)
                span.set_attribute("http.response.status_code", status)
                if status >= 400:
                    span.set_attribute("error.type", str(status))
                    span.set_status(Status(StatusCode.ERROR))
        with (
            contextlib.suppress(TimeoutError),
            # Without the event of the exception: its stack names this machine's folders.
            tracer.start_as_current_span(
                "GET", kind=SpanKind.CLIENT, record_exception=False
            ) as span,
        ):
            span.set_attribute("server.address", "stock.example")
            span.set_attribute("error.type", "timeout")
            raise TimeoutError("no answer")
    provider.shutdown()


def har(path: Path) -> None:
    """Write the network panel of a Chromium, by playwright, which no dependency group has."""
    from importlib import import_module

    api: Any = import_module("playwright.sync_api")
    with dependency() as port, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        context = browser.new_context(record_har_path=path, record_har_content="omit")
        page = context.new_page()
        for asked in ("200", "404", "slow", "503", "dead"):
            with contextlib.suppress(api.Error):
                page.goto(f"http://127.0.0.1:{port}/{asked}")
        context.close()
        browser.close()


if __name__ == "__main__":
    into = Path(sys.argv[1])
    calls = ("200", "404", "slow", "503", "dead", "static", "pair/200", "pair/503")
    if shutil.which("nginx"):
        into.joinpath("nginx.jsonl").write_text(nginx(calls))
    if shutil.which("apache2"):
        precise, combined = apache(calls[:5])
        into.joinpath("apache.log").write_text(precise)
        into.joinpath("apache-combined.log").write_text(combined)
    otlp(into / "otlp.jsonl")
    if shutil.which("chromium") and find_spec("playwright"):
        har(into / "browser.har")
