"""Dotted names of objects and back, for exceptions and callables in expressions."""

from __future__ import annotations

import builtins
from importlib import import_module
from typing import Any


def load(name: str, owner: str) -> Any:
    """The object of that name: a builtin, or one that is imported from its dotted path.

    Raises:
        ValueError: nothing importable has that name; the message starts with `owner`.
    """
    if hasattr(builtins, name):
        return getattr(builtins, name)
    module, _, attribute = name.rpartition(".")
    try:
        if not module:
            raise ModuleNotFoundError(f"no builtin or module attribute {name!r}", name=name)
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there, and lacks something itself
            from pkgutil import resolve_name  # knows names inside classes, too

            return resolve_name(name)
    except (ImportError, AttributeError, ValueError, SystemExit) as error:
        # A script that is imported may end the process, which is no reason to end this one.
        raise ValueError(
            f'{owner}: "{name}" can\'t be imported ({error}); '
            "give the dotted path of something that can"
        ) from error


def name_of(target: Any) -> str:
    """The dotted name under which `load` finds `target`, if it is importable at all."""
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return name if module in (None, "builtins") else f"{module}.{name}"
