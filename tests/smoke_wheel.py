"""What an installed wheel must do in an environment that holds nothing else.

Run by the `wheels` session as `python -I tests/smoke_wheel.py fluxgate-core`.
"""

import importlib
import sys
from importlib import metadata
from pathlib import Path


def import_name(package: str) -> str:
    """The module that a package installs: its name with underscores, and the core's short one."""
    return "fluxgate" if package == "fluxgate-core" else package.replace("-", "_")


def check(condition: object, message: str) -> None:
    if not condition:
        sys.exit(f"smoke test of {sys.argv[1]}: {message}")


def main(name: str) -> None:
    before = set(sys.modules)
    module = importlib.import_module(import_name(name))
    loaded = {loaded.partition(".")[0] for loaded in set(sys.modules) - before}

    folder = Path(module.__file__ or "").parent
    distribution = metadata.distribution(name)
    check(folder.is_relative_to(sys.prefix), f"imported from {folder}, not from the wheel")
    check((folder / "py.typed").is_file(), "py.typed is missing")
    check(any(file.name == "LICENSE" for file in distribution.files or []), "no LICENSE")
    version = getattr(module, "__version__", distribution.version)
    check(version == distribution.version, f"__version__ is {version}")
    for public in module.__all__:
        check(hasattr(module, public), f"__all__ names {public}, which isn't there")

    if name == "fluxgate-django":
        check((folder / "locale/ko/LC_MESSAGES/django.mo").is_file(), "no Korean texts")
    if name == "fluxgate-core":
        required = [line for line in distribution.requires or [] if "extra ==" not in line]
        check(not required, f"the core depends on {required}")
        foreign = loaded - sys.stdlib_module_names - {"fluxgate"}
        check(not foreign, f"importing the core imports {foreign}")
        breaker = module.CircuitBreaker("smoke")
        check(breaker.call(lambda: 42) == 42, "the call's result is lost")
        check(breaker.info().totals.successes == 1, f"not counted: {breaker.info()}")

    print(f"{name} {distribution.version}: the wheel works")


if __name__ == "__main__":
    main(sys.argv[1])
