"""Objects by their dotted names, and back: how expressions name exceptions and callables."""

from __future__ import annotations

import builtins
from typing import Any


def load(name: str, owner: str) -> Any:
    """The object that `name` stands for: a builtin, or a dotted path that is imported.

    Raises:
        ValueError: nothing importable has that name; the message starts with `owner`.
    """
    if hasattr(builtins, name):
        return getattr(builtins, name)
    from pkgutil import resolve_name  # not at import: few need it

    try:
        return resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'{owner}: "{name}" can\'t be imported ({error}); '
            "give the dotted path of something that can"
        ) from error


def name_of(target: Any) -> str:
    """The dotted name under which `load` finds `target`, if it is importable at all."""
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return name if module in (None, "builtins") else f"{module}.{name}"
