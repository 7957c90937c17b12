"""Importing `fluxgate_fastapi` starts nothing, and brings only what it needs."""

import subprocess
import sys


def run(code: str) -> str:
    """What a fresh interpreter, which takes warnings for errors, prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_imports_no_http_client() -> None:
    loaded = run(
        "import sys, fastapi\n"
        "before = set(sys.modules)\n"
        "import fluxgate_fastapi\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    ).split()
    assert "fluxgate_fastapi" in loaded
    absent = {"httpx", "httpx2", "requests", "fluxgate_httpx", "pydantic_settings", "uvicorn"}
    assert not absent & set(loaded)
    assert not {"trio", "django", "fluxgate_django", "pytest", "_pytest"} & set(loaded)


def test_beyond_fastapi_it_imports_our_own_and_the_standard_library() -> None:
    loaded = run(
        "import sys, fastapi, fastapi.requests, fastapi.websockets, fastapi.responses\n"
        "before = set(sys.modules)\n"
        "import fluxgate_fastapi\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    ).split()
    foreign = set(loaded) - set(sys.stdlib_module_names) - {"fluxgate", "fluxgate_fastapi"}
    assert foreign <= {"starlette", "fastapi", "anyio", "pydantic", "typing_extensions"}


def test_it_starts_nothing() -> None:
    """No thread, no process, no event loop, no open file, no circuit."""
    out = run(
        "import asyncio, os, threading\n"
        "import fastapi, starlette.responses, starlette.concurrency\n"
        "def descriptors():\n"
        "    return len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "before = descriptors()\n"
        "import fluxgate, fluxgate_fastapi\n"
        "assert descriptors() == before\n"
        "assert threading.enumerate() == [threading.main_thread()]\n"
        "assert asyncio.events._get_running_loop() is None\n"
        "assert not list(fluxgate.circuits())\n"
        "fluxgate_fastapi.Breaker('payments'), fluxgate_fastapi.guard('search')\n"
        "assert not list(fluxgate.circuits()), 'declaring makes none'\n"
        "print('fine')"
    )
    assert out == "fine\n"


def test_every_public_name_is_there() -> None:
    out = run(
        "import inspect\n"
        "import fluxgate_fastapi as f\n"
        "missing = [name for name in f.__all__ if not hasattr(f, name)]\n"
        "documented = [getattr(f, n) for n in f.__all__ if inspect.isroutine(getattr(f, n))\n"
        "    or inspect.isclass(getattr(f, n))]\n"
        "undocumented = [each for each in documented if not each.__doc__]\n"
        "names = {'Breaker', 'BreakerRoute', 'CIRCUIT_OPEN', 'guard', 'health', 'install'}\n"
        "print(missing, undocumented, sorted(names - set(f.__all__)))"
    )
    assert out == "[] [] []\n"
