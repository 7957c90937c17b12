"""PyPI's `fluxgate`, whose files have the names of ours: what is said when both were installed.

The files are laid out as pip leaves them (`fluxgate` 0.9.4): overwritten by the other's, taken away
with the other's, or ours among some of the other's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages" / "fluxgate-core" / "src" / "fluxgate"
INTEGRATIONS = [
    ROOT / "packages" / f"fluxgate-{name}" / "src" for name in ("httpx", "fastapi", "django")
]

# What both have.
SHARED = [
    *(
        "__init__.py",
        "errors.py",
        "metric.py",
        "permits.py",
        "retries.py",
        "state.py",
        "trackers.py",
    ),
    *("trippers.py", "windows.py", "listeners/__init__.py", "listeners/log.py"),
    *("listeners/prometheus.py", "listeners/slack.py"),
]
# Of its top module, what our modules may ask for before they ask for anything else.
OTHERS_TOP = (
    "class CircuitBreaker: ...\nclass CallNotPermittedError(Exception): ...\nclass State: ...\n"
)
MODULES = [
    *("fluxgate.breaker", "fluxgate.config", "fluxgate.registry", "fluxgate.integration"),
    *("fluxgate.fleet", "fluxgate.replay", "fluxgate.testing", "fluxgate.cli"),
    *("fluxgate_httpx", "fluxgate_fastapi", "fluxgate_django"),
]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a copy of the core."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CORE, tmp_path / "fluxgate", ignore=ignored)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, [folder, *INTEGRATIONS]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def importing(folder: Path, modules: list[str], *options: str) -> str:
    """What is said when each module is imported, in one process: each is tried on its own."""
    script = f"""
import importlib, sys
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
    for module in [each for each in sys.modules if each.startswith("fluxgate")]:
        del sys.modules[module]
"""
    done = run(folder, *options, "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_overwritten(installed: Path) -> None:
    for name in SHARED:
        (installed / "fluxgate" / name).write_text(OTHERS_TOP if name == "__init__.py" else "")
    (installed / "fluxgate" / "circuitbreaker.py").write_text("")
    said = importing(installed, MODULES)
    for module in MODULES:
        assert f"{module} PyPI's `fluxgate`, another project" in said
    assert said.count("pip uninstall --yes fluxgate fluxgate-core") == len(MODULES)
    assert str(installed / "fluxgate") in said


def test_files_taken_away(installed: Path) -> None:
    for name in SHARED:
        (installed / "fluxgate" / name).unlink()
    core = [module for module in MODULES if module.startswith("fluxgate.")]
    said = importing(installed, core, "-S")  # a whole package elsewhere would win
    for module in core:
        assert f"{module} PyPI's `fluxgate`, another project" in said


def test_the_command_says_it(installed: Path) -> None:
    (installed / "fluxgate" / "__init__.py").write_text(OTHERS_TOP)
    done = run(installed, "-m", "fluxgate", "--version")
    assert done.returncode == 1
    assert "ImportError: PyPI's `fluxgate`" in done.stderr


def test_files_of_the_other_among_ours(installed: Path) -> None:
    quiet = run(installed, "-W", "error", "-c", "import fluxgate")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    (installed / "fluxgate" / "circuitbreaker.py").write_text("")
    warned = run(installed, "-c", "import fluxgate")
    assert warned.returncode == 0
    assert "<string>:1: RuntimeWarning: PyPI's `fluxgate`" in warned.stderr
    assert run(installed, "-W", "error", "-c", "import fluxgate").returncode == 1
