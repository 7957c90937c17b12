"""`fluxgate.listeners`: names that cost nothing until they are asked for."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fluxgate
from fluxgate import listeners


def bare(program: str) -> str:
    """The output of an interpreter that has the core, and nothing else installed."""
    source = str(Path(fluxgate.__path__[0]).parent)
    isolated = f"import sys; sys.path.insert(0, {source!r})\n{textwrap.dedent(program)}"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", isolated],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_package_imports_no_listener() -> None:
    output = bare(
        """
        import fluxgate.listeners
        loaded = [name for name in sys.modules if name.startswith("fluxgate.listeners.")]
        print(loaded, "logging" in sys.modules, "asyncio" in sys.modules)
        """
    )
    assert output == "[] False False"


def test_what_needs_no_package_works_without_one() -> None:
    output = bare(
        """
        import threading
        from fluxgate import CircuitBreaker
        from fluxgate.listeners import Background, LogListener
        from fluxgate.listeners.slack import SlackListener

        heard = []
        told = Background(heard.append)
        breaker = CircuitBreaker("api", listeners=[LogListener(), told])
        print(threading.active_count())
        breaker.reset()
        breaker.force_open()
        print(told.close(30), len(heard), "asyncio" in sys.modules)
        """
    )
    assert output.split() == ["1", "True", "1", "False"]


def test_what_needs_one_says_how_to_get_it() -> None:
    output = bare(
        """
        from fluxgate.listeners import SlackListener
        try:
            SlackListener(webhook_url="https://hooks.slack.com/services/T/B/X")
        except ImportError as error:
            print(error, "-", error.name)
        """
    )
    assert output == 'SlackListener needs httpx: pip install "fluxgate-core[slack]" - httpx'


@pytest.mark.parametrize("name", listeners.__all__)
def test_every_name_is_there_and_listed(name: str) -> None:
    assert getattr(listeners, name).__name__ == name
    assert name in dir(listeners)


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = listeners.nothing
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from fluxgate.listeners import Nothing")
