"""Instructions of a call or a request, counted by valgrind's callgrind: quiet where a timing isn't.

    python benchmarks/instructions.py [--requests]

needs valgrind on the PATH and `fluxgate-core` in the environment, for `--requests` (a client's
requests through a `MockTransport`, with our transport ÷ without) fluxgate-httpx and httpx, too.
`--source FOLDER` counts a checkout's `src` instead. Each count is the difference of a long and a
short run, so that neither start-up nor warm-up is in it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CONSOLE = """
from fluxgate.console import Console, Request
console = Console(local_only=True)
console.handle(Request("GET", "api/v1/state", headers={"host": "localhost"}, peer="127.0.0.1"))
"""
KINDS = {
    "healthy": (0, "", ""),
    "healthy, beside a console": (0, "", CONSOLE),
    "10 % failing": (10, "", ""),
    "healthy, heard": (0, "Heard()", ""),
}
"""Every how many calls one fails (0: none), the circuit's listener, and what else there is."""

CALLS = """
from fluxgate import CircuitBreaker

def succeeding():
    return 5

def failing():
    raise ConnectionError

class Heard:
    def __call__(self, signal):
        pass

    def call_ended(self, call):
        pass

{beside}
breaker = CircuitBreaker("counted", listeners=[{listener}])
succeeding, failing = breaker(succeeding), breaker(failing)
for _ in range(300):  # the window is full
    succeeding()
for number in range({count}):
    try:
        (failing if {every} and number % {every} == 0 else succeeding)()
    except ConnectionError:
        pass
"""

REQUESTS = {
    "sync": """
import httpx
from fluxgate_httpx import CircuitBreakerTransport

transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"{{}}"))
client = httpx.Client(transport=CircuitBreakerTransport(transport) if {ours} else transport)
for _ in range(150 + {count}):  # the window is full after 100
    client.get("http://api.example.org/")
""",
    "async": """
import asyncio
import httpx
from fluxgate_httpx import AsyncCircuitBreakerTransport

transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"{{}}"))
wrapped = AsyncCircuitBreakerTransport(transport) if {ours} else transport

async def main():
    client = httpx.AsyncClient(transport=wrapped)
    for _ in range(150 + {count}):
        await client.get("http://api.example.org/")

asyncio.run(main())
""",
}


def collected(code: str, source: Path | None) -> int:
    """Instructions of one process that runs this code."""
    # Hashes and addresses are the same in each run; no site module, so that nothing else is.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    path = [str(source)] if source else [each for each in sys.path if each]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"callgrind failed:\n{done.stderr}")
    return int(found[1])


def counted(code: str, short: int, long: int, source: Path | None, **values: object) -> float:
    """Instructions of one of what the code does `count` times."""
    collected(code.format(count=1, **values), source)  # compiles the modules
    runs = [collected(code.format(count=count, **values), source) for count in (long, short)]
    return (runs[0] - runs[1]) / (long - short)


def count_calls(source: Path | None) -> None:
    """Count and print, one kind of call a line."""
    for kind, (every, listener, beside) in KINDS.items():
        setting = {"every": every, "listener": listener, "beside": beside}
        count = counted(CALLS, 4_000, 12_000, source, **setting)
        print(f"{kind:25} {count:8,.0f} instructions a call")


def count_requests() -> None:
    """Count and print, one kind of client a line."""
    for front, code in REQUESTS.items():
        ours, plain = (counted(code, 100, 400, None, ours=ours) for ours in (True, False))
        print(
            f"{front:14} {ours:11,.0f} ÷ {plain:11,.0f} instructions a request: {ours / plain:.4f}"
        )


def main() -> None:
    """Count what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, metavar="FOLDER", help="a folder with fluxgate/")
    parser.add_argument("--requests", action="store_true", help="a client's requests, not calls")
    given = parser.parse_args()
    source: Path | None = given.source
    if shutil.which("valgrind") is None:
        sys.exit("valgrind isn't on the PATH (apt-get install valgrind)")
    if source is not None and not (source / "fluxgate").is_dir():
        sys.exit(f"--source {source}: there is no fluxgate/ in it")
    if source is not None and given.requests:
        sys.exit("--requests counts what is installed: --source can't be given with it")
    if given.requests:
        count_requests()
    else:
        count_calls(source)


if __name__ == "__main__":
    main()
