"""Services in processes of their own, which end when the demo does, however it ends."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import uvicorn


def serve(app: Any, **options: Any) -> None:
    """Serve on a free port, say which, and go on until standard input is closed.

    Args:
        app: the ASGI application.
        options: uvicorn's own.
    """
    server = uvicorn.Server(uvicorn.Config(app, timeout_keep_alive=60, **options))

    def stop_at_end_of_input() -> None:
        # The parent holds the other end, so this ends when the parent does, however it ends.
        sys.stdin.read()
        server.force_exit = server.should_exit = True

    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Connections inherit it. Without, the kernel holds answers back for 40 ms now and then.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        threading.Thread(target=stop_at_end_of_input, daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


class Running:
    """A service in a process of its own, which may still be starting."""

    def __init__(self, script: str, process: subprocess.Popen[str]) -> None:
        self.script = script
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    @cached_property
    def url(self) -> str:
        """Where it can be reached, as soon as it can be."""
        assert self.process.stdout
        url = self.process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{self.script} could not start, for the reason given above")
        return url


@contextmanager
def running(script: str, *arguments: str) -> Iterator[Running]:
    """Run a script of this folder that serves; its process is gone when the block is left."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"no_proxy": "127.0.0.1"},  # services call each other directly
        start_new_session=True,  # Ctrl-C is for the demo, which then stops the services
    ) as process:
        try:
            yield Running(script, process)
        finally:
            process.kill()
