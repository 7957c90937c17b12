"""What the package shows to the world, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

import fluxgate

# Neither a module for its users to import: one is a plugin, the other a command.
UNLISTED = {"fluxgate.pytest_plugin", "fluxgate.__main__"}
# What can't be imported without an extra.
EXTRAS = {"fluxgate.listeners.otel": "otel", "fluxgate.listeners.prometheus": "prometheus"}


def public_modules() -> list[str]:
    """The modules of the package without an underscore anywhere in their names."""
    found = [
        module.name
        for module in pkgutil.walk_packages(fluxgate.__path__, "fluxgate.", onerror=str)
        if not any(part.startswith("_") for part in module.name.split("."))
    ]
    return ["fluxgate", *sorted(set(found) - UNLISTED)]


def house_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def defined_in(module: types.ModuleType) -> set[str]:
    """The public classes and functions whose home is `module`."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", public_modules())
def test_exports_are_sorted_complete_and_importable(name: str) -> None:
    module = importlib.import_module(name)
    exported: list[str] = module.__all__
    assert exported == sorted(set(exported), key=house_order)
    for each in exported:
        assert getattr(module, each) is not None
    assert defined_in(module) <= set(exported)


@pytest.mark.parametrize("name", public_modules())
def test_everything_that_is_exported_says_what_it_is_for(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for each in module.__all__:
        value = getattr(module, each)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{each}"


def test_the_names_of_the_seed_are_where_it_imports_them() -> None:
    names = {
        "fluxgate": "AsyncCircuitBreaker CallNotPermittedError CircuitBreaker State",
        "fluxgate.windows": "CountWindow TimeWindow",
        "fluxgate.trackers": "All Custom TypeOf",
        "fluxgate.trippers": (
            "AvgLatency Closed FailureRate FailureStreak HalfOpened MinRequests SlowRate"
        ),
        "fluxgate.retries": "Always Backoff Cooldown Never",
        "fluxgate.permits": "All RampUp Random",
    }
    for module, listed in names.items():
        assert set(listed.split()) <= set(importlib.import_module(module).__all__)


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = fluxgate.nothing  # type: ignore[attr-defined]


def run(program: str) -> str:
    """The output of a fresh interpreter that finds the package where this one does."""
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


def test_importing_it_imports_nothing_third_party_and_starts_no_thread() -> None:
    """Without site-packages: what the import needs beyond the standard library would fail."""
    output = run(
        """
        before = set(sys.modules)
        import fluxgate
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        import threading
        print(sorted(new - set(sys.stdlib_module_names)), threading.active_count())
        """
    )
    assert output == "['fluxgate'] 1"


def test_importing_it_leaves_alone_what_few_need() -> None:
    output = run(
        """
        before = set(sys.modules)
        import fluxgate
        rarely_used = {"asyncio", "logging", "random", "tomllib", "fluxgate._saved"}
        print(sorted(rarely_used & (set(sys.modules) - before)))
        """
    )
    assert output == "[]"


@pytest.mark.parametrize("name", [name for name in public_modules() if name not in EXTRAS])
def test_every_public_module_can_be_the_first_to_be_imported(name: str) -> None:
    """No import cycle depends on who comes first."""
    assert run(f"import {name}; print({name}.__name__)") == name


@pytest.mark.parametrize(("name", "extra"), EXTRAS.items())
def test_a_module_that_needs_an_extra_names_it(name: str, extra: str) -> None:
    program = f"""
        try:
            import {name}
        except ImportError as error:
            print(error)
        """
    assert f"fluxgate-core[{extra}]" in run(program)


def test_every_error_of_its_own_is_a_fluxgate_error() -> None:
    errors: Any = importlib.import_module("fluxgate.errors")
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), fluxgate.FluxgateError)
